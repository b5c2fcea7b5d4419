"""Bootstrap confidence intervals over image pairs.

Pairs are resampled with replacement, the same samples for all methods, so that the difference between two methods
is measured on the same pairs. Source: Efron & Tibshirani 1993, chapters 8 and 13 (percentile intervals).
Pairs of one scene are not independent: intervals hold for more pairs of these scenes, not for other scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightmatch.errors import InvalidValueError


@dataclass(frozen=True)
class Interval:
    """A statistic on all pairs, and its 95 % percentile interval over bootstrap samples."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Interval:
        """values: (1 + num_draws,), the statistic on each row of `draw_pairs`, all pairs first; NaN is left out."""
        drawn = values[1:][np.isfinite(values[1:])]
        low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
        return cls(float(values[0]), float(low), float(high))


def draw_pairs(num_pairs: int, num_draws: int, seed: int) -> np.ndarray:
    """(1 + num_draws, num_pairs) indices of pairs: first every pair once, then bootstrap samples with replacement.

    Raises InvalidValueError where there are no pairs.
    """
    if num_pairs < 1 or num_draws < 0:
        raise InvalidValueError(
            f"draw_pairs: expected pairs to draw from, got {num_pairs} pairs and {num_draws} samples"
        )
    drawn = np.random.default_rng(seed).integers(num_pairs, size=(num_draws, num_pairs))
    return np.concatenate((np.arange(num_pairs)[None], drawn))
