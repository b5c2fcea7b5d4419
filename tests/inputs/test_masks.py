"""Masks of every kind, and turned as their photos are."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from images_data import stored_for
from PIL import ExifTags
from PIL import Image as PilImage

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.extractors.base import check_mask
from lightmatch.inputs import frame_mask, mask_path, may_lie_otherwise, read_mask, write_mask

SIZE = (7, 5)  # width, height
EXPECTED = np.zeros((5, 7), bool)
EXPECTED[0, :3] = EXPECTED[1:4, 0] = EXPECTED[4, 6] = True  # no turn nor flip of it is itself


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    PilImage.fromarray(pixels).save(path, **options)
    return path


def kinds() -> dict[str, np.ndarray | PilImage.Image]:
    grey = EXPECTED.astype(np.uint8)
    colour = np.stack([grey * 0, grey * 0, grey * 200], axis=2)
    palette = PilImage.fromarray(1 - grey, "P")  # index 0 is white here
    palette.putpalette([255, 255, 255, 0, 0, 0])
    clear_palette = palette.copy()
    clear_palette.putpalette([9, 9, 9, 8, 8, 8])
    clear_palette.info["transparency"] = 1
    cutout = np.dstack([np.full((5, 7, 3), 90, np.uint8), grey * 255])
    deep = np.dstack([grey.astype(np.uint16) * 3] * 3)
    deep_cutout = np.dstack([np.full((5, 7, 3), 65535, np.uint16), grey.astype(np.uint16)])
    return {
        "grey": grey * 255,
        "labels 0 and 1": grey,
        "one bit": PilImage.fromarray(EXPECTED),
        "blue": colour,
        "palette": palette,
        "palette with a clear entry": clear_palette,
        "cut out by transparency": cutout,
        "black and opaque": np.dstack([grey * 255] * 3 + [np.full((5, 7), 255, np.uint8)]),
        "grey and transparency": PilImage.fromarray(np.dstack([grey * 0 + 7, grey * 255]), "LA"),
        "16 bits": grey.astype(np.uint16) * 2,
        "16 bits a colour": deep,
        "16 bits a colour, cut out": deep_cutout,
    }


@pytest.mark.parametrize("kind", kinds())
def test_black_and_clear_is_ignored(tmp_path: Path, kind: str) -> None:
    pixels = kinds()[kind]
    path = tmp_path / "a.jpg.png"
    if isinstance(pixels, PilImage.Image):
        pixels.save(path)
    elif pixels.dtype == np.uint16:
        assert cv2.imwrite(str(path), pixels)
    else:
        save(path, pixels)
    mask = read_mask(path, SIZE)
    np.testing.assert_array_equal(mask, EXPECTED)
    assert check_mask(mask, SIZE).dtype == np.bool_  # what extractors take


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_drawn_on_the_photo_as_shown(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", EXPECTED)
    np.testing.assert_array_equal(read_mask(path, SIZE, orientation), EXPECTED)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_drawn_on_the_stored_photo_are_turned(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", stored_for(EXPECTED, orientation))
    np.testing.assert_array_equal(read_mask(path, SIZE, orientation), EXPECTED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_s_own_orientation_is_heard(tmp_path: Path, orientation: int) -> None:
    exif = PilImage.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = save(tmp_path / "a.png", stored_for(EXPECTED, orientation), exif=exif)
    np.testing.assert_array_equal(read_mask(path, SIZE, orientation), EXPECTED)


def test_what_is_assumed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lightmatch.inputs")
    square = save(tmp_path / "square.png", EXPECTED[:, :5])
    np.testing.assert_array_equal(read_mask(square, (5, 5), 6), EXPECTED[:, :5])
    assert "taken to lie as the photo is shown" in caplog.text
    assert [may_lie_otherwise(size, turn) for size, turn in [((5, 5), 6), (SIZE, 6), (SIZE, 3), (SIZE, 1)]] == [
        True,
        False,
        True,
        False,
    ]
    read_mask(save(tmp_path / "black.png", np.zeros((5, 7), np.uint8)), SIZE)
    assert "all black" in caplog.text


def test_a_jpeg_is_cut_in_the_middle_between_black_and_white(tmp_path: Path) -> None:
    mask = np.zeros((64, 48), bool)
    mask[10:40, 7:30] = True
    path = tmp_path / "a_mask.jpg"
    PilImage.fromarray(mask.astype(np.uint8) * 255).save(path, quality=60)
    stored = np.asarray(PilImage.open(path))
    assert ((stored > 0) & (stored < 255)).sum() > 50  # blurred
    assert (read_mask(path, (48, 64)) == mask).mean() > 0.995


def test_bad_masks(tmp_path: Path) -> None:
    small = save(tmp_path / "small.png", EXPECTED[:4])
    with pytest.raises(InvalidValueError, match=r"small\.png: expected a mask of its photo's 7 x 5 px, got 7 x 4"):
        read_mask(small, SIZE)
    turned = save(tmp_path / "turned.png", EXPECTED.T.copy())
    with pytest.raises(InvalidValueError, match="7 x 5 px, got 5 x 7"):
        read_mask(turned, SIZE, orientation=3)
    for orientation in (0, 9):
        with pytest.raises(InvalidValueError, match="orientation: expected 1…8"):
            read_mask(small, SIZE, orientation)
    lossy = tmp_path / "lossy.png"
    PilImage.fromarray(EXPECTED.astype(np.uint8) * 255).save(lossy, "WEBP")
    with pytest.raises(ImageReadError, match="expected a PNG or a JPEG, got WEBP"):
        read_mask(lossy, SIZE)
    whole = save(tmp_path / "whole.png", EXPECTED).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageReadError, match=r"cut\.png"):
        read_mask(tmp_path / "cut.png", SIZE)
    with pytest.raises(ImageReadError, match="no such file"):
        read_mask(tmp_path / "absent.png", SIZE)


def test_written_masks_are_what_colmap_reads(tmp_path: Path) -> None:
    path = mask_path(tmp_path / "masks", "left/a.heic.jpg")
    write_mask(EXPECTED, path)
    assert path == tmp_path / "masks/left/a.heic.jpg.png"
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), EXPECTED * np.uint8(255))
    np.testing.assert_array_equal(read_mask(path, SIZE), EXPECTED)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]
    for bad in (EXPECTED.astype(np.uint8), EXPECTED[0], EXPECTED[:0]):
        with pytest.raises(InvalidValueError, match="mask: expected bool"):
            write_mask(bad, path)


def test_masks_of_frames(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    one, two = save(folder / "000001.png", EXPECTED), save(folder / "000002.jpg.png", EXPECTED)
    assert frame_mask(folder, "clip/000001.jpg") == one and frame_mask(folder, "000002.jpg") == two
    assert frame_mask(folder, "000003.jpg") is None and frame_mask(None, "000001.jpg") is None
    assert frame_mask(one, "000003.jpg") == one
