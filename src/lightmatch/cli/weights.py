"""The verb `weights`: what others published, on this machine or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.weights import (
    BY_HAND,
    RECORDS,
    WeightsRecord,
    find_weights,
    obtain_weights,
    verify_weights,
    weights_folder,
    weights_record,
)

weights = typer.Typer(no_args_is_help=True, add_completion=False, help="Published weights: list, fetch, verify.")
_Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="As `lightmatch weights list` shows them.")]


@weights.command(name="list")
def list_weights() -> None:
    """Show what is known, under which licence, and where it lies.

    Example: `lightmatch weights list`
    """
    table = Table(title="weights by others")
    table.add_column("name", no_wrap=True)
    for column in ("MB", "licence", "commercial use", "on this machine"):
        table.add_column(column)
    for record in RECORDS:
        size = "" if record.size_bytes is None else f"{record.size_bytes / 1e6:.1f}"
        found = find_weights(record)
        commercial = "yes" if record.commercial_use else "no"
        table.add_row(record.name, size, record.license, commercial, str(found) if found else "–")
    for name, (url, license) in BY_HAND.items():
        table.add_row(name, "", license, "no" if "research only" in license else "yes", f"by hand: {url}")
    OUT.print(table)
    say(f"fetched to {weights_folder()}")


@weights.command()
def fetch(names: _Names) -> None:
    """Fetch weights now, to be offline later.

    Example: `lightmatch weights fetch aliked-n16rot`
    """
    for record in [weights_record(name) for name in names]:
        path = _fetch_with_bar(record)
        say(f"{record.name}: {path}")


def _fetch_with_bar(record: WeightsRecord) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=ERR) as bar:
        task = bar.add_task(record.name, total=record.size_bytes)
        return obtain_weights(record, lambda done, total: bar.update(task, completed=done, total=total))


@weights.command()
def verify() -> None:
    """Check the hash of every file that was fetched.

    Example: `lightmatch weights verify`
    """
    for record in RECORDS:
        digest = verify_weights(record)
        if digest is not None:
            say(f"{record.name}: {digest} (as published)")
