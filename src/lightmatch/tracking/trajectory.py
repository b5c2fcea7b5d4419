"""Where the camera was: each measured pose, relative to a keyframe, so that it moves with the map."""

from __future__ import annotations

from operator import itemgetter

import cv2
import numpy as np

from lightmatch.geometry.poses import composed, relative
from lightmatch.tracking.map import Map


class Trajectory:
    """Frames with a measured pose, in the order of time."""

    def __init__(self) -> None:
        self._frames: list[tuple[float, int, np.ndarray]] = []  # s, keyframe, cam_from_keyframe (3, 4)

    def add(self, timestamp: float, cam_from_world: np.ndarray, mapped: Map, keyframe: int) -> None:
        """Note a pose (3, 4), relative to a keyframe of the map that sees the same."""
        self._frames.append((timestamp, keyframe, relative(cam_from_world, mapped.keyframes[keyframe].cam_from_world)))

    def poses(self, mapped: Map) -> list[tuple[float, np.ndarray]]:
        """Time and cam_from_world (3, 4) of all frames, as the map knows them now.

        A frame that became a keyframe has the keyframe's pose. Where that differs from what was measured before it was
        matched and adjusted, as with a map that is made in the background, the difference is spread over the frames
        between it and the keyframes before and after.
        """
        if not self._frames:
            return []
        times, numbers, poses = zip(*self._frames, strict=True)
        world = np.stack([mapped.keyframes[number].cam_from_world for number in numbers])
        turn, shift = np.split(np.stack(poses), [3], axis=2)
        moved = np.concatenate((turn @ world[:, :, :3], turn @ world[:, :, 3:] + shift), axis=2)
        return list(zip(times, _corrected(np.array(times), moved, mapped), strict=True))

    def rebase(self, mapped: Map, gone: int, kept: int) -> None:
        """Make the poses relative to one keyframe, which is about to be dropped, relative to another."""
        between = relative(mapped.keyframes[gone].cam_from_world, mapped.keyframes[kept].cam_from_world)
        self._frames = [
            (when, kept, composed(pose, between)) if number == gone else (when, number, pose)
            for when, number, pose in self._frames
        ]


def _corrected(times: np.ndarray, poses: np.ndarray, mapped: Map) -> np.ndarray:
    """Poses (n, 3, 4) at times (n,) s, so changed that frames which are keyframes have their poses."""
    rows = {when: row for row, when in enumerate(times.tolist())}
    keyframes = list(mapped.keyframes.values())  # a thread may be adding one
    own = sorted(((rows[k.timestamp], k.cam_from_world) for k in keyframes if k.timestamp in rows), key=itemgetter(0))
    if not own:
        return poses
    anchors = [row for row, _ in own]
    changes = [relative(pose, poses[row]) for row, pose in own]
    parameters = np.stack([np.append(cv2.Rodrigues(change[:, :3])[0], change[:, 3]) for change in changes])
    passed = np.concatenate(([0.0], np.maximum(np.diff(times), 0).cumsum()))  # s; a clock may have been set back
    between = np.stack([np.interp(passed, passed[anchors], column) for column in parameters.T], 1)
    turns = np.stack([cv2.Rodrigues(turn)[0] for turn in between[:, :3]])
    return np.concatenate((turns @ poses[:, :, :3], turns @ poses[:, :, 3:] + between[:, 3:, None]), axis=2)
