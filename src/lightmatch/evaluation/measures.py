"""Rows of a result table: statistics of the scores over many pairs, on any bootstrap sample of the pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from lightmatch.evaluation.metrics import area_under_curve, recall_at_precision
from lightmatch.evaluation.scoring import Scores, Sweep


@dataclass(frozen=True)
class Measure(ABC):
    """One row of a table."""

    name: str

    @abstractmethod
    def applies(self, scores: Scores) -> bool:
        """Whether the scores have the values that this measure needs."""

    @abstractmethod
    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """The value on each bootstrap sample. draws: (b, n) indices of pairs. Returns (b,), NaN where undefined."""


@dataclass(frozen=True)
class Mean(Measure):
    """Mean over the pairs that have a finite value of the metric `key`."""

    key: str
    scale: float = 1.0

    def applies(self, scores: Scores) -> bool:
        """Whether the scores have the metric `key`."""
        return self.key in scores.values

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """Mean over the sample times `scale`, (b,)."""
        values = scores.values[self.key][draws]
        known = np.isfinite(values)
        count = known.sum(1)
        total = np.where(known, values, 0).sum(1)
        return self.scale * np.divide(total, count, out=np.full(len(draws), np.nan), where=count > 0)


@dataclass(frozen=True)
class Median(Measure):
    """Median over pairs of the metric `key`: for times, where single outliers are common."""

    key: str

    def applies(self, scores: Scores) -> bool:
        """Whether the scores have the metric `key`."""
        return self.key in scores.values

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """Median over the sample, (b,)."""
        return np.median(scores.values[self.key][draws], axis=1)


@dataclass(frozen=True)
class Area(Measure):
    """AUC: area under the cumulative curve of the errors `key` up to a threshold, %."""

    key: str
    threshold: float

    def applies(self, scores: Scores) -> bool:
        """Whether the scores have the errors `key`."""
        return self.key in scores.values

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """AUC over the sample, % (b,). See `area_under_curve`."""
        return 100 * area_under_curve(scores.values[self.key][draws], [self.threshold])[:, 0]


@dataclass(frozen=True)
class RecallAtPrecision(Measure):
    """The largest mean recall over the score thresholds whose mean precision is at least `precision`, %.

    precision: 0…1, or the scores of a method whose precision at its own threshold is required.
    """

    precision: float | Scores

    def applies(self, scores: Scores) -> bool:
        """Whether true matches are known."""
        return scores.sweep is not None and scores.sweep.has_recall

    def __call__(self, scores: Scores, draws: np.ndarray) -> np.ndarray:
        """Recall over the sample, % (b,). See `recall_at_precision`."""
        assert scores.sweep is not None
        least = self.precision
        if isinstance(least, Scores):
            assert least.sweep is not None
            least = precision_and_recall(least.sweep, draws)[0][:, [least.sweep.column(least.min_score)]]
        return 100 * recall_at_precision(*precision_and_recall(scores.sweep, draws), least)


def precision_and_recall(sweep: Sweep, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean precision and mean recall over pairs at every threshold of the sweep, (b, t) each.

    draws: (b, n) indices of pairs. A pair without matches has a precision of 0; a pair without true matches is left
    out of the recall.
    """
    num_draws, num_pairs = draws.shape
    flat = draws + num_pairs * np.arange(num_draws)[:, None]
    weights = np.bincount(flat.ravel(), minlength=num_draws * num_pairs).reshape(num_draws, num_pairs).astype(float)
    has_true = sweep.num_true > 0
    precision = np.divide(sweep.correct, sweep.labelled, out=np.zeros(sweep.correct.shape), where=sweep.labelled > 0)
    recall = sweep.found / np.maximum(sweep.num_true, 1)[:, None] * has_true[:, None]
    with_true = (weights @ has_true)[:, None]
    means = np.full((num_draws, recall.shape[1]), np.nan)
    return weights @ precision / num_pairs, np.divide(weights @ recall, with_true, out=means, where=with_true > 0)
