"""How a run reports its progress: silent by default, a bar on the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Progress:
    """Times the stages of a run; subclasses show them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """One stage of `total` steps; what it yields is called after each step."""
        start = time.perf_counter()
        with self.show(name, total) as step:
            yield step
        self.seconds[name] = round(time.perf_counter() - start, 3)
        logger.debug("%s took %.1f s", name, self.seconds[name])

    @contextmanager
    def show(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """Shows nothing; override to show a bar."""
        yield lambda: None
