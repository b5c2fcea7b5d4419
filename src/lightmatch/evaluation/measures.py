"""Numbers of a table: statistics of the scores of many pairs, on any drawing of the pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from lightmatch.evaluation.metrics import area_under_curve, recall_at_precision
from lightmatch.evaluation.scoring import Scores, Sweep


class Measure(ABC):
    """One row of a table."""

    name: str

    @abstractmethod
    def applies(self, scores: Scores) -> bool:
        """Whether the scores hold what it needs."""

    @abstractmethod
    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """Its value on each drawing. draws: (b, n) indices of pairs. Returns (b,), NaN where there is none."""


@dataclass(frozen=True)
class Mean(Measure):
    """Mean over the pairs that have such a number."""

    name: str
    key: str
    scale: float = 1.0

    def applies(self, scores: Scores) -> bool:
        """Whether any pair has such a number."""
        return self.key in scores.values

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """Mean, times `scale`."""
        values = scores.values[self.key][draws]
        known = np.isfinite(values)
        count = known.sum(1)
        total = np.where(known, values, 0).sum(1)
        return self.scale * np.divide(total, count, out=np.full(len(draws), np.nan), where=count > 0)


@dataclass(frozen=True)
class Median(Measure):
    """Median over pairs: for times, of which a few are long for reasons of their own."""

    name: str
    key: str

    def applies(self, scores: Scores) -> bool:
        """Whether there are such numbers."""
        return self.key in scores.values

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """Median."""
        return np.median(scores.values[self.key][draws], axis=1)


@dataclass(frozen=True)
class Area(Measure):
    """Area under the curve of errors up to a threshold, %."""

    name: str
    key: str
    threshold: float

    def applies(self, scores: Scores) -> bool:
        """Whether there are such errors."""
        return self.key in scores.values

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """See `area_under_curve`."""
        return 100 * area_under_curve(scores.values[self.key][draws], [self.threshold])[:, 0]


@dataclass(frozen=True)
class RecallAtPrecision(Measure):
    """Mean recall at the score threshold that serves it best among those of enough mean precision, %.

    precision: the least wanted, 0…1, or a method whose own precision is wanted.
    """

    name: str
    precision: float | Scores

    def applies(self, scores: Scores) -> bool:
        """Whether true matches are known."""
        return scores.sweep is not None and scores.sweep.knows_recall

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """See `recall_at_precision`."""
        assert scores.sweep is not None
        least = self.precision
        if isinstance(least, Scores):
            assert least.sweep is not None
            least = precision_and_recall(least.sweep, draws)[0][:, [least.sweep.column(least.min_score)]]
        return 100 * recall_at_precision(*precision_and_recall(scores.sweep, draws), least)


def precision_and_recall(sweep: Sweep, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over pairs at every threshold of the sweep, (b, t) each.

    A pair without proposals has a precision of 0; one without true matches has no recall and does not count in it.
    """
    num_draws, num_pairs = draws.shape
    flat = draws + num_pairs * np.arange(num_draws)[:, None]
    weights = np.bincount(flat.ravel(), minlength=num_draws * num_pairs).reshape(num_draws, num_pairs).astype(float)
    has_true = sweep.num_true > 0
    precision = np.divide(sweep.right, sweep.judged, out=np.zeros(sweep.right.shape), where=sweep.judged > 0)
    recall = sweep.found / np.maximum(sweep.num_true, 1)[:, None] * has_true[:, None]
    with_true = (weights @ has_true)[:, None]
    means = np.full((num_draws, recall.shape[1]), np.nan)
    return weights @ precision / num_pairs, np.divide(weights @ recall, with_true, out=means, where=with_true > 0)
