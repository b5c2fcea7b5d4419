from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.report import draw_matches, draw_overview, write_picture
from lightmatch.types import Image


def grey(width: int, height: int) -> Image:
    return Image(np.full((height, width, 3), 128, np.uint8))


def is_red(picture: np.ndarray) -> np.ndarray:
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    return (red > 150) & (green < 110) & (blue < 110)


def test_outliers_are_red_and_inliers_are_not() -> None:
    image = grey(300, 400)
    points = torch.tensor([[150.0, 200.0]])
    bad = draw_matches(image, image, points, points, torch.tensor([False]))
    good = draw_matches(image, image, points, points, torch.tensor([True]))
    none = draw_matches(image, image, points[:0], points[:0], torch.tensor([], dtype=torch.bool))
    assert bad.dtype == np.uint8 and bad.shape == good.shape == none.shape
    body = slice(80, None)
    assert is_red(bad[body]).sum() > 300 and is_red(good[body]).sum() == is_red(none[body]).sum() == 0
    assert (good[body] != none[body]).any()


@pytest.mark.parametrize(("size0", "size1"), [((1600, 900), (1600, 900)), ((3000, 2000), (40, 60)), ((1, 1), (5, 9))])
def test_any_sizes_give_a_picture_of_bounded_size(size0: tuple[int, int], size1: tuple[int, int]) -> None:
    nothing = torch.zeros(0, 2)
    picture = draw_matches(grey(*size0), grey(*size1), nothing, nothing, torch.zeros(0, dtype=torch.bool))
    assert 50 < max(picture.shape) < 2000


@pytest.mark.parametrize("name", ["m.png", "путь 1/m.jpg"])
def test_pictures_are_written_in_rgb_under_any_name(tmp_path: Path, name: str) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    write_picture(tmp_path / name, red)
    read = cv2.imdecode(np.frombuffer((tmp_path / name).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert read is not None and read[..., 2].min() > 240 and read[..., 0].max() < 15


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"ending in \.png"):
        write_picture(tmp_path / "m.xyz", np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("num_cameras", [1, 5])
def test_overview(tmp_path: Path, num_cameras: int) -> None:
    rng = np.random.default_rng(0)
    points, centers = rng.normal(size=(200, 3)), rng.normal(size=(num_cameras, 3))
    colors = rng.integers(0, 255, (200, 3), dtype=np.uint8)
    draw_overview(tmp_path / "o.png", points, colors, centers, np.broadcast_to(np.eye(3), (num_cameras, 3, 3)))
    picture = cv2.imread(str(tmp_path / "o.png"))
    assert picture is not None and picture.std() > 5
