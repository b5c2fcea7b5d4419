"""Photos with known cameras, and the pairs of them: what every posed data set comes down to."""

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
    """A photo and where it was taken."""

    path: Path
    camera: Camera
    cam_from_world: Tensor  # (3, 4) float64


def pose_pair(scene: str, photo0: PosedPhoto, photo1: PosedPhoto) -> EvaluationPair:
    """The pair of two photos of one world."""
    cam1_from_cam0 = compose_rigid(photo1.cam_from_world, invert_rigid(photo0.cam_from_world))
    truth = PoseTruth(photo0.camera, photo1.camera, cam1_from_cam0)
    return EvaluationPair(pair_name(photo0.path, photo1.path), scene, photo0.path, photo1.path, truth)


def all_pairs(scene: str, photos: Iterable[PosedPhoto]) -> list[EvaluationPair]:
    """Every photo with every later one."""
    return [pose_pair(scene, photo0, photo1) for photo0, photo1 in combinations(photos, 2)]


def pair_name(path0: Path, path1: Path) -> str:
    """How a pair of photo files is called."""
    return f"{path0.stem}-{path1.stem}"


def scene_name(folder: Path) -> str:
    """How the scene in `folder` is called: as the folder, wherever one stands."""
    return folder.resolve().name


def find_photo(name: str, *folders: Path) -> Path:
    """The photo `name` in the first of `folders` that has it; in the last one where none has.

    That a photo is missing is told when it is loaded.
    """
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[-1] / name)


def read_numbers(path: Path, count: int) -> list[float]:
    """`count` numbers of a small text file. Raises InvalidValueError where there are others."""
    try:
        numbers = [float(word) for word in path.read_text().split()]
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{path}: expected {count} numbers, could not read them ({error})") from error
    if len(numbers) != count:
        raise InvalidValueError(f"{path}: expected {count} numbers, got {len(numbers)}; fetch the data set again")
    return numbers
