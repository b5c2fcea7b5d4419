"""What was laid over pictures is found, in all or half of them; scenes, also ones that rest, are not taken for it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from images_data import stored_for
from PIL import ExifTags
from PIL import Image as PilImage

from lightmatch.inputs import find_overlays, overlay_warning

SIZE = (320, 240)


def scene(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Boxes and discs of all shades, others in every picture."""
    rng = np.random.default_rng(number)
    picture = np.full((size[1], size[0], 3), 128, np.uint8)
    for _ in range(60):
        x, y = (int(rng.integers(side)) for side in size)
        width, height, shade = int(rng.integers(8, 60)), int(rng.integers(8, 60)), int(rng.integers(256))
        cv2.rectangle(picture, (x, y), (x + width, y + height), (shade, shade, shade), -1)
        cv2.circle(picture, (y, x), width // 2, (255 - shade, shade, 90), -1)
    return cv2.GaussianBlur(picture, (0, 0), 1)


def text(size: tuple[int, int] = SIZE) -> np.ndarray:
    """(h, w) in 0…1."""
    drawn = np.zeros(size[::-1], np.uint8)
    for y in range(40, size[1], 60):
        cv2.putText(drawn, "SAMPLE COPY", (10, y), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 255, 3, cv2.LINE_AA)
    return drawn / 255


def write(folder: Path, pictures: list[np.ndarray]) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), picture)
    return paths


def over(picture: np.ndarray, alpha: float) -> np.ndarray:
    share = alpha * text(picture.shape[1::-1])[..., None]
    return (picture * (1 - share) + 255 * share).round().astype(np.uint8)


@pytest.mark.parametrize(("num_with", "alpha"), [(8, 0.6), (8, 1.0), (5, 0.6)])
def test_text_over_all_or_most_pictures_is_found(num_with: int, alpha: float, tmp_path: Path) -> None:
    pictures = [over(scene(n), alpha) if n < num_with else scene(n) for n in range(8)]
    found = find_overlays(write(tmp_path, pictures))
    assert set(found) == {SIZE} and found[SIZE].shape == SIZE[::-1]
    strokes = cv2.erode((text() > 0.9).astype(np.uint8), np.ones((2, 2), np.uint8)).astype(bool)
    assert found[SIZE][strokes].mean() > 0.85
    near = cv2.dilate((text() > 0).astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)
    assert found[SIZE][~near].mean() < 0.02
    warning = overlay_warning(found.values())
    assert warning is not None and f"({found[SIZE].mean():.0%} of a picture) is masked" in warning


def test_a_scene_is_no_overlay(tmp_path: Path) -> None:
    assert find_overlays(write(tmp_path, [scene(n) for n in range(8)])) == {}
    assert overlay_warning({}) is None


def test_a_camera_that_rests_sees_no_overlay(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    still = [(scene(0) + noise.normal(0, 2, scene(0).shape)).clip(0, 255).astype(np.uint8) for _ in range(6)]
    assert find_overlays(write(tmp_path, still)) == {}


def test_a_few_pictures_cannot_tell(tmp_path: Path) -> None:
    assert find_overlays(write(tmp_path, [over(scene(n), 1.0) for n in range(4)])) == {}


def test_sizes_are_told_apart_and_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    upright = (SIZE[1], SIZE[0])
    pictures = [over(scene(n), 0.8) for n in range(6)] + [scene(n, upright) for n in range(6, 12)]
    paths = write(tmp_path, pictures)
    (tmp_path / "broken.png").write_bytes(paths[0].read_bytes()[:200])
    assert set(find_overlays([*paths, tmp_path / "broken.png", tmp_path / "none.png"])) == {SIZE}


def test_rotated_tiffs_are_of_their_upright_size(tmp_path: Path) -> None:
    """Of those stored in one size, some are upright and others are not."""
    paths = []
    for number in range(10):
        orientation, size = (6, SIZE) if number < 5 else (1, SIZE[::-1])
        picture = PilImage.fromarray(stored_for(over(scene(number, size), 0.8), orientation))
        paths.append(tmp_path / f"{number}.tif")
        picture.save(paths[-1], tiffinfo={ExifTags.Base.Orientation: orientation})
    assert {size: found.shape for size, found in find_overlays(paths).items()} == {
        SIZE: SIZE[::-1],
        SIZE[::-1]: SIZE,
    }


def test_large_pictures_are_masked_at_their_own_size(tmp_path: Path) -> None:
    size = (2 * 1024, 2 * 768)
    small = [over(scene(n, (1024, 768)), 1.0) for n in range(5)]
    large = [cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) for picture in small]
    (found,) = find_overlays(write(tmp_path, large)).values()
    assert found.shape == size[::-1] and 0.05 < found.mean() < 0.8
