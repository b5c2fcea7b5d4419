"""The libraries behind `robust`: one search among outliers each, COLMAP's LO-RANSAC or OpenCV's USAC.

Inside: float64 tensors on the CPU. Every search returns its matrix, or a matrix of NaN where it finds none.
Cameras come as (fx, fy), with pixels counted from the principal point and without skew: the rays are
the same, so that neither COLMAP's origin of pixels nor anyone's camera models matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError

Estimator = Literal["pycolmap", "opencv"]
Focal = tuple[float, float]


@dataclass(frozen=True)
class SearchOptions:
    """Options of RANSAC; see `robust` for the meaning of each. Raises InvalidValueError for those that cannot be."""

    threshold_px: float
    seed: int = 0
    estimator: Estimator = "pycolmap"
    confidence: float = 0.9999
    max_iterations: int = 10_000

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise InvalidValueError(f"estimator: expected one of {get_args(Estimator)}, got {self.estimator!r}")
        in_range = 0 < self.threshold_px < float("inf") and 0 < self.confidence < 1 and self.max_iterations >= 1
        if not in_range or not 0 <= self.seed < 2**31:
            raise InvalidValueError(
                "robust estimation: expected threshold_px > 0, 0 < confidence < 1, max_iterations ≥ 1 and"
                f" 0 ≤ seed < 2³¹, got {self.threshold_px}, {self.confidence}, {self.max_iterations} and {self.seed}"
            )

    def pycolmap(self) -> Any:
        """As pycolmap.RANSACOptions."""
        import pycolmap

        options = pycolmap.RANSACOptions()
        options.max_error = self.threshold_px
        options.confidence = self.confidence
        options.max_num_trials = self.max_iterations
        options.min_num_trials = min(options.min_num_trials, self.max_iterations)
        options.random_seed = self.seed
        return options

    def opencv(self) -> cv2.UsacParams:
        """As the settings that cv2.USAC_MAGSAC stands for; only UsacParams carries a seed of its own."""
        params = cv2.UsacParams()
        params.threshold = self.threshold_px
        params.confidence = self.confidence
        params.maxIterations = self.max_iterations
        params.randomGeneratorState = self.seed
        params.isParallel = False
        params.sampler = cv2.SAMPLING_UNIFORM
        params.score = cv2.SCORE_METHOD_MAGSAC
        params.loMethod = cv2.LOCAL_OPTIM_SIGMA
        params.loIterations = 10
        params.loSampleSize = 50
        params.final_polisher = cv2.MAGSAC
        return params


def find_homography(points0: Tensor, points1: Tensor, options: SearchOptions) -> Tensor:
    """(3, 3) of any scale and sign. points0, points1: (k, 2) px."""

    def search() -> Any:
        if options.estimator == "opencv":
            return cv2.findHomography(points0.numpy(), points1.numpy(), options.opencv())[0]
        import pycolmap

        return _entry(pycolmap.estimate_homography_matrix(points0.numpy(), points1.numpy(), options.pycolmap()), "H")

    return _result(search, (3, 3))


def find_fundamental(points0: Tensor, points1: Tensor, options: SearchOptions) -> Tensor:
    """(3, 3) of any scale. points0, points1: (k, 2) px."""

    def search() -> Any:
        if options.estimator == "opencv":
            return cv2.findFundamentalMat(points0.numpy(), points1.numpy(), options.opencv())[0]
        import pycolmap

        return _entry(pycolmap.estimate_fundamental_matrix(points0.numpy(), points1.numpy(), options.pycolmap()), "F")

    return _result(search, (3, 3))


def find_essential(points0: Tensor, points1: Tensor, focal0: Focal, focal1: Focal, options: SearchOptions) -> Tensor:
    """(3, 3) of any scale, in normalised coordinates. points0, points1: (k, 2) px from the principal point."""

    def search() -> Any:
        if options.estimator == "opencv":
            K0, K1 = np.diag([*focal0, 1.0]), np.diag([*focal1, 1.0])
            # No distortion: OpenCV takes None for it, though its stubs do not know.
            return cv2.findEssentialMat(points0.numpy(), points1.numpy(), K0, K1, None, None, options.opencv())[0]
        import pycolmap

        answer = pycolmap.estimate_essential_matrix(
            points0.numpy(), points1.numpy(), _camera(focal0), _camera(focal1), options.pycolmap()
        )
        return _entry(answer, "E")

    return _result(search, (3, 3))


def refine_relative_pose(
    cam1_from_cam0: Tensor, points0: Tensor, points1: Tensor, focal0: Focal, focal1: Focal
) -> Tensor:
    """(3, 4), |t| = 1: the pose near the given one with the least squares of the Sampson error.

    points0, points1: (k, 2) px from the principal point, all of them inliers.
    """
    import pycolmap

    answer = pycolmap.refine_relative_pose(
        pycolmap.Rigid3d(cam1_from_cam0.numpy()),
        _camera(focal0),
        points0.numpy(),
        _camera(focal1),
        points1.numpy(),
        np.ones(len(points0), dtype=bool),
    )
    if answer is None:
        return cam1_from_cam0
    refined = torch.from_numpy(np.array(answer["cam2_from_cam1"].matrix()))
    refined = torch.cat([refined[:, :3], refined[:, 3:] / refined[:, 3:].norm()], dim=1)
    return refined if bool(refined.isfinite().all()) else cam1_from_cam0


def _camera(focal: Focal) -> Any:
    import pycolmap

    return pycolmap.Camera(model="PINHOLE", width=1, height=1, params=[*focal, 0, 0])


def _entry(answer: Any, key: str) -> Any:
    return None if answer is None else answer[key]


def _result(search: Callable[[], Any], shape: tuple[int, int]) -> Tensor:
    """What `search` finds as a float64 tensor of `shape`; NaN where it finds nothing."""
    try:
        found = search()
    except cv2.error:
        # USAC asserts, instead of answering with nothing, on some degenerate inputs.
        found = None
    if found is None or np.shape(found) != shape:
        return torch.full(shape, torch.nan, dtype=torch.float64, device="cpu")
    return torch.from_numpy(np.array(found, dtype=np.float64))
