"""XFeat, by kornia's networks.

Source: Potje et al.: XFeat: Accelerated Features for Lightweight Image Matching, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad, pixel_shuffle

from lightmatch.extractors.base import register
from lightmatch.extractors.learned import Detections, LearnedExtractor, LearnedExtractorConfig, lower_right
from lightmatch.types import FeatureKind
from lightmatch.weights import load_strictly

_STRIDE = 32
_CELL = 8


@dataclass(frozen=True, kw_only=True)
class XFeatConfig(LearnedExtractorConfig):
    """Settings of `XFeat`."""

    detection_threshold: float = 0.05  # least probability of a keypoint in its cell
    nms_radius: int = 2  # px in which a keypoint must be the only highest, and distance from the border

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("detection_threshold", 0 <= self.detection_threshold < 1, "at least 0 and less than 1")
        self.check("nms_radius", self.nms_radius >= 1, "at least 1")


@register("xfeat", XFeatConfig)
class XFeat(LearnedExtractor):
    """XFeat's sparse keypoints, which the released LighterGlue was trained on."""

    kind = FeatureKind("xfeat", 64)
    record_name = "xfeat"
    config: XFeatConfig

    def __init__(self, config: XFeatConfig | None = None) -> None:
        """Raises WeightsError where the weights are not on this machine, or are of another network."""
        super().__init__(config or XFeatConfig())

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
        from kornia.feature.xfeat import XFeatModel

        network = XFeatModel()
        load_strictly(network, tensors, path)
        return network

    def _maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        # The last row and column are repeated up to multiples of the stride; the authors' code stretches the photo.
        padded = pad(pixels, lower_right(pixels.shape[2:], _STRIDE, _STRIDE), mode="replicate")
        descriptors, logits, reliability = self.network(padded)
        return pixel_shuffle(logits.softmax(1)[:, :-1], _CELL), reliability, normalize(descriptors, dim=1)

    def _detect(self, maps: tuple[Tensor, ...], allowed: Tensor) -> Detections:
        from kornia.geometry.subpix import nms2d

        heat, reliability, _ = maps
        height, width = allowed.shape
        window = 2 * self.config.nms_radius + 1
        peaks = nms2d(heat, (window, window), mask_only=True) & (heat > self.config.detection_threshold)
        y, x = (peaks[0, 0, :height, :width] & allowed).nonzero(as_tuple=True)
        keypoints = torch.stack((x, y), 1).to(heat.dtype)
        scores = heat[0, 0, y, x] * self._interpolate(maps, reliability, keypoints, "bilinear")[:, 0]
        return Detections(keypoints, scores, self._sample(maps, keypoints, allowed.shape))

    def _sample(self, maps: tuple[Tensor, ...], keypoints: Tensor, size: Sequence[int]) -> Tensor:
        return normalize(self._interpolate(maps, maps[2], keypoints, "bicubic"), dim=1)

    def _interpolate(self, maps: tuple[Tensor, ...], values: Tensor, keypoints: Tensor, mode: str) -> Tensor:
        """(n, c) of values (1, c, …), at the authors' places of samples, up to half a pixel beside the keypoint."""
        from kornia.feature.xfeat import InterpolateSparse2d

        return InterpolateSparse2d(mode)(values, keypoints[None], *maps[0].shape[2:])[0]
