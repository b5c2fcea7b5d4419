"""Published lists of posed pairs whose photos are stored elsewhere: MegaDepth-1500, ScanNet-1500, YFCC and others.

Missing photos raise when they are loaded, not here. The intrinsics belong to the photos as the list has
them: MegaDepth's undistorted ones; ScanNet's frames of 1296×968 px in SuperGlue's list, but resized to 640×480 px in
LoFTR's. MegaDepth's cameras come from COLMAP (their principal points are half the photo's size) and are brought to
our pixels; the pixel origin of the other lists is undocumented and taken to be ours.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.datasets.posed import PosedPhoto, pair_name, pose_pair
from lightmatch.evaluation.pairs import Camera, EvaluationPair, PoseTruth
from lightmatch.geometry.coordinates import pixels_from_colmap
from lightmatch.runtime.numpy_pickles import read_numpy_pickle

_COLUMNS = 38  # name0 name1 rotation0 rotation1 K0 (9) K1 (9) T_0to1 (16)


def is_megadepth(folder: Path) -> bool:
    """Whether `folder` holds scene infos as LoFTR (Sun et al. 2021) publishes them."""
    return any(_is_pickle(path) for path in folder.glob("*.npz"))


def read_megadepth(folder: Path, image_root: Path) -> list[EvaluationPair]:
    """The pairs of every scene info in `folder`. image_root: has Undistorted_SfM/ in it.

    The files are pickles, whatever their suffix. Only the parts of NumPy that make arrays are let in: a file that
    asks for anything else is refused before it is run.
    """
    paths = sorted(path for path in folder.glob("*.npz") if _is_pickle(path))
    return [pair for path in paths for pair in _read_scene_info(path, image_root)]


def is_scannet(folder: Path) -> bool:
    """Whether `folder` holds ScanNet-1500 as LoFTR (Sun et al. 2021) publishes it."""
    return (folder / "test.npz").is_file() and (folder / "intrinsics.npz").is_file()


def read_scannet(folder: Path, image_root: Path) -> list[EvaluationPair]:
    """The 1500 pairs. image_root: has scene0707_00/color/15.jpg and so on, resized to 640×480 px."""
    try:
        with np.load(folder / "intrinsics.npz", allow_pickle=False) as file:
            cameras = {scene: Camera(_matrix(file[scene], 3)) for scene in file.files}
        with np.load(folder / "test.npz", allow_pickle=False) as file:
            names, poses = file["name"].tolist(), file["rel_pose"]
        pairs = []
        for (number, part, frame0, frame1), pose in zip(names, poses, strict=True):
            scene = f"scene{number:04d}_{part:02d}"
            path0, path1 = (image_root / scene / "color" / f"{frame}.jpg" for frame in (frame0, frame1))
            camera = cameras[scene]
            pairs.append(_pair(scene, path0, path1, camera, camera, _matrix(pose, 4)))
        return pairs
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(folder, "test.npz and intrinsics.npz of ScanNet-1500", error) from error


def is_json_list(path: Path) -> bool:
    """Whether `path` may be a pair list in the format of XFeat."""
    return path.suffix == ".json" and path.is_file()


def read_json_list(path: Path, image_root: Path) -> list[EvaluationPair]:
    """MegaDepth-1500 as XFeat (Potje et al. 2024) publishes it. image_root: has Undistorted_SfM/ in it."""
    try:
        entries = json.loads(path.read_bytes())
        return [_read_entry(entry, image_root) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(path, "a list of pairs with pair_names, scene_id, K0, K1 and T_0to1", error) from error


def is_text_list(path: Path) -> bool:
    """Whether `path` is a text file whose first line has SuperGlue's 38 columns."""
    if path.suffix != ".txt" or not path.is_file():
        return False
    with path.open(errors="replace") as file:
        return len(file.readline().split()) == _COLUMNS


def read_text_list(path: Path, image_root: Path) -> list[EvaluationPair]:
    """A list in the form of SuperGlue (Sarlin et al. 2020): name0 name1 rotation0 rotation1 K0 K1 T_0to1.

    K and T hold for the photos as stored. The rotations (multiples of 90° that would set a photo upright) are not
    applied. The scene is the name's part before "_frame",
    or its folder.
    """
    try:
        return [_read_line(line, image_root) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError, RuntimeError) as error:
        raise _damaged(
            path, f"lines of {_COLUMNS} columns: name0 name1 rotation0 rotation1 K0 K1 T_0to1", error
        ) from error


def _read_line(line: str, image_root: Path) -> EvaluationPair:
    words = line.split()
    if len(words) != _COLUMNS:
        raise ValueError(f"{len(words)} columns in {line[:60]!r}")
    numbers = [float(word) for word in words[4:]]
    camera0, camera1 = Camera(_matrix(numbers[:9], 3)), Camera(_matrix(numbers[9:18], 3))
    name = Path(words[0])
    scene = name.parent.as_posix() if name.parent.name else name.stem.split("_frame")[0]
    return _pair(scene, image_root / name, image_root / words[1], camera0, camera1, _matrix(numbers[18:], 4))


def _read_entry(entry: dict[str, Any], image_root: Path) -> EvaluationPair:
    path0, path1 = (image_root / name for name in entry["pair_names"])
    camera0, camera1 = (_megadepth_camera(entry[key]) for key in ("K0", "K1"))
    return _pair(entry["scene_id"], path0, path1, camera0, camera1, _matrix(entry["T_0to1"], 4))


def _read_scene_info(path: Path, image_root: Path) -> list[EvaluationPair]:
    try:
        info = read_numpy_pickle(io.BytesIO(path.read_bytes()))

        def photo(number: int) -> PosedPhoto:
            camera = _megadepth_camera(info["intrinsics"][number])
            return PosedPhoto(image_root / info["image_paths"][number], camera, _matrix(info["poses"][number], 4))

        return [pose_pair(path.stem, photo(pair[0]), photo(pair[1])) for pair, *_ in info["pair_infos"]]
    except Exception as error:  # damaged pickles raise nearly any exception
        raise _damaged(path, "image_paths, intrinsics, poses and pair_infos of LoFTR", error) from error


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"  # a zip, what .npz should be, begins with PK


def _matrix(numbers: Sequence[float] | np.ndarray, size: int) -> Tensor:
    """(3, 3) of 9 numbers, or the upper (3, 4) of 12 or 16."""
    return torch.tensor(np.asarray(numbers, dtype=np.float64)).reshape(-1, size)[:3]


def _megadepth_camera(K: Sequence[Sequence[float]] | np.ndarray) -> Camera:
    ours = _matrix(np.ravel(K), 3)
    ours[:2, 2] = pixels_from_colmap(ours[:2, 2])
    return Camera(ours)


def _pair(
    scene: str, path0: Path, path1: Path, camera0: Camera, camera1: Camera, cam1_from_cam0: Tensor
) -> EvaluationPair:
    return EvaluationPair(pair_name(path0, path1), scene, path0, path1, PoseTruth(camera0, camera1, cam1_from_cam0))


def _damaged(path: Path, expected: str, error: Exception) -> InvalidValueError:
    return InvalidValueError(
        f"{path}: expected {expected}, could not read that ({type(error).__name__}: {error}); fetch the list again"
    )
