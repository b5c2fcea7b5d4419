"""Networks as one function of tensors, with nothing in it that an ONNX graph cannot say.

All take and give whole batches, padded: a mask says which rows are points. Matches are dense as well: for each point
of image 0 the one of image 1, or −1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.functional import pad

from lightmatch.extractors.lightpoint import LightPoint
from lightmatch.extractors.superpoint import SuperPointOpen
from lightmatch.matchers.lightglue import LightGlue
from lightmatch.matchers.superglue import SuperGlue
from lightmatch.networks import lightpoint
from lightmatch.networks.adaptive import TokenConfidence, confidence_threshold, pair_exits, unsettled
from lightmatch.networks.assignment import AssignmentHead, log_assignment, mask_similarity
from lightmatch.networks.rotary import position_inputs
from lightmatch.networks.superglue import keypoint_inputs
from lightmatch.networks.superpoint import STRIDE, grey, sample_descriptors, suppress_non_maxima

Side = dict[str, Tensor]
"""What a matcher takes of one image of each pair, by name: keypoints (b, n, 2) px, descriptors (b, n, d), size (b, 2)
px, mask (b, n) bool, at least one True in each row; and scores, scales, orientations (b, n) where it needs them."""


class Graph(nn.Module, ABC):
    """A function of tensors whose names and changing sides are known."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def example(self) -> tuple[Tensor, ...]:
        """Inputs to trace it with, in their order."""

    @abstractmethod
    def axes(self) -> dict[str, dict[int, Any]]:
        """Of every input, those sides that may be of any length: their names, or dimensions made of named ones."""


class MatcherGraph(Graph):
    """Two sides in. Out: matches0 (b, m) int64, matching_scores0 (b, m) float32, layers run for each pair (b,)."""

    outputs = ("matches0", "matching_scores0", "layers")

    def __init__(self, input_dim: int, *more: str) -> None:
        super().__init__()
        self._side = ("keypoints", "descriptors", "size", "mask", *more)
        self._input_dim = input_dim
        self.inputs = tuple(f"{name}{number}" for number in (0, 1) for name in self._side)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """inputs: those of image 0, then those of image 1, each as `Side` has them."""
        half = len(self._side)
        return self.match(*(dict(zip(self._side, part, strict=True)) for part in (inputs[:half], inputs[half:])))

    @abstractmethod
    def match(self, side0: Side, side1: Side) -> tuple[Tensor, Tensor, Tensor]:
        """The three outputs."""

    def example(self) -> tuple[Tensor, ...]:
        """Two pairs with different numbers of points in their images."""
        shapes = {"keypoints": (2,), "descriptors": (self._input_dim,)}
        made = []
        for points in (24, 32):
            for name in self._side:
                if name == "size":
                    made.append(torch.tensor([[64.0, 48.0]]).repeat(2, 1))
                elif name == "mask":
                    made.append(torch.arange(points).expand(2, -1) < torch.tensor([[points], [points - 5]]))
                else:
                    made.append(0.1 + torch.rand(2, points, *shapes.get(name, ())))
        return tuple(made)

    def axes(self) -> dict[str, dict[int, Any]]:
        """Any number of pairs, and of points in either image."""
        return {
            f"{name}{number}": {0: "batch"} if name == "size" else {0: "batch", 1: f"points{number}"}
            for number in (0, 1)
            for name in self._side
        }


class LightGlueGraph(MatcherGraph):
    """LightGlue, with the exits its config asks for.

    A pair keeps the states of the layer it left at while others go on; the layers behind the last pair's exit are not
    run at all. Points are not pruned, whatever the config: their number would differ from pair to pair.
    """

    def __init__(self, matcher: LightGlue) -> None:
        config = matcher.config
        super().__init__(config.input_dim, *(() if config.positions == "xy" else ("scales", "orientations")))
        self.network = deepcopy(matcher.network).cpu()  # tracing changes it
        self.config = config

    def match(self, side0: Side, side1: Side) -> tuple[Tensor, Tensor, Tensor]:
        """As the base class has it."""
        states0, *rotary0 = self._start(side0)
        states1, *rotary1 = self._start(side1)
        mask0, mask1 = side0["mask"], side1["mask"]
        layers = torch.zeros_like(mask0[:, 0], dtype=torch.int64)  # run for each pair; 0 as long as it is in
        for number in range(len(self.network.transformers)):
            inputs = (states0, states1, layers, *rotary0, *rotary1, mask0, mask1)
            run = self._layer(number)
            if self.config.depth_confidence is None:
                states0, states1, layers = run(*inputs)
            else:
                states0, states1, layers = torch.cond((layers == 0).any(), run, _skip, inputs)
        log_p = self._assign(states0, states1, layers - 1, mask0, mask1)
        return *dense_matches(log_p, mask0, mask1, self.config.filter_threshold), layers

    def _start(self, side: Side) -> tuple[Tensor, Tensor, Tensor]:
        """States, cosines and sines before the first layer."""
        positions = position_inputs(
            self.config.positions, side["keypoints"], side["size"], side.get("scales"), side.get("orientations")
        )
        dtype = self.network.posenc.Wr.weight.dtype
        states, (cos, sin) = self.network.embed(side["descriptors"].to(dtype), positions)
        return states, cos, sin

    def _layer(self, number: int) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        """The layer `number` (0-based) for all pairs, from which those that have left come back as they were."""
        num_layers = len(self.network.transformers)
        layer = self.network.transformers[number]
        depth_confidence = self.config.depth_confidence

        def run(
            states0: Tensor,
            states1: Tensor,
            layers: Tensor,
            cos0: Tensor,
            sin0: Tensor,
            cos1: Tensor,
            sin1: Tensor,
            mask0: Tensor,
            mask1: Tensor,
        ) -> tuple[Tensor, Tensor, Tensor]:
            new0, new1 = layer(states0, states1, (cos0, sin0), (cos1, sin1), mask0, mask1)
            if depth_confidence is None:
                return new0, new1, torch.full_like(layers, number + 1)
            inside = layers == 0
            new0 = torch.where(inside[:, None, None], new0, states0)
            new1 = torch.where(inside[:, None, None], new1, states1)
            leaves = inside
            if number < num_layers - 1:
                head = cast(TokenConfidence, self.network.token_confidence[number])
                threshold = confidence_threshold(number, num_layers)
                rest = [
                    (unsettled(head(states), threshold, self.config.exit_rule) * mask).sum(1)
                    for states, mask in ((new0, mask0), (new1, mask1))
                ]
                leaves = inside & pair_exits(rest[0] + rest[1], mask0.sum(1) + mask1.sum(1), depth_confidence)
            return new0, new1, torch.where(leaves, number + 1, layers)

        return run

    def _assign(self, states0: Tensor, states1: Tensor, layer: Tensor, mask0: Tensor, mask1: Tensor) -> Tensor:
        """Log assignment (b, m, n) of each pair by the head of its own layer, (b,) int64, 0-based."""
        heads = [cast(AssignmentHead, head) for head in self.network.log_assignment]
        if self.config.depth_confidence is None:
            return heads[-1](states0, states1, mask0, mask1)

        def linear(name: str, states: Tensor) -> Tensor:
            parts = [cast(nn.Linear, getattr(head, name)) for head in heads]
            weight = torch.stack([part.weight for part in parts])[layer]
            return states @ weight.mT + torch.stack([part.bias for part in parts])[layer][:, None]

        scale = states0.shape[-1] ** -0.25
        projected0, projected1 = (linear("final_proj", states) * scale for states in (states0, states1))
        similarity = mask_similarity(projected0 @ projected1.mT, mask0, mask1)
        logits0, logits1 = (linear("matchability", states).squeeze(-1) for states in (states0, states1))
        return log_assignment(similarity, logits0, logits1)


class SuperGlueGraph(MatcherGraph):
    """SuperGlue with all its Sinkhorn iterations."""

    def __init__(self, matcher: SuperGlue) -> None:
        super().__init__(matcher.config.input_dim, "scores")
        self.network = deepcopy(matcher.network).cpu()  # tracing changes it
        self.config = matcher.config

    def match(self, side0: Side, side1: Side) -> tuple[Tensor, Tensor, Tensor]:
        """As the base class has it."""
        mask0, mask1 = side0["mask"], side1["mask"]
        positions0, positions1 = (
            keypoint_inputs(side["keypoints"], side["scores"], side["size"]) for side in (side0, side1)
        )
        log_p = self.network(side0["descriptors"], side1["descriptors"], positions0, positions1, mask0, mask1)
        matches, scores = dense_matches(log_p[:, :-1, :-1], mask0, mask1, self.config.filter_threshold)
        layers = torch.full_like(mask0[:, 0], self.config.num_layers, dtype=torch.int64)
        return matches, scores.clamp(max=1), layers


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
        self.max_keypoints = extractor.settings.max_keypoints

    @abstractmethod
    def forward(self, images: Tensor, size: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""

    def strongest(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The n highest scores (b, n), highest first, and the column and row of each, (b, n) int64.

        scores: (b, h, w), 0 where there is no keypoint. Of too few, the rest has score 0 at column 1 and row 1.
        """
        # As many empty places behind the last pixel, for images that have fewer pixels than keypoints are asked for.
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
        self.settings = extractor.settings
        self.drifting = extractor.drifting

    def sides(self) -> tuple[Any, Any]:
        """Height and width, in whole cells."""
        return STRIDE * Dim("cells_down", min=2), STRIDE * Dim("cells_across", min=2)

    def forward(self, images: Tensor, size: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the base class."""
        dtype = next(self.network.parameters()).dtype
        scores, descriptors = (part.float() for part in self.network(grey(images).to(dtype)))
        peaks = suppress_non_maxima(scores, self.settings.nms_radius)
        chosen = allowed & within(allowed, size, self.settings.border_px) & (peaks > self.settings.detection_threshold)
        found, x, y = self.strongest(torch.where(chosen, peaks, 0.0))
        keypoints = torch.stack((x, y), -1).float()
        return keypoints, found, sample_descriptors(descriptors, keypoints, drifting=self.drifting), found > 0


class LightPointGraph(ExtractorGraph):
    """LightPoint; h and w are any. What computes in bfloat16, as few runtimes do, computes in single precision here."""

    def __init__(self, extractor: LightPoint) -> None:
        super().__init__(extractor)
        self.settings = extractor.settings
        self.space = extractor.space
        if extractor.dtype == torch.bfloat16:
            self.network.float()

    def sides(self) -> tuple[Any, Any]:
        """Height and width, any; less than two cells would be traced as a constant, but run."""
        return Dim("height", min=lightpoint.STRIDE + 1), Dim("width", min=lightpoint.STRIDE + 1)

    def forward(self, images: Tensor, size: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the base class."""
        dtype, radius = next(self.network.parameters()).dtype, self.settings.nms_radius
        pixels, allowed = (_in_whole_cells(part, lightpoint.STRIDE) for part in (grey(images), allowed))
        inside = within(allowed, size, 0)
        logits, maps = self.network(
            lightpoint.standardize(pixels, lightpoint.brightness(pixels, inside[:, None])).to(dtype)
        )
        peaks = lightpoint.local_maxima(torch.where(inside, logits, -torch.inf), radius)
        chosen = allowed & within(allowed, size, radius) & peaks
        scores = logits.sigmoid()
        found, x, y = self.strongest(torch.where(chosen & (scores > self.settings.detection_threshold), scores, 0.0))
        image = torch.arange(images.shape[0])[:, None].expand_as(x)
        keypoints = torch.stack((x, y), -1) + lightpoint.subpixel_offsets(logits, image, x, y)
        descriptors = lightpoint.sample_descriptors(maps, keypoints)
        if self.space is not None:
            descriptors = self.network.in_space(descriptors.to(dtype), self.space)
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


def dense_matches(log_probability: Tensor, mask0: Tensor, mask1: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """For each point of image 0 its match in image 1 or −1, (b, m) int64, and its probability or 0, (b, m) float32.

    log_probability: (b, m, n). mask0/1: (b, m), (b, n) bool, False where there is no point.
    """
    best, index1 = log_probability.max(2)
    back = log_probability.argmax(1).gather(1, index1)
    mutual = back == torch.arange(log_probability.shape[1], device=back.device)
    scores = best.exp()
    kept = mutual & (scores > threshold) & mask0 & mask1.gather(1, index1)
    return torch.where(kept, index1, -1), torch.where(kept, scores, 0.0)


def _skip(states0: Tensor, states1: Tensor, layers: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # A branch may not hand out what it was given.
    return states0.clone(), states1.clone(), layers.clone()
