"""Photos with ground-truth cameras, and the pairs of them: shared by all data sets with poses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.pairs import Camera, EvaluationPair, PoseTruth
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid


@dataclass(frozen=True, eq=False)
class PosedPhoto:
    """A photo with its ground-truth camera and pose."""

    path: Path
    camera: Camera
    cam_from_world: Tensor  # (3, 4) float64


def pose_pair(scene: str, photo0: PosedPhoto, photo1: PosedPhoto) -> EvaluationPair:
    """The pair of two photos whose poses have a common frame."""
    cam1_from_cam0 = compose_rigid(photo1.cam_from_world, invert_rigid(photo0.cam_from_world))
    truth = PoseTruth(photo0.camera, photo1.camera, cam1_from_cam0)
    return EvaluationPair(pair_name(photo0.path, photo1.path), scene, photo0.path, photo1.path, truth)


def all_pairs(scene: str, photos: Iterable[PosedPhoto]) -> list[EvaluationPair]:
    """Every photo with every later one."""
    return [pose_pair(scene, photo0, photo1) for photo0, photo1 in combinations(photos, 2)]


def pair_name(path0: Path, path1: Path) -> str:
    """The name of a pair: both file names without suffix, joined by "-"."""
    return f"{path0.stem}-{path1.stem}"


def scene_name(folder: Path) -> str:
    """The name of the scene: that of its folder, also for a relative path like "."."""
    return folder.resolve().name


def find_photo(name: str, *folders: Path) -> Path:
    """The photo `name` in the first of `folders` that has it; in the last one where none has.

    A missing photo raises when it is loaded.
    """
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[-1] / name)


def read_numbers(path: Path, count: int) -> list[float]:
    """`count` numbers of a small text file. Raises InvalidValueError where it has another number of them."""
    try:
        numbers = [float(word) for word in path.read_text().split()]
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{path}: expected {count} numbers, could not read them ({error})") from error
    if len(numbers) != count:
        raise InvalidValueError(f"{path}: expected {count} numbers, got {len(numbers)}; fetch the data set again")
    return numbers
