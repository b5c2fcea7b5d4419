"""Which frames are keyframes: one that sees what none near it does, as long as no others see the same."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from lightmatch.geometry.poses import angle_deg, center_of, relative
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.map import Map
from lightmatch.tracking.trajectory import Trajectory

_FEWER = 0.5  # of the points that the last keyframe began with: with fewer followed, a new one is made
_SPARSE = 0.5  # of the cells of the image that show a point, of those that did then
_CELLS = (8, 6)
_MOVED = 0.12  # of the median depth, from the nearest keyframe
_TURNED_DEG = 20.0
_SAME = 0.3  # of the followed points, for a keyframe to see the same
_SHARE = 0.9  # of a keyframe's points that enough others see too
_OTHERS = 2
_RECENT = 5  # keyframes that stay in any case


def thinned_out(camera: TrackedCamera, places: np.ndarray, before: np.ndarray) -> bool:
    """Whether half of the points, or of the image that they cover, is gone.

    places, before: (n, 2) and (m, 2) px: of the points that are followed, and of all that the following began with.
    """
    cells, cells_before = (_num_cells(each, camera.image_size) for each in (places, before))
    return len(places) < _FEWER * len(before) or cells < _SPARSE * cells_before


def has_moved_away(mapped: Map, camera: TrackedCamera, cam_from_world: np.ndarray, points: np.ndarray) -> bool:
    """Whether a frame is far from, or turned against, all keyframes that see the same. points: (n,) that it sees."""
    seen = mapped.seen_by(points.tolist())
    nearest = max(seen, key=lambda number: (seen[number], number), default=mapped.latest)
    around = mapped.xyz[mapped.points_of(nearest)]  # and not `points`: those that are followed for long lie far
    depth = float(np.median(camera.project(around, cam_from_world)[1])) if len(around) else 1.0
    for number in [number for number, count in seen.items() if count >= _SAME * len(points)] or [mapped.latest]:
        other = mapped.keyframes[number].cam_from_world
        distance = float(np.linalg.norm(center_of(cam_from_world) - center_of(other)))
        turn = angle_deg(relative(cam_from_world, other)[:, :3])
        if distance <= _MOVED * abs(depth) and turn <= _TURNED_DEG:
            return False
    return True


def _num_cells(places: np.ndarray, size: tuple[int, int]) -> int:
    """How many cells of a grid over the image have a point."""
    columns, rows = _CELLS
    column = np.clip(places[:, 0] * columns / size[0], 0, columns - 1).astype(int)
    row = np.clip(places[:, 1] * rows / size[1], 0, rows - 1).astype(int)
    return len(np.unique(row * columns + column))


def drop_redundant(mapped: Map, trajectory: Trajectory, number: int, kept: Collection[int] = ()) -> None:
    """Drop those of the keyframes around one that others replace; the first, the latest five and `kept` stay.

    As in ORB-SLAM (Mur-Artal et al. 2015, section VI.E), with two others instead of three: nine tenths of its points
    are seen by two others or more. Points that no other keyframe sees do not count. Poses of the trajectory that were
    relative to it are relative to another then.
    """
    safe = {*kept, *list(mapped.keyframes)[-_RECENT:], next(iter(mapped.keyframes))}
    for other in mapped.covisible(number):
        if other not in safe and _is_redundant(mapped, other):
            trajectory.rebase(mapped, other, mapped.covisible(other)[0])
            mapped.drop_keyframe(other)


def _is_redundant(mapped: Map, number: int) -> bool:
    others = [len(mapped.observers(point)) - 1 for point in mapped.points_of(number)]
    shared = sum(count > 0 for count in others)
    return shared > 0 and sum(count >= _OTHERS for count in others) >= _SHARE * shared
