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
    """Recall of all pairs in one pot, at the score threshold that serves it best among those precise enough, %.

    precision: the least wanted, 0…1, or a contender whose own precision is wanted.
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
    """Of all pairs in one pot, at every threshold of the sweep: (b, t) each, NaN where nothing is proposed or true."""
    num_draws, num_pairs = draws.shape
    flat = draws + num_pairs * np.arange(num_draws)[:, None]
    weights = np.bincount(flat.ravel(), minlength=num_draws * num_pairs).reshape(num_draws, num_pairs).astype(float)
    right, judged, found = (weights @ counts for counts in (sweep.right, sweep.judged, sweep.found))
    return _ratio(right, judged), _ratio(found, (weights @ sweep.num_true)[:, None])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
