"""Blur, darkness, glare and blankness are seen on copies of good pictures, and not on the good ones."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightmatch.images import load_image
from lightmatch.inputs.image_quality import PictureQuality, find_flaws, picture_quality
from lightmatch.scenes import RenderedScene
from lightmatch.types import Image


@pytest.fixture(scope="module")
def pictures(scene: RenderedScene) -> dict[str, np.ndarray]:
    return {f"{number}.png": pixels.numpy() for number, pixels in enumerate(scene.rgb)}


def measured(pictures: dict[str, np.ndarray]) -> dict[str, PictureQuality]:
    return {name: picture_quality(Image(np.ascontiguousarray(pixels))) for name, pixels in pictures.items()}


def blurred(pixels: np.ndarray, sigma_px: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma_px)


def moved(pixels: np.ndarray, length_px: int, axis: int) -> np.ndarray:
    return cv2.blur(pixels, (length_px, 1) if axis == 0 else (1, length_px))


def brightened(pixels: np.ndarray, factor: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, pixels.shape)
    return np.clip(pixels * factor + noise, 0, 255).astype(np.uint8)


def test_good_pictures_have_no_flaw(pictures: dict[str, np.ndarray]) -> None:
    quality = measured(pictures)
    assert find_flaws(quality) == find_flaws(quality, [list(quality)]) == {}


def test_flaws_of_copies(pictures: dict[str, np.ndarray]) -> None:
    good = pictures["0.png"]
    wall = np.clip(np.linspace(120, 200, 480)[None, :, None] + np.zeros((360, 480, 3)), 0, 255)
    noise = np.random.default_rng(0).normal(0, 6, wall.shape)
    copies = {
        "blurred": blurred(good, 3.0),
        "moved across": moved(good, 15, 0),
        "moved up": moved(good, 15, 1),
        "dark": brightened(good, 0.1),
        "bright": brightened(good, 8.0),
        "wall": np.clip(wall + noise, 0, 255).astype(np.uint8),
        "one colour": np.full((50, 50, 3), 90, np.uint8),
    }
    assert find_flaws(measured(copies)) == {
        "blurred": "blurred",
        "moved across": "blurred",
        "moved up": "blurred",
        "dark": "dark",
        "bright": "overexposed",
        "wall": "blank",
        "one colour": "blank",
    }


def test_blur_grows_with_blur_and_depends_little_on_what_is_shown(pictures: dict[str, np.ndarray]) -> None:
    for pixels in (pictures["0.png"], pictures["5.png"]):
        series = [picture_quality(Image(blurred(pixels, sigma))).blur for sigma in (0.3, 1.0, 2.0, 4.0)]
        assert series == sorted(series) and series[0] < 0.4 < series[-1]
    sharp = [quality.blur for quality in measured(pictures).values()]
    assert max(sharp) - min(sharp) < 0.06


def test_a_picture_is_measured_against_others_of_its_camera(pictures: dict[str, np.ndarray]) -> None:
    quality = measured({**pictures, "soft.png": blurred(pictures["0.png"], 1.1)})
    assert find_flaws(quality) == {}
    assert find_flaws(quality, [list(quality)]) == {"soft.png": "blurred"}
    assert find_flaws(quality, [["0.png", "soft.png"]]) == {}  # too few to say what is usual


def test_resolution_changes_little(pictures: dict[str, np.ndarray]) -> None:
    small = picture_quality(Image(pictures["0.png"]))
    large = picture_quality(Image(cv2.resize(pictures["0.png"], None, fx=3, fy=3, interpolation=cv2.INTER_AREA)))
    assert large.blur == pytest.approx(small.blur, abs=0.1)
    assert large.white_level == pytest.approx(small.white_level, abs=5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_the_smallest_pictures(shape: tuple[int, int]) -> None:
    quality = picture_quality(Image(np.full((*shape, 3), 128, np.uint8)))
    assert all(np.isfinite(value) for value in dataclasses.astuple(quality))


def test_values_of_a_known_picture() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    quality = picture_quality(Image(pixels))
    assert (quality.white_share, quality.black_share) == (0.5, 0.5)
    assert quality.entropy_bits == pytest.approx(1) and quality.white_level == 255
    assert 3 / 64 <= quality.texture_share <= 8 / 64  # along the edge only
    assert "50% of it is white" in quality.describe("overexposed")


def test_no_false_alarms_on_real_photos(real_data: Path) -> None:
    paths = sorted((real_data / "eval/sfm_sceaux_castle").rglob("*.JPG"))[:4]
    quality = {path.name: picture_quality(load_image(path)) for path in paths}
    assert len(quality) == 4 and find_flaws(quality, [list(quality)]) == {}
