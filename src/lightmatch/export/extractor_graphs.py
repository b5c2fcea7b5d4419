"""Extractors as graphs: images of any size in, padded keypoints, scores and descriptors out."""

from __future__ import annotations

from abc import abstractmethod
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.nn.functional import pad

from lightmatch.export.graphs import Graph
from lightmatch.extractors.lightpoint import LightPoint
from lightmatch.extractors.superpoint import SuperPointOpen
from lightmatch.networks import lightpoint
from lightmatch.networks.superpoint import STRIDE, grey, sample_descriptors, suppress_non_maxima


class ExtractorGraph(Graph):
    """The strongest keypoints of each image, as the matchers' graphs take them.

    Inputs: images (b, 3, h, w) RGB in 0…1, the last row and column of each repeated up to h and w; size (b, 2)
    float32, (width, height) px before that; allowed (b, h, w) bool, where keypoints may lie.
    Outputs, n = max_keypoints, strongest first: keypoints (b, n, 2) px, scores (b, n), descriptors (b, n, d), mask
    (b, n) bool, False in the rows behind the last keypoint.
    """

    inputs = ("images", "size", "allowed")
    outputs = ("keypoints", "scores", "descriptors", "mask")

    def __init__(self, extractor: SuperPointOpen | LightPoint) -> None:
        super().__init__()
        self.network = deepcopy(extractor.network).cpu()
        self.max_keypoints = extractor.config.max_keypoints

    @abstractmethod
    def forward(self, images: Tensor, size: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""

    def strongest(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The n highest scores (b, n), highest first, and the column and row of each, (b, n) int64.

        scores: (b, h, w), 0 where there is no keypoint. Of too few, the rest has score 0 at column 1 and row 1.
        """
        # As many empty places behind the last pixel, for images that have fewer pixels than `max_keypoints`.
        found, places = pad(scores.flatten(1), (0, self.max_keypoints)).topk(self.max_keypoints)
        size = scores.shape[1:]
        places = torch.where(found > 0, places, size[1] + 1)
        x, y = torch.arange(size[1]).expand(size), torch.arange(size[0])[:, None].expand(size)
        return found, x.flatten()[places], y.flatten()[places]

    def example(self) -> tuple[Tensor, ...]:
        """Two images of noise."""
        height, width = 48, 64
        size = torch.tensor([[width, height], [width - 5, height - 3]], dtype=torch.float32)
        return torch.rand(2, 3, height, width), size, torch.ones(2, height, width, dtype=torch.bool)

    @abstractmethod
    def sides(self) -> tuple[Any, Any]:
        """Height and width as dimensions."""

    def axes(self) -> dict[str, dict[int, Any]]:
        """Any number of images."""
        height, width = self.sides()
        return {
            "images": {0: "batch", 2: height, 3: width},
            "size": {0: "batch"},
            "allowed": {0: "batch", 1: height, 2: width},
        }


class SuperPointGraph(ExtractorGraph):
    """SuperPoint; h and w are multiples of 8."""

    def __init__(self, extractor: SuperPointOpen) -> None:
        super().__init__(extractor)
        self.config = extractor.config
        self.drifting = extractor.drifting

    def sides(self) -> tuple[Any, Any]:
        """Height and width, in whole cells."""
        return STRIDE * Dim("cells_down", min=2), STRIDE * Dim("cells_across", min=2)

    def forward(self, images: Tensor, size: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the base class."""
        dtype = next(self.network.parameters()).dtype
        scores, descriptors = (part.float() for part in self.network(grey(images).to(dtype)))
        peaks = suppress_non_maxima(scores, self.config.nms_radius)
        chosen = allowed & within(allowed, size, self.config.border_px) & (peaks > self.config.detection_threshold)
        found, x, y = self.strongest(torch.where(chosen, peaks, 0.0))
        keypoints = torch.stack((x, y), -1).float()
        return keypoints, found, sample_descriptors(descriptors, keypoints, drifting=self.drifting), found > 0


class LightPointGraph(ExtractorGraph):
    """LightPoint; h and w are any. What computes in bfloat16, as few runtimes do, computes in single precision here."""

    def __init__(self, extractor: LightPoint) -> None:
        super().__init__(extractor)
        self.config = extractor.config
        self.space = extractor.space
        if extractor.dtype == torch.bfloat16:
            self.network.float()

    def sides(self) -> tuple[Any, Any]:
        """Height and width, any; less than two cells would be traced as a constant, but run."""
        return Dim("height", min=lightpoint.STRIDE + 1), Dim("width", min=lightpoint.STRIDE + 1)

    def forward(self, images: Tensor, size: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the base class."""
        dtype, radius = next(self.network.parameters()).dtype, self.config.nms_radius
        pixels, allowed = (_in_whole_cells(part, lightpoint.STRIDE) for part in (grey(images), allowed))
        inside = within(allowed, size, 0)
        logits, cells = self.network(
            lightpoint.standardize(pixels, lightpoint.brightness(pixels, inside[:, None])).to(dtype)
        )
        peaks = lightpoint.local_maxima(torch.where(inside, logits, -torch.inf), radius)
        chosen = allowed & within(allowed, size, radius) & peaks
        scores = logits.sigmoid()
        found, x, y = self.strongest(torch.where(chosen & (scores > self.config.detection_threshold), scores, 0.0))
        image = torch.arange(images.shape[0])[:, None].expand_as(x)
        keypoints = torch.stack((x, y), -1) + lightpoint.subpixel_offsets(logits, image, x, y)
        descriptors = self.network.describe(cells, keypoints)
        if self.space is not None:
            descriptors = self.network.in_space(descriptors, self.space)
        return keypoints, found, descriptors, found > 0


def within(like: Tensor, size: Tensor, border: int) -> Tensor:
    """Pixels (b, h, w) bool of the images that are `border` px or more from their edges; `like` has this shape.

    size: (b, 2), (width, height) px of each.
    """
    width, height = size[:, :, None, None].unbind(1)
    row, column = torch.arange(like.shape[1])[:, None], torch.arange(like.shape[2])
    return (row >= border) & (row < height - border) & (column >= border) & (column < width - border)


def _in_whole_cells(images: Tensor, stride: int) -> Tensor:
    """Images (…, h, w) with the last row and column repeated up to multiples of `stride`."""
    rows, columns = (
        torch.arange((length + stride - 1) // stride * stride).clamp(max=length - 1) for length in images.shape[-2:]
    )
    return images[..., rows, :][..., columns]
