"""Logistic regression and calibration errors, on cases whose probability is known."""

import numpy as np
import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.reliability import expected_calibration_error, fit_logistic, reliability

RNG = np.random.default_rng(0)


def test_the_regression_finds_the_weights_that_cases_were_drawn_by() -> None:
    terms = np.column_stack((np.ones(50_000), RNG.normal(3, 2, 50_000), RNG.normal(-1, 0.1, 50_000)))
    weights = np.array([-1.0, 0.7, 2.0])
    truth = RNG.random(50_000) < 1 / (1 + np.exp(-terms @ weights))
    found = fit_logistic(terms, truth)
    assert found == pytest.approx(weights, abs=0.3)
    assert (1 / (1 + np.exp(-terms @ found))).mean() == pytest.approx(truth.mean(), abs=1e-4)


def test_weights_of_cases_count_as_repetitions() -> None:
    terms = np.column_stack((np.ones(60), RNG.normal(size=60)))
    truth = RNG.random(60) < 0.5
    twice = np.where(np.arange(60) < 20, 2, 1)
    assert fit_logistic(terms, truth, twice) == pytest.approx(
        fit_logistic(np.repeat(terms, twice, 0), np.repeat(truth, twice)), abs=0.05
    )


def test_cases_of_one_kind_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="expected true and false cases, got 5 of one kind"):
        fit_logistic(np.ones((5, 1)), np.ones(5))


def test_what_was_said_is_compared_with_what_was() -> None:
    said = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    truth = np.array([0, 1, 1, 1, 0])
    low, high = reliability(said, truth)
    assert (low.lowest, low.num_cases, low.said, low.was) == (0.0, 2, pytest.approx(0.05), 0.5)
    assert (high.lowest, high.num_cases, high.was) == (0.9, 3, pytest.approx(2 / 3))
    assert expected_calibration_error(said, truth) == pytest.approx(2 / 5 * 0.45 + 3 / 5 * (2.9 / 3 - 2 / 3))
    assert expected_calibration_error(said[:0], truth[:0]) == 0


def test_probabilities_that_are_true_have_no_error() -> None:
    said = RNG.random(100_000)
    truth = RNG.random(100_000) < said
    assert expected_calibration_error(said, truth) < 0.01
    assert expected_calibration_error(said**2, truth) > 0.1
