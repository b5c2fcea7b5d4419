"""Probabilities against what happened: logistic regression, reliability, expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightmatch.errors import InvalidValueError

_STEPS = 50  # of Newton's method, at most
_SETTLED = 1e-9  # a step of no more ends the search


@dataclass(frozen=True)
class ReliabilityBin:
    """Cases whose probability lies in one bin."""

    lowest: float  # probability of the bin
    num_cases: int
    said: float  # mean probability
    was: float  # share that was true


def fit_logistic(
    terms: np.ndarray, truth: np.ndarray, case_weights: np.ndarray | None = None, penalty: float = 1.0
) -> np.ndarray:
    """Weights (t,) of a logistic regression on terms (n, t), the first of them constant, by Newton's method.

    truth: (n,) 0 or 1. case_weights: (n,) of the log losses; None: 1 each. penalty: on the squared weights of the
    standardised terms but the constant, against the weighted sum of log losses.
    Raises InvalidValueError where all cases are alike: there is nothing to fit.
    """
    truth = np.asarray(truth, float)
    if len(truth) == 0 or truth.min() == truth.max():
        raise InvalidValueError(f"logistic regression: expected true and false cases, got {len(truth)} of one kind")
    weights = np.ones(len(truth)) if case_weights is None else case_weights
    centre, spread = terms[:, 1:].mean(0), terms[:, 1:].std(0) + 1e-9
    standard = np.concatenate((terms[:, :1], (terms[:, 1:] - centre) / spread), 1)
    ridge = penalty * np.diag([0.0] + [1.0] * (terms.shape[1] - 1))
    found = np.zeros(terms.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-standard @ found))
        gradient = standard.T @ (weights * (p - truth)) + ridge @ found
        hessian = (standard * (weights * p * (1 - p))[:, None]).T @ standard + ridge
        step = np.linalg.solve(hessian, gradient)
        found -= step
        if np.abs(step).max() < _SETTLED:
            break
    slopes = found[1:] / spread
    return np.concatenate(([found[0] - slopes @ centre], slopes))


def reliability(
    probabilities: np.ndarray, truth: np.ndarray, case_weights: np.ndarray | None = None, num_bins: int = 10
) -> list[ReliabilityBin]:
    """What was said and what was, by bins of equal width; bins without cases are left out.

    probabilities: (n,) in 0…1. truth: (n,) 0 or 1. case_weights: (n,); None: 1 each.
    """
    weights = np.ones(len(truth)) if case_weights is None else case_weights
    bins = _bins(probabilities, num_bins)
    return [
        ReliabilityBin(
            number / num_bins,
            int(inside.sum()),
            float(np.average(probabilities[inside], weights=weights[inside])),
            float(np.average(truth[inside], weights=weights[inside])),
        )
        for number in range(num_bins)
        if (inside := bins == number).any()
    ]


def expected_calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, case_weights: np.ndarray | None = None, num_bins: int = 10
) -> float:
    """Mean distance between what was said and what was, over the cases, by bins of equal width; 0 without cases.

    Source: Naeini, Cooper, Hauskrecht: Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    weights = np.ones(len(truth)) if case_weights is None else case_weights
    gaps = np.bincount(_bins(probabilities, num_bins), weights * (np.asarray(probabilities) - truth), num_bins)
    return float(np.abs(gaps).sum() / weights.sum()) if len(truth) else 0.0


def _bins(probabilities: np.ndarray, num_bins: int) -> np.ndarray:
    """(n,) the bin that each lies in; 1 is in the last."""
    return np.minimum((np.asarray(probabilities) * num_bins).astype(int), num_bins - 1)
