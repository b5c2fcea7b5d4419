"""ALIKED, by kornia's networks.

Source: Zhao et al.: ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from lightmatch.extractors.base import register
from lightmatch.extractors.learned import Detections, LearnedExtractor, LearnedExtractorConfig
from lightmatch.types import FeatureKind
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

    def __init__(self, config: AlikedConfig | None = None) -> None:
        """Raises WeightsError where the weights cannot be had or are of another network."""
        self.settings = config or AlikedConfig()
        super().__init__(self.settings)

    def _build(self, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
        from kornia.feature import ALIKED

        network = ALIKED(
            self.record_name, self.settings.max_keypoints, self.settings.detection_threshold, self.settings.nms_radius
        )
        load_strictly(network, tensors, path, derived=("dkd.hw_grid",))
        return network

    def _detect(self, pixels: Tensor, allowed: Tensor) -> Detections:
        features, scores = self.network.extract_dense_map(pixels)
        places, found, _ = self.network.dkd(scores * allowed)
        descriptors, _ = self.network.desc_head(features, places)
        size = places[0].new_tensor((pixels.shape[3] - 1, pixels.shape[2] - 1))
        return Detections((places[0] + 1) / 2 * size, found[0], descriptors[0])


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
