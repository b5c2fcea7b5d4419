"""Two-view models estimated from the matches of a pair, by the name of the estimator.

Points are (k, 2) px; results are float64 tensors on the CPU, NaN where a model cannot be found. "dlt" is a
least-squares fit to all matches; the others are robust to outliers. The same seed gives the same bits.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightmatch.geometry.coordinates import normalize_pixels
from lightmatch.geometry.homography import dlt_homography
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental, estimate_homography, estimate_relative_pose

EstimatorName = Literal["dlt", "opencv", "pycolmap", "poselib"]
ROBUST: tuple[EstimatorName, ...] = ("opencv", "pycolmap", "poselib")


@dataclass(frozen=True)
class ModelSearch:
    """Which estimator is run with which threshold."""

    estimator: EstimatorName
    threshold_px: float = 1.0  # unused by "dlt"
    seed: int = 0

    @property
    def name(self) -> str:
        """The name in tables, as "opencv 1 px"."""
        return self.estimator if self.estimator == "dlt" else f"{self.estimator} {self.threshold_px:g} px"


def is_installed(estimator: EstimatorName) -> bool:
    """Whether the library of the estimator is installed: PoseLib is an optional extra."""
    return estimator != "poselib" or importlib.util.find_spec("poselib") is not None


def find_homography(points0: Tensor, points1: Tensor, search: ModelSearch) -> Tensor:
    """Homography (3, 3), image 0 → image 1, oriented, of any scale. points0, points1: (k, 2) px."""
    if len(points0) < 4:
        return _nothing(3, 3)
    if search.estimator == "dlt":
        return dlt_homography(points0.double(), points1.double())
    if search.estimator == "poselib":
        import poselib

        options = {"max_reproj_error": search.threshold_px, **_poselib_options(search.seed)}
        found, info = poselib.estimate_homography(points0.double().numpy(), points1.double().numpy(), options)
        return _oriented(_model(found, info), points0)
    return estimate_homography(points0, points1, _options(search)).matrix


def find_fundamental(points0: Tensor, points1: Tensor, search: ModelSearch) -> Tensor:
    """Fundamental matrix (3, 3), x1ᵀ F x0 = 0. points0, points1: (k, 2) px."""
    if len(points0) < 8:
        return _nothing(3, 3)
    if search.estimator == "poselib":
        import poselib

        options = {"max_epipolar_error": search.threshold_px, **_poselib_options(search.seed)}
        return _model(*poselib.estimate_fundamental(points0.double().numpy(), points1.double().numpy(), options))
    return estimate_fundamental(points0, points1, _options(search)).matrix


def find_relative_pose(points0: Tensor, points1: Tensor, K0: Tensor, K1: Tensor, search: ModelSearch) -> Tensor:
    """cam1_from_cam0 (3, 4), |t| = 1. points0, points1: (k, 2) px, undistorted. K0, K1: (3, 3) float64."""
    if len(points0) < 5:
        return _nothing(3, 4)
    if search.estimator == "poselib":
        import poselib

        options = {"max_epipolar_error": search.threshold_px, **_poselib_options(search.seed)}
        x0, x1 = _centred(points0, K0).numpy(), _centred(points1, K1).numpy()
        pose, info = poselib.estimate_relative_pose(x0, x1, _pinhole(K0), _pinhole(K1), options)
        return _model(pose.Rt, info)
    found = estimate_relative_pose(points0, points1, K0, K1, _options(search)).cam1_from_cam0
    return _nothing(3, 4) if found is None else found


def _options(search: ModelSearch) -> SearchOptions:
    assert search.estimator in ("opencv", "pycolmap")  # the others have been dealt with
    return SearchOptions(search.threshold_px, search.seed, search.estimator)


def _poselib_options(seed: int) -> dict[str, float]:
    """The same limits as the other estimators: at most 10,000 iterations, confidence 0.9999."""
    return {"seed": seed, "max_iterations": 10_000, "success_prob": 0.9999}


def _centred(points: Tensor, K: Tensor) -> Tensor:
    """(k, 2) px from the principal point and without skew."""
    return normalize_pixels(points.double(), K) * K.diagonal()[:2]


def _pinhole(K: Tensor) -> dict[str, Any]:
    return {"model": "PINHOLE", "width": 1, "height": 1, "params": [float(K[0, 0]), float(K[1, 1]), 0.0, 0.0]}


def _model(found: np.ndarray, info: dict[str, Any]) -> Tensor:
    """The model of PoseLib; NaN without inliers, where PoseLib returns an arbitrary model."""
    model = torch.from_numpy(np.array(found, dtype=np.float64))
    return model if info["num_inliers"] > 0 else torch.full_like(model, torch.nan)


def _oriented(H: Tensor, points0: Tensor) -> Tensor:
    """H or −H, whichever has most points in front of the camera."""
    w = points0.double() @ H[2, :2] + H[2, 2]
    return H * torch.where(w.sign().sum() < 0, -1, 1)


def _nothing(*shape: int) -> Tensor:
    return torch.full(shape, torch.nan, dtype=torch.float64)
