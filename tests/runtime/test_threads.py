"""One number of threads, shared out among those who work side by side."""

import threading
import time
from collections.abc import Iterator

import cv2
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.runtime.threads import num_threads, thread_pool, use_threads


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = num_threads()
    yield
    use_threads(before)


@pytest.mark.parametrize(("total", "workers", "share"), [(1, 1, 1), (2, 2, 1), (8, 8, 1), (16, 8, 2)])
def test_workers_share_the_threads(total: int, workers: int, share: int) -> None:
    use_threads(total)
    with thread_pool() as pool:
        together = threading.Barrier(workers)

        def work(_: int) -> tuple[int, int]:
            together.wait(timeout=10)  # all of them at once
            return torch.get_num_threads(), cv2.getNumThreads()

        assert set(pool.map(work, range(workers))) == {(share, share)}
    assert (num_threads(), cv2.getNumThreads()) == (total, total)


def test_what_waits_is_dropped_after_an_error() -> None:
    use_threads(2)
    done = []

    def work(number: int) -> None:
        if number == 0:
            raise ValueError
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(ValueError), thread_pool() as pool:
        list(pool.map(work, range(100)))
    assert len(done) < 10 and num_threads() == 2


@pytest.mark.parametrize("number", [0, -1, 100_000])
def test_odd_numbers_are_refused(number: int) -> None:
    with pytest.raises(InvalidValueError, match="threads: expected 1…1024"):
        use_threads(number)
