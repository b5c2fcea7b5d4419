"""Intervals: repeatable, as wide as theory says, and narrow for paired differences."""

import numpy as np
import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.bootstrap import Interval, draw_pairs


def test_the_first_sample_is_all_pairs() -> None:
    draws = draw_pairs(5, 3, seed=0)
    assert draws.shape == (4, 5) and draws[0].tolist() == [0, 1, 2, 3, 4]
    assert draws.min() >= 0 and draws.max() < 5
    assert np.array_equal(draws, draw_pairs(5, 3, seed=0))
    assert not np.array_equal(draws, draw_pairs(5, 3, seed=1))
    with pytest.raises(InvalidValueError, match="expected pairs to draw from"):
        draw_pairs(0, 3, seed=0)


def test_an_interval_by_hand() -> None:
    found = Interval.of(np.array([7.0, *range(101), np.nan]))
    assert (found.value, found.low, found.high) == (7, 2.5, 97.5)


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(0).random(400)
    found = Interval.of(values[draw_pairs(400, 2000, seed=0)].mean(1))
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.value - found.low == pytest.approx(half, rel=0.1)
    assert found.high - found.value == pytest.approx(half, rel=0.1)


def test_a_constant_difference_has_no_width() -> None:
    values, draws = np.random.default_rng(0).random(30), draw_pairs(30, 200, seed=0)
    difference = Interval.of((values + 0.25)[draws].mean(1) - values[draws].mean(1))
    assert (difference.low, difference.high) == (pytest.approx(0.25), pytest.approx(0.25))
