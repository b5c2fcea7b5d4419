"""What runs on the nodes of a cluster: a job, on the items that the node was given."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightmatch.runtime.devices import keep_few_primitives, keep_freed_memory
from lightmatch.runtime.files import share_files
from lightmatch.runtime.threads import use_threads


@dataclass(frozen=True)
class Greeting:
    """What a node says of itself."""

    lightmatch: str  # version
    missing: tuple[str, ...]  # folders and files that it does not see


def greeting(shared: Sequence[str], mark: str | None) -> Greeting:
    """shared: what it has to see. mark: a file in the first of these, there at this moment alone."""
    missing = [path for path in shared if not Path(path).exists()]
    if mark is not None and not Path(mark).exists() and shared[0] not in missing:
        missing.insert(0, shared[0])  # a folder of that name, but another
    return Greeting(version("lightmatch"), tuple(missing))


@dataclass(frozen=True)
class Done:
    """What came of some items."""

    results: bytes  # pickled list: Ray's own way gives arrays that cannot be written to
    seconds: float
    warnings: tuple[tuple[str, int, str], ...]  # logger, level, message


def do(job: Sequence[Any], items: bytes, threads: int, owner: str) -> Done:
    """Apply a job to items. job: in a list, Ray's reference to it, pickled. owner: distinguishes runs."""
    _prepare(owner)
    use_threads(threads)
    begun = time.monotonic()
    with _logged() as warnings:
        function = _job(job[0])
        results = [function(item) for item in pickle.loads(items)]
    return Done(pickle.dumps(results), time.monotonic() - begun, tuple(warnings))


@lru_cache(1)
def _prepare(owner: str) -> None:
    """Once in a process: what the command line does too."""
    keep_freed_memory()
    keep_few_primitives()
    share_files(f"{owner}-{socket.gethostname()}-{os.getpid()}")


@lru_cache(1)
def _job(reference: Any) -> Callable[[Any], Any]:
    """The job of the stage that runs; kept, for it may keep what it reads."""
    import ray

    return pickle.loads(ray.get(reference))


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append((record.name, record.levelno, record.getMessage()))


@contextmanager
def _logged() -> Generator[list[tuple[str, int, str]]]:
    """What this package logs in the block, from warnings up."""
    listener, ours = _Listener(), logging.getLogger("lightmatch")
    ours.addHandler(listener)
    try:
        yield listener.heard
    finally:
        ours.removeHandler(listener)
