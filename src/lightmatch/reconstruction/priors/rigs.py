"""Rigs: cameras fixed to each other; one folder for each camera, files of the same name taken at one moment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.colmap.log import colmap_log
from lightmatch.errors import InvalidValueError, ReconstructionError

if TYPE_CHECKING:
    from pycolmap import Reconstruction, RigConfig

_IDENTITY = np.eye(3, 4)
_MOST_CANDIDATES = 500  # poses that the others are compared with, to find the middle one
_LEAST_GATE_DEG = 1.0  # relative rotations this close to the median one are always used
_MOST_APART_DEG = 5.0  # relative rotations of a rigid rig agree to within this, in most moments


@dataclass(frozen=True, eq=False)
class RigCamera:
    """One camera of a rig."""

    folder: str  # relative to the folder of photos, with '/'
    cam_from_rig: np.ndarray | None = None  # (3, 4); None where it is not known


@dataclass(frozen=True, eq=False)
class CameraRig:
    """Cameras fixed to each other; the first one is the reference frame of the rig."""

    cameras: tuple[RigCamera, ...]
    num_moments: int = 0  # least number of moments that the pose of a camera was averaged over; 0 for given poses
    spread_deg: float = 0.0  # median deviation of the moments from the mean rotation, of the worst camera

    def __post_init__(self) -> None:
        folders = [camera.folder.strip("/") for camera in self.cameras]
        if len(folders) < 2 or len(set(folders)) < len(folders) or "" in folders:
            raise InvalidValueError(f"rig: expected two or more different folders, got {', '.join(folders) or 'none'}")
        if any(a != b and a.startswith(b + "/") for a in folders for b in folders):
            raise InvalidValueError(
                f"rig: expected folders beside each other, got one in another: {', '.join(folders)}"
            )
        first = self.cameras[0].cam_from_rig
        if first is not None and not np.allclose(first, _IDENTITY):
            raise InvalidValueError(
                f"rig: expected the first camera, {folders[0]}, as the rig's frame, with the identity as its pose"
            )

    @property
    def known(self) -> bool:
        """Whether all poses are known."""
        return all(camera.cam_from_rig is not None for camera in self.cameras[1:])


def rig_of(folders: Sequence[str], poses: Mapping[str, np.ndarray] | None = None) -> CameraRig:
    """A rig of cameras by folder. The first is its reference frame. poses: (3, 4) camera from rig, if known."""
    given = {folder.strip("/"): pose for folder, pose in (poses or {}).items()}
    names = [folder.strip("/") for folder in folders]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InvalidValueError(f"rig: expected poses of {', '.join(names)}; got one of {', '.join(unknown)}")
    return CameraRig(tuple(RigCamera(name, given.get(name)) for name in names))


def moments_of(names: Iterable[str], folders: Sequence[str]) -> dict[str, dict[str, str]]:
    """Photos of each moment by folder: moment → folder → name. The moment is the path below the folder."""
    moments: dict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(names):
        for folder in folders:
            if name.startswith(folder.strip("/") + "/"):
                moments[name[len(folder.strip("/")) + 1 :]][folder.strip("/")] = name
    return dict(moments)


def folders_of(frames: Iterable[Collection[str]]) -> list[list[str]]:
    """Sorted folders of each rig: those that share a moment belong to one rig. frames: the folders of each moment."""
    rigs: list[set[str]] = []
    for frame in frames:
        met = [rig for rig in rigs if rig & set(frame)]
        rigs = [rig for rig in rigs if rig not in met] + [set(frame).union(*met)]
    return sorted(sorted(rig) for rig in rigs if len(rig) > 1)


def derive_rig(model: Reconstruction, folders: Sequence[str]) -> CameraRig:
    """Estimate the poses of a rig from a model that was made without rig constraints.

    For each camera the mean of its poses relative to the first one over all moments that have both: the chordal mean
    (Hartley et al. 2013, "Rotation averaging", section 5.3) of the rotations near the median one, and the median
    translation, in the unit of the model.
    Raises ReconstructionError where a camera shares no moment with the first, or where the relative poses differ:
    then the cameras are not a rig, or the model is wrong.
    """
    rig_of(folders)  # checks the names
    poses = {}
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        poses[image.name] = image.cam_from_world().matrix()
    first, *others = [folder.strip("/") for folder in folders]
    moments = moments_of(poses, folders)
    cameras, fewest, spread_deg = [RigCamera(first, _IDENTITY)], len(moments), 0.0
    for folder in others:
        both = [(poses[m[folder]], poses[m[first]]) for m in moments.values() if folder in m and first in m]
        if not both:
            raise ReconstructionError(
                f"rig: expected moments with a photo of {folder} and one of {first} in the model, found none;"
                " files of one moment must have one name"
            )
        mean, apart_deg = _mean_pose(np.array([_relative(pose, reference) for pose, reference in both]))
        agree = float(np.mean(apart_deg < _MOST_APART_DEG))
        if agree < 0.5:
            raise ReconstructionError(
                f"rig: expected {folder} and {first} fixed to each other, but they rotate against each other by"
                f" more than {_MOST_APART_DEG:.0f}° in {1 - agree:.0%} of {len(both)} moments;"
                " they are not a rig, or the model is wrong"
            )
        cameras.append(RigCamera(folder, mean))
        fewest, spread_deg = min(fewest, len(both)), max(spread_deg, float(np.median(apart_deg)))
    return CameraRig(tuple(cameras), fewest, spread_deg)


def _relative(pose: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Camera from reference (3, 4) of camera from world and reference from world."""
    rotation = pose[:, :3] @ reference[:, :3].T
    return np.concatenate([rotation, (pose[:, 3] - rotation @ reference[:, 3])[:, None]], 1)


def _mean_pose(relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The robust mean (3, 4) of poses (n, 3, 4), and the angle of each rotation to it, (n,) degrees."""
    rotations = relative[:, :, :3]
    candidates = np.unique(np.linspace(0, len(rotations) - 1, _MOST_CANDIDATES).astype(int))
    sums = [_angles_deg(rotations, rotations[number]).sum() for number in candidates]
    angles = _angles_deg(rotations, rotations[candidates[int(np.argmin(sums))]])
    near = angles <= max(_LEAST_GATE_DEG, 3 * float(np.median(angles)))
    u, _, vh = np.linalg.svd(rotations[near].sum(0))
    rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vh))]) @ vh
    translation = np.median(relative[near, :, 3], 0)
    return np.concatenate([rotation, translation[:, None]], 1), _angles_deg(rotations, rotation)


def _angles_deg(rotations0: np.ndarray, rotations1: np.ndarray) -> np.ndarray:
    """Angles between rotations (…, 3, 3), accurate near 0: |R0 − R1| = 2√2 sin(angle / 2)."""
    chord = np.linalg.norm(rotations0 - rotations1, axis=(-2, -1))
    return np.degrees(2 * np.arcsin(np.clip(chord / math.sqrt(8), 0, 1)))


def apply_rigs(database: Path, rigs: Sequence[CameraRig], model: Reconstruction | None = None) -> frozenset[int]:
    """Write rigs to a COLMAP database: mapping then keeps their cameras fixed to each other.

    database: with its photos; each folder of a rig must have one camera of its own (`cameras="folder"`). rigs: all of
    them, since earlier ones are replaced. COLMAP's mapper needs rigs with known poses: where they are unknown,
    reconstruct without rigs, call `derive_rig`, and then this. model: changed in the same way, if given; a photo that
    was not registered gets a pose from another photo of the same moment.
    Returns the ids of the cameras of the rigs.
    Photos outside the folders are unchanged; a moment may lack photos, and its files have the same name and suffix.
    Raises InvalidValueError where a folder has no photos, or several cameras, or is in two rigs.
    """
    folders = [camera.folder.strip("/") for rig in rigs for camera in rig.cameras]
    if len(set(folders)) < len(folders):
        raise InvalidValueError(f"rigs: expected each folder in one rig, got {', '.join(folders)}")
    with open_database(database) as opened:
        cameras = {photo.name: photo.camera_id for photo in opened.photos}
        for rig in rigs:
            _check(rig, cameras)
        with colmap_log():
            opened.apply_rigs([_config(rig) for rig in rigs], model)
    return frozenset(cameras[name] for photos in moments_of(cameras, folders).values() for name in photos.values())


def _config(rig: CameraRig) -> RigConfig:
    """The rig as COLMAP's RigConfig."""
    import pycolmap

    entries = []
    for number, camera in enumerate(rig.cameras):
        entry = pycolmap.RigConfigCamera(image_prefix=camera.folder.strip("/") + "/", ref_sensor=number == 0)
        if number and camera.cam_from_rig is not None:
            entry.cam_from_rig = pycolmap.Rigid3d(camera.cam_from_rig)
        entries.append(entry)
    config = pycolmap.RigConfig()
    config.cameras = entries
    return config


def _check(rig: CameraRig, camera_ids: Mapping[str, int]) -> None:
    """Raise InvalidValueError for folders with two cameras or none: COLMAP reports these less clearly or not at all."""
    cameras: dict[str, set[int]] = defaultdict(set)
    moments = moments_of(camera_ids, [camera.folder for camera in rig.cameras])
    for photos in moments.values():
        for folder, name in photos.items():
            cameras[folder].add(camera_ids[name])
    for camera in rig.cameras:
        count = len(cameras[camera.folder.strip("/")])
        if count != 1:
            raise InvalidValueError(
                f"rig: expected photos of one camera in {camera.folder}, got {count or 'no photos'}"
                f"{' cameras; let the photos of each folder share one' if count else '; check the name'}"
            )
    if all(len(photos) < 2 for photos in moments.values()):
        raise InvalidValueError("rig: expected files of the same name in at least two folders, got none")
