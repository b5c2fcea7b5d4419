"""Views are where their homography says, and show the mean of the pixels that they have no room for."""

import numpy as np
import pytest
import torch

from lightmatch.geometry.homography import transfer
from lightmatch.training.warping import warp_photo
from lightmatch.types import Image

TILTED = np.array([[0.24, 0.05, 8.0], [-0.04, 0.22, 20.0], [1e-5, 2e-5, 1.0]])


def test_a_smaller_view_is_free_of_aliasing() -> None:
    stripes = np.zeros((600, 800, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the view can show
    view = warp_photo(Image(stripes), TILTED, (160, 120))[40:80, 40:100]
    assert float(view.std()) < 10 and abs(float(view.mean()) - 127.5) < 5


@pytest.mark.parametrize("gain", [1.0, 0.7, 4.0])
def test_points_of_the_photo_lie_where_the_homography_puts_them(gain: float) -> None:
    matrix = np.diag([gain, gain, 1.0]) @ TILTED
    x, y = np.meshgrid(np.arange(800), np.arange(600))
    spot = 255 * np.exp(-((x - 401.3) ** 2 + (y - 250.6) ** 2) / (2 * 12**2))
    size = round(200 * gain), round(160 * gain)
    view = warp_photo(Image(np.repeat(spot[..., None], 3, 2).astype(np.uint8)), matrix, size)[..., 0].astype(float)
    middle = [
        float((view * places).sum() / view.sum()) for places in np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    ]
    expected = transfer(torch.from_numpy(matrix), torch.tensor([[401.3, 250.6]], dtype=torch.float64))[0]
    assert np.abs(expected.numpy() - middle).max() < 0.1
