"""Training and scoring of the overlap classifier: a logistic regression, calibration and ROC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from pairing_matches import LEAST_INLIERS, MatchedPair
from pairing_sets import OVERLAP

from lightmatch.evaluation.reliability import expected_calibration_error, fit_logistic, reliability
from lightmatch.pairing.evidence import gather_evidence
from lightmatch.pairing.overlap import OverlapClassifier, evidence_terms

_PENALTY = 1.0  # on squared weights of standardised terms, against a sum of log losses
# Skipped is what gets less than a part of the lowest probability of a true training pair that geometry keeps, and
# less than a cap.
_MARGIN, _MOST_SKIPPED = 0.5, 0.05
# For matchers that were not looked at: how much they match by mistake, and how widely, is their own affair.
_LEAST_TERMS = np.array([1.0, 1, 0, 0, 1, 0])


def train(pairs: Sequence[MatchedPair]) -> dict[str, OverlapClassifier]:
    """The models of `lightmatch.pairing.overlap`, by name. Overlapping pairs and others weigh the same in sum."""
    y = np.array([each.pair.truth == OVERLAP for each in pairs], float)
    models = {}
    for name, matcher, with_scores in (
        ("LIGHTGLUE_SIFT", "lightglue", True),
        ("LIGHTGLUE", "lightglue", False),
        ("OTHERS", "nearest", False),
    ):
        x = _terms(pairs, matcher, with_scores)
        if name == "OTHERS":
            x = x * _LEAST_TERMS
        weights = tuple(round(float(w), 4) for w in fit(x, y))
        kept = np.array([each.verified(matcher) for each in pairs]) & (y == 1)
        lowest = float(_probabilities(x, weights)[kept].min())
        models[name] = OverlapClassifier(weights, with_scores, min(_MOST_SKIPPED, round(_MARGIN * lowest, 3)))
    return models


def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights (t,) of a logistic regression on terms (n, t), the first constant; classes weigh the same."""
    return fit_logistic(x, y, np.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean())), _PENALTY)


def score(
    pairs: Sequence[MatchedPair], unsure: Sequence[MatchedPair], matcher: str, model: OverlapClassifier
) -> dict[str, Any]:
    """Calibration (with both classes weighing the same, as in training), ROC, and what the threshold does.

    unsure: pairs without a certain answer; those that geometry verifies and the threshold would skip are counted.
    """
    y = np.array([each.pair.truth == OVERLAP for each in pairs])
    p, kept = _classified(pairs, matcher, model)
    count = np.array([len(each.matches[matcher]) for each in pairs])
    few = count < LEAST_INLIERS  # geometry cannot verify them: what a threshold on the number alone may skip
    verified = np.array([each.verified(matcher) for each in pairs])
    confirmed = np.array([each.confirmed(matcher) for each in pairs])
    groups = np.array([each.pair.group for each in pairs])
    weight = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean())) / len(y)
    _, unsure_kept = _classified(unsure, matcher, model)
    unsure_confirmed = np.array([each.confirmed(matcher) for each in unsure], bool)
    return {
        "pairs": len(y),
        "overlapping": int(y.sum()),
        "brier": float((weight * (p - y) ** 2).sum()),
        "expected_calibration_error": expected_calibration_error(p, y, weight),
        "roc_area": roc_area(p, y),
        "roc_area_of_count": roc_area(count, y),
        "reliability": [asdict(one) for one in reliability(p, y, weight)],
        "skip_below": model.skip_below,
        "true_skipped": int((~kept & y).sum()),
        "verified_true": int((verified & y).sum()),
        "verified_true_skipped": int((~kept & verified & y).sum()),
        "confirmed_true": int((confirmed & y).sum()),
        "confirmed_true_skipped": int((~kept & confirmed & y).sum()),
        "verified_others": int((verified & ~y).sum()),
        "verified_others_below_half": int((verified & ~y & (p < 0.5)).sum()),
        "confirmed_others": int((confirmed & ~y).sum()),
        "confirmed_true_below_half": int((confirmed & y & (p < 0.5)).sum()),
        "others_skipped": int((~kept & ~y).sum()),
        "others_with_few_matches": int((few & ~y).sum()),
        "unsure": len(unsure),
        "unsure_confirmed": int(unsure_confirmed.sum()),
        "unsure_confirmed_skipped": int((unsure_confirmed & ~unsure_kept).sum()),
        "groups": {
            str(group): {
                "pairs": int((groups == group).sum()),
                "overlapping": int(y[groups == group].sum()),
                "confirmed_true": int((confirmed & y)[groups == group].sum()),
                "confirmed_others": int((confirmed & ~y)[groups == group].sum()),
                "mean_probability_true": _mean(p[y & (groups == group)]),
                "mean_probability_others": _mean(p[~y & (groups == group)]),
                "true_skipped": int((~kept & y)[groups == group].sum()),
                "confirmed_true_skipped": int((~kept & y & confirmed)[groups == group].sum()),
                "others_skipped": int((~kept & ~y)[groups == group].sum()),
            }
            for group in dict.fromkeys(groups.tolist())
        },
    }


def roc_area(p: np.ndarray, y: np.ndarray) -> float:
    """The probability that an overlapping pair gets more than another; ties count half."""
    positive, negative = p[y], np.sort(p[~y])
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / 2 / len(negative))


def _classified(pairs: Sequence[MatchedPair], matcher: str, model: OverlapClassifier) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair the probability, and whether it is worth verifying."""
    found = [model.classify(gather_evidence(*each.features, each.matches[matcher])) for each in pairs]
    return np.array([pair.probability for pair in found]), np.array([pair.worth_verifying for pair in found], bool)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _terms(pairs: Sequence[MatchedPair], matcher: str, with_scores: bool) -> np.ndarray:
    return np.array(
        [evidence_terms(gather_evidence(*each.features, each.matches[matcher]), with_scores) for each in pairs]
    )


def _probabilities(x: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    return 1 / (1 + np.exp(-x @ np.array(weights)))
