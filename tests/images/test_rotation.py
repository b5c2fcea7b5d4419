"""Quarter turns of photos and of their keypoints go together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from lightmatch.images import load_image
from lightmatch.images.rotation import (
    features_in_stored_pixels,
    features_in_upright_pixels,
    flip_features,
    flip_image,
    rotate_features,
    rotate_image,
)
from lightmatch.types import FeatureKind, Features, Image

KIND = FeatureKind("toy", 1, has_scale_orientation=True)


def at(x: float, y: float, orientation: float = 0.0) -> Features:
    one = torch.ones(1)
    return Features(
        torch.tensor([[float(x), float(y)]]), one, one[:, None], (3, 2), KIND, one, torch.tensor([orientation])
    )


@pytest.mark.parametrize("quarter_turns", [-1, 0, 1, 2, 3, 4])
def test_a_keypoint_stays_on_its_pixel(quarter_turns: int) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1, 2] = 255
    turned, features = rotate_image(Image(pixels), quarter_turns), rotate_features(at(2, 1), quarter_turns)
    assert turned.size == features.image_size
    x, y = features.keypoints[0].long().tolist()
    assert turned.pixels[y, x].tolist() == [255, 255, 255]


def test_a_turn_to_the_right_and_back() -> None:
    # The upper left corner comes to the upper right, and what pointed right points down.
    right = rotate_features(at(0, 0), 1)
    assert right.keypoints.tolist() == [[1, 0]] and right.orientations is not None
    torch.testing.assert_close(right.orientations, torch.tensor([torch.pi / 2]))
    back = rotate_features(rotate_features(at(0.25, 1.5, 0.5), 3), -3)
    assert back.orientations is not None
    assert back.keypoints.tolist() == [[0.25, 1.5]] and back.image_size == (3, 2)
    torch.testing.assert_close(back.orientations, torch.tensor([0.5]))


def test_a_flip() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1, 2] = 255
    flipped, features = flip_image(Image(pixels)), flip_features(at(2, 1, 0.5))
    assert features.keypoints.tolist() == [[0, 1]] and flipped.pixels[1, 0].tolist() == [255, 255, 255]
    # What pointed right and down points left and down.
    assert features.orientations is not None
    torch.testing.assert_close(features.orientations, torch.tensor([torch.pi - 0.5]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_keypoint_of_the_upright_photo_is_found_on_its_pixel_in_the_file(orientation: int, tmp_path: Path) -> None:
    stored = np.zeros((8, 12, 3), np.uint8)
    stored[2, 9] = 255
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    PilImage.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    upright = load_image(tmp_path / "a.png")
    (y, x), one = np.argwhere(upright.pixels[..., 0] == 255)[0].tolist(), torch.ones(1)
    angle = torch.tensor([0.3])
    features = Features(torch.tensor([[x, y]]).float(), one, one[:, None], upright.size, KIND, one, angle)
    found = features_in_stored_pixels(features, orientation)
    assert (found.keypoints.tolist(), found.image_size) == ([[9, 2]], (12, 8))
    back = features_in_upright_pixels(found, orientation)
    assert (back.keypoints.tolist(), back.image_size) == ([[x, y]], upright.size)
    assert back.orientations is not None
    torch.testing.assert_close(back.orientations, angle)
