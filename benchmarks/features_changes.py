"""Real photos changed in one way at a time, with the exact homography back to the photo as it was.

From each photo a square window is cut. It is image 1 of all pairs; image 0 is the same place rotated, at another scale,
in other light or blurred, with a little noise, so that it is never the same pixels. The photo reaches beyond the
window, so that rotated windows have no black corners.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from lightmatch.evaluation.pairs import EvaluationPair, HomographyTruth
from lightmatch.images import load_image, resize_to_fit
from lightmatch.types import Image

PHOTOS = (  # below eval/: middle views of the sets, and what they show
    *(f"strecha/fountain-P11/images/000{number}.jpg" for number in (4, 5, 6)),
    *(f"lund_door/images/DSC_000{number}.JPG" for number in (5, 6, 7)),
    *(f"oxford_affine/{scene}/img1.png" for scene in ("bark", "bikes", "graf", "leuven")),
    *(f"imc_reichstag/images/{name}.jpg" for name in ("05866831_3427466899", "05545431_1341290848")),
)
WINDOW = 512  # px of the window's sides, less where a photo is too small
NOISE = 2.0  # grey levels, standard deviation
_Warped = tuple[np.ndarray, np.ndarray]  # pixels; (3, 3) homography to the window


@dataclass(frozen=True)
class Change:
    """One way to change a photo, and how far."""

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[np.ndarray, np.ndarray, float], _Warped]  # photo, window as `_Square.cut` gives it, level
    logarithmic: bool = False


def _rotate(photo: np.ndarray, window: np.ndarray, angle_deg: float) -> _Warped:
    size = len(window)
    middle, angle = (size - 1) / 2, math.radians(angle_deg)
    R = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    to_window = np.column_stack((R, middle - R @ [middle, middle]))
    to_photo = to_window + np.column_stack((np.zeros((2, 2)), _corner(photo, size)))
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(photo, to_photo, (size, size), flags=flags), np.vstack((to_window, [0, 0, 1]))


def _shrink(photo: np.ndarray, window: np.ndarray, factor: float) -> _Warped:
    size = round(len(window) / factor)
    ratio = len(window) / size
    to_window = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]])
    return cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA), to_window


def _brighten(photo: np.ndarray, window: np.ndarray, factor: float) -> _Warped:
    return np.clip(window * factor, 0, 255).round(), np.eye(3)


def _bend(photo: np.ndarray, window: np.ndarray, gamma: float) -> _Warped:
    return (255 * (window / 255) ** gamma).round(), np.eye(3)


def _blur(photo: np.ndarray, window: np.ndarray, sigma: float) -> _Warped:
    return (cv2.GaussianBlur(window, (0, 0), sigma) if sigma else window), np.eye(3)


CHANGES = (
    Change("rotation", "°", tuple(range(0, 360, 30)), _rotate),
    Change("scale", "×", (1, 1.5, 2, 3, 4), _shrink),
    Change("brightness", "×", (0.1, 0.2, 0.4, 1, 1.7, 2.5), _brighten, logarithmic=True),
    Change("gamma", "", (0.25, 0.5, 1, 2, 4), _bend, logarithmic=True),
    Change("blur", "px", (0, 1, 2, 3, 4, 6), _blur),
)


def changed_pairs(
    data: Path, changes: tuple[Change, ...] = CHANGES, num_photos: int = len(PHOTOS)
) -> Iterator[EvaluationPair]:
    """For each photo, change and level a pair: image 0 changed, image 1 as it was. Scenes are named by `scene_name`."""
    for number, name in enumerate(PHOTOS[:num_photos]):
        photo = load_image(data / "eval" / name).pixels
        short = min(photo.shape[:2])
        wanted = min(short, math.ceil(WINDOW * math.sqrt(2)) + 2)  # a rotated window stays inside
        photo = resize_to_fit(Image(photo), round(max(photo.shape[:2]) * wanted / short)).pixels
        size = min(WINDOW, int((min(photo.shape[:2]) - 2) / math.sqrt(2)))
        x, y = _corner(photo, size)
        window = photo[y : y + size, x : x + size]
        for change in changes:
            for level in change.levels:
                pixels, to_window = change.apply(photo, window, level)
                rng = np.random.default_rng(number)
                noisy = pixels + rng.normal(0, NOISE, pixels.shape)
                image0 = Image(np.clip(noisy.round(), 0, 255).astype(np.uint8))
                truth = HomographyTruth(torch.from_numpy(to_window))
                image1 = Image(np.ascontiguousarray(window))
                yield EvaluationPair(Path(name).stem, scene_name(change, level), image0, image1, truth)


def scene_name(change: Change, level: float) -> str:
    """How the pairs of one change and level are called."""
    return f"{change.name} {level:g}"


def _corner(photo: np.ndarray, size: int) -> tuple[int, int]:
    """The upper left pixel (x, y) of the window of `size` px in the middle."""
    height, width = photo.shape[:2]
    return (width - size) // 2, (height - size) // 2
