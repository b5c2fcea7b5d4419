"""SuperPoint, in its two published variants.

Source: DeTone, Malisiewicz, Rabinovich: SuperPoint: Self-Supervised Interest Point Detection and Description, 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightmatch.extractors.base import register
from lightmatch.extractors.learned import (
    Detections,
    LearnedExtractor,
    LearnedExtractorConfig,
    lower_right,
    strongest_pixels,
)
from lightmatch.networks.superpoint import (
    DESCRIPTOR_DIM,
    STRIDE,
    SuperPointNetwork,
    grey,
    original_names,
    sample_descriptors,
    suppress_non_maxima,
)
from lightmatch.types import FeatureKind
from lightmatch.weights import load_strictly


@dataclass(frozen=True, kw_only=True)
class SuperPointConfig(LearnedExtractorConfig):
    """Settings of `SuperPoint` and `SuperPointOpen`."""

    detection_threshold: float = 0.005  # least score
    nms_radius: int = 4  # px in which a keypoint must be the highest
    border_px: int = 4  # no keypoint is nearer to the border

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("nms_radius", self.nms_radius >= 0, "at least 0")
        self.check("border_px", self.border_px >= 0, "at least 0")


@register("superpoint_open", SuperPointConfig)
class SuperPointOpen(LearnedExtractor):
    """SuperPoint trained anew under the MIT licence (Pautrat, github.com/rpautrat/SuperPoint).

    Its descriptors are not those of `SuperPoint`, so its kind is another: matchers made for one refuse the other.
    """

    kind = FeatureKind("superpoint_open", DESCRIPTOR_DIM)
    record_name = "superpoint-open"
    graph = "lightmatch.export.extractor_graphs:SuperPointGraph"
    _normalized, drifting = True, False
    config: SuperPointConfig

    def __init__(self, config: SuperPointConfig | None = None) -> None:
        """Raises WeightsError where the weights are not on this machine, or are of another network."""
        super().__init__(config or SuperPointConfig())

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> SuperPointNetwork:
        network = SuperPointNetwork(self._normalized)
        load_strictly(network, tensors, path)
        return network

    def _maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        # The last row and column are repeated up to multiples of the stride.
        return self.network(pad(grey(pixels), lower_right(pixels.shape[2:], STRIDE, STRIDE), mode="replicate"))

    def _detect(self, maps: tuple[Tensor, ...], allowed: Tensor) -> Detections:
        config = self.config
        height, width = allowed.shape
        peaks = suppress_non_maxima(maps[0], config.nms_radius)[0, :height, :width]
        inside = torch.zeros_like(allowed)
        border = config.border_px
        inside[border : height - border, border : width - border] = True
        chosen = allowed & inside & (peaks > config.detection_threshold)
        places, found = strongest_pixels(peaks, chosen, config.max_keypoints)
        keypoints = places.float()
        return Detections(keypoints, found, self._sample(maps, keypoints, allowed.shape))

    def _sample(self, maps: tuple[Tensor, ...], keypoints: Tensor, size: Sequence[int]) -> Tensor:
        return sample_descriptors(maps[1], keypoints[None], drifting=self.drifting)[0]


@register("superpoint", SuperPointConfig)
class SuperPoint(SuperPointOpen):
    """SuperPoint as first published, for matchers that were trained on it; its licence allows no commercial use."""

    kind = FeatureKind("superpoint", DESCRIPTOR_DIM)
    record_name = "superpoint"
    _normalized, drifting = False, True

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> SuperPointNetwork:
        return super()._build(original_names(tensors), path)
