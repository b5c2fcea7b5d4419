"""How many threads compute: decided here, for PyTorch, OpenCV and COLMAP alike.

Libraries that each start as many threads as there are cores, several at a time, run ten times slower than one of them
alone. So a process has one number of threads, and work done side by side shares it out.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import torch

from lightmatch.errors import InvalidValueError

MOST_WORKERS = 8  # each needs memory of its own


def use_threads(number: int) -> None:
    """Let this process compute on `number` threads; without it, on as many as there are cores."""
    if not 1 <= number <= 1024:
        raise InvalidValueError(f"threads: expected 1…1024, got {number} (this machine has {os.cpu_count()} cores)")
    torch.set_num_threads(number)
    cv2.setNumThreads(number)


def num_threads() -> int:
    """On how many threads this process computes."""
    return torch.get_num_threads()


@contextmanager
def thread_pool(most: int = MOST_WORKERS) -> Generator[Executor]:
    """At most `most` workers that share the threads of this process: each item in one of them, several at a time.

    Faster than one item after the other with all threads, for no library keeps all of them busy all the time. What an
    item gives does not depend on the others, nor on their order. When the block is left by an exception, items that
    wait are dropped.
    """
    total = num_threads()
    workers = min(total, most)
    share = max(1, total // workers)
    pool = ThreadPoolExecutor(workers, "lightmatch", initializer=torch.set_num_threads, initargs=(share,))
    cv2.setNumThreads(share)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    finally:
        pool.shutdown()
        use_threads(total)
