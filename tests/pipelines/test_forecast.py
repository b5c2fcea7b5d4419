"""The time that a run will take."""

import pytest

from lightmatch.pipelines import forecast as module
from lightmatch.pipelines.forecast import Forecast


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def forecast(clock: Clock) -> Forecast:
    forecast = Forecast()
    forecast.expect({"extract": 20, "match": 100, "map": 50})
    return forecast


def run_stage(forecast: Forecast, clock: Clock, stage: str, seconds: float) -> None:
    forecast.begin(stage)
    clock.now += seconds
    forecast.end()


def test_nothing_is_said_before_there_is_something_to_tell_by(forecast: Forecast, clock: Clock) -> None:
    assert forecast.seconds_left() is None
    forecast.begin("extract")
    clock.now += 5
    forecast.advance(0.5)
    assert forecast.seconds_left() is None


def test_a_machine_half_as_fast_takes_twice_as_long(forecast: Forecast, clock: Clock) -> None:
    forecast.begin("extract")
    clock.now += 20
    forecast.advance(0.5)
    assert forecast.seconds_left() == pytest.approx(20 + 2 * 150)
    clock.now += 20
    forecast.end()
    assert forecast.seconds_left() == pytest.approx(2 * 150)


def test_a_stage_that_runs_tells_its_own_pace(forecast: Forecast, clock: Clock) -> None:
    run_stage(forecast, clock, "extract", 20)
    forecast.begin("match")
    clock.now += 2
    forecast.advance(0.01)
    assert forecast.seconds_left() == pytest.approx(149 * 22 / 21)
    clock.now += 148
    forecast.advance(0.5)
    pace = (20 + 150) / (20 + 50)
    assert forecast.seconds_left() == pytest.approx(150 + pace * 50)


def test_what_an_earlier_run_has_done_says_nothing_of_the_machine(forecast: Forecast, clock: Clock) -> None:
    run_stage(forecast, clock, "extract", 0.5)
    run_stage(forecast, clock, "match", 200)
    assert forecast.seconds_left() == pytest.approx(2 * 50)


def test_stages_that_nobody_expected_cost_nothing_in_the_forecast(forecast: Forecast, clock: Clock) -> None:
    run_stage(forecast, clock, "frames", 500)
    run_stage(forecast, clock, "extract", 20)
    assert forecast.seconds_left() == pytest.approx(150)
