"""Progress of a run: as a bar on standard error, and as lines of JSON in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from lightmatch.pipelines.forecast import Forecast, readable_time
from lightmatch.pipelines.progress import Progress

_LEAST_SECONDS = 1.0  # between two lines of the same stage
_MORE_SECONDS = 60.0  # that the whole run takes longer than the stage, to be worth a word


class BarProgress(Progress):
    """One bar a stage: name, bar, count, rate, time gone and time left. Without a console, none."""

    def __init__(self, console: Console | None, log: Path | None = None) -> None:
        """log: a file that lines of JSON are added to, one for each event, so that programs can follow a run."""
        super().__init__()
        self._console = console
        self._log = None if log is None else _JsonLog(log)

    @contextmanager
    def show(self, name: str, total: int) -> Generator[Callable[[], None]]:
        """A bar while the stage runs; its last state stays on screen."""
        with ExitStack() as stack:
            steps: list[Callable[[], None]] = []
            if self._console is not None:
                steps.append(stack.enter_context(_bar(self._console, name, total, self.forecast)))
            if self._log is not None:
                steps.append(stack.enter_context(self._log.stage(name, total, self.forecast)))

            def step() -> None:
                for one in steps:
                    one()

            yield step

    def announce(self, what: str) -> None:
        """A line of its own."""
        if self._console is not None:
            self._console.print(what, highlight=False)


@contextmanager
def _bar(console: Console, name: str, total: int, forecast: Forecast) -> Generator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        _LeftColumn(forecast),
    )
    with RichProgress(*columns, console=console) as bar:
        task = bar.add_task(name, total=total or None)  # 0: nobody knows
        yield lambda: bar.advance(task)
        if not total:
            bar.update(task, total=bar.tasks[task].completed)


class _RateColumn(ProgressColumn):
    """Steps a second, over the last of them."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if (task.total is not None and task.total < 2) or not speed:  # one step has no rate
            return Text("")
        return Text(f"{speed:.3g}/s", style="progress.data.speed")


class _LeftColumn(ProgressColumn):
    """The time that is left of the stage, as long as there is any, and of the whole run where that is much more."""

    max_refresh = 0.5

    def __init__(self, forecast: Forecast) -> None:
        super().__init__()
        self._forecast = forecast

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if task.finished or left is None:
            return Text("")
        said = f"{_clock(left)} left"
        run = self._forecast.seconds_left()
        if run is not None and run > left + _MORE_SECONDS:
            said += f", {readable_time(run)} for the whole run"
        return Text(said, style="progress.remaining")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


class _JsonLog:
    """Events of a run, one JSON object a line: time, event ("start", "step" or "end"), stage, done, total, seconds.

    Steps have seconds_left of the stage and, once that can be told, run_seconds_left.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)

    @contextmanager
    def stage(self, name: str, total: int, forecast: Forecast) -> Generator[Callable[[], None]]:
        begun = last = time.monotonic()
        done = 0
        self._write("start", name, done, total)

        def step() -> None:
            nonlocal done, last
            done += 1
            if time.monotonic() - last >= _LEAST_SECONDS:
                last = time.monotonic()
                left = (last - begun) / done * max(total - done, 0)
                run = forecast.seconds_left()
                more = {} if run is None else {"run_seconds_left": round(run, 1)}
                self._write("step", name, done, total, seconds_left=round(left, 1), **more)

        yield step
        self._write("end", name, done, total, seconds=round(time.monotonic() - begun, 3))

    def _write(self, event: str, stage: str, done: int, total: int, **more: Any) -> None:
        line = {"time": round(time.time(), 3), "event": event, "stage": stage, "done": done, "total": total, **more}
        self._file.write(json.dumps(line) + "\n")
