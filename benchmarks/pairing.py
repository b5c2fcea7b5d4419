"""Pair selection and the overlap classifier: recall of true pairs, and calibration of the probability of overlap.

    LIGHTMATCH_DATA=/path/to/data python benchmarks/pairing.py --cache FOLDER

FOLDER keeps features and matches (about 1 GB), which take 50 minutes on a busy core the first time; the
rest takes 20.
Writes benchmarks/results/pairing.json, docs/pairing.md and docs/pairing.png, and prints the coefficients of
src/lightmatch/pairing/overlap.py as trained.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import describe_machine
from pages import write_page
from pairing_classifier import score, train
from pairing_matches import (
    TEST_CROSS,
    TEST_LIMITS,
    TEST_MOST,
    TRAIN_CROSS,
    TRAIN_LIMITS,
    TRAIN_MOST,
    MatchedPair,
    between,
    choose,
    labelled,
    match,
    without_doppelgangers,
)
from pairing_page import draw_plot
from pairing_sets import OVERLAP, PhotoSet, joined_truth, load, test_sets, training_sets
from torch import Tensor

from lightmatch.pairing import describe, learn_vocabulary, nearest_pairs, retrieval, sample_descriptors, sample_size
from lightmatch.pairing.order import sequential
from lightmatch.types import Features

HERE = Path(__file__).parent
NEIGHBORS = (5, 10, 20, 40)
SEEDS = (0, 1, 2)

Pairs = list[tuple[int, int]]
Ranked = Callable[[int], Pairs]  # number of neighbours → pairs


def by_product(rows: Tensor) -> Ranked:
    """Neighbours by the cosine of vectors."""
    unit = torch.nn.functional.normalize(rows, dim=1)
    alike = (unit @ unit.T).fill_diagonal_(-2)
    order = alike.argsort(dim=1, descending=True, stable=True)

    def ranked(num: int) -> Pairs:
        places = enumerate(order[:, :num].tolist())
        return sorted({(min(i, j), max(i, j)) for i, row in places for j in row if i != j})

    return ranked


def signs(samples: Tensor, features: Sequence[Features], num_words: int, seed: int) -> tuple[Ranked, float]:
    """What the package does."""
    vocabulary = learn_vocabulary(samples, num_words, seed)
    start = time.process_time()
    descriptors = np.stack([describe(f, vocabulary) for f in features])
    seconds = time.process_time() - start
    return (lambda num: nearest_pairs(descriptors, num)), seconds


def vlad(samples: Tensor, features: Sequence[Features], num_words: int, seed: int) -> tuple[Ranked, float]:
    """VLAD with signed square root and intra-normalisation (Arandjelović and Zisserman, CVPR 2013)."""
    words = retrieval._k_means(samples, num_words, torch.Generator().manual_seed(seed))
    start = time.process_time()
    rows = []
    for f in features:
        word = retrieval._nearest_word(f.descriptors, words)
        sums = torch.zeros_like(words).index_add_(0, word, f.descriptors - words[word])
        rows.append(torch.nn.functional.normalize(sums.sign() * sums.abs().sqrt(), dim=1).flatten())
    return by_product(torch.stack(rows)), time.process_time() - start


def bag(samples: Tensor, features: Sequence[Features], num_words: int, seed: int) -> tuple[Ranked, float]:
    """Bag of words: square root of counts, times the logarithm of the inverse document frequency."""
    words = retrieval._k_means(samples, num_words, torch.Generator().manual_seed(seed))
    start = time.process_time()
    counts = torch.stack(
        [torch.bincount(retrieval._nearest_word(f.descriptors, words), minlength=num_words) for f in features]
    )
    inverse = (len(counts) / (counts > 0).sum(0).clamp(min=1)).log()
    return by_product(counts.sqrt() * inverse), time.process_time() - start


METHODS: dict[str, tuple[Callable[..., tuple[Ranked, float]], int]] = {
    "retrieval": (signs, 2048),
    "retrieval, 512 words": (signs, 512),
    "VLAD 64": (vlad, 64),
    "VLAD 256": (vlad, 256),
    "bag of 4096 words": (bag, 4096),
}


def measure_pairing(sets: Sequence[PhotoSet], confirmed: set[tuple[int, int]], mixed: bool) -> list[dict[str, Any]]:
    """Recall of true pairs against pairs per photo, for every way of pairing.

    confirmed: some true pairs that geometry confirms, by places in `sets`. mixed: whether photos come in random order.
    """
    features = [f for s in sets for f in s.features]
    order = np.random.default_rng(0).permutation(len(features)) if mixed else np.arange(len(features))
    features = [features[i] for i in order]
    truth = joined_truth(list(sets))[np.ix_(order, order)] == OVERLAP
    place = np.argsort(order)
    confirmed = {(min(pair), max(pair)) for i, j in confirmed for pair in [(int(place[i]), int(place[j]))]}
    true = {(i, j) for i, j in zip(*(index.tolist() for index in np.nonzero(np.triu(truth, 1))), strict=True)}
    count = len(features)

    def row(name: str, knob: int, pair_lists: Sequence[Pairs], **times: float) -> dict[str, Any]:
        found = [set(pairs) for pairs in pair_lists]
        return {
            "pairing": name,
            "neighbors": knob,
            "pairs_per_photo": float(np.mean([len(pairs) for pairs in found])) / count,
            "recall": float(np.mean([len(pairs & true) for pairs in found])) / len(true),
            "recall_spread": float(np.ptp([len(pairs & true) for pairs in found])) / len(true),
            "recall_confirmed": float(np.mean([len(pairs & confirmed) for pairs in found])) / max(1, len(confirmed)),
            **times,
        }

    every = [(i, j) for i in range(count) for j in range(i + 1, count)]
    rows = [row("exhaustive", count - 1, [every])]
    rows += [row("sequential", n, [sequential(count, n)]) for n in NEIGHBORS if n < count]
    for n in NEIGHBORS:
        draws = [np.random.default_rng(seed).permutation(len(every))[: n * count * 3 // 4] for seed in SEEDS]
        rows.append(row("random", n, [[every[k] for k in draw] for draw in draws]))
    for name, (method, num_words) in METHODS.items():
        ranked, learned, described = [], [], []
        for seed in SEEDS:
            size = sample_size(count)
            samples = torch.cat([sample_descriptors(f, size, seed + 7 * i) for i, f in enumerate(features)])
            start = time.process_time()
            found, seconds = method(samples, features, num_words, seed)
            learned.append(time.process_time() - start - seconds)
            described.append(seconds / count)
            ranked.append(found)
        times = {"learn_s": float(np.median(learned)), "describe_s_per_photo": float(np.median(described))}
        rows += [row(name, n, [found(n) for found in ranked], **times) for n in NEIGHBORS if n < count]
    return rows


def collections(sets: Sequence[PhotoSet]) -> dict[str, list[PhotoSet]]:
    """Worlds mixed together, one set alone, and all real sets as one."""
    return {
        "worlds": [s for s in sets if "world" in s.name],
        "temple": [s for s in sets if s.name == "temple"],
        "mixture": [s for s in sets if "world" not in s.name],
    }


def confirmed_pairs(
    test: Sequence[MatchedPair], sets: Sequence[PhotoSet], part: Sequence[PhotoSet]
) -> set[tuple[int, int]]:
    """True pairs of `part` that geometry confirms, by their places among the photos of `part`."""
    start, places = 0, {}
    for s in part:
        places[s.name] = start
        start += len(s.features)
    offsets = dict(zip([s.name for s in sets], np.cumsum([0, *(len(s.features) for s in sets)]).tolist(), strict=False))
    chosen = set()
    for each in test:
        group = each.pair.group
        if group in places and each.pair.truth == OVERLAP and each.confirmed("lightglue"):
            shift = places[group] - offsets[group]
            chosen.add((each.pair.first + shift, each.pair.second + shift))
    return chosen


def time_comparison(count: int) -> float:
    """CPU seconds to compare `count` photos that have 60 % of the words, which is usual for 2048 keypoints."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (count, retrieval.NUM_WORDS, 9), dtype=np.uint8)
    codes[:, :, -1] = rng.random(codes.shape[:2]) < 0.6
    start = time.process_time()
    nearest_pairs(codes.reshape(count, -1), 20)
    return time.process_time() - start


def main() -> None:
    """Make what is missing, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for features and matches")
    arguments = parser.parse_args()
    if "LIGHTMATCH_DATA" not in os.environ:
        raise SystemExit("set LIGHTMATCH_DATA to the folder that holds eval/ and train2/")
    data = Path(os.environ["LIGHTMATCH_DATA"])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    train_sets, sets = load(training_sets(data), arguments.cache), load(test_sets(data), arguments.cache)
    learned_on = choose(train_sets, TRAIN_MOST, TRAIN_CROSS, TRAIN_LIMITS, seed=0)
    scored_on = choose(sets, TEST_MOST, TEST_CROSS, TEST_LIMITS, seed=0)
    training = without_doppelgangers(
        labelled(match(train_sets, learned_on, arguments.cache / "matches-train"), train_sets)
    )
    matched = match(sets, scored_on, arguments.cache / "matches-test")
    testing, unsure = labelled(matched, sets), between(matched)
    results: dict[str, Any] = {"machine": describe_machine(), "classifier": {}, "pairing": {}}
    models = train(training)
    for name, model in models.items():
        print(f"{name}: {model}", flush=True)
    plain = without_doppelgangers(testing)
    for name, pairs, matcher, model in (
        ("LightGlue", plain, "lightglue", "CALIBRATED"),
        ("LightGlue, with doppelgängers", testing, "lightglue", "CALIBRATED"),
        ("LightGlue, without probabilities", plain, "lightglue", "LIGHTGLUE"),
        ("ratio test", plain, "nearest", "OTHERS"),
    ):
        results["classifier"][name] = score(pairs, unsure, matcher, models[model], model == "CALIBRATED")
    results["classifier_training"] = {"pairs": len(training), "overlapping": sum(p.pair.truth == 1 for p in training)}
    for name, part in collections(sets).items():
        results["pairing"][name] = {
            "photos": sum(len(s.features) for s in part),
            "true_pairs": int(np.triu(joined_truth(part) == OVERLAP, 1).sum()),
            "rows": measure_pairing(part, confirmed_pairs(testing, sets, part), mixed=name == "worlds"),
        }
        print(name, *(f"{r['pairing']} {r['neighbors']}: {r['recall']:.3f}" for r in results["pairing"][name]["rows"]))
    results["compare_s"] = {count: time_comparison(count) for count in (300, 1000, 3000)}
    (HERE / "results" / "pairing.json").write_text(json.dumps(results, indent=1) + "\n")
    draw_plot(results, HERE.parent / "docs" / "pairing.png")
    write_page("pairing")


if __name__ == "__main__":
    main()
