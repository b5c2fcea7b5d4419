"""Draws the curves of a training run from its log."""

from __future__ import annotations

import csv
from pathlib import Path

from lightmatch.report.matches import check_picture_name


def draw_training(log: Path, picture: Path) -> None:
    """Draw the losses, and the shares measured on held-out pairs, against pairs seen.

    log: CSV as the training loop writes it. picture: file to write, in the format of its suffix.
    """
    from matplotlib.figure import Figure

    check_picture_name(picture)
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    columns = [*rows[0]] if rows else []
    first, last = (columns.index(name) if rows else 0 for name in ("loss", "gradient"))
    for name in columns[first:last]:
        points = [(float(row["pairs"]), float(row[name])) for row in rows]
        left.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    for name in [name for name in ("precision", "recall", "repeatability") if name in columns]:
        points = [(float(row["pairs"]), 100 * float(row[name])) for row in rows if row[name]]
        right.plot(*zip(*points, strict=True), label=name, marker="o", markersize=3, linewidth=1.2)
    right.set(xlabel="pairs seen", ylabel="% on held-out pairs", ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    figure.savefig(picture, dpi=130)
