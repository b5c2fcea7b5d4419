"""Calibration of scores: how probable it is that a match is right, fitted on pairs of photos without ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lightmatch.evaluation.reliability import expected_calibration_error, fit_logistic
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.matchers import LightGlue
from lightmatch.networks.score_calibration import COUNTED_SCORE, ScoreCalibration, score_terms
from lightmatch.types import Features

FeaturePair = tuple[Features, Features]


@dataclass(frozen=True)
class ScoreErrors:
    """Expected calibration error of the matches of pairs that took no part in the fit, 0…1."""

    scores: float  # taken as probabilities
    probabilities: float


@dataclass(frozen=True, eq=False)
class LabelledScores:
    """The matches of one pair, if any."""

    scores: np.ndarray  # (k,) above COUNTED_SCORE
    right: np.ndarray  # (k,) bool

    @property
    def terms(self) -> np.ndarray:
        """(k, 4), see `score_terms`."""
        return score_terms(torch.from_numpy(self.scores)).double().numpy()


def label_pair(matcher: LightGlue, pair: FeaturePair, min_inliers: int, search: SearchOptions) -> LabelledScores:
    """The matches of a pair as `matcher` would find them, with its exits, and which are right.

    Right is a match that agrees with the epipolar geometry of its pair, where it has min_inliers or more; where it has
    fewer, none is. A wrong match agrees by chance where it lies near its epipolar line: about 1 in 100 at 3 px.
    """
    matches = matcher.with_options(filter_threshold=COUNTED_SCORE)(*pair)
    geometry = estimate_fundamental(*matches.points(*pair), search)
    right = geometry.inliers & (geometry.num_inliers >= min_inliers)
    return LabelledScores(matches.scores.cpu().numpy(), right.cpu().numpy())


def fit_scores(labelled: Sequence[LabelledScores]) -> ScoreCalibration:
    """The regression that explains which matches are right; pairs weigh as the root of their number of matches.

    Raises InvalidValueError where no match is right, or none is wrong.
    """
    terms = np.concatenate([one.terms for one in labelled]) if labelled else np.empty((0, 4))
    right = np.concatenate([one.right for one in labelled]) if labelled else np.empty(0)
    weights = np.concatenate([np.full(len(one.scores), len(one.scores) ** -0.5) for one in labelled] or [[]])
    used = np.ones(terms.shape[1], bool)
    while True:
        found = np.zeros(terms.shape[1])
        found[used] = fit_logistic(terms[:, used], right, weights)
        falling = found < 0
        falling[0] = falling[-1] = False
        if not falling.any():
            return ScoreCalibration(*map(float, found))
        used &= ~falling


def calibrate_scores(labelled: Sequence[LabelledScores]) -> tuple[ScoreCalibration, ScoreErrors] | None:
    """The calibration by all pairs; and the errors of the second half of them with a calibration by the first.

    labelled: pairs in random order. None where no match of a half is right, or none is wrong.
    """
    middle = len(labelled) // 2
    rest = labelled[middle:]
    for half in (labelled[:middle], rest):
        if len({bool(right) for one in half for right in one.right}) < 2:
            return None
    trial = fit_scores(labelled[:middle])
    right = np.concatenate([one.right for one in rest])
    said = np.concatenate([trial.probabilities(torch.from_numpy(one.scores)).numpy() for one in rest])
    scores = np.concatenate([one.scores for one in rest])
    errors = ScoreErrors(expected_calibration_error(scores, right), expected_calibration_error(said, right))
    return fit_scores(labelled), errors
