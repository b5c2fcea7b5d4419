"""How true the probabilities of matches are, beside the scores: reliability and calibration error on sets with truth.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/match_probability.py --features sift --work runs/probability
Writes its part of benchmarks/results/match_probability.json, docs/match-probability.md and the picture in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import DOCS, RESULTS, describe_machine, fill_table
from exits import SHOWN
from pages import write_page
from torch import Tensor

from lightmatch.evaluation.datasets import read_pairs
from lightmatch.evaluation.evaluators import create_evaluator
from lightmatch.evaluation.features import ExtractedImage, FeatureFiles
from lightmatch.evaluation.pairs import EvaluationPair
from lightmatch.evaluation.reliability import expected_calibration_error, reliability
from lightmatch.evaluation.world_files import cached_worlds
from lightmatch.extractors import create_extractor
from lightmatch.matchers import LightGlue
from lightmatch.types import Matches

RESULT = RESULTS / "match_probability.json"
WORLDS = ("easy", "medium", "hard", "repeated")  # levels; other worlds than those of the training
PLANES = ("bark", "bikes", "graf", "leuven")
POSED = {
    "fountain": "strecha/fountain-P11",
    "lund_door": "lund_door",
    "reichstag": "imc_reichstag",
    "templeRing": "middlebury_templeRing47",
}
NO_OVERLAP = "different places"
MATCH_PX, KEYPOINTS, IMAGE_SIZE = 3.0, 1024, 640
PAIRS = 40  # of each set at most

_Scored = tuple[np.ndarray, np.ndarray, np.ndarray]  # scores, probabilities, whether right; (k,) each


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--features", choices=[*SHOWN], default="sift")
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    extractor = create_extractor(arguments.features, max_keypoints=KEYPOINTS)
    files = FeatureFiles(arguments.work / "features", extractor, IMAGE_SIZE)
    matcher = LightGlue.from_pretrained(arguments.features)
    sets: dict[str, list[_Scored]] = {}
    places: dict[str, list[ExtractedImage]] = {}
    for name, pairs in _sets(arguments.data / "eval", arguments.work):
        loaded = [(_load(files, pair.image0), _load(files, pair.image1)) for pair in pairs]
        if name in POSED:
            places[name] = [image for both in loaded for image in both]
        sets[name] = [
            found for pair, both in zip(pairs, loaded, strict=True) if (found := _score(matcher, pair, *both))
        ]
    sets[NO_OVERLAP] = [
        _wrong(matcher(a.features, b.features))
        for place0, place1 in itertools.combinations(places.values(), 2)
        for a, b in itertools.islice(zip(place0[::3], place1[1::3], strict=False), 12)
    ]
    content = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    content[arguments.features] = {
        "machine": describe_machine(),
        "sets": {name: _row(pairs) for name, pairs in sets.items()},
        "inside": _bins(pair for name, pairs in sets.items() if name.startswith("worlds") for pair in pairs),
        "outside": _bins(pair for name, pairs in sets.items() if not name.startswith("worlds") for pair in pairs),
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    plot(content, DOCS / "images" / "match-probability.png")
    write_page("match-probability")


def _sets(root: Path, work: Path) -> Iterable[tuple[str, list[EvaluationPair]]]:
    for level in WORLDS:
        yield f"worlds, {level}", cached_worlds(work / "worlds", level, PAIRS // 2, 7, IMAGE_SIZE)
    yield "Oxford", [pair for name in PLANES for pair in read_pairs(root / "oxford_affine" / name)[:5]]
    for name, folder in POSED.items():
        pairs = read_pairs(root / folder)
        drawn = np.random.default_rng(0).permutation(len(pairs))[:PAIRS]
        yield name, [pairs[number] for number in sorted(drawn)]


def _load(files: FeatureFiles, image: Any) -> ExtractedImage:
    files.extract(image)
    return files.load(image, KEYPOINTS)


def _score(matcher: LightGlue, pair: EvaluationPair, image0: ExtractedImage, image1: ExtractedImage) -> _Scored | None:
    """The matches of a pair whose truth is known; None where there are none."""
    matches = matcher(image0.features, image1.features)
    points = matches.points(image0.features, image1.features)
    labels = create_evaluator(pair.truth, image0, image1, MATCH_PX).label_matches(matches.indices, *points)
    if labels is None or not len(matches):
        return None
    return _select(matches, labels.correct | labels.incorrect, labels.correct)


def _wrong(matches: Matches) -> _Scored:
    every = torch.ones(len(matches), dtype=torch.bool)
    return _select(matches, every, ~every)


def _select(matches: Matches, known: Tensor, right: Tensor) -> _Scored:
    assert matches.probabilities is not None  # the weights are calibrated
    return matches.scores[known].numpy(), matches.probabilities[known].numpy(), right[known].numpy()


def _stacked(pairs: Iterable[_Scored]) -> _Scored:
    scores, probabilities, right = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return scores, probabilities, right


def _row(pairs: Sequence[_Scored]) -> dict[str, float]:
    scores, probabilities, right = _stacked(pairs)
    right_share, mean_score, mean_probability = (
        float(each.mean()) if len(each) else 0.0 for each in (right, scores, probabilities)
    )
    return {
        "pairs": len(pairs),
        "matches": len(scores),
        "right": right_share,
        "mean_score": mean_score,
        "mean_probability": mean_probability,
        "score_error": expected_calibration_error(scores, right),
        "probability_error": expected_calibration_error(probabilities, right),
    }


def _bins(pairs: Iterable[_Scored]) -> dict[str, Any]:
    scores, probabilities, right = _stacked(pairs)
    return {
        name: {
            "error": expected_calibration_error(values, right),
            "bins": [asdict(one) for one in reliability(values, right)],
        }
        for name, values in (("score", scores), ("probability", probabilities))
    }


def page(text: str, content: Mapping[str, Any]) -> str:
    """docs/match-probability.md with the tables that match_probability.json gives."""
    for features, found in content.items():
        lines = [
            f"{SHOWN[features]}; commit {found['machine']['commit']}.",
            "",
            "| set | pairs | matches | right | mean score | mean probability | error of scores | of probabilities |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *(
                f"| {name} | {row['pairs']} | {row['matches']} | {100 * row['right']:.1f} % |"
                f" {row['mean_score']:.3f} | {row['mean_probability']:.3f} |"
                f" {row['score_error']:.3f} | {row['probability_error']:.3f} |"
                if row["matches"]
                else f"| {name} | {row['pairs']} | 0 | | | | | |"
                for name, row in found["sets"].items()
            ),
            "| mean of the sets | | | | | |"
            f" {_mean(found, 'score_error'):.3f} | {_mean(found, 'probability_error'):.3f} |",
        ]
        text = fill_table(text, features, lines)
    return text


def _mean(found: Mapping[str, Any], name: str) -> float:
    return float(np.mean([row[name] for row in found["sets"].values() if row["matches"]]))


def plot(content: Mapping[str, Any], path: Path) -> None:
    """Reliability of scores and of probabilities, inside and outside of what was trained on."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles: dict[str, Callable[[str], str]] = {
        "inside": lambda features: f"{features}, rendered worlds",
        "outside": lambda features: f"{features}, photos of other places",
    }
    figure, panels = pyplot.subplots(
        len(content), 2, figsize=(8.5, 3.9 * len(content)), layout="constrained", squeeze=False
    )
    for row, (features, found) in zip(panels, content.items(), strict=True):
        for panel, (where, title) in zip(row, titles.items(), strict=True):
            panel.plot([0, 1], [0, 1], "k:", linewidth=1)
            for name, one in found[where].items():
                said, was = ([a_bin[key] for a_bin in one["bins"]] for key in ("said", "was"))
                panel.plot(said, was, "o-", markersize=4, label=f"{name}: error {one['error']:.3f}")
            panel.set(xlabel="said", ylabel="share of matches that is right", xlim=(0, 1), ylim=(0, 1.02))
            panel.set_title(title(SHOWN[features]), fontsize=10)
            panel.grid(alpha=0.3)
            panel.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
