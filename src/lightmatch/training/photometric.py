"""Photometric augmentation: light, lens, sensor and compression."""

from __future__ import annotations

import cv2
import numpy as np


def augment(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with random photometric changes, in the order in which they occur in a camera.

    pixels: (h, w, 3) uint8 RGB. Returns the same shape. Effects: shade with a soft border, gamma, contrast and
    brightness (down more than up), colour cast, defocus, motion blur, sensor noise, JPEG.
    """
    picture = pixels.astype(np.float32) / 255
    for effect, share in _EFFECTS:
        if rng.random() < share:
            picture = effect(picture, rng)
    result = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _jpeg(result, rng) if rng.random() < 0.4 else result


def _shade(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shadows of a few random triangles, blurred at the border."""
    height, width = picture.shape[:2]
    small = (max(width // 8, 2), max(height // 8, 2))
    mask = np.ones(small[::-1], np.float32)
    for _ in range(rng.integers(1, 4)):
        triangle = rng.uniform(-0.2, 1.2, (3, 2)) * small
        cv2.fillConvexPoly(mask, triangle.astype(np.int32), float(rng.uniform(0.35, 0.8)))
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 6))
    return picture * cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]


def _tone(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma 0.6…1.7, contrast 0.5…1.4 about the mean, brightness −0.35…0.15."""
    picture = np.clip(picture, 0, 1) ** np.exp(rng.uniform(-0.5, 0.5))
    mean = picture.mean()
    return (picture - mean) * rng.uniform(0.5, 1.4) + mean + rng.uniform(-0.35, 0.15) * mean * 2


def _colour(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another white balance, and more or less colour."""
    grey = picture.mean(-1, keepdims=True)
    return (grey + (picture - grey) * rng.uniform(0.2, 1.5)) * rng.uniform(0.8, 1.2, 3).astype(np.float32)


def _defocus(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2.0))


def _motion_blur(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A straight smear of 3 to 11 px."""
    length = 2 * int(rng.integers(1, 6)) + 1
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    reach = (length // 2) * np.array([np.cos(angle), np.sin(angle)])
    start, end = (np.round(length // 2 + sign * reach).astype(int) for sign in (-1, 1))
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def _noise(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise that grows with the light, as of a sensor, with standard deviation up to 0.05 at white."""
    read, shot = rng.uniform(0, 0.025), rng.uniform(0, 0.04)
    sigma = np.sqrt(read**2 + shot**2 * np.clip(picture, 0, 1))
    return picture + sigma * rng.standard_normal(picture.shape, np.float32)


def _jpeg(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    quality = int(rng.integers(30, 95))
    coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))


# Each effect and the share of images to which it is applied.
_EFFECTS = ((_shade, 0.3), (_tone, 0.8), (_colour, 0.3), (_defocus, 0.3), (_motion_blur, 0.15), (_noise, 0.4))
