"""Who does the jobs of a run: threads of this process, or it alone.

A job is a top-level function, or `functools.partial` of one, and like its items and results it can be pickled: it reads
and writes the cache, and makes the models and tables that it needs from their specification (`remembered`). So an
executor may as well hand jobs to other processes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

from lightmatch.runtime.threads import MOST_WORKERS, thread_pool

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
T = TypeVar("T")


class Executor(Protocol):
    """Applies a job to each of many items."""

    def map(self, job: Callable[[I], R], items: Iterable[I], most: int = MOST_WORKERS) -> Generator[R, None, None]:
        """Results in the order of the items, each independent of the others.

        most: items worked on at a time. A job's exception is raised here. Whoever stops before the last result closes
        the generator (`contextlib.closing`): items that wait are dropped.
        """
        ...


class Threads:
    """Several items at a time, on the threads of this process: see `thread_pool`."""

    def map(self, job: Callable[[I], R], items: Iterable[I], most: int = MOST_WORKERS) -> Generator[R, None, None]:
        """As `Executor.map`."""
        with thread_pool(most) as pool:
            yield from pool.map(job, items)


class Sequential:
    """One item after the other in the thread that asks, each with all threads of the process."""

    def map(self, job: Callable[[I], R], items: Iterable[I], most: int = 1) -> Generator[R, None, None]:
        """As `Executor.map`."""
        for item in items:
            yield job(item)


_MOST_MODELS = 4  # kept in a process: of a run an extractor and matchers
_models: OrderedDict[tuple[str, object], Any] = OrderedDict()
_lock = threading.Lock()


def remembered(run: str, specification: object, make: Callable[[], T]) -> T:
    """The model of a specification: made at the first call in this process, then shared by its threads.

    run: tells runs apart, for a file of weights of one name may hold others tomorrow. specification: hashable, of one
    type for each kind of model. Only the latest few are kept.
    """
    key = (run, specification)
    with _lock:
        if key not in _models:
            _models[key] = make()
            while len(_models) > _MOST_MODELS:
                _models.popitem(last=False)
        _models.move_to_end(key)
        return _models[key]


def forget(run: str) -> None:
    """Let go of all models of a run, so that their memory is free."""
    with _lock:
        for key in [key for key in _models if key[0] == run]:
            del _models[key]
