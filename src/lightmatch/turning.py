"""Photos turned by quarter turns, and their keypoints turned with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lightmatch.types import Features, Image


def turn_image(image: Image, quarter_turns: int) -> Image:
    """The photo turned clockwise by `quarter_turns` times 90°."""
    return Image(np.ascontiguousarray(np.rot90(image.pixels, -quarter_turns)), image.path)


def turn_features(features: Features, quarter_turns: int) -> Features:
    """The features where they lie when the photo is turned clockwise by `quarter_turns` times 90°."""
    turned = features
    for _ in range(quarter_turns % 4):
        width, height = turned.image_size
        x, y = turned.keypoints.unbind(1)
        turned = replace(turned, keypoints=torch.stack((height - 1 - y, x), 1), image_size=(height, width))
    if turned.orientations is None:
        return turned
    return replace(turned, orientations=(turned.orientations + quarter_turns * torch.pi / 2) % (2 * torch.pi))
