"""How far a number might have come out otherwise, had other pairs of the same kind been drawn.

Pairs are drawn with replacement, the same ones for all that is compared, so that a difference between two matchers
is judged on pairs of equal difficulty. Source: Efron & Tibshirani 1993, chapters 8 and 13 (percentile intervals).
Pairs of one scene are not independent: intervals speak of more pairs of these scenes, not of other scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightmatch.errors import InvalidValueError


@dataclass(frozen=True)
class Interval:
    """A number on the pairs as they are, and between what it lay in 95 of 100 drawings."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Interval:
        """values: (1 + num_draws,) of a statistic on `draw_pairs`, the pairs as they are first; NaN is left out."""
        drawn = values[1:][np.isfinite(values[1:])]
        low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
        return cls(float(values[0]), float(low), float(high))


def draw_pairs(num_pairs: int, num_draws: int, seed: int) -> np.ndarray:
    """(1 + num_draws, num_pairs) indices of pairs: first all of them once, then drawings with replacement.

    Raises InvalidValueError where there are no pairs.
    """
    if num_pairs < 1 or num_draws < 0:
        raise InvalidValueError(f"draw_pairs: expected pairs to draw from, got {num_pairs} and {num_draws} drawings")
    drawn = np.random.default_rng(seed).integers(num_pairs, size=(num_draws, num_pairs))
    return np.concatenate((np.arange(num_pairs)[None], drawn))
