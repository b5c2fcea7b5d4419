"""Pairs of given size and difficulty: SIFT in rendered views, so that every machine times the same ones."""

from __future__ import annotations

from functools import cache

from lightmatch.evaluation.datasets.rendered import Level, worlds
from lightmatch.extractors import create_extractor
from lightmatch.types import Features

MOST_POINTS = 4096
_SIZE = (1024, 768)


def timing_pair(level: Level, points: int, seed: int = 0) -> tuple[Features, Features]:
    """The strongest `points`, at most `MOST_POINTS`, keypoints of two views of a world of this level."""
    features0, features1 = _views(level, seed)
    return _strongest(features0, points), _strongest(features1, points)


def _strongest(features: Features, points: int) -> Features:
    return features.select(features.scores.argsort(descending=True, stable=True)[:points])


@cache
def _views(level: Level, seed: int) -> tuple[Features, Features]:
    pair = worlds(level, 1, seed, size=_SIZE)[0]
    extractor = create_extractor("sift", max_keypoints=MOST_POINTS)
    return extractor(pair.image0), extractor(pair.image1)  # type: ignore[arg-type]
