"""Readers of photos with cameras and depth maps or 3D points.

COLMAP: images/ and a model in sparse/0, sparse/ or the folder itself, and, where stereo was run, depth maps in
stereo/depth_maps/. Reconstructions of this package have this layout, without depth maps.
MegaDepth: ROOT/scene_info/SCENE.npz as D2-Net (Dusmanu et al. 2019) prepares it, whose paths start at ROOT.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightmatch.colmap.dense_maps import read_colmap_array
from lightmatch.colmap.model_files import is_colmap_model, read_colmap_model
from lightmatch.colmap.model_types import ColmapImage
from lightmatch.errors import TrainingError, import_optional
from lightmatch.geometry.coordinates import pixels_from_colmap
from lightmatch.runtime.numpy_pickles import read_numpy_pickle


@dataclass(frozen=True, eq=False)
class DepthPhoto:
    """A photo with camera, pose, and depth map or observed 3D points."""

    path: Path
    size: tuple[int, int] | None  # (width, height) px for which K holds; None: those of the file
    K: Tensor  # (3, 3) float64
    distortion: tuple[float, ...]  # in OpenCV's order
    cam_from_world: Tensor  # (3, 4) float64
    depth: Path | None  # file of the depth map
    observed: Tensor  # (k,) int64, the scene's 3D points that are seen in it


@dataclass(frozen=True, eq=False)
class PosedScene:
    """Photos of one place, in the order of their names."""

    path: Path
    photos: tuple[DepthPhoto, ...]
    points: Tensor  # (p, 3) float64; none where there are depth maps
    overlap: np.ndarray  # (n, n), [i, j]: the part of photo i that photo j shows too


def find_scenes(paths: Sequence[Path]) -> list[Path]:
    """Paths for `read_scene`: COLMAP folders, and the scene infos of MegaDepth roots."""
    return [scene for path in paths for scene in (sorted(path.glob("scene_info/*.npz")) or [path])]


@lru_cache(maxsize=4)
def read_scene(path: Path) -> PosedScene:
    """The scene in a COLMAP folder or in a MegaDepth scene info (.npz).

    Raises TrainingError where it is neither, InvalidValueError where a file is damaged or a camera is a fisheye.
    """
    return _read_megadepth(path) if path.suffix == ".npz" else _read_colmap(path)


def read_depth(path: Path) -> Tensor:
    """The depth map in `path`, (h, w) float32, not positive where unknown: COLMAP's, or MegaDepth's in HDF5."""
    if path.suffix != ".h5":
        return read_colmap_array(path)
    h5py = import_optional("h5py", "evaluation")
    try:
        with h5py.File(path, "r") as file:
            return torch.from_numpy(np.asarray(file["depth"], np.float32))
    except (OSError, KeyError) as error:
        raise TrainingError(f"{path}: expected a depth map in HDF5, could not read it ({error})") from error


def _read_colmap(folder: Path) -> PosedScene:
    models = (folder / "sparse" / "0", folder / "sparse", folder)
    model_folder = next((path for path in models if is_colmap_model(path)), None)
    if model_folder is None or not (folder / "images").is_dir():
        raise TrainingError(
            f"{folder}: expected posed photos (images/ and a COLMAP model in sparse/0, or MegaDepth's scene_info/),"
            " found none; name such a folder"
        )
    model = read_colmap_model(model_folder)
    images = sorted(model.images.values(), key=lambda image: image.name)
    maps = [folder / "stereo" / "depth_maps" / f"{image.name}.geometric.bin" for image in images]
    dense = any(path.is_file() for path in maps)

    def photo(image: ColmapImage, depth: Path) -> DepthPhoto:
        camera = model.cameras[image.camera_id]
        return DepthPhoto(
            folder / "images" / image.name,
            (camera.width, camera.height),
            camera.K(),
            camera.distortion(),
            image.cam_from_world,
            depth if dense else None,
            image.observed.unique(),
        )

    photos = [photo(*pair) for pair in zip(images, maps, strict=True) if not dense or pair[1].is_file()]
    overlap = _shared_points([photo.observed for photo in photos], len(model.points))
    return PosedScene(folder, tuple(photos), model.points.xyz, overlap)


def _shared_points(observed: Sequence[Tensor], num_points: int) -> np.ndarray:
    """(n, n), [i, j]: the part of the points in observed[i] that are in observed[j] too."""
    counts = np.array([len(rows) for rows in observed])
    every = torch.cat([*observed, torch.empty(0, dtype=torch.int64)]).numpy()
    owner = np.repeat(np.arange(len(observed)), counts)
    shared = np.zeros((len(observed), len(observed)))
    for i, rows in enumerate(observed):
        seen = np.zeros(num_points)
        seen[rows.numpy()] = 1
        shared[i] = np.bincount(owner, seen[every], minlength=len(observed)) / max(counts[i], 1)
    return shared


def _read_megadepth(path: Path) -> PosedScene:
    root = path.parent.parent
    try:
        names = ("image_paths", "depth_paths", "intrinsics", "poses", "overlap_matrix")
        image_paths, depth_paths, intrinsics, poses, overlap = (_read_array(path, name) for name in names)
        # Photos that were not reconstructed are None in the lists.
        kept = [i for i in range(len(image_paths)) if image_paths[i] is not None and depth_paths[i] is not None]
        photos = [
            DepthPhoto(
                root / image_paths[i],
                None,
                _camera_matrix(intrinsics[i]),
                (),
                torch.from_numpy(np.asarray(poses[i], np.float64))[:3],
                _depth_path(root, path.stem, image_paths[i], depth_paths[i]),
                torch.empty(0, dtype=torch.int64),
            )
            for i in kept
        ]
        overlap = np.asarray(overlap, np.float64)[np.ix_(kept, kept)]
    except Exception as error:  # damaged pickles raise nearly any exception
        raise TrainingError(
            f"{path}: expected a scene info of MegaDepth (image_paths, depth_paths, intrinsics, poses,"
            f" overlap_matrix), could not read it ({type(error).__name__}: {error}); fetch it again"
        ) from error
    return PosedScene(path, tuple(photos), torch.empty((0, 3), dtype=torch.float64), overlap)


def _depth_path(root: Path, scene: str, image: str, depth: str) -> Path:
    """Where the scene info says, or, as LightGlue's authors repackaged it, depth_undistorted/SCENE/NAME.h5."""
    stated = root / depth
    return stated if stated.is_file() else root / "depth_undistorted" / scene / f"{Path(image).stem}.h5"


def _camera_matrix(K: Any) -> Tensor:
    """(3, 3) float64 in our pixels: the scene infos have COLMAP's."""
    ours = torch.from_numpy(np.array(K, np.float64))
    ours[:2, 2] = pixels_from_colmap(ours[:2, 2])
    return ours


def _read_array(path: Path, name: str) -> np.ndarray:
    """An array of an .npz file; of the lists in it, which are pickles, only what NumPy's arrays are made of."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            return read_numpy_pickle(file)
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]
