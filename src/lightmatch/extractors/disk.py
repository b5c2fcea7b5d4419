"""DISK, by kornia's network.

Source: Tyszkiewicz, Fua, Trulls: DISK: Learning local features with policy gradient, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from lightmatch.extractors.base import register
from lightmatch.extractors.learned import (
    Detections,
    LearnedExtractor,
    LearnedExtractorConfig,
    lower_right,
    strongest_pixels,
)
from lightmatch.types import FeatureKind
from lightmatch.weights import load_strictly

_STRIDE = 16
_LEAST = 32  # px; normalisation needs more than one cell


@dataclass(frozen=True, kw_only=True)
class DiskConfig(LearnedExtractorConfig):
    """Settings of `Disk`."""

    detection_threshold: float = 0.0  # least score, a logit
    nms_radius: int = 2  # px in which a keypoint must be the only highest, and distance from the border

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("nms_radius", self.nms_radius >= 1, "at least 1")


@register("disk", DiskConfig)
class Disk(LearnedExtractor):
    """DISK with the weights trained on depth, which the released LightGlue for DISK was trained on."""

    kind = FeatureKind("disk", 128)
    record_name = "disk"
    part = "extractor"
    config: DiskConfig

    def __init__(self, config: DiskConfig | None = None) -> None:
        """Raises WeightsError where the weights are not on this machine, or are of another network."""
        super().__init__(config or DiskConfig())

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
        from kornia.feature import DISK

        network = DISK()
        load_strictly(network, tensors, path)
        return network

    def _maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        height, width = pixels.shape[2:]
        # Black at the lower right up to multiples of the stride, as in training.
        maps = self.network.heatmap_and_dense_descriptors(pad(pixels, lower_right((height, width), _STRIDE, _LEAST)))
        return tuple(one[..., :height, :width] for one in maps)

    def _detect(self, maps: tuple[Tensor, ...], allowed: Tensor) -> Detections:
        from kornia.geometry.subpix import nms2d

        scores = maps[0]
        window = 2 * self.config.nms_radius + 1
        peaks = nms2d(scores, (window, window), mask_only=True)[0, 0]
        chosen = allowed & peaks & (scores[0, 0] > self.config.detection_threshold)
        places, found = strongest_pixels(scores[0, 0], chosen, self.config.max_keypoints)
        return Detections(places.float(), found, self._sample(maps, places, allowed.shape))

    def _sample(self, maps: tuple[Tensor, ...], keypoints: Tensor, size: Sequence[int]) -> Tensor:
        # There is a descriptor for every pixel: that of the nearest one.
        last = keypoints.new_tensor(size[::-1]).long() - 1
        x, y = keypoints.round().long().clamp_min(0).minimum(last).unbind(1)
        return normalize(maps[1][0, :, y, x].mT, dim=1)
