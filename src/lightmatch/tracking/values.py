"""What tracking takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.poses import center_of

Status = Literal["starting", "tracking", "coasting", "lost"]
"""starting: no map yet. tracking: the pose was measured. coasting: guessed from the motion before. lost: not known."""


@dataclass(frozen=True)
class TrackerConfig:
    """How to track."""

    features: str = "lightpoint"
    matcher: str = "lightglue"
    max_keypoints: int = 1024  # of a keyframe
    min_tracked: int = 30  # points of the map that must agree with a pose
    max_error_px: float = 3.0  # from where a point is expected
    coast_frames: int = 5  # without a measured pose, then the camera is lost
    window: int = 7  # keyframes that an adjustment moves, the latest and those that see most with it
    loops: bool = True  # whether they are closed
    mapping: bool = True  # whether frames become keyframes; without, the camera is only placed in an earlier map
    seed: int = 0
    device: str = "cpu"
    background: bool = False  # keyframes and adjustments in a thread of their own, while `step` goes on

    def __post_init__(self) -> None:
        for name, least in (("max_keypoints", 100), ("min_tracked", 6), ("window", 2), ("coast_frames", 0)):
            if getattr(self, name) < least:
                raise InvalidValueError(f"TrackerConfig.{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.max_error_px > 0:
            raise InvalidValueError(f"TrackerConfig.max_error_px: expected more than 0, got {self.max_error_px}")


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """What became of one frame."""

    timestamp: float  # s
    status: Status
    cam_from_world: np.ndarray | None  # (3, 4) x right, y down, z forward; m where depths or a baseline are given
    covariance: np.ndarray | None  # (6, 6) as of `sfm.absolute_pose.AbsolutePose`; None where the pose is not measured
    num_tracked: int  # points of the map that agree with the pose
    is_keyframe: bool
    reason: str  # why no pose was measured, the frame's depths were left out, or another map begins; else empty
    seconds: float  # that `step` took

    @property
    def center(self) -> np.ndarray | None:
        """(3,) the camera in the world."""
        pose = self.cam_from_world
        return None if pose is None else center_of(pose)
