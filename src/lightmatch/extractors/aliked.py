"""ALIKED, by kornia's networks.

Source: Zhao et al.: ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from lightmatch.extractors.base import register
from lightmatch.extractors.learned import Detections, LearnedExtractor, LearnedExtractorConfig
from lightmatch.types import FeatureKind, Features, Image
from lightmatch.weights import load_strictly


@dataclass(frozen=True, kw_only=True)
class AlikedConfig(LearnedExtractorConfig):
    """Settings of the four sizes of ALIKED."""

    detection_threshold: float = 0.2  # least score; where no keypoint has it, the mean score of the image
    nms_radius: int = 2  # px in which a keypoint must be the highest, and distance from the border

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("detection_threshold", 0 < self.detection_threshold < 1, "more than 0 and less than 1")
        self.check("nms_radius", self.nms_radius >= 1, "at least 1")


@register("aliked", AlikedConfig)
class Aliked(LearnedExtractor):
    """ALIKED-N(16), which the released LightGlue for ALIKED was trained on."""

    kind = FeatureKind("aliked", 128)
    record_name = "aliked-n16"
    _strong: bool | None = None  # at work on tiles: whether one so far had a score above the threshold
    config: AlikedConfig

    def __init__(self, config: AlikedConfig | None = None) -> None:
        """Raises WeightsError where the weights are not on this machine, or are of another network."""
        super().__init__(config or AlikedConfig())

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
        from kornia.feature import ALIKED

        network = ALIKED(
            self.record_name, self.config.max_keypoints, self.config.detection_threshold, self.config.nms_radius
        )
        load_strictly(network, tensors, path, derived=("dkd.hw_grid",))
        return network

    def _extract_tiles(self, image: Image, mask: np.ndarray | None) -> Features:
        if len(self._tiles(image.size)) == 1:
            return super()._extract_tiles(image, mask)
        # The mean score is for photos that have nothing above the threshold, not for each tile that has nothing.
        strict = copy(self)
        strict._strong = False
        found = super(Aliked, strict)._extract_tiles(image, mask)
        return found if strict._strong else super()._extract_tiles(image, mask)

    def _maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.network.extract_dense_map(pixels)

    def _detect(self, maps: tuple[Tensor, ...], allowed: Tensor) -> Detections:
        # Maxima are looked for everywhere and masked later: else the edge of a mask would make new ones.
        dkd = copy(self.network.dkd)  # threads may use the same network with other limits
        if self._strong is not None:
            # The scores of maxima; those at places between pixels may be lower than the threshold that let them in.
            above = dkd(maps[1], sub_pixel=False)[1][0] > self.config.detection_threshold
            self._strong |= bool(above.any())
            allowed = allowed & above.any()
        dkd.n_limit = self.config.max_keypoints if bool(allowed.all()) else allowed.numel()
        places, scores, _ = dkd(maps[1])
        size = places[0].new_tensor(allowed.shape[::-1])
        keypoints = (places[0] + 1) / 2 * (size - 1)
        x, y = keypoints.round().long().unbind(1)
        kept = allowed[y, x].nonzero()[:, 0]
        kept = kept[scores[0][kept].argsort(descending=True, stable=True)][: self.config.max_keypoints]
        keypoints = keypoints[kept]
        return Detections(keypoints, scores[0][kept], self._sample(maps, keypoints, allowed.shape))

    def _sample(self, maps: tuple[Tensor, ...], keypoints: Tensor, size: Sequence[int]) -> Tensor:
        places = 2 * keypoints / (keypoints.new_tensor(size[::-1]) - 1) - 1
        return self.network.desc_head(maps[0], [places])[0][0]


@register("aliked_n16rot", AlikedConfig)
class AlikedN16Rot(Aliked):
    """ALIKED-N(16) trained on turned images too."""

    kind = FeatureKind("aliked_n16rot", 128)
    record_name = "aliked-n16rot"


@register("aliked_n32", AlikedConfig)
class AlikedN32(Aliked):
    """ALIKED-N(32): twice as many samples a descriptor."""

    kind = FeatureKind("aliked_n32", 128)
    record_name = "aliked-n32"


@register("aliked_t16", AlikedConfig)
class AlikedT16(Aliked):
    """ALIKED-T(16): the smallest."""

    kind = FeatureKind("aliked_t16", 64)
    record_name = "aliked-t16"
