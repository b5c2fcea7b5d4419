"""The test against chance: its formula, and that random matches pass it about as rarely as it says."""

import math
from itertools import pairwise

import numpy as np
import pytest

from lightmatch.geometry.chance import log10_false_alarms, share_near_line, share_near_point


def test_the_formula_by_hand() -> None:
    # 2 · (6 − 3) · C(6, 5) · C(5, 3) · 0.1²
    assert log10_false_alarms(6, 5, 0.1, 3, 2) == pytest.approx(math.log10(2 * 3 * 6 * 10 * 0.01))
    assert log10_false_alarms(10, 3, 0.1, 3) == math.inf  # the sample alone agrees always
    assert log10_false_alarms(10, 8, 3.0, 3) == log10_false_alarms(10, 8, 1.0, 3)  # no more than all of the picture


def test_more_agreement_is_less_by_chance() -> None:
    chances = [log10_false_alarms(60, inliers, 0.02, 7, 3) for inliers in range(8, 61)]
    assert all(after < before for before, after in pairwise(chances[8:]))
    assert chances[0] > 0 > chances[-1]
    assert log10_false_alarms(60, 20, 0.01, 7, 3) < log10_false_alarms(60, 20, 0.04, 7, 3)


def test_it_counts_no_less_than_what_happens() -> None:
    """Vertical lines through one of 12 random points: with how many others within 1 % of the width does one agree?"""
    rng = np.random.default_rng(0)
    total, half_width, runs = 12, 0.01, 4000
    x = rng.random((runs, total))
    agreeing = (np.abs(x[:, :, None] - x[:, None]) <= half_width).sum(2)
    for inliers in (3, 4, 5):
        happened = (agreeing >= inliers).sum() / runs
        assert happened <= 10 ** log10_false_alarms(total, inliers, 2 * half_width, 1)


def test_shares_of_a_picture() -> None:
    assert share_near_point(2.0, 40, 30) == pytest.approx(math.pi * 4 / 1200)
    # A band of 2 px on either side of a diagonal of 50 px.
    assert share_near_line(2.0, 40, 30) == pytest.approx(4 * 50 / 1200)
