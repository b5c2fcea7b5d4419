"""Time matchers on this machine: ours and those of other packages, on pairs of several sizes and difficulties."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from lightmatch.benchmark import Timing, create_runner, default_runners, peak_memory, time_in_turns, timing_pair
from lightmatch.benchmark.pairs import MOST_POINTS
from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.datasets.rendered import Level
from lightmatch.evaluation.environment import describe_environment
from lightmatch.pipelines.output import finish_output, prepare_output
from lightmatch.pipelines.progress import Progress
from lightmatch.report import draw_speed
from lightmatch.runtime.devices import pick_device
from lightmatch.types import Features

_OUTPUTS = ("benchmark.json", "benchmark.md", "benchmark.png")


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is timed."""

    runners: tuple[str, ...] = ()  # specifications of matchers, or names of `default_runners`; all of these by default
    points: tuple[int, ...] = (512, 1024, 2048)  # keypoints of each image
    levels: tuple[Level, ...] = ("easy", "medium", "hard")
    rounds: int = 7
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in self.runners:
            create_runner(name)
        unknown = [level for level in self.levels if level not in get_args(Level)]
        if unknown or not self.levels:
            raise InvalidValueError(f"levels: expected some of {', '.join(get_args(Level))}, got {unknown or 'none'}")
        if not self.points or not all(1 <= count <= MOST_POINTS for count in self.points):
            raise InvalidValueError(f"points: expected some of 1…{MOST_POINTS}, got {self.points or 'none'}")
        if self.rounds < 1:
            raise InvalidValueError(f"rounds: expected at least 1, got {self.rounds}")


@dataclass(frozen=True)
class BenchmarkRow:
    """One runner on one kind of pair."""

    runner: str
    points: int
    level: str
    seconds: Timing
    peak_bytes: int | None  # that one matching adds at most; measured on the first kind of pair


@dataclass(frozen=True)
class BenchmarkResult:
    """All rows, and what was left out."""

    rows: tuple[BenchmarkRow, ...]
    absent: tuple[str, ...]
    environment: dict[str, Any]


def benchmark(
    output: str | Path | None = None,
    config: BenchmarkConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Time one matching by every runner, in turns.

    output: a new folder, or one of an earlier run with `overwrite`, for benchmark.json, .md and .png.
    Runners that need all layers take the same time whatever the pair, and are timed on the first level alone; memory is
    measured on it alone too.
    """
    config, progress = config or BenchmarkConfig(), progress or Progress()
    device = pick_device(config.device)
    if output is not None:
        output = Path(output)
        prepare_output(output, _OUTPUTS, overwrite)
    chosen = [create_runner(name) for name in config.runners] or list(default_runners())
    runners = [one for one in chosen if one.installed and device.partition(":")[0] in one.devices]
    rows: list[BenchmarkRow] = []
    pairs: list[tuple[int, Level]] = [(points, level) for points in config.points for level in config.levels]
    with progress.stage("measure", len(pairs)) as step:
        for points, level in pairs:
            first = level == config.levels[0]
            pair = timing_pair(level, points)
            timed = [runner for runner in runners if runner.adaptive or first]
            calls = {runner.name: runner.prepare(*pair, device) for runner in timed}
            timings = time_in_turns(calls, config.rounds, device)
            del calls
            for name, seconds in timings.items():
                peak = peak_memory(_prepared, name, *pair, device, device=device) if first else None
                rows.append(BenchmarkRow(name, points, level, seconds, peak))
            step()
    absent = tuple(one.name for one in chosen if one not in runners)
    result = BenchmarkResult(tuple(rows), absent, describe_environment(device))
    if output is not None:
        content = {**asdict(result), "config": asdict(config)}
        (output / "benchmark.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (output / "benchmark.md").write_text(benchmark_table(result), encoding="utf-8")
        draw_speed(output / "benchmark.png", {(r.runner, r.level, r.points): r.seconds.median for r in result.rows})
        finish_output(output)
    return result


def _prepared(name: str, features0: Features, features1: Features, device: str) -> Callable[[], Any]:
    """For a process of its own: a call that has been made once, with few points, so that what it adds is its own."""
    runner, few = create_runner(name), torch.arange(min(64, len(features0), len(features1)))
    runner.prepare(features0.select(few), features1.select(few), device)()
    return runner.prepare(features0, features1, device)


def benchmark_table(result: BenchmarkResult) -> str:
    """The rows as Markdown."""
    lines = [
        "| matcher | points | pair | ms (quartiles) | pairs per second | MiB added |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row in result.rows:
        ms = [1e3 * value for value in (row.seconds.median, row.seconds.low, row.seconds.high)]
        memory = "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f}"
        lines.append(
            f"| {row.runner} | {row.points} | {row.level} | {ms[0]:.1f} ({ms[1]:.1f}–{ms[2]:.1f})"
            f" | {1e3 / ms[0]:.1f} | {memory} |"
        )
    return "\n".join(lines) + "\n"
