"""SIFT keypoints with RootSIFT descriptors, by OpenCV.

Sources: Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004.
Arandjelović & Zisserman, Three things everyone should know to improve object retrieval, CVPR 2012.
Why OpenCV, and where the defaults come from: docs/sift.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.extractors.base import Extractor, ExtractorConfig, register
from lightmatch.images.rotation import flip_features
from lightmatch.types import FeatureKind, Features, Image

SIFT = FeatureKind("sift", descriptor_dim=128, has_scale_orientation=True)

# OpenCV doubles the image so that the pixel at x lands at 2x + ½, but halves keypoints as if it were
# at 2x: all of them, at every scale, are ¼ px too far right and down. `enable_precise_upscale` is
# OpenCV's own cure; it copies every other pixel and averages the rest, and this uneven blur costs
# repeatability. Taking the ¼ px off again costs nothing. docs/sift.md has the numbers.
_UPSCALE_SHIFT_PX = 0.25
_SIZE_AT_ZERO = 3.2  # px: twice the σ of OpenCV's pyramid at octave 0, layer 0


@dataclass(frozen=True, kw_only=True)
class SiftConfig(ExtractorConfig):
    """Settings of `Sift`.

    OpenCV doubles the image and keeps the whole pyramid: about 235 bytes for every pixel worked on, or
    0.45 GB for a 4:3 photo at max_image_size 1600, and 1.9 GB at 3264.
    """

    contrast_threshold: float = 0.02  # on intensities 0…1, divided by num_octave_layers: OpenCV's measure
    edge_threshold: float = 10.0  # largest ratio of principal curvatures (Lowe, section 4.1)
    num_octave_layers: int = 3
    upright: bool = False  # all orientations 0: for photos known to stand upright

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("contrast_threshold", self.contrast_threshold >= 0, "at least 0")
        self.check("edge_threshold", self.edge_threshold >= 1, "at least 1")
        self.check("num_octave_layers", 1 <= self.num_octave_layers <= 16, "1…16")


@register("sift", SiftConfig)
class Sift(Extractor):
    """SIFT as `Features` of kind "sift".

    scales are diameters (cv2.KeyPoint.size: twice the σ at which the blob was found); orientations are in
    0…2π, clockwise on screen; scores are the contrast in the difference of Gaussians; descriptors have
    unit L2 norm. One place may hold several keypoints that differ in orientation, except upright.
    The same image gives the same bits, whatever the number of OpenCV's threads.
    """

    kind = SIFT
    config: SiftConfig

    def __init__(self, config: SiftConfig | None = None) -> None:
        super().__init__(config or SiftConfig())

    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
        if mask is None and not self.config.upright:
            # One pyramid for both steps. OpenCV's limit keeps all equals of the last keypoint, so which of
            # them to take remains the base class's choice.
            found, descriptors = self._opencv(limit=self.config.max_keypoints).detectAndCompute(grey, None)
        else:
            # The limit must come after the mask, and the description after the orientations are set.
            sift = self._opencv(limit=0)
            found = sift.detect(grey, None)
            if mask is not None:
                found = _unmasked(found, mask)
            if self.config.upright:
                found = _upright(found)
            found, descriptors = _describe(sift, grey, _strongest(found, self.config.max_keypoints))
        return _to_features(found, descriptors, image.size)

    def _describe(self, image: Image, features: Features) -> Tensor:
        grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
        assert features.scales is not None and features.orientations is not None
        highest = max(int(np.log2(min(image.size))) - 2, 0)
        places = (features.keypoints + _UPSCALE_SHIFT_PX).tolist()
        angles = features.orientations.rad2deg().remainder(360).tolist()
        keypoints = [
            cv2.KeyPoint(x, y, size, angle, 0.0, self._octave(size, highest))
            for (x, y), size, angle in zip(places, features.scales.tolist(), angles, strict=True)
        ]
        _, descriptors = _describe(self._opencv(limit=0), grey, keypoints)
        assert descriptors is not None  # `features` are not empty
        return root_sift(torch.from_numpy(descriptors))

    def _octave(self, size: float, highest: int) -> int:
        """Where in the pyramid a keypoint of this diameter is described, packed as OpenCV does."""
        layers = self.config.num_octave_layers
        step = round(layers * float(np.log2(max(size, 1e-3) / _SIZE_AT_ZERO)))
        octave = min(max((step - 1) // layers, -1), highest)
        layer = min(max(step - octave * layers, 1), layers)
        return layer << 8 | octave & 255

    def _opencv(self, limit: int) -> cv2.SIFT:
        """OpenCV's detector; made for each call, because it can neither be pickled nor shared by threads."""
        return cv2.SIFT.create(
            nfeatures=limit,  # 0 keeps all
            nOctaveLayers=self.config.num_octave_layers,
            contrastThreshold=self.config.contrast_threshold,
            edgeThreshold=self.config.edge_threshold,
            enable_precise_upscale=False,
        )


def mirror_sift(features: Features) -> Features:
    """The SIFT features of the picture with left and right exchanged."""
    return replace(flip_features(features), descriptors=_bins(features.descriptors).flip(1, 3).roll(1, 3).flatten(1))


def negate_sift(features: Features) -> Features:
    """The SIFT features of the picture with dark and bright exchanged: all gradients, and so all patches, turn over."""
    assert features.orientations is not None
    return replace(
        features,
        orientations=(features.orientations + torch.pi) % (2 * torch.pi),
        descriptors=_bins(features.descriptors).flip(1, 2).flatten(1),
    )


def _bins(descriptors: Tensor) -> Tensor:
    """(n, 128) as histograms of gradients (n, row, column, direction), all relative to the orientation."""
    return descriptors.reshape(-1, 4, 4, 8)


def root_sift(descriptors: Tensor) -> Tensor:
    """RootSIFT: the square root of the L1-normalised descriptor.

    descriptors: (..., 128), none negative. Returns the same shape, of unit L2 norm; zeros stay zeros.
    Source: Arandjelović & Zisserman 2012, section 2.
    """
    total = descriptors.sum(-1, keepdim=True)
    return (descriptors / total.where(total > 0, torch.ones_like(total))).sqrt()


def _order(keypoint: cv2.KeyPoint) -> tuple[float, ...]:
    return (-keypoint.response, keypoint.pt[1], keypoint.pt[0], keypoint.size, keypoint.angle)


def _strongest(found: Sequence[cv2.KeyPoint], count: int) -> list[cv2.KeyPoint]:
    """As `select_strongest` would choose, but before the costly description."""
    return sorted(found, key=_order)[:count]


def _unmasked(found: Sequence[cv2.KeyPoint], mask: np.ndarray) -> list[cv2.KeyPoint]:
    """Those whose true place is not masked; OpenCV itself would look the mask up ¼ px beside it."""
    to_index = 0.5 - _UPSCALE_SHIFT_PX  # truncation rounds to the nearest pixel
    return [keypoint for keypoint in found if mask[int(keypoint.pt[1] + to_index), int(keypoint.pt[0] + to_index)]]


def _upright(found: Sequence[cv2.KeyPoint]) -> list[cv2.KeyPoint]:
    """One keypoint of angle 0 for each place and scale."""
    one_each = {(keypoint.pt, keypoint.size): keypoint for keypoint in found}
    return [
        cv2.KeyPoint(place[0], place[1], size, angle=0.0, response=keypoint.response, octave=keypoint.octave)
        for (place, size), keypoint in one_each.items()
    ]


def _describe(
    sift: cv2.SIFT, grey: np.ndarray, keypoints: list[cv2.KeyPoint]
) -> tuple[Sequence[cv2.KeyPoint], np.ndarray | None]:
    """The keypoints and their descriptors, as `detectAndCompute` would give them."""
    if not keypoints:
        return keypoints, None
    # OpenCV doubles the image only where a keypoint of octave −1 asks for it, so what a keypoint looks like
    # would depend on its neighbours: one of layer 1 in octave −1 always asks, and is taken off again.
    asking = cv2.KeyPoint(0.0, 0.0, 2.0, 0.0, 0.0, (1 << 8) | (-1 & 255))
    found, descriptors = sift.compute(grey, [*keypoints, asking])
    return found[:-1], descriptors[:-1]


def _to_features(
    found: Sequence[cv2.KeyPoint], descriptors: np.ndarray | None, image_size: tuple[int, int]
) -> Features:
    rows = [(*keypoint.pt, keypoint.size, np.deg2rad(keypoint.angle), keypoint.response) for keypoint in found]
    table = torch.tensor(rows, dtype=torch.float32, device="cpu").reshape(-1, 5)
    if descriptors is None:  # OpenCV's answer where there is no keypoint
        descriptors = np.empty((0, SIFT.descriptor_dim), np.float32)
    return Features(
        keypoints=table[:, :2] - _UPSCALE_SHIFT_PX,
        scores=table[:, 4].contiguous(),
        descriptors=root_sift(torch.from_numpy(descriptors)),
        image_size=image_size,
        kind=SIFT,
        scales=table[:, 2].contiguous(),
        orientations=table[:, 3].contiguous(),
    )
