"""Executors give results in order, drop what waits when they are closed, and share models."""

import time
from collections.abc import Callable
from contextlib import closing

import pytest

from lightmatch.runtime.executor import Executor, Sequential, Threads, forget, remembered
from lightmatch.runtime.threads import num_threads, use_threads


@pytest.fixture(params=[Threads, Sequential])
def executor(request: pytest.FixtureRequest) -> Executor:
    make: Callable[[], Executor] = request.param
    return make()


def late_first(number: int) -> int:
    time.sleep(0.02 if number == 0 else 0)
    return number**2


def test_results_are_in_the_order_of_the_items(executor: Executor) -> None:
    assert list(executor.map(late_first, range(5))) == [0, 1, 4, 9, 16]


def test_what_waits_is_dropped_when_the_results_are_closed(executor: Executor) -> None:
    before, done = num_threads(), []
    use_threads(2)

    def job(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    try:
        with pytest.raises(ValueError), closing(executor.map(job, range(100))) as results:
            next(results)
            raise ValueError
        assert 1 <= len(done) < 20 and num_threads() == 2
    finally:
        use_threads(before)


def test_a_failed_job_is_told_to_who_asked(executor: Executor) -> None:
    with pytest.raises(ZeroDivisionError):
        list(executor.map(lambda number: 1 // number, [1, 0, 1]))


def test_a_model_is_made_once_in_a_run_and_forgotten_after_it() -> None:
    made = [remembered(run, "sift", object) for run in ("a", "a", "b")]
    assert made[0] is made[1] and made[0] is not made[2]
    forget("a")
    assert remembered("a", "sift", object) is not made[0]
    assert remembered("b", "sift", object) is made[2]
    forget("a")
    forget("b")
