"""Pairs with a known answer, matched: what the overlap classifier of `pairing.py` is trained and scored on.

Matching is most of the work, so what it gives is kept, chunk by chunk, in a folder of the caller's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pairing_sets import APART, OVERLAP, TRAINING_SCENES, TWIN_WORLDS, UNKNOWN, PhotoSet, joined_truth

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.matchers import create_matcher
from lightmatch.pairing import describe, learn_vocabulary, nearest_pairs, sample_descriptors, sample_size
from lightmatch.types import Features, Matches

MATCHERS = ("lightglue", "nearest")
THRESHOLD_PX, LEAST_INLIERS = 4.0, 15  # as COLMAP verifies
SURE_INLIERS, SURE_SHARE = 30, 0.5  # doppelgängers aside, no training pair of different places has both
_CHUNK = 20


@dataclass(frozen=True)
class Pair:
    """Two photos of a collection, by their places in it."""

    group: str  # the set both are of, or "cross" and "lookalike" for photos of different sets
    first: int
    second: int
    keypoints: int  # the strongest that are matched
    truth: int


@dataclass(frozen=True, eq=False)
class MatchedPair:
    """A pair and what a matcher finds."""

    pair: Pair
    features: tuple[Features, Features]
    matches: dict[str, Matches]
    inliers: dict[str, int]

    def verified(self, matcher: str) -> bool:
        """Whether COLMAP would keep it."""
        return self.inliers[matcher] >= LEAST_INLIERS

    def confirmed(self, matcher: str) -> bool:
        """Whether geometry leaves no doubt."""
        return self.inliers[matcher] >= max(SURE_INLIERS, SURE_SHARE * len(self.matches[matcher]))


def choose(
    sets: Sequence[PhotoSet], most: dict[str, tuple[int, int, int]], num_cross: int, limits: Sequence[int], seed: int
) -> list[Pair]:
    """Of each set at most so many pairs that overlap, are apart, are neither for sure; and pairs of different sets.

    Half of those of different sets are such that look most alike.
    """
    rng = np.random.default_rng(seed)
    truth = joined_truth(list(sets))
    owner = np.repeat(np.arange(len(sets)), [len(s.features) for s in sets])
    first, second = np.triu_indices(len(truth), 1)
    chosen: list[Pair] = []

    def add(group: str, candidates: np.ndarray, count: int) -> None:
        for index in rng.permutation(candidates)[:count]:
            i, j = int(first[index]), int(second[index])
            chosen.append(Pair(group, i, j, limits[len(chosen) % len(limits)], int(truth[i, j])))

    for number, photos in enumerate(sets):
        within = (owner[first] == number) & (owner[second] == number)
        if photos.name in most:
            for answer, count in zip((OVERLAP, APART, UNKNOWN), most[photos.name], strict=True):
                add(photos.name, np.flatnonzero(within & (truth[first, second] == answer)), count)
    across = owner[first] != owner[second]
    add("cross", np.flatnonzero(across), num_cross // 2)
    alike = set(nearest_pairs(describe_all([f for s in sets for f in s.features]), 10))
    similar = np.array([(i, j) in alike for i, j in zip(first.tolist(), second.tolist(), strict=True)])
    add("lookalike", np.flatnonzero(across & similar), num_cross // 2)
    return chosen


def describe_all(features: Sequence[Features]) -> np.ndarray:
    """(n, d) with a vocabulary of the collection's own."""
    size = sample_size(len(features))
    vocabulary = learn_vocabulary([sample_descriptors(f, size, seed) for seed, f in enumerate(features)])
    return np.stack([describe(f, vocabulary) for f in features])


def match(sets: Sequence[PhotoSet], pairs: Sequence[Pair], cache: Path) -> list[MatchedPair]:
    """The pairs, matched and verified. cache: a folder for this list of pairs alone."""
    cache.mkdir(parents=True, exist_ok=True)
    kind = create_extractor("sift").kind
    matchers = {name: create_matcher(name, kind) for name in MATCHERS}
    features = [f for s in sets for f in s.features]
    done: list[MatchedPair] = []
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        path = cache / f"{start:05d}.pt"
        cut = [tuple(_strongest(features[i], pair.keypoints) for i in (pair.first, pair.second)) for pair in chunk]
        if not path.exists():
            found = [[_found(matcher, two) for matcher in matchers.values()] for two in cut]
            torch.save({"pairs": [repr(pair) for pair in chunk], "found": found}, f"{path}.new")
            Path(f"{path}.new").replace(path)
            print(f"{cache.name}: {start + len(chunk)} of {len(pairs)}", flush=True)
        kept = torch.load(path, weights_only=False)
        if kept["pairs"] != [repr(pair) for pair in chunk]:
            raise InvalidValueError(f"{path}: expected the pairs of this run, got others; remove the folder")
        for pair, two, found in zip(chunk, cut, kept["found"], strict=True):
            matches = {name: Matches(**each["matches"]) for name, each in zip(MATCHERS, found, strict=True)}
            inliers = {name: each["inliers"] for name, each in zip(MATCHERS, found, strict=True)}
            done.append(MatchedPair(pair, two, matches, inliers))  # type: ignore[arg-type]
    return done


def labelled(matched: Sequence[MatchedPair], sets: Sequence[PhotoSet]) -> list[MatchedPair]:
    """Those with a certain answer: pairs of which nothing is known overlap where geometry is unmistakable."""
    unsure = {s.name for s in sets if not (s.truth != UNKNOWN).any()}
    sure = []
    for each in matched:
        if each.pair.truth != UNKNOWN:
            sure.append(each)
        elif each.pair.group in unsure and each.confirmed("lightglue"):
            sure.append(replace(each, pair=replace(each.pair, truth=OVERLAP)))
    return sure


def without_doppelgangers(matched: Sequence[MatchedPair]) -> list[MatchedPair]:
    """Without pairs of different places in worlds that have doppelgängers."""
    return [each for each in matched if each.pair.truth != APART or each.pair.group not in TWIN_WORLDS]


def between(matched: Sequence[MatchedPair]) -> list[MatchedPair]:
    """Those of sets with a truth that overlap little or are seen from very different sides: no certain answer."""
    return [each for each in matched if each.pair.truth == UNKNOWN]


def _strongest(features: Features, most: int) -> Features:
    return features if len(features) <= most else features.select(features.scores.topk(most).indices.sort().values)


def _found(matcher: Any, two: Any) -> dict[str, Any]:
    matches = matcher(*two)
    points0, points1 = matches.points(*two)
    geometry = estimate_fundamental(points0, points1, SearchOptions(threshold_px=THRESHOLD_PX, seed=0))
    return {"matches": vars(matches), "inliers": int(geometry.num_inliers)}


# Pairs that overlap, are apart, are neither for sure.
TRAIN_MOST = {
    **{f"train-world-{seed}": (25, 15, 0) for seed in range(100, 109)},
    **dict.fromkeys(["borus", "calit", "garf", "brigh"], (0, 0, 40)),
    "lewis": (0, 0, 20),
    **dict.fromkeys(TRAINING_SCENES, (0, 0, 20)),
}
TEST_MOST = {
    **{f"test-world-{seed}": (25, 12, 12) for seed in range(6)},
    "fountain": (40, 0, 0),
    "reichstag": (45, 0, 0),
    "lund_door": (40, 0, 0),
    "temple": (60, 40, 30),
    "oxford": (30, 0, 0),
    "homogr": (7, 0, 0),
    "fundamental": (6, 0, 0),
    "assets": (2, 0, 0),
}
TRAIN_LIMITS, TEST_LIMITS = (2048, 1024, 512), (2048,)
TRAIN_CROSS, TEST_CROSS = 460, 260
