"""Sequences of photos of one plane: photo 1 and the homographies from it to the others.

Oxford (Mikolajczyk et al. 2005): img1.png … imgN.png (or .ppm) and H1to2p … H1toNp.
HPatches (Balntas et al. 2017): 1.ppm … 6.ppm and H_1_2 … H_1_6.
Pixels are counted from 0 in both.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.datasets.posed import pair_name, read_numbers, scene_name
from lightmatch.evaluation.pairs import EvaluationPair, HomographyTruth
from lightmatch.images import is_image_file


def is_oxford(folder: Path) -> bool:
    """Whether `folder` is an Oxford sequence."""
    return (folder / "H1to2p").is_file()


def is_hpatches(folder: Path) -> bool:
    """Whether `folder` is an HPatches sequence."""
    return (folder / "H_1_2").is_file()


def read_oxford(folder: Path) -> list[EvaluationPair]:
    """Pairs 1–2, 1–3, … of an Oxford sequence."""
    return _read_sequence(folder, "img{}", "H1to{}p")


def read_hpatches(folder: Path) -> list[EvaluationPair]:
    """Pairs 1–2, 1–3, … of an HPatches sequence."""
    return _read_sequence(folder, "{}", "H_1_{}")


def read_homography(path: Path) -> Tensor:
    """(3, 3) float64 of a file with nine numbers, oriented: published files have either sign.

    Both photos show the same side of the plane, so the sign that puts the pixels in front of both cameras is the
    one with a positive determinant. Raises InvalidValueError where the file is damaged.
    """
    H = torch.tensor(read_numbers(path, 9), dtype=torch.float64).reshape(3, 3)
    return H * torch.linalg.det(H).sign()


def _read_sequence(folder: Path, image_form: str, matrix_form: str) -> list[EvaluationPair]:
    photos = {path.stem: path for path in sorted(folder.iterdir()) if is_image_file(path) or path.suffix == ".ppm"}
    first, pairs, number = photos.get(image_form.format(1)), [], 2
    while (matrix := folder / matrix_form.format(number)).is_file():
        photo = photos.get(image_form.format(number))
        if first is None or photo is None:
            raise InvalidValueError(
                f"{matrix}: expected the photos {image_form.format(1)} and {image_form.format(number)} beside it,"
                " got one or none of them; fetch the data set again"
            )
        truth = HomographyTruth(read_homography(matrix))
        pairs.append(EvaluationPair(pair_name(first, photo), scene_name(folder), first, photo, truth))
        number += 1
    return pairs
