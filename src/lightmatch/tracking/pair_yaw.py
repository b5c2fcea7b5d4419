"""The disparity that a stereo pair's calibration lacks: the right camera is turned a little against the left one.

A tenth of a degree shifts all disparities by a pixel or so, and makes far points much farther. Then no motion explains
how points at all distances move from one keyframe to the next; with the right shift, one does.
Krešo & Šegvić (Improving the egomotion estimation by correcting the calibration bias, VISAPP 2015) found such errors in
the calibration of KITTI.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.pose import refine_pose

KEYFRAMES = 30  # after which the shift is taken as known

_SHIFTS = np.arange(-3.0, 3.01, 0.5)  # px
_LEAST_PAIRS = 100  # matches with a disparity, for two keyframes to say something
_MOST_PAIRS = 400  # of them that are used
_LEAST_DISPARITY_PX = 3.0
_LEAST_GAIN = 1.03  # of the cost: below, the calibration is as good
_SIGMA_PX = 1.0
_LOST = 1e3  # cost of a match, where no pose can be had


class PairYaw:
    """Sums over pairs of keyframes how well each shift of disparities explains them."""

    def __init__(self, is_known: bool = False) -> None:
        """is_known: whether the camera's shift was measured before."""
        self._costs = np.zeros(len(_SHIFTS))
        self._count = KEYFRAMES if is_known else 0

    @property
    def is_known(self) -> bool:
        """Whether enough keyframes were seen."""
        return self._count >= KEYFRAMES

    @property
    def shift_px(self) -> float:
        """To be added to disparities; 0 where none explains them clearly better."""
        if not self._count:
            return 0.0
        best = int(self._costs.argmin())
        if best in (0, len(_SHIFTS) - 1) or self._costs[_SHIFTS == 0][0] < _LEAST_GAIN * self._costs[best]:
            return 0.0
        left, middle, right = self._costs[best - 1 : best + 2]  # the vertex of the parabola
        return float(_SHIFTS[best] + 0.5 * (_SHIFTS[1] - _SHIFTS[0]) * (left - right) / (left - 2 * middle + right))

    def add(
        self, camera: TrackedCamera, places0: np.ndarray, right_x0: np.ndarray, places1: np.ndarray, start: np.ndarray
    ) -> None:
        """Take two keyframes into account.

        places0, places1: (n, 2) px of the ideal camera, matched. right_x0: (n,) px, as measured. start: (3, 4) about
        cam1_from_cam0.
        """
        plain = replace(camera, shift_px=0.0)
        with np.errstate(invalid="ignore"):
            used = np.flatnonzero(places0[:, 0] - right_x0 > _LEAST_DISPARITY_PX)
        if len(used) < _LEAST_PAIRS:
            return
        used = used[:: -(-len(used) // _MOST_PAIRS)]
        first, right_x, second = places0[used], right_x0[used], places1[used]
        for number, shift in enumerate(_SHIFTS):
            points = plain.unproject(first, plain.depth_of(first, right_x - shift), np.eye(3, 4))
            kept = np.isfinite(points).all(1)
            fit = refine_pose(start, points[kept], second[kept], plain, 3 * _SIGMA_PX, _SIGMA_PX)
            if fit is None:
                self._costs[number] += _LOST * len(first)
                continue
            error = np.linalg.norm(plain.project(points[kept], fit.cam_from_world)[0] - second[kept], axis=1)
            lost = len(first) - int(kept.sum())
            self._costs[number] += float(np.log1p((error / _SIGMA_PX) ** 2).sum()) + lost * np.log1p(9.0)
        self._count += 1
