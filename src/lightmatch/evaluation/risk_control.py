"""Choice of a setting whose risk is bounded with a stated probability, from a finite sample.

Learn then test (Angelopoulos, Bates, Candès, Jordan, Lei 2021): each setting is a hypothesis "its risk is above the
limit", tested by a valid p-value; settings are tried from the safest on, and the last one before the first that cannot
be rejected is taken (fixed-sequence testing, section 3.1), which needs no correction for the number of settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from lightmatch.errors import InvalidValueError

Setting = TypeVar("Setting")

_MOST = 0.9  # of the largest bet that cannot lose everything


def mean_p_value(losses: np.ndarray, limit: float, error: float = 0.05) -> float:
    """p-value of "the mean loss is above `limit`", from independent losses (n,) in 0…1, in random order.

    Bets against the hypothesis, whose capital is a supermartingale where it holds; the p-value is 1 over the largest
    capital. It uses that most losses are far below 1, unlike Hoeffding's inequality. Valid for every `error`; the bets
    are sized to decide at that level.
    Source: Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting, JRSS B 2024, section 4.3.
    Raises InvalidValueError for losses outside 0…1, or a limit that is not between.
    """
    losses = np.asarray(losses, float)
    if losses.ndim != 1 or (len(losses) and not (losses.min() >= 0 and losses.max() <= 1)):
        raise InvalidValueError("mean_p_value: expected losses (n,) in 0…1")
    if not 0 < limit < 1:
        raise InvalidValueError(f"mean_p_value: expected a limit between 0 and 1, got {limit}")
    number = np.arange(1, len(losses) + 1)
    mean = (0.5 + np.cumsum(losses)) / (number + 1)
    variance = (0.25 + np.cumsum((losses - mean) ** 2)) / (number + 1)
    known = np.concatenate(([0.25], variance[:-1]))  # before each loss is seen
    bets = np.minimum(np.sqrt(2 * math.log(1 / error) / (max(1, len(losses)) * known)), _MOST / (1 - limit))
    capital = np.cumsum(np.log1p(-bets * (losses - limit)))
    return min(1.0, math.exp(-max(0.0, capital.max(initial=0.0))))


def rate_p_value(failures: int, trials: int, limit: float) -> float:
    """p-value of "the rate of failures is above `limit`", by the binomial distribution, exact."""
    counts = np.arange(failures + 1)
    choose = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in counts]
    return min(1.0, float(np.exp(choose + counts * math.log(limit) + (trials - counts) * math.log1p(-limit)).sum()))


def last_safe(tested: Iterable[tuple[Setting, float]], error: float) -> Setting | None:
    """The last of the settings, given from the safest on with their p-values, before the first that may be unsafe.

    With probability 1 − error its risk is below the limit that the p-values are for. None where the first already may
    be unsafe. Nothing behind the first unsafe one is taken from `tested`.
    """
    safe = None
    for setting, p_value in tested:
        if p_value > error:
            break
        safe = setting
    return safe
