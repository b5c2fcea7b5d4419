"""Overview picture of a reconstruction: points and cameras from above and from the front."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_MAX_POINTS = 60_000
_BACKGROUND, _INK, _CAMERA = "#18181b", "#d4d4d8", "#ff5a4f"


def draw_overview(
    path: str | Path, points: np.ndarray, colors: np.ndarray, centers: np.ndarray, rotations: np.ndarray
) -> None:
    """Write a picture of points and cameras.

    points: (n, 3). colors: (n, 3) uint8 RGB. centers: (c, 3) camera centres.
    rotations: (c, 3, 3) camera axes as rows (right, down, forward) in the world.
    """
    from matplotlib.figure import Figure

    axes_world = _upright_axes(rotations)
    shown = np.linspace(0, len(points) - 1, min(len(points), _MAX_POINTS)).round().astype(int)
    cloud = (points[shown] - centers.mean(0)) @ axes_world.T
    cameras = (centers - centers.mean(0)) @ axes_world.T
    forward = rotations[:, 2] @ axes_world.T
    # The few far, uncertain points would make the rest too small.
    low, high = np.percentile(np.concatenate((cloud, cameras)), [5, 95], axis=0)
    low, high = np.minimum(low, cameras.min(0)), np.maximum(high, cameras.max(0))
    margin = 0.08 * (high - low).max() + 1e-9

    figure = Figure(figsize=(14, 7), layout="constrained", facecolor=_BACKGROUND)
    figure.suptitle(f"{len(centers)} cameras and {len(points)} points", color=_INK)
    views = (("from above", (0, 2)), ("from the front", (0, 1)))
    for number, (title, (across, along)) in enumerate(views):
        axes = figure.add_subplot(1, 2, number + 1, facecolor=_BACKGROUND)
        axes.scatter(cloud[:, across], cloud[:, along], s=3, c=_brightened(colors[shown]), linewidths=0)
        arrow = 0.06 * (high - low).max()
        axes.quiver(
            cameras[:, across],
            cameras[:, along],
            forward[:, across] * arrow,
            forward[:, along] * arrow,
            color=_CAMERA,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.003,
        )
        axes.plot(cameras[:, across], cameras[:, along], "o", color=_CAMERA, markersize=4)
        axes.set_xlim(low[across] - margin, high[across] + margin)
        axes.set_ylim(low[along] - margin, high[along] + margin)
        if along == 1:
            axes.invert_yaxis()  # y points down
        axes.set_aspect("equal")
        axes.set_title(title, color=_INK)
        axes.tick_params(labelsize=8, colors=_INK)
        axes.spines[:].set_color(_INK)
    figure.savefig(path, dpi=110)


def _upright_axes(rotations: np.ndarray) -> np.ndarray:
    """(3, 3) rows right, down, forward, from the mean camera axes: down is about the direction of gravity."""
    down = rotations[:, 1].mean(0)
    down = down / max(float(np.linalg.norm(down)), 1e-12)
    forward = rotations[:, 2].mean(0)
    forward = forward - (forward @ down) * down
    if np.linalg.norm(forward) < 0.1:  # cameras all round: any direction across will do
        forward = np.linalg.svd(down[None])[2][1]
    forward = forward / np.linalg.norm(forward)
    return np.stack((np.cross(down, forward), down, forward))


def _brightened(colors: np.ndarray) -> np.ndarray:
    """(n, 3) in 0…1, brightened for the dark background."""
    return 0.25 + 0.75 * (colors / 255) ** 0.7
