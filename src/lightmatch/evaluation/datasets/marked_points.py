"""Pairs with points marked by hand: nameA.*, nameB.* and name_vpts.mat (Lebeda, Matas & Chum 2012).

The .mat holds points as a 6×N matrix, homogeneous, those of A first. `name_model.txt`, where there is one, is a
homography from B to A; the pair is planar then. Pixels are counted from 0: of the two conventions it is the one under
which homographies of SIFT matches fit the marked points better (0.6 against 1.1 px on "adam", 1.2 against 1.9 on
"WhiteBoard").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError, import_optional
from lightmatch.evaluation.datasets.homographies import read_homography
from lightmatch.evaluation.datasets.posed import scene_name
from lightmatch.evaluation.pairs import CorrespondenceTruth, EvaluationPair
from lightmatch.geometry.coordinates import from_homogeneous
from lightmatch.images import is_image_file

_POINTS = "_vpts.mat"


def is_marked_points(folder: Path) -> bool:
    """Whether `folder` holds `*_vpts.mat`."""
    return any(folder.glob(f"*{_POINTS}"))


def read_marked_points(folder: Path) -> list[EvaluationPair]:
    """All pairs in `folder`, by name. Raises InvalidValueError where a file is damaged or a photo missing."""
    photos = {path.stem: path for path in folder.iterdir() if is_image_file(path)}
    return [_read_pair(path, photos) for path in sorted(folder.glob(f"*{_POINTS}"))]


def _read_pair(path: Path, photos: dict[str, Path]) -> EvaluationPair:
    name = path.name.removesuffix(_POINTS)
    if f"{name}A" not in photos or f"{name}B" not in photos:
        raise InvalidValueError(f"{path}: expected the photos {name}A and {name}B beside it; fetch the data set again")
    points0, points1 = _read_points(path)
    model = path.with_name(f"{name}_model.txt")
    H = torch.linalg.inv(read_homography(model)) if model.is_file() else None
    truth = CorrespondenceTruth(points0, points1, "general" if H is None else "planar", H)
    return EvaluationPair(name, scene_name(path.parent), photos[f"{name}A"], photos[f"{name}B"], truth)


def _read_points(path: Path) -> tuple[Tensor, Tensor]:
    loadmat = import_optional("scipy.io", "evaluation").loadmat

    try:
        points = np.asarray(loadmat(path)["validation"]["pts"][0, 0], dtype=np.float64)
        upper, lower = torch.from_numpy(points).reshape(2, 3, -1)
    except Exception as error:  # the reader of .mat files raises nearly any exception on damaged bytes
        raise InvalidValueError(
            f"{path}: expected a .mat file with validation.pts of shape (6, n), could not read that ({error});"
            " fetch the data set again"
        ) from error
    return from_homogeneous(upper.T), from_homogeneous(lower.T)
