"""How a run reports its progress: silent by default, a bar on the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from lightmatch.pipelines.forecast import Forecast

logger = logging.getLogger(__name__)


class Progress:
    """Times the stages of a run; subclasses show them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.forecast = Forecast()

    @contextmanager
    def stage(self, name: str, total: int) -> Generator[Callable[[], None]]:
        """One stage of `total` steps; what it yields is called after each step."""
        start, done = time.perf_counter(), 0
        self.forecast.begin(name)
        with self.show(name, total) as shown:

            def step() -> None:
                nonlocal done
                done += 1
                self.forecast.advance(min(done / max(total, 1), 1.0))
                shown()

            yield step
        self.forecast.end()
        seconds = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)  # a stage may come again
        logger.debug("%s took %.1f s", name, seconds)

    def announce(self, what: str) -> None:
        """Says nothing; override to say what is about to be done."""

    @contextmanager
    def show(self, name: str, total: int) -> Generator[Callable[[], None]]:
        """Shows nothing; override to show a bar."""
        yield lambda: None
