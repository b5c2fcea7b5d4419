"""Intrinsics and poses given by the user, read from files of several formats without COLMAP.

COLMAP's cameras.txt and model folders, transforms.json (NeRF, nerfstudio, instant-ngp), TUM trajectories, and a JSON
format of this package: {"left": {"model": "PINHOLE", "params": [fx, fy, cx, cy], "size": [w, h]}, "*": …}.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from lightmatch.colmap.model_files import is_colmap_model, read_colmap_model
from lightmatch.colmap.model_types import CAMERA_PARAMS, ColmapCamera
from lightmatch.errors import InvalidValueError
from lightmatch.images import open_photo
from lightmatch.inputs import valid_name
from lightmatch.runtime.store import digest

if TYPE_CHECKING:
    from pycolmap import Camera

EVERYTHING = "*"
_OPENGL_TO_COLMAP = np.diag([1.0, -1.0, -1.0])  # NeRF's cameras look along −z with y up
_DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4")
_PERSPECTIVES = {"", "PERSPECTIVE", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
_FISHEYES = {"FISHEYE", "OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"}  # with k1 to k4
_FOCALS = ("f", "fx", "fy")


@dataclass(frozen=True)
class IntrinsicsPrior:
    """Given intrinsics: COLMAP's camera model and parameters, in COLMAP's pixels."""

    model: str
    params: tuple[float, ...]
    size: tuple[int, int] | None = None  # (width, height) px of the calibration; None: that of the photos

    def __post_init__(self) -> None:
        names = CAMERA_PARAMS.get(self.model)
        if names is None:
            raise InvalidValueError(
                f"intrinsics: expected a model out of {', '.join(CAMERA_PARAMS)}; got {self.model!r}"
            )
        if len(self.params) != len(names.split()) or not all(map(math.isfinite, self.params)):
            raise InvalidValueError(
                f"intrinsics: expected {len(names.split())} numbers ({names}) for {self.model}, got {list(self.params)}"
            )
        named = dict(zip(names.split(), self.params, strict=True))
        if any(named[name] <= 0 for name in _FOCALS if name in named):
            raise InvalidValueError(f"intrinsics: expected a positive focal length, got {named}; give it in pixels")
        if self.size is not None and min(self.size) < 1:
            raise InvalidValueError(f"intrinsics: expected a positive size (width, height), got {self.size}")

    def camera(self, image_size: tuple[int, int]) -> Camera:
        """As COLMAP's camera of photos of another size (width, height) px, of the same shape."""
        import pycolmap

        width, height = self.size or image_size
        calibrated = pycolmap.Camera(model=self.model, width=width, height=height, params=list(self.params))
        if (width, height) != image_size:
            calibrated.rescale(*image_size)
        return calibrated


@dataclass(frozen=True, eq=False)
class CameraPriors:
    """Intrinsics and poses given before matching; either may be empty.

    intrinsics: by photo, folder or "*" (all photos); the most specific name applies. A name may have several, of
    different sizes. poses: (3, 4) camera from world by photo, in one common frame; x right, y down, z forward.
    """

    source: str  # where it was read from, for messages
    intrinsics: Mapping[str, tuple[IntrinsicsPrior, ...]] = field(default_factory=dict)
    poses: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Digest of all that is given, to the last bit."""
        intrinsics = {name: [repr(given) for given in several] for name, several in self.intrinsics.items()}
        poses = (part for name, pose in sorted(self.poses.items()) for part in (name, pose.tobytes()))
        return digest(self.source, intrinsics, *poses)

    def intrinsics_of(self, name: str, size: tuple[int, int]) -> IntrinsicsPrior | None:
        """The intrinsics of the photo `name` of (width, height) px; None where none are given.

        Raises InvalidValueError where all given ones have another aspect ratio.
        """
        path = PurePosixPath(name)
        folders = [parent.as_posix() for parent in path.parents if parent.name]
        for key in (name, path.with_suffix("").as_posix(), *folders, EVERYTHING):
            found = self.intrinsics.get(key, ())
            for known in found:
                if known.size is None or known.size == size:
                    return known
            for known in found:
                if known.size is not None and _same_shape(known.size, size):
                    return known
            if found:
                sizes = ", ".join(f"{known.size[0]}×{known.size[1]}" for known in found if known.size)
                raise InvalidValueError(
                    f"{self.source}: expected photos of the calibrated shape ({sizes}),"
                    f" got {name} of {size[0]}×{size[1]}; give its own intrinsics or leave it out"
                )
        return None


def _same_shape(size0: tuple[int, int], size1: tuple[int, int]) -> bool:
    """Whether two (width, height) px have the same aspect ratio, to within rounding."""
    scale = size1[0] / size0[0]
    return abs(size0[1] * scale - size1[1]) <= max(1.0, scale)


def read_camera_priors(path: str | Path) -> CameraPriors:
    """Read given intrinsics or poses from a file or folder.

    path: a COLMAP model folder (poses and intrinsics), cameras.txt of COLMAP (intrinsics), transforms.json (both), JSON
    of this package (intrinsics), or lines of `name tx ty tz qx qy qz qw` (poses, world from camera, as in TUM
    trajectories, with the name of the photo in place of the time).
    Raises InvalidValueError where it is none of these or inconsistent.
    """
    path = Path(path)
    if path.is_dir():
        if not is_colmap_model(path):
            raise InvalidValueError(
                f"{path}: expected a COLMAP model (cameras, images and points3D, all .bin or all .txt), found none;"
                " name the folder that holds them, or a file"
            )
        return _from_model(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{path}: expected a readable text file of cameras ({error})") from error
    try:
        if path.suffix.lower() == ".json":
            content = json.loads(text)
            is_transforms = isinstance(content.get("frames"), list)
            return _from_transforms(path, content) if is_transforms else _from_own(path, content)
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if lines and all(len(words) > 4 and words[1] in CAMERA_PARAMS for words in lines):
            return _from_cameras_text(path, lines)
        if lines and all(len(words) >= 8 for words in lines):
            return CameraPriors(str(path), poses=_distinct(path, [_tum_pose(path, words) for words in lines]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InvalidValueError):
            raise
        raise InvalidValueError(f"{path}: expected cameras, got something else ({error!r})") from error
    raise InvalidValueError(
        f"{path}: expected COLMAP's cameras.txt, transforms.json, or lines of `name tx ty tz qx qy qz qw`,"
        " got something else"
    )


def fit_names(known: Mapping[str, Any], photos: list[str]) -> tuple[dict[str, str], list[str]]:
    """The photo that each name of a file refers to, and the names that refer to none.

    A name refers to a photo of the same name, with or without suffix, or to the only photo whose path ends with it:
    `./images/a.jpg` and `a` both refer to `a.jpg`, `10:30.jpg` refers to the `10_30.jpg` that it became (`valid_name`).
    """
    ends: dict[tuple[str, ...], set[str]] = {}
    for photo in photos:
        bare = PurePosixPath(photo).with_suffix("")
        # The working copy of IMG_1.HEIC is IMG_1.HEIC.jpg.
        for parts in {PurePosixPath(photo).parts, bare.parts, bare.with_suffix("").parts if bare.name else ()}:
            for start in range(len(parts)):
                ends.setdefault(parts[start:], set()).add(photo)
    names = set(photos)
    photo_of = {name: name for name in known if name in names}  # before any that ends alike
    claims: dict[str, list[str]] = {}  # of other names, by photo
    for name in known:
        if name in photo_of:
            continue
        parts = PurePosixPath(valid_name(name.replace("\\", "/"))).parts
        stem = PurePosixPath(*parts).with_suffix("").parts if parts else ()
        candidates = (tail[start:] for tail in (parts, stem) for start in range(len(tail)))
        found = next((next(iter(ends[c])) for c in candidates if len(ends.get(c, ())) == 1), None)
        if found is not None and found not in photo_of:
            claims.setdefault(found, []).append(name)
    photo_of |= {several[0]: photo for photo, several in claims.items() if len(several) == 1}
    return photo_of, [name for name in known if name not in photo_of]


def _from_model(folder: Path) -> CameraPriors:
    model = read_colmap_model(folder)
    cameras = {number: _from_colmap(camera) for number, camera in model.cameras.items()}
    images = sorted(model.images.values(), key=lambda image: image.name)
    return CameraPriors(
        str(folder),
        {image.name: (cameras[image.camera_id],) for image in images},
        {image.name: image.cam_from_world.numpy() for image in images},
    )


def _from_colmap(camera: ColmapCamera) -> IntrinsicsPrior:
    return IntrinsicsPrior(camera.model, camera.params, (camera.width, camera.height))


def _from_cameras_text(path: Path, lines: list[list[str]]) -> CameraPriors:
    """The cameras of cameras.txt apply to all photos, by size: the file has no names of photos."""
    found = tuple(
        IntrinsicsPrior(words[1], tuple(map(float, words[4:])), (int(words[2]), int(words[3]))) for words in lines
    )
    if len({known.size for known in found}) < len(found):
        raise InvalidValueError(
            f"{path}: expected cameras of different sizes, since the file does not name photos,"
            " got two of one size; give the whole model folder, or JSON by photo or folder"
        )
    return CameraPriors(str(path), {EVERYTHING: found})


def _from_own(path: Path, content: dict[str, Any]) -> CameraPriors:
    intrinsics = {}
    for name, entry in content.items():
        unknown = set(entry) - {"model", "params", "size"}
        if unknown or not {"model", "params"} <= set(entry):
            raise InvalidValueError(
                f"{path}: expected model, params and perhaps size for {name!r}, got {', '.join(sorted(entry))}"
            )
        size = entry.get("size")
        params = tuple(float(value) for value in entry["params"])
        known = IntrinsicsPrior(str(entry["model"]).upper(), params, None if size is None else _whole(path, name, size))
        intrinsics[name.strip("/") or EVERYTHING] = (known,)
    return CameraPriors(str(path), intrinsics)


def _whole(path: Path, name: str, size: list[float]) -> tuple[int, int]:
    width, height = size
    if width != int(width) or height != int(height):
        raise InvalidValueError(f"{path}: expected a size of whole pixels for {name!r}, got {width} × {height}")
    return int(width), int(height)


def _distinct(path: Path, poses: list[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Poses by name. Raises InvalidValueError where a name has two."""
    found: dict[str, np.ndarray] = {}
    for name, pose in poses:
        if name in found and not np.array_equal(found[name], pose):
            raise InvalidValueError(f"{path}: expected one pose of each photo, got two of {name}; leave one out")
        found[name] = pose
    return found


def _from_transforms(path: Path, content: dict[str, Any]) -> CameraPriors:
    intrinsics: dict[str, tuple[IntrinsicsPrior, ...]] = {}
    poses = []
    for frame in content["frames"]:
        name = PurePosixPath(str(frame["file_path"])).as_posix()
        world_from_gl = np.array(frame["transform_matrix"], dtype=np.float64)[:3]
        if world_from_gl.shape != (3, 4):
            raise InvalidValueError(f"{path}: expected a 4×4 or 3×4 transform_matrix for {name}")
        poses.append((name, _inverse(path, name, world_from_gl[:, :3] @ _OPENGL_TO_COLMAP, world_from_gl[:, 3])))
        known = _transforms_intrinsics(path, {**content, **frame}, name)
        if known is not None:
            intrinsics[name] = (known,)
    return CameraPriors(str(path), intrinsics, _distinct(path, poses))


def _transforms_intrinsics(path: Path, entry: dict[str, Any], name: str) -> IntrinsicsPrior | None:
    """The intrinsics of one frame, whose own values override those of the file; None without a focal length."""
    size = (int(entry["w"]), int(entry["h"])) if "w" in entry and "h" in entry else _size_beside(path, name)
    if "fl_x" in entry:
        focal_x = float(entry["fl_x"])
    elif "camera_angle_x" in entry:
        if size is None:
            raise InvalidValueError(
                f"{path}: expected w and h beside camera_angle_x, or the photo {name} beside the file; add w and h"
            )
        focal_x = size[0] / 2 / math.tan(float(entry["camera_angle_x"]) / 2)
    else:
        return None
    if "cx" not in entry and size is None:
        raise InvalidValueError(f"{path}: expected cx and cy, or w and h, beside fl_x for {name}; add them")
    width, height = size or (0, 0)
    core = (
        focal_x,
        float(entry.get("fl_y", focal_x)),
        float(entry.get("cx", width / 2)),
        float(entry.get("cy", height / 2)),
    )
    distortion = {key: float(entry.get(key, 0.0)) for key in _DISTORTION}
    model = str(entry.get("camera_model", "")).upper()
    is_fisheye = model in _FISHEYES or bool(entry.get("is_fisheye"))
    if not is_fisheye and model not in _PERSPECTIVES:
        known = ", ".join(sorted((_PERSPECTIVES | _FISHEYES) - {""}))
        raise InvalidValueError(f"{path}: expected a camera_model of {known} for {name}, got {model}")
    if is_fisheye:
        return IntrinsicsPrior("OPENCV_FISHEYE", (*core, *(distortion[key] for key in ("k1", "k2", "k3", "k4"))), size)
    if distortion["k3"] or distortion["k4"]:
        params = (*(distortion[key] for key in _DISTORTION), 0.0, 0.0)
        return IntrinsicsPrior("FULL_OPENCV", (*core, *params), size)
    if any(distortion.values()):
        return IntrinsicsPrior("OPENCV", (*core, *(distortion[key] for key in _DISTORTION[:4])), size)
    return IntrinsicsPrior("PINHOLE", core, size)


def _size_beside(path: Path, name: str) -> tuple[int, int] | None:
    """(width, height) px of the photo that transforms.json names, if it exists; suffixes may be left out."""
    for candidate in (path.parent / name, *(path.parent / f"{name}{end}" for end in (".png", ".jpg"))):
        if candidate.is_file():
            with open_photo(candidate, max_pixels=2**62) as photo:
                return photo.size
    return None


def _tum_pose(path: Path, words: list[str]) -> tuple[str, np.ndarray]:
    name = " ".join(words[:-7])
    x, y, z, w = (float(value) for value in words[-4:])
    quaternion = np.array([w, x, y, z])
    length = float(np.linalg.norm(quaternion))
    if not 0.9 < length < 1.1:
        raise InvalidValueError(f"{path}: expected a unit quaternion qx qy qz qw for {name}, got length {length:.3g}")
    w, x, y, z = quaternion / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return name, _inverse(path, name, rotation, np.array([float(value) for value in words[-7:-4]]))


def _inverse(path: Path, name: str, world_from_cam: np.ndarray, center: np.ndarray) -> np.ndarray:
    """cam_from_world (3, 4); InvalidValueError where the matrix is no rotation."""
    fits = np.isfinite(world_from_cam).all() and np.isfinite(center).all()
    if not fits or not np.allclose(world_from_cam @ world_from_cam.T, np.eye(3), atol=1e-3):
        raise InvalidValueError(f"{path}: expected a rotation and a finite position for {name}, got other values")
    if np.linalg.det(world_from_cam) < 0:
        raise InvalidValueError(f"{path}: expected a rotation for {name}, got a mirror image")
    u, _, vh = np.linalg.svd(world_from_cam)
    rotation = (u @ vh).T
    return np.concatenate([rotation, -(rotation @ center)[:, None]], 1)
