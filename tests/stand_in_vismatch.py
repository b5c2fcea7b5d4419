"""A stand-in for the package vismatch: its names, its call, and matchers made of OpenCV's SIFT."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lightmatch.matchers import ImageMatcher
from lightmatch.matchers.base import PointMatches
from lightmatch.types import Image

JITTER_PX = 0.3  # of the "dense" one: each pair has places of its own


class SiftOfImages(ImageMatcher):
    """A matcher of images, without the package."""

    name = described = "sift of images"
    long_side_px = 1024

    def __call__(self, image0: Image, image1: Image) -> PointMatches:
        found = Matcher(0.0, 512)(
            *(np.moveaxis(image.pixels, 2, 0).astype(np.float32) / 255 for image in (image0, image1))
        )
        points0, points1 = (torch.from_numpy(found[f"matched_kpts{side}"]) for side in (0, 1))
        return PointMatches(points0, points1, torch.ones(len(points0)))


class SiftOfImagesSource:
    """What another process loads it from."""

    def load(self) -> SiftOfImages:
        return SiftOfImages()


class Matcher:
    """Two images (3, H, W) in 0…1, as vismatch takes them."""

    def __init__(self, jitter_px: float, max_num_keypoints: int) -> None:
        self._jitter_px, self._sift = jitter_px, cv2.SIFT.create(max_num_keypoints)
        self._rng = np.random.default_rng(0)

    def __call__(self, image0: np.ndarray, image1: np.ndarray) -> dict[str, Any]:
        found = []
        for image in (image0, image1):
            assert image.shape[0] == 3 and image.dtype == np.float32 and 0 <= image.min() <= image.max() <= 1
            grey = cv2.cvtColor(np.ascontiguousarray(np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)), 7)
            found.append(self._sift.detectAndCompute(grey, None))
        (places0, words0), (places1, words1) = found
        good = [
            best
            for best, second in cv2.BFMatcher().knnMatch(words0, words1, k=2)
            if best.distance < 0.75 * second.distance
        ]
        points = [
            np.array([places[index].pt for index in indices], np.float32).reshape(-1, 2)
            for places, indices in (
                (places0, [match.queryIdx for match in good]),
                (places1, [match.trainIdx for match in good]),
            )
        ]
        moved = [each + self._rng.normal(0, self._jitter_px, each.shape).astype(np.float32) for each in points]
        return {"matched_kpts0": moved[0], "matched_kpts1": moved[1], "matched_confidences": None}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in in the place of the package; "offline" is a model whose weights cannot be had."""
    module: Any = ModuleType("vismatch")
    module.available_models = ["sift-nn", "dense", "offline"]
    module.__version__ = "0"

    def get_matcher(name: str, device: str, max_num_keypoints: int) -> Matcher:
        assert device == "cpu"
        if name == "offline":
            raise ConnectionError("no network")
        return Matcher(JITTER_PX if name == "dense" else 0.0, max_num_keypoints)

    module.get_matcher = get_matcher
    monkeypatch.setitem(sys.modules, "vismatch", module)
