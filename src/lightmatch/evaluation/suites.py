"""The evaluation suites: kind of ground truth, estimators, error thresholds, and the rows of their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.datasets import read_pairs
from lightmatch.evaluation.estimators import ROBUST, EstimatorName, ModelSearch
from lightmatch.evaluation.measures import Area, Mean, Measure, Median, RecallAtPrecision
from lightmatch.evaluation.pairs import (
    CorrespondenceTruth,
    DepthTruth,
    EvaluationPair,
    HomographyTruth,
    PoseTruth,
    Truth,
    within_viewing_angle,
)
from lightmatch.evaluation.scoring import error_key


@dataclass(frozen=True)
class Suite:
    """An evaluation protocol: the kind of ground truth and how errors are measured."""

    name: str
    truth: type[Truth]
    image_size: int  # px of the long side, by default
    estimators: tuple[EstimatorName, ...]
    threshold_px: float  # of the robust estimators, by default
    error_thresholds: tuple[float, ...]
    error_unit: str
    roots_example: str  # data sets that fit, for messages

    def measures(self, searches: Sequence[ModelSearch], match_px: float) -> list[Measure]:
        """The rows of its tables. match_px: a match is correct within this distance."""
        within = f" at {match_px:g} px"
        areas = [
            Area(f"AUC@{threshold:g}{self.error_unit}, {search.name}", error_key(search), threshold)
            for search in searches
            for threshold in self.error_thresholds
        ]
        epipolar = "epipolar precision" if self.truth is PoseTruth else "precision"
        return [
            Mean("keypoints of an image", "num_keypoints"),
            Mean(f"repeatability of keypoints{within} (%)", "repeatability", 100),
            Mean("localisation error of repeated keypoints (px)", "localization_px"),
            Mean("matches", "num_matches"),
            Mean(f"{epipolar}{within} (%)", "precision", 100),
            Mean(f"recall{within} (%)", "recall", 100),
            RecallAtPrecision("recall where precision is 90 % (%)", 0.9),
            Mean(f"matching score{within} (%)", "matching_score", 100),
            *areas,
            Mean("layers run", "stop_layer"),
            Median("extraction per image, all keypoints (ms)", "extract_ms"),
            Median("matching per pair (ms)", "match_ms"),
        ]


SUITES = {
    suite.name: suite
    for suite in (
        Suite("homographies", HomographyTruth, 640, ("dlt", *ROBUST), 2.0, (1, 3, 5), " px", "Oxford or HPatches"),
        Suite("poses", PoseTruth, 1600, ROBUST, 1.0, (5, 10, 20), "°", "a Strecha, COLMAP or MegaDepth set"),
        Suite("correspondences", CorrespondenceTruth, 1600, ROBUST, 2.0, (1, 3, 5), " px", "pairs with *_vpts.mat"),
        Suite("worlds", DepthTruth, 640, ROBUST, 1.0, (5, 10, 20), "°", "rendered, without a root"),
    )
}


def read_suite_pairs(
    suite: Suite,
    roots: Sequence[Path],
    *,
    image_root: Path | None = None,
    min_angle_deg: float = 0.0,
    max_angle_deg: float = 180.0,
    num_pairs: int | None = None,
    seed: int = 0,
) -> list[EvaluationPair]:
    """The pairs of all data sets at `roots` that have the truth of this suite.

    num_pairs: at most this many of each scene, drawn at random by `seed`, kept in order; None takes all.
    Raises InvalidValueError where a root has none, or none within the angles.
    """
    pairs: list[EvaluationPair] = []
    for root in roots:
        fit = [pair for pair in read_pairs(root, image_root=image_root) if isinstance(pair.truth, suite.truth)]
        if not fit:
            raise InvalidValueError(
                f"{root}: expected pairs for the suite {suite.name!r} ({suite.roots_example}), got pairs of another"
                " kind; name another suite or root"
            )
        within = within_viewing_angle(fit, min_angle_deg, max_angle_deg)
        if not within:
            raise InvalidValueError(
                f"{root}: expected pairs whose cameras look {min_angle_deg:g}…{max_angle_deg:g}° apart, got none among"
                f" {len(fit)}; widen the range"
            )
        pairs += within
    return pairs if num_pairs is None else _draw_of_each_scene(pairs, num_pairs, seed)


def _draw_of_each_scene(pairs: Sequence[EvaluationPair], num_pairs: int, seed: int) -> list[EvaluationPair]:
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for scene in dict.fromkeys(pair.scene for pair in pairs):
        numbers = [number for number, pair in enumerate(pairs) if pair.scene == scene]
        chosen += rng.choice(numbers, min(num_pairs, len(numbers)), replace=False).tolist()
    return [pairs[number] for number in sorted(chosen)]
