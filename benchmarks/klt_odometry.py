"""Visual odometry as textbooks have it, to compare with: corners, optical flow, an essential matrix at each keyframe.

One camera, OpenCV alone, no map that is adjusted and no loops. Between two keyframes the motion is known but for its
length (Nistér, Visual odometry, CVPR 2004). The length follows from corners that both the last and this pair of
keyframes triangulated: the median ratio of their depths.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lightmatch.geometry.poses import composed

_CORNERS, _QUALITY, _APART_PX = 800, 0.01, 9
_FLOW = {"winSize": (21, 21), "maxLevel": 3}
_BACK_PX = 1.0  # there and back again: as far off at most
_MOVED = 0.03  # of the image's diagonal, in the median, since the keyframe
_PARALLAX = 0.25  # of that: what no rotation explains
_FEW = 0.4  # of the keyframe's corners: with fewer left there is a new one in any case
_LEAST = 20  # corners that agree with a motion
_COMMON = 10  # corners with two depths, to carry the length
_ERROR_PX, _SURE = 1.0, 0.999


@dataclass(eq=False)
class _Corners:
    """Corners of the keyframe that are still followed."""

    first: np.ndarray  # (n, 2) float32 px in the keyframe
    now: np.ndarray  # (n, 2) float32 px in the latest frame
    depth: np.ndarray  # (n,) in the keyframe; NaN where not known


class KltOdometry:
    """Poses of keyframes (cam_from_world), in a unit of its own; the world is the first keyframe."""

    def __init__(self, K: np.ndarray) -> None:
        self._K = K
        self._latest: np.ndarray | None = None
        self._corners = _Corners(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), np.zeros(0))
        self._begun_with = 0
        self._length = 1.0  # of the last motion
        self._pose = np.eye(3, 4)  # of the keyframe

    def step(self, grey: np.ndarray) -> np.ndarray | None:
        """The pose (3, 4) where this frame, (h, w) uint8, becomes a keyframe."""
        if self._latest is None:
            self._renew(grey)
            return self._pose
        self._follow(grey)
        corners, diagonal = self._corners, float(np.hypot(*grey.shape))
        moved = np.median(np.linalg.norm(corners.now - corners.first, axis=1)) if len(corners.now) else 0.0
        few = len(corners.now) < max(_FEW * self._begun_with, _LEAST)
        if moved < _MOVED * diagonal and not few:
            return None
        motion = self._motion(_PARALLAX * _MOVED * diagonal, few)
        if motion is not None:
            self._pose = composed(motion, self._pose)
        elif not few:
            return None
        self._renew(grey)
        return None if motion is None else self._pose

    def _follow(self, grey: np.ndarray) -> None:
        corners, latest = self._corners, self._latest
        self._latest = grey
        if latest is None or not len(corners.now):
            return
        found, ahead, _ = cv2.calcOpticalFlowPyrLK(latest, grey, corners.now, None, **_FLOW)  # type: ignore[call-overload]
        back, behind, _ = cv2.calcOpticalFlowPyrLK(grey, latest, found, None, **_FLOW)  # type: ignore[call-overload]
        good = (ahead[:, 0] == 1) & (behind[:, 0] == 1)
        good &= np.linalg.norm(back - corners.now, axis=1) < _BACK_PX
        self._corners = _Corners(corners.first[good], found[good], corners.depth[good])

    def _motion(self, parallax_px: float, few: bool) -> np.ndarray | None:
        """cam_from_keyframe, (3, 4), and the depths of corners in this frame; None while nothing can be said."""
        corners = self._corners
        if len(corners.now) < _LEAST:
            return None
        first, now = corners.first.astype(np.float64), corners.now.astype(np.float64)
        essential, mask = cv2.findEssentialMat(first, now, self._K, cv2.RANSAC, _SURE, _ERROR_PX)
        if essential is None or essential.shape != (3, 3):
            return None
        num, R, t, mask = cv2.recoverPose(essential, first, now, self._K, mask=mask)
        inliers = mask[:, 0] > 0
        if num < _LEAST:
            return None
        turned = cv2.perspectiveTransform(first[None], self._K @ R @ np.linalg.inv(self._K))[0]
        if np.median(np.linalg.norm(now - turned, axis=1)[inliers]) < parallax_px and not few:
            return None
        P0, P1 = self._K @ np.eye(3, 4), self._K @ np.column_stack((R, t))
        X = cv2.triangulatePoints(P0, P1, first.T, now.T)
        X = X[:3] / X[3]
        new = np.where(inliers & (X[2] > 0), X[2], np.nan)  # depth in the keyframe, motion of length 1
        ratio = corners.depth / new
        if np.isfinite(ratio).sum() >= _COMMON:
            self._length = float(np.nanmedian(ratio))
        depth = self._length * (R @ X + t)[2]
        self._corners = _Corners(corners.first, corners.now, np.where(np.isfinite(new) & (depth > 0), depth, np.nan))
        return np.column_stack((R, self._length * t[:, 0]))

    def _renew(self, grey: np.ndarray) -> None:
        """The frame is the keyframe now: its corners are those that are left, and new ones elsewhere."""
        left, depth = self._corners.now, self._corners.depth
        free = np.full(grey.shape, 255, np.uint8)
        for x, y in left:
            cv2.circle(free, (round(float(x)), round(float(y))), _APART_PX, 0, -1)
        wanted = _CORNERS - len(left)
        new = cv2.goodFeaturesToTrack(grey, wanted, _QUALITY, _APART_PX, mask=free) if wanted > 0 else None
        added = np.zeros((0, 2), np.float32) if new is None else new.reshape(-1, 2)
        places = np.concatenate((left, added))
        self._corners = _Corners(places, places.copy(), np.concatenate((depth, np.full(len(added), np.nan))))
        self._begun_with, self._latest = len(places), grey
