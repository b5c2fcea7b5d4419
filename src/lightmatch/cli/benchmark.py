"""`lightmatch benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.cli.options import MATCHER, Device, Overwrite
from lightmatch.cli.progress import BarProgress


def benchmark(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for benchmark.json, .md and .png.")
    ] = None,
    matcher: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {MATCHER} Or a peer: kornia. Repeatable. [default: all rows]")
    ] = None,
    points: Annotated[
        list[int] | None, typer.Option(help="Keypoints of each image. Repeatable. [default: 512, 1024, 2048]")
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option(help="easy, medium, hard or repeated. Repeatable. [default: the first three]")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each is measured.")] = 7,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure how fast matchers are on this machine: ours, and those of packages that are installed.

    Example: `lightmatch benchmark -o speed/`
    """
    from lightmatch.pipelines.benchmark import BenchmarkConfig
    from lightmatch.pipelines.benchmark import benchmark as measure

    default = BenchmarkConfig()
    config = BenchmarkConfig(
        tuple(matcher or default.runners),
        tuple(points or default.points),
        tuple(level or default.levels),  # type: ignore[arg-type]  # checked there
        rounds,
        device,
    )
    result = measure(output, config, overwrite=overwrite, progress=BarProgress(ERR))
    table = Table("matcher", "points", "pair", "ms", "pairs per second", "MiB added")
    for row in result.rows:
        ms = 1e3 * row.seconds.median
        memory = "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f}"
        table.add_row(row.runner, str(row.points), row.level, f"{ms:.1f}", f"{1e3 / ms:.1f}", memory)
    OUT.print(table)
    if result.absent:
        OUT.print(f"left out, not installed or not for this device: {', '.join(result.absent)}")
    if output is not None:
        say(f"look at {output / 'benchmark.png'}")
