"""LightPoint: learned features of our own, with the weights inside the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lightmatch.errors import InvalidValueError, WeightsError
from lightmatch.extractors.base import ExtractorConfig, register
from lightmatch.extractors.learned import (
    Detections,
    LearnedExtractor,
    LearnedExtractorConfig,
    lower_right,
    strongest_pixels,
)
from lightmatch.networks.lightpoint import (
    STRIDE,
    LightPointConfig,
    LightPointMaps,
    LightPointNetwork,
    local_maxima,
    standardize,
    subpixel_offsets,
)
from lightmatch.networks.superpoint import grey
from lightmatch.runtime import codec
from lightmatch.runtime.devices import fast_dtype, pick_dtype
from lightmatch.types import FeatureKind, Features, Image
from lightmatch.weights import PRETRAINED_FOLDER, load_strictly, read_tensors, write_tensors


@dataclass(frozen=True, kw_only=True)
class LightPointExtractorConfig(LearnedExtractorConfig):
    """Settings of `LightPoint`."""

    detection_threshold: float = 0.01  # least score
    nms_radius: int = 2  # px in which a keypoint must be the highest, and distance from the border
    precision: str = "auto"  # of the convolutions: float32, bfloat16, float16, or what the device computes fastest

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("detection_threshold", 0 <= self.detection_threshold < 1, "at least 0 and less than 1")
        self.check("nms_radius", self.nms_radius >= 1, "at least 1")
        pick_dtype(self.precision)


@register("lightpoint", LightPointExtractorConfig)
class LightPoint(LearnedExtractor):
    """Keypoints between pixels, and descriptors 128 wide, or as wide as those of other weights."""

    kind = FeatureKind("lightpoint", 128)
    _whole: tuple[Tensor, Tensor] | None = None  # at work on tiles: the brightness of the photo they are cut from
    graph = "lightmatch.export.extractor_graphs:LightPointGraph"
    space: str | None = None  # features in whose space the descriptors are given; None: our own
    config: LightPointExtractorConfig

    def __init__(self, config: LightPointExtractorConfig | None = None) -> None:
        """Raises WeightsError where the weights are of another network."""
        super().__init__(config or LightPointExtractorConfig())
        self.dtype = pick_dtype(self.config.precision) or fast_dtype(str(self.device))
        self.network.to(self.dtype, memory_format=torch.channels_last)

    @classmethod
    def fetch_weights(cls, config: ExtractorConfig) -> None:
        """Nothing: the weights are inside the package."""

    def _load(self, weights: str | Path | None) -> nn.Module:
        path = weights or PRETRAINED_FOLDER / "lightpoint.safetensors"
        network = read_lightpoint(path)
        if self.space is None:
            self.kind = FeatureKind(self.kind.name, network.config.descriptor_dim)
        elif (width := dict(network.config.spaces).get(self.space)) != self.kind.descriptor_dim:
            raise WeightsError(
                f"{path}: expected descriptors of {self.kind.name}, {self.kind.descriptor_dim} wide, got the weights of"
                f" a LightPoint with {width or 'none'}"
            )
        return network.fold()

    def _extract_tiles(self, image: Image, mask: np.ndarray | None) -> Features:
        return super(LightPoint, self._for_tiles_of(image))._extract_tiles(image, mask)

    def _describe_tiles(self, image: Image, features: Features) -> Tensor:
        return super(LightPoint, self._for_tiles_of(image))._describe_tiles(image, features)

    def _for_tiles_of(self, image: Image) -> LightPoint:
        """The same extractor, in which a tile is as bright as the photo, not each for itself."""
        if len(self._tiles(image.size)) == 1:
            return self
        mean, std = cv2.meanStdDev(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY))
        for_tiles = copy(self)  # threads may use the same extractor on other photos
        as_tensors = [torch.from_numpy(value / 255).float().to(self.device) for value in (mean, std)]
        for_tiles._whole = as_tensors[0], as_tensors[1]
        return for_tiles

    def _maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        padded = pad(
            standardize(grey(pixels), self._whole), lower_right(pixels.shape[2:], STRIDE, STRIDE), mode="replicate"
        )
        return self.network(padded.to(self.dtype, memory_format=torch.channels_last))

    def _detect(self, maps: tuple[Tensor, ...], allowed: Tensor) -> Detections:
        logits, _ = LightPointMaps(*maps)
        height, width = allowed.shape
        logits = logits[:, :height, :width]
        find_peaks = local_maxima_with_opencv if logits.device.type == "cpu" else local_maxima
        peaks = find_peaks(logits, self.config.nms_radius)[0] & allowed
        peaks &= logits[0].sigmoid() > self.config.detection_threshold
        pixels, found = strongest_pixels(logits[0], peaks, self.config.max_keypoints)
        x, y = pixels.unbind(1)
        keypoints = pixels + subpixel_offsets(logits, torch.zeros_like(x), x, y)
        return Detections(keypoints, found.sigmoid(), self._sample(maps, keypoints, allowed.shape))

    def _sample(self, maps: tuple[Tensor, ...], keypoints: Tensor, size: Sequence[int]) -> Tensor:
        found = self.network.describe(LightPointMaps(*maps).cells, keypoints[None])[0]
        return found if self.space is None else self.network.in_space(found, self.space)


def local_maxima_with_opencv(logits: Tensor, radius: int) -> Tensor:
    """`local_maxima` of one image, (1, h, w) float32 on the CPU, in an eighth of the time."""
    values, side = logits[0].numpy(), 2 * radius + 1
    around = cv2.dilate(values, np.ones((side, side), np.uint8))
    above = cv2.dilate(values, np.ones((radius, side), np.uint8), anchor=(radius, radius - 1))  # and the row itself
    left = cv2.dilate(values, np.ones((1, radius), np.uint8), anchor=(radius - 1, 0))  # and the pixel itself
    y, x = (slice(radius, length - radius) for length in values.shape)
    before_y, before_x = (slice(radius - 1, length - radius - 1) for length in values.shape)
    inner, peaks = values[y, x], np.zeros(values.shape, np.bool_)
    peaks[y, x] = (inner == around[y, x]) & (inner > above[before_y, x]) & (inner > left[y, before_x])
    return torch.from_numpy(peaks)[None]


@register("lightpoint_aliked", LightPointExtractorConfig)
class LightPointAsAliked(LightPoint):
    """LightPoint's keypoints with descriptors in the space of ALIKED-N(16), for the released LightGlue for ALIKED."""

    kind = FeatureKind("aliked", 128)
    space = "aliked"


def read_lightpoint(path: str | Path) -> LightPointNetwork:
    """The network in a file that `write_lightpoint` has written, in float32, for training or `fold`.

    Raises WeightsError where the file holds anything else.
    """
    tensors, metadata = read_tensors(path)
    if "config" not in metadata:
        raise WeightsError(f"{path}: expected the weights of LightPoint, its metadata have no config")
    try:
        config = codec.loads(LightPointConfig, metadata["config"], f"{path}: config of LightPoint", advice=_ADVICE)
    except InvalidValueError as error:
        raise WeightsError(str(error)) from error
    network = LightPointNetwork(config)
    counters = [name for name in network.state_dict() if name.endswith(_COUNTER)]
    load_strictly(network, {name: tensor.float() for name, tensor in tensors.items()}, path, derived=counters)
    return network.eval()


_ADVICE = "name weights of LightPoint, or update lightmatch"
_COUNTER = ".num_batches_tracked"  # of batch normalisation, which nothing reads


def write_lightpoint(network: LightPointNetwork, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write weights, in half precision, and configuration to a .safetensors file; one that is there is replaced."""
    tensors = {name: t.half() for name, t in network.state_dict().items() if not name.endswith(_COUNTER)}
    write_tensors(path, tensors, {"config": codec.dumps(network.config), **metadata})
