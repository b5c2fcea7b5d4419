"""Photos turned by quarter turns or flipped, and their keypoints with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lightmatch.types import Features, Image


def rotate_image(image: Image, quarter_turns: int) -> Image:
    """The photo turned clockwise by `quarter_turns` times 90°."""
    return Image(np.ascontiguousarray(np.rot90(image.pixels, -quarter_turns)), image.path)


def flip_image(image: Image) -> Image:
    """The photo with left and right exchanged."""
    return Image(np.ascontiguousarray(image.pixels[:, ::-1]), image.path)


def flip_features(features: Features) -> Features:
    """The features where they lie when left and right of the photo are exchanged; descriptors stay as they are."""
    x, y = features.keypoints.unbind(1)
    flipped = replace(features, keypoints=torch.stack((features.image_size[0] - 1 - x, y), 1))
    if flipped.orientations is None:
        return flipped
    return replace(flipped, orientations=(torch.pi - flipped.orientations) % (2 * torch.pi))


def rotate_features(features: Features, quarter_turns: int) -> Features:
    """The features where they lie when the photo is turned clockwise by `quarter_turns` times 90°."""
    turned = features
    for _ in range(quarter_turns % 4):
        width, height = turned.image_size
        x, y = turned.keypoints.unbind(1)
        turned = replace(turned, keypoints=torch.stack((height - 1 - y, x), 1), image_size=(height, width))
    if turned.orientations is None:
        return turned
    return replace(turned, orientations=(turned.orientations + quarter_turns * torch.pi / 2) % (2 * torch.pi))
