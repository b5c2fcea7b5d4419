"""Training and scoring of the overlap classifier: a logistic regression, calibration and ROC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from pairing_matches import LEAST_INLIERS, MatchedPair
from pairing_sets import OVERLAP

from lightmatch.evaluation.reliability import expected_calibration_error, fit_logistic, reliability
from lightmatch.pairing.evidence import PairEvidence, gather_evidence
from lightmatch.pairing.overlap import OverlapClassifier, evidence_terms

_PENALTY = 0.1  # on squared weights of standardised terms, against a sum of log losses
# Skipped is what gets less than a part of the lowest probability of a true training pair that geometry keeps, and
# less than a cap.
_MARGIN, _MOST_SKIPPED = 0.5, 0.05


def train(pairs: Sequence[MatchedPair]) -> dict[str, OverlapClassifier]:
    """The models of `lightmatch.pairing.overlap`, by name. Overlapping pairs and others weigh the same in sum."""
    y = np.array([each.pair.truth == OVERLAP for each in pairs], float)
    models = {}
    for name, matcher, calibrated in (
        ("CALIBRATED", "lightglue", True),
        ("LIGHTGLUE", "lightglue", False),
        ("OTHERS", "nearest", False),
    ):
        x = np.array([evidence_terms(_evidence(each, matcher, calibrated)) for each in pairs])
        used = x.std(0) > 0  # without probabilities no match counts as wrong
        used[0] = True
        found = np.zeros(x.shape[1])
        found[used] = fit_logistic(x[:, used], y, _class_weights(y), _PENALTY)
        weights = tuple(round(float(weight), 4) for weight in found)
        kept = np.array([each.verified(matcher) for each in pairs]) & (y == 1)
        lowest = float((1 / (1 + np.exp(-x @ np.array(weights))))[kept].min())
        models[name] = OverlapClassifier(weights, min(_MOST_SKIPPED, round(_MARGIN * lowest, 3)))
    return models


def _class_weights(y: np.ndarray) -> np.ndarray:
    """(n,): overlapping pairs and others weigh the same in sum."""
    return np.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean()))


def _evidence(each: MatchedPair, matcher: str, calibrated: bool) -> PairEvidence:
    """As the classifier sees it; calibrated: with the probabilities of the matches."""
    matches = each.matches[matcher]
    return gather_evidence(*each.features, matches if calibrated else replace(matches, probabilities=None))


def score(
    pairs: Sequence[MatchedPair],
    unsure: Sequence[MatchedPair],
    matcher: str,
    model: OverlapClassifier,
    calibrated: bool,
) -> dict[str, Any]:
    """Calibration (with both classes weighing the same, as in training), ROC, and what the threshold does.

    unsure: pairs without a certain answer; those that geometry verifies and the threshold would skip are counted.
    """
    y = np.array([each.pair.truth == OVERLAP for each in pairs])
    p, kept = _classified(pairs, matcher, model, calibrated)
    count = np.array([len(each.matches[matcher]) for each in pairs])
    few = count < LEAST_INLIERS  # geometry cannot verify them: what a threshold on the number alone may skip
    verified = np.array([each.verified(matcher) for each in pairs])
    confirmed = np.array([each.confirmed(matcher) for each in pairs])
    groups = np.array([each.pair.group for each in pairs])
    weight = _class_weights(y) / len(y)
    _, unsure_kept = _classified(unsure, matcher, model, calibrated)
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


def _classified(
    pairs: Sequence[MatchedPair], matcher: str, model: OverlapClassifier, calibrated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair the probability, and whether it is worth verifying."""
    found = [model.classify(_evidence(each, matcher, calibrated)) for each in pairs]
    return np.array([pair.probability for pair in found]), np.array([pair.worth_verifying for pair in found], bool)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
