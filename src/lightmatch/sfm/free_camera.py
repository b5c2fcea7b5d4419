"""A photo of which nothing is taken for granted: cropped, stretched or mirrored, its pose and camera come from points.

Six points and their places fix a projection matrix with eleven degrees of freedom, which is a camera with any principal
point and side ratio (Hartley & Zisserman: Multiple View Geometry, 2004, section 7.1); that of a mirrored photo has a
negative determinant. Points in a plane fix none, and nothing is found then. Radial distortion is taken where the
points say clearly that there is some.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

_SAMPLES, _AT_ONCE = 4000, 500
_BEST, _ROUNDS = 8, 4  # samples that are refined, and how often
_THINNEST = 0.02  # of the points' extent: a scene that is flatter fixes no camera
_FOCAL_LENGTHS = (0.2, 20.0)  # long sides, of any photo however cropped
_SKEWED = 0.05  # of the focal length: a matrix with more is not of a camera
MANY_INLIERS = 50  # from here on distortion is refined too
_GAIN = 10.0  # in BIC, for distortion to be taken: very strong evidence (Kass & Raftery 1995, section 3.2)


class FreeCamera(NamedTuple):
    """What a projection matrix says."""

    pose: np.ndarray  # (3, 4) cam_from_world; of a mirrored photo, that of the photo mirrored back
    params: tuple[float, float, float, float]  # fx, fy, cx, cy px; of the photo mirrored back
    k1: float  # of radial distortion as in COLMAP's OPENCV camera; 0 where a camera without agrees as well
    inliers: np.ndarray  # (n,) bool
    mirrored: bool


def free_camera(
    xy: np.ndarray, points: np.ndarray, size: tuple[int, int], max_error_px: float, seed: int
) -> FreeCamera | None:
    """The camera that most correspondences agree with; None where they fix none.

    xy: (n, 2) px, the corner of the first pixel at (0, 0). points: (n, 3). size: (width, height) px.
    """
    if len(xy) < 12:
        return None
    # To about unit size, for the singular values' sake.
    middle = np.median(points, axis=0)
    scale = np.median(np.linalg.norm(points - middle, axis=1))
    places = (xy - np.array(size) / 2) / max(size)
    solid = (points - middle) / max(scale, 1e-12)
    limit = max_error_px / max(size)
    rng = np.random.default_rng(seed)
    found: list[tuple[int, np.ndarray]] = []
    for _ in range(0, _SAMPLES, _AT_ONCE):
        chosen = np.stack([rng.choice(len(xy), 6, replace=False) for _ in range(_AT_ONCE)])
        matrices = _solve(places[chosen], solid[chosen])
        counts = (_errors(matrices, places, solid) < limit).sum(1)
        for number in np.argsort(-counts, kind="stable")[:_BEST]:
            found.append((int(counts[number]), matrices[number]))
    found.sort(key=lambda each: -each[0])
    best, inliers = found[0][1], np.zeros(len(xy), bool)
    for _, matrix in found[:_BEST]:
        agreeing = _errors(matrix[None], places, solid)[0] < limit
        for _ in range(_ROUNDS):
            if agreeing.sum() < 12:
                break
            matrix = _solve(places[agreeing][None], solid[agreeing][None])[0]
            agreeing = _errors(matrix[None], places, solid)[0] < limit
        if agreeing.sum() > inliers.sum():
            best, inliers = matrix, agreeing
    if inliers.sum() < 12 or _thickness(solid[inliers]) < _THINNEST:
        return None
    back = np.diag([max(size), max(size), 1.0])
    back[:2, 2] = np.array(size) / 2
    moved = np.eye(4)
    moved[:3] = np.column_stack((np.eye(3) / scale, -middle / scale))
    return _camera(back @ best @ moved, inliers, xy, points, size, max_error_px)


def _camera(
    projection: np.ndarray,
    inliers: np.ndarray,
    xy: np.ndarray,
    points: np.ndarray,
    size: tuple[int, int],
    max_error_px: float,
) -> FreeCamera | None:
    """What a projection matrix in px says, refined on its inliers; None where it is of no camera."""
    ends = np.column_stack((points[inliers], np.ones(inliers.sum())))
    if np.median(ends @ projection[2]) < 0:
        projection = -projection
    mirrored = bool(np.linalg.det(projection[:, :3]) < 0)
    if mirrored:
        projection = np.array([[-1.0, 0, size[0]], [0, 1, 0], [0, 0, 1]]) @ projection
        xy = np.column_stack((size[0] - xy[:, 0], xy[:, 1]))
    intrinsics, rotation, centre = cv2.decomposeProjectionMatrix(projection)[:3]
    intrinsics = intrinsics / intrinsics[2, 2]
    signs = np.diag(np.sign(np.diag(intrinsics)))
    intrinsics, rotation = intrinsics @ signs, signs @ rotation
    rotation = rotation * np.sign(np.linalg.det(rotation))
    low, high = (limit * max(size) for limit in _FOCAL_LENGTHS)
    if not all(low < focal < high for focal in (intrinsics[0, 0], intrinsics[1, 1])):
        return None
    if abs(intrinsics[0, 1]) > _SKEWED * intrinsics[0, 0]:
        return None
    centre = (centre[:3] / centre[3])[:, 0]
    intrinsics[0, 1] = 0
    seen = _Seen(xy, points, size, max_error_px)
    start = _View(intrinsics, 0.0, cv2.Rodrigues(rotation)[0], (-rotation @ centre)[:, None])
    found = seen.settle(start, inliers, distorts=False)
    if found is None:
        return None
    view, agreeing = found
    bent = seen.settle(view, agreeing, distorts=True) if agreeing.sum() >= MANY_INLIERS else None
    if bent is not None and seen.gain(view, bent[0]) > _GAIN + np.log(2 * len(xy)):
        view, agreeing = bent
    pose = np.column_stack((cv2.Rodrigues(view.vector)[0], view.shift))
    (fx, _, cx), (_, fy, cy), _ = view.intrinsics.tolist()
    return FreeCamera(pose, (fx, fy, cx, cy), view.k1, agreeing, mirrored)


class _View(NamedTuple):
    """A camera and its pose, as OpenCV has them."""

    intrinsics: np.ndarray  # (3, 3) px
    k1: float
    vector: np.ndarray  # (3, 1) rotation
    shift: np.ndarray  # (3, 1)


class _Seen(NamedTuple):
    """Points and where a photo shows them, wrong ones among them."""

    xy: np.ndarray  # (n, 2) px
    points: np.ndarray  # (n, 3)
    size: tuple[int, int]  # (width, height) px of the photo
    max_error_px: float

    def errors(self, view: _View) -> np.ndarray:
        """(n,) px between each place and where the point would be seen; infinite behind the camera."""
        bends = np.array([view.k1, 0.0, 0.0, 0.0])
        placed = cv2.projectPoints(self.points, view.vector, view.shift, view.intrinsics, bends)[0][:, 0]
        depth = self.points @ cv2.Rodrigues(view.vector)[0][2] + view.shift[2]
        return np.where(depth > 0, np.linalg.norm(placed - self.xy, axis=1), np.inf)

    def gain(self, plain: _View, bent: _View) -> float:
        """Twice the logarithm of how much more probable `bent` makes the places, errors cut off at the limit."""
        before, after = (np.minimum(self.errors(view), self.max_error_px) for view in (plain, bent))
        variance = np.mean(after[after < self.max_error_px] ** 2) / 2  # of a coordinate
        return float((before**2 - after**2).sum() / variance)

    def settle(self, view: _View, inliers: np.ndarray, *, distorts: bool) -> tuple[_View, np.ndarray] | None:
        """The view of least reprojection error, without skew, and the places that agree with it; None where few do."""
        for _ in range(2):  # and with what agrees then
            view = self._refined(view, inliers, distorts)
            inliers = self.errors(view) < self.max_error_px
            if inliers.sum() < 12:
                return None
        return view, inliers

    def _refined(self, view: _View, inliers: np.ndarray, distorts: bool) -> _View:
        """Focal lengths, principal point, pose and, where it distorts, k1 of least squared error.

        By OpenCV's calibration of one view, which finds the pose to start from itself.
        """
        xy, points = self.xy[inliers], self.points[inliers]
        middle = points.mean(0)  # points near the origin, for single precision
        # OpenCV wants the principal point in the photo, where that of a corner cut out of one is not: it moves there.
        aside = view.intrinsics[:2, 2] - np.array(self.size) / 2
        guess = view.intrinsics.copy()
        guess[:2, 2] -= aside
        flags = cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
        try:
            _, intrinsics, bends, vectors, shifts = cv2.calibrateCamera(
                [(points - middle).astype(np.float32)],
                [(xy - aside).astype(np.float32)],
                self.size,
                guess,
                np.array([view.k1, 0.0, 0.0, 0.0, 0.0]),
                flags=flags if distorts else flags | cv2.CALIB_FIX_K1,
            )
        except cv2.error:  # points that fix nothing
            return view
        intrinsics[:2, 2] += aside
        shift = shifts[0] - cv2.Rodrigues(vectors[0])[0] @ middle[:, None]
        return _View(intrinsics, float(bends.ravel()[0]), vectors[0], shift)


def _solve(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Projection matrices (t, 3, 4) of the least algebraic error. places: (t, k, 2). points: (t, k, 3)."""
    ends = np.concatenate((points, np.ones((*points.shape[:2], 1))), 2)
    nothing = np.zeros_like(ends)
    across = np.concatenate((ends, nothing, -places[..., :1] * ends), 2)
    down = np.concatenate((nothing, ends, -places[..., 1:] * ends), 2)
    rows = np.concatenate((across, down), 1)
    return np.linalg.eigh(rows.transpose(0, 2, 1) @ rows)[1][:, :, 0].reshape(-1, 3, 4)


def _errors(matrices: np.ndarray, places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(t, n) distances between places and projected points, infinite for points on the side of fewer of them."""
    ends = np.column_stack((points, np.ones(len(points))))
    seen = np.einsum("tij,nj->tni", matrices, ends)
    depth = seen[..., 2] * np.sign(np.median(seen[..., 2], axis=1, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.linalg.norm(seen[..., :2] / seen[..., 2:] - places, axis=-1)
    return np.where((depth > 0) & np.isfinite(apart), apart, np.inf)


def _thickness(points: np.ndarray) -> float:
    """Of a cloud's smallest extent by its largest."""
    values = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return float(values[2] / values[0])
