"""Tests of hypotheses about a risk: they must rarely reject what is true, and reject what is plainly false."""

import numpy as np
import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.risk_control import last_safe, mean_p_value, rate_p_value


def losses(rng: np.random.Generator, mean: float, number: int = 600) -> np.ndarray:
    """Mostly nothing, sometimes a little: as matches that an early exit loses."""
    return np.where(rng.random(number) < mean / 0.05, 0.05, 0.0)


def test_a_mean_above_the_limit_is_rarely_called_safe() -> None:
    rng = np.random.default_rng(0)
    called_safe = sum(mean_p_value(losses(rng, 0.0101), 0.01) <= 0.05 for _ in range(400))
    assert called_safe <= 0.05 * 400


def test_a_mean_well_below_the_limit_is_called_safe() -> None:
    rng = np.random.default_rng(1)
    called_safe = sum(mean_p_value(losses(rng, 0.004, 1200), 0.01) <= 0.05 for _ in range(100))
    assert called_safe >= 90


def test_no_losses_and_no_data() -> None:
    assert mean_p_value(np.zeros(2000), 0.01) < 0.01
    assert mean_p_value(np.zeros(0), 0.01) == 1.0


def test_rates_are_exact() -> None:
    # Nothing in 299 trials is just enough for 1 % at 95 %, one failure in 472 as well.
    assert rate_p_value(0, 299, 0.01) <= 0.05 < rate_p_value(0, 298, 0.01)
    assert rate_p_value(1, 473, 0.01) <= 0.05 < rate_p_value(1, 472, 0.01)
    assert rate_p_value(0, 0, 0.01) == 1.0


def test_the_last_before_the_first_unsafe_is_taken_and_no_more_is_tested() -> None:
    tested = []

    def settings():
        for name, p_value in (("careful", 0.01), ("bolder", 0.04), ("too bold", 0.2), ("by luck", 0.0)):
            tested.append(name)
            yield name, p_value

    assert last_safe(settings(), 0.05) == "bolder"
    assert tested == ["careful", "bolder", "too bold"]
    assert last_safe([("first", 0.5)], 0.05) is None


@pytest.mark.parametrize(("values", "limit"), [([0.1, 1.2], 0.01), ([[0.1]], 0.01), ([0.1], 0.0), ([0.1], 1.0)])
def test_bad_values_are_refused(values: list, limit: float) -> None:
    with pytest.raises(InvalidValueError):
        mean_p_value(np.array(values), limit)
