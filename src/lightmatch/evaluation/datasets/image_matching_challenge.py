"""Image Matching Challenge (Jin et al. 2021): images/, calibration/*.h5 and new-vis-pairs/*.npy.

The cameras come from COLMAP without distortion; principal points are half the photo's size, counted from the outer
corner of the first pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lightmatch.errors import InvalidValueError, import_optional
from lightmatch.evaluation.datasets.posed import PosedPhoto, find_photo, pose_pair, scene_name
from lightmatch.evaluation.pairs import Camera, EvaluationPair
from lightmatch.geometry.coordinates import pixels_from_colmap


def is_imc(folder: Path) -> bool:
    """Whether `folder` is a scene of the challenge."""
    return any(folder.glob("calibration/*.h5")) and (folder / "new-vis-pairs").is_dir()


def read_imc(folder: Path, *, min_covisibility: float = 0.1) -> list[EvaluationPair]:
    """Pairs whose covisibility in the lists of the challenge is at least `min_covisibility`, a multiple of 0.1.

    The default is the one that the challenge scores. Pairs of low covisibility may hardly overlap.
    Raises InvalidValueError where there is no such list or a file is damaged.
    """
    path = folder / "new-vis-pairs" / f"keys-th-{min_covisibility:.1f}.npy"
    try:
        keys = [str(key) for key in np.load(path, allow_pickle=False)]
        names = [key.split("-") for key in keys]
        photos = {name: _read_photo(folder, name) for name in {name for pair in names for name in pair}}
        return [pose_pair(scene_name(folder), photos[name0], photos[name1]) for name0, name1 in names]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidValueError(
            f"{path}: expected a list of pairs with a calibration for each of their photos, could not read that"
            f" ({error}); fetch the data set again or name another min_covisibility"
        ) from error


def _read_photo(folder: Path, name: str) -> PosedPhoto:
    h5py = import_optional("h5py", "evaluation")
    with h5py.File(folder / "calibration" / f"calibration_{name}.h5") as file:
        K, R, t = (torch.from_numpy(np.array(file[key], dtype=np.float64)) for key in ("K", "R", "T"))
    K[:2, 2] = pixels_from_colmap(K[:2, 2])
    return PosedPhoto(find_photo(f"{name}.jpg", folder / "images"), Camera(K), torch.cat((R, t.reshape(3, 1)), 1))
