"""Models of two views from matches of which many are wrong.

Each estimator runs LO-RANSAC of COLMAP ("pycolmap", the default) or MAGSAC++ of OpenCV's USAC ("opencv").
Common to all:
- points are (k, 2) in pixels, on any device; results are float64 on that device, for MPS (which has no
  float64) on the CPU.
- inliers are the matches whose error under the returned model is at most `threshold_px`, whichever
  library found it; each function names its error.
- `confidence` is the probability wanted of having drawn one sample without outliers; the search ends there
  or after `max_iterations` samples.
- one seed gives the same bits on one machine, whatever the random state of the libraries. pycolmap's is set by
  every call that uses it; no other is touched.
- where the matches determine no model (too few, equal, on a line, or none agrees), the result is
  `TwoViewGeometry.none`; nothing is raised. Pixels on a line are those whose root mean square distance from it
  is at most `threshold_px`: noise could have made all of their width.
- InvalidValueError is raised for wrong shapes, and points or cameras that are not finite.
- options are `SearchOptions`, which are checked when they are made.

Sources: Chum et al. 2003 (LO-RANSAC), Barath et al. 2020 (MAGSAC++).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import normalize_pixels, pixels_from_normalized
from lightmatch.geometry.epipolar import (
    decompose_essential,
    essential_from_pose,
    fundamental_from_essential,
    sampson_error_px,
    two_view_depths,
)
from lightmatch.geometry.homography import dlt_homography, transfer_error
from lightmatch.geometry.ransac import (
    Focal,
    SearchOptions,
    find_essential,
    find_fundamental,
    find_homography,
    refine_relative_pose,
)
from lightmatch.types import TwoViewGeometry


def estimate_homography(
    points0: Tensor,
    points1: Tensor,
    options: SearchOptions,
) -> TwoViewGeometry:
    """The homography most matches agree with: for a planar scene, or a camera that only rotates.

    points0, points1: (k, 2) px, at least 4. Error: transfer error in image 1.
    The matrix is oriented (see `homography`) and has H[2, 2] = ±1, or unit norm where that is 0.
    "opencv" does not find mirrored ones, for no pair of real views has them.
    """
    x0, x1 = _matches(points0, points1)
    none = TwoViewGeometry.none(len(x0)).to(_home(points0))
    if len(x0) < 4:
        return none
    H = find_homography(x0, x1, options)
    H = H / (H[2, 2].abs() if H[2, 2] != 0 else torch.linalg.matrix_norm(H))
    # H and −H move pixels alike; of the two, the oriented one has the matches on its seen side.
    seen, turned = (transfer_error(sign * H, x0, x1) <= options.threshold_px for sign in (1, -1))
    H, inliers = (H, seen) if seen.sum() >= turned.sum() else (-H, turned)
    if inliers.sum() < 4 or _on_a_line(inliers, x0, x1, options.threshold_px):
        return none
    if not dlt_homography(x0[inliers], x1[inliers]).isfinite().all():  # all inliers but one on a line
        return none
    return TwoViewGeometry("homography", H, inliers).to(_home(points0))


def estimate_fundamental(
    points0: Tensor,
    points1: Tensor,
    options: SearchOptions,
) -> TwoViewGeometry:
    """The fundamental matrix most matches agree with: two views by cameras of unknown intrinsics.

    points0, points1: (k, 2) px, at least 8. Error: `epipolar.sampson_error_px`. The matrix has unit norm.
    Matches of one plane, or of a camera that only rotated, fit a whole family of matrices F = [e]ₓ H, and any
    of them may come back: its inliers are right, its epipole is not known. Where `estimate_homography`
    finds nearly as many inliers, trust the homography.
    """
    x0, x1 = _matches(points0, points1)
    none = TwoViewGeometry.none(len(x0)).to(_home(points0))
    if len(x0) < 8:  # seven leave up to three matrices and nothing to choose by
        return none
    F = find_fundamental(x0, x1, options)
    F = F / torch.linalg.matrix_norm(F)
    inliers = sampson_error_px(F, x0, x1) <= options.threshold_px
    if inliers.sum() < 8 or _on_a_line(inliers, x0, x1, options.threshold_px):
        return none
    return TwoViewGeometry("fundamental", F, inliers).to(_home(points0))


def estimate_essential(
    points0: Tensor,
    points1: Tensor,
    K0: Tensor,
    K1: Tensor,
    options: SearchOptions,
) -> TwoViewGeometry:
    """The essential matrix most matches agree with: two views by cameras of known intrinsics.

    points0, points1: (k, 2) px, at least 5. K0, K1: (3, 3), without distortion.
    Error: `epipolar.sampson_error_px` of the fundamental matrix that belongs to it. The matrix is [t]ₓ R with
    |t| = 1, up to sign. For the pose itself: `estimate_relative_pose`.
    """
    x0, x1 = _matches(points0, points1)
    K0, K1 = _camera_matrix("K0", K0), _camera_matrix("K1", K1)
    if len(x0) < 5:
        return TwoViewGeometry.none(len(x0)).to(_home(points0))
    E = find_essential(_centred(x0, K0), _centred(x1, K1), _focal(K0), _focal(K1), options)
    if bool(E.isfinite().all()):
        # OpenCV's matrix has another scale, and its two singular values differ by rounding.
        E = essential_from_pose(decompose_essential(E)[0])
    return _essential_geometry(E, None, x0, x1, K0, K1, options.threshold_px).to(_home(points0))


def estimate_relative_pose(
    points0: Tensor,
    points1: Tensor,
    K0: Tensor,
    K1: Tensor,
    options: SearchOptions,
) -> TwoViewGeometry:
    """`estimate_essential`, then the pose: chosen by cheirality, then refined on the inliers.

    The result has cam1_from_cam0 with |t| = 1, and the matrix [t]ₓ R of just this pose. After a pure rotation
    of the camera R is right and t is arbitrary.
    """
    first = estimate_essential(points0, points1, K0, K1, options).to("cpu")
    if first.model == "none":
        return first.to(_home(points0))
    x0, x1 = _matches(points0, points1)
    K0, K1 = _camera_matrix("K0", K0), _camera_matrix("K1", K1)
    in0, in1 = x0[first.inliers], x1[first.inliers]
    poses = decompose_essential(first.matrix)
    depth0, depth1 = two_view_depths(poses, normalize_pixels(in0, K0), normalize_pixels(in1, K1))
    pose = poses[int(((depth0 > 0) & (depth1 > 0)).sum(-1).argmax())]
    pose = refine_relative_pose(pose, _centred(in0, K0), _centred(in1, K1), _focal(K0), _focal(K1))
    return _essential_geometry(essential_from_pose(pose), pose, x0, x1, K0, K1, options.threshold_px).to(_home(points0))


def _matches(points0: Tensor, points1: Tensor) -> tuple[Tensor, Tensor]:
    """Both, checked, as float64 on the CPU, without gradient."""
    shapes = tuple(points0.shape), tuple(points1.shape)
    if points0.ndim != 2 or shapes != ((len(points0), 2), (len(points0), 2)):
        raise InvalidValueError(f"matches: expected points of shapes (k, 2) and (k, 2), got {shapes}")
    x0, x1 = (points.detach().to("cpu", torch.float64).contiguous() for points in (points0, points1))
    if not bool(x0.isfinite().all() & x1.isfinite().all()):
        raise InvalidValueError("matches: expected finite points, got NaN or inf; drop those matches first")
    return x0, x1


def _camera_matrix(name: str, K: Tensor) -> Tensor:
    """K, checked, as float64 on the CPU."""
    K = K.detach().to("cpu", torch.float64)
    good = tuple(K.shape) == (3, 3) and bool(K.isfinite().all()) and bool((K.diagonal() > 0).all())
    if not good or bool(K.tril(-1).any()) or K[2, 2] != 1:
        raise InvalidValueError(
            f"{name}: expected a camera matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0, got {K.tolist()}"
        )
    return K


def _focal(K: Tensor) -> Focal:
    return float(K[0, 0]), float(K[1, 1])


def _centred(points: Tensor, K: Tensor) -> Tensor:
    """(k, 2) px from the principal point and without skew: same focal lengths, same rays."""
    return pixels_from_normalized(normalize_pixels(points, K), torch.diag(K.diagonal()))


def _width(points: Tensor) -> float:
    """Root mean square distance of (k, d) points, k ≥ 1, from the line that fits them best."""
    return float(torch.linalg.svdvals(points - points.mean(0))[1:].norm()) / len(points) ** 0.5


def _on_a_line(inliers: Tensor, x0: Tensor, x1: Tensor, threshold_px: float) -> bool:
    """Whether the inliers of either image lie on a line, and so determine no model of two views."""
    return min(_width(x0[inliers]), _width(x1[inliers])) <= threshold_px


def _essential_geometry(
    E: Tensor, pose: Tensor | None, x0: Tensor, x1: Tensor, K0: Tensor, K1: Tensor, threshold_px: float
) -> TwoViewGeometry:
    inliers = sampson_error_px(fundamental_from_essential(E, K0, K1), x0, x1) <= threshold_px
    if inliers.sum() < 5 or _on_a_line(inliers, x0, x1, threshold_px):
        return TwoViewGeometry.none(len(x0))
    return TwoViewGeometry("essential", E, inliers, pose)


def _home(points: Tensor) -> torch.device:
    """Where results go: to the points, but MPS cannot hold float64."""
    return torch.device("cpu") if points.device.type == "mps" else points.device
