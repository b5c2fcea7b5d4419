"""Progress of a run as a bar on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from lightmatch.pipelines.progress import Progress


class BarProgress(Progress):
    """One bar a stage: name, bar, count, time gone and time left."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    @contextmanager
    def show(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar while the stage runs; its last state stays on screen."""
        columns = (
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console) as bar:
            task = bar.add_task(name, total=total)
            yield lambda: bar.advance(task)
