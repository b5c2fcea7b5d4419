"""Views warped from photos without aliasing."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from lightmatch.geometry.coordinates import scale_intrinsics
from lightmatch.images import resize_to_fit
from lightmatch.types import Image


def warp_photo(
    photo: Image, view_from_photo: np.ndarray, size: tuple[int, int], border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """The pixels (h, w, 3) of a view of a photo. view_from_photo: (3, 3), oriented. size: (width, height) px.

    Where the view has fewer pixels than the part of the photo that it shows, the photo is shrunk first, to about the
    view's resolution: a warp interpolates between four pixels and skips those between.
    border: OpenCV's mode for what lies beyond the photo.
    """
    width, height = size
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]]) - 0.5
    shown = cv2.perspectiveTransform(corners, np.linalg.inv(view_from_photo))
    scale = math.sqrt(width * height / cv2.contourArea(shown.astype(np.float32)))
    small = resize_to_fit(photo, math.ceil(min(scale, 1.0) * max(photo.size)))
    photo_from_small = scale_intrinsics(torch.eye(3, dtype=torch.float64), small.size, photo.size).numpy()
    matrix = view_from_photo @ photo_from_small
    return np.asarray(cv2.warpPerspective(small.pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border))
