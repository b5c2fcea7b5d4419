"""Pairs per second against the number of points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightmatch.report.matches import check_picture_name


def draw_speed(picture: Path, seconds: Mapping[tuple[str, str, int], float]) -> None:
    """Draw a line for every matcher, one panel for each kind of pair.

    picture: file to write, in the format of its suffix. seconds: of one pair, by (matcher, kind of pair, points).
    """
    from matplotlib.figure import Figure

    check_picture_name(picture)
    kinds = list(dict.fromkeys(kind for _, kind, _ in seconds))
    names = list(dict.fromkeys(name for name, _, _ in seconds))
    counts = sorted({points for _, _, points in seconds})
    figure = Figure(figsize=(4.2 * len(kinds) + 1.8, 4), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        for number, name in enumerate(names):
            line = [(points, 1 / seconds[name, kind, points]) for points in counts if (name, kind, points) in seconds]
            if line:
                style = "-" if name.startswith("lightmatch") else "--"
                axes.plot(*zip(*line, strict=True), style, marker="o", markersize=3, color=f"C{number}", label=name)
        axes.set(xscale="log", yscale="log", xlabel="keypoints of each image", title=f"{kind} pairs")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("pairs per second")
    panels[0].legend(frameon=False, fontsize="small")
    figure.savefig(picture, dpi=130)
