"""Matchers as graphs.

All take and give whole batches, padded: a mask says which rows are points. Matches are dense as well: for each point
of image 0 the one of image 1, or −1.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call
from torch.nn.functional import pad

from lightmatch.export.graphs import Graph
from lightmatch.matchers.lightglue import LightGlue
from lightmatch.matchers.superglue import SuperGlue
from lightmatch.networks.adaptive import (
    PROBED_POINTS,
    LayerThresholds,
    TokenConfidence,
    confidence_threshold,
    pair_exits,
    unsettled,
    unsettled_ratio,
)
from lightmatch.networks.assignment import AssignmentHead, log_assignment, mask_similarity
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork
from lightmatch.networks.rotary import position_inputs
from lightmatch.networks.score_calibration import COUNTED_SCORE
from lightmatch.networks.superglue import keypoint_inputs

Side = dict[str, Tensor]
"""What a matcher takes of one image of each pair, by name: keypoints (b, n, 2) px, descriptors (b, n, d), size (b, 2)
px, mask (b, n) bool, at least one True in each row; and scores, scales, orientations (b, n) where it needs them."""


Both = tuple[Tensor, Tensor]
"""The same of image 0 and of image 1."""
Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary positions of an image's points."""


class MatcherGraph(Graph):
    """Two sides in. Out: matches0 (b, m) int64, matching_scores0 (b, m) float32, layers run for each pair (b,)."""

    outputs = ("matches0", "matching_scores0", "layers")

    def __init__(self, input_dim: int, *more: str) -> None:
        super().__init__()
        self._side = ("keypoints", "descriptors", "size", "mask", *more)
        self._input_dim = input_dim
        self.inputs = tuple(f"{name}{number}" for number in (0, 1) for name in self._side)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """inputs: those of image 0, then those of image 1, each as `Side` has them."""
        half = len(self._side)
        return self.match(*(dict(zip(self._side, part, strict=True)) for part in (inputs[:half], inputs[half:])))

    @abstractmethod
    def match(self, side0: Side, side1: Side) -> tuple[Tensor, ...]:
        """The outputs."""

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
        """Any number of pairs, and of points in either image; one point is refused by the tracer, but works."""
        return {
            f"{name}{number}": {0: "batch"} if name == "size" else {0: "batch", 1: points}
            for number, points in enumerate((Dim("points0", min=2), Dim("points1", min=2)))
            for name in self._side
        }


class LightGlueGraph(MatcherGraph):
    """LightGlue, with the exits its config asks for; where its scores are calibrated a fourth output, probabilities0.

    One layer in a loop that runs until the last pair has left; a pair keeps the states of the layer it left at while
    others go on. Points that a calibration drops are masked, for their number differs from pair to pair: the matches
    are the same, the time is not saved. By the paper's thresholds (`width_confidence`) none is dropped.
    """

    def __init__(self, matcher: LightGlue) -> None:
        config = matcher.config
        super().__init__(config.input_dim, *(() if config.positions == "xy" else ("scales", "orientations")))
        network = deepcopy(matcher.network).cpu()  # tracing changes it
        self.config = config
        self.input_proj, self.posenc, self.embed = network.input_proj, network.posenc, network.embed
        layers = [_Layer(network, config, number) for number in range(config.num_layers)]
        weights = [layer.state_dict() for layer in layers]
        self._layer, self._names = layers[0].requires_grad_(False), list(weights[0])
        for name in self._names:
            stacked = torch.stack([of_layer[name] for of_layer in weights])
            # The shapes of parameters are constant when a loop is traced, those of other tensors are not.
            self.register_parameter(_attribute(name), nn.Parameter(stacked, requires_grad=False))
        self._scores = None if config.calibration is None else config.calibration.scores
        if self._scores is not None:
            self.outputs = (*self.outputs, "probabilities0")

    def match(self, side0: Side, side1: Side) -> tuple[Tensor, ...]:
        """As the base class has it."""
        states0, rotary0 = self._start(side0)
        states1, rotary1 = self._start(side1)

        def goes_on(number: Tensor, states0: Tensor, states1: Tensor, *others: Tensor) -> Tensor:
            return (others[-1] == 0).any()

        def run(number: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            states0, states1, mask0, mask1, layers = state
            weights = {name: self._of_layers(name, number[None])[0] for name in self._names}
            inputs = ((states0, states1), (mask0, mask1), (rotary0, rotary1), layers == 0)
            (states0, states1), (mask0, mask1), leaves = functional_call(self._layer, weights, inputs)
            number = number + 1
            # A loop may not hand out what it was given.
            return number, states0, states1, mask0.clone(), mask1.clone(), torch.where(leaves, number, layers)

        layers = torch.zeros_like(side0["mask"][:, 0], dtype=torch.int64)  # run for each pair; 0 as long as it is in
        state = (torch.zeros_like(layers[0]), states0, states1, side0["mask"], side1["mask"], layers)
        _, states0, states1, mask0, mask1, layers = torch.while_loop(goes_on, run, state)
        log_p = self._assign(states0, states1, layers - 1, mask0, mask1)
        threshold = self.config.filter_threshold
        if self._scores is None:
            return *dense_matches(log_p, mask0, mask1, threshold), layers
        matches, scores = dense_matches(log_p, mask0, mask1, min(threshold, COUNTED_SCORE))
        kept = scores > threshold
        probabilities = torch.where(kept, self._scores.probabilities(scores), 0.0)
        return torch.where(kept, matches, -1), torch.where(kept, scores, 0.0), layers, probabilities

    def _start(self, side: Side) -> tuple[Tensor, Rotary]:
        """States before the first layer, and the cosines and sines of its rotary positions."""
        positions = position_inputs(
            self.config.positions, side["keypoints"], side["size"], side.get("scales"), side.get("orientations")
        )
        return self.embed(side["descriptors"].to(self.posenc.Wr.weight.dtype), positions)

    def _of_layers(self, name: str, numbers: Tensor) -> Tensor:
        """A weight of `_Layer` of the layers `numbers`, (b,) int64, 0-based: (b, …)."""
        return getattr(self, _attribute(name)).index_select(0, numbers)

    def _assign(self, states0: Tensor, states1: Tensor, layer: Tensor, mask0: Tensor, mask1: Tensor) -> Tensor:
        """Log assignment (b, m, n) of each pair by the head of its own layer, (b,) int64, 0-based."""

        def linear(name: str, states: Tensor) -> Tensor:
            weight, bias = (self._of_layers(f"assignment.{name}.{part}", layer) for part in ("weight", "bias"))
            return states @ weight.mT + bias[:, None]

        scale = states0.shape[-1] ** -0.25
        projected0, projected1 = (linear("final_proj", states) * scale for states in (states0, states1))
        similarity = mask_similarity(projected0 @ projected1.mT, mask0, mask1)
        logits0, logits1 = (linear("matchability", states).squeeze(-1) for states in (states0, states1))
        return log_assignment(similarity, logits0, logits1)


def _attribute(name: str) -> str:
    """Where a weight of all layers is kept: names of parameters have no dots."""
    return "of_layers_" + name.replace(".", "_")


class _Layer(nn.Module):
    """One layer with its heads, and who leaves after it. All layers have the same weights by name.

    Thresholds are weights too: values that no pair and no point reaches where nothing leaves.
    """

    exit_ratio: Tensor
    reject_ratio: Tensor
    prune_matchability: Tensor
    settled_confidence: Tensor
    is_last: Tensor

    def __init__(self, network: LightGlueNetwork, config: LightGlueConfig, number: int) -> None:
        super().__init__()
        self.config = config
        self.transformer = network.transformers[number]
        self.assignment = cast(AssignmentHead, network.log_assignment[number])
        is_last = number == config.num_layers - 1
        confidence = TokenConfidence(config.descriptor_dim) if is_last else network.token_confidence[number]
        self.confidence = cast(TokenConfidence, confidence)
        calibrated = LayerThresholds() if is_last or config.calibration is None else config.calibration.layers[number]
        thresholds = {
            "exit_ratio": -math.inf if calibrated.exit_ratio is None else calibrated.exit_ratio,
            # The ratio is infinite where nothing matches; nothing is at least NaN.
            "reject_ratio": math.nan if calibrated.reject_ratio is None else calibrated.reject_ratio,
            "prune_matchability": -math.inf if calibrated.prune_matchability is None else calibrated.prune_matchability,
            "settled_confidence": confidence_threshold(number, config.num_layers),
            "is_last": is_last,
        }
        for name, value in thresholds.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(
        self, states: Both, masks: Both, rotary: tuple[Rotary, Rotary], inside: Tensor
    ) -> tuple[Both, Both, Tensor]:
        """States, points that stay and which pairs leave, (b,) bool; pairs not `inside`, (b,) bool, stay as they are.

        states: (b, n, d). masks: (b, n) bool, which points are still in.
        """
        new = self.transformer(*states, *rotary, *masks)
        new0, new1 = (torch.where(inside[:, None, None], *both) for both in zip(new, states, strict=True))
        leaves, (mask0, mask1) = self._after((new0, new1), masks, inside)
        return (new0, new1), (mask0, mask1), leaves

    def _after(self, states: Both, masks: Both, inside: Tensor) -> tuple[Tensor, Both]:
        """Which of the pairs that are inside leave after this layer, (b,) bool, and the points that stay."""
        if self.config.calibration is not None:
            return self._by_calibration(states, masks, inside)
        leaves = inside & self.is_last
        if self.config.depth_confidence is not None:
            leaves = leaves | (inside & self._by_confidence(states, masks, self.config.depth_confidence))
        return leaves, masks

    def _by_confidence(self, states: Both, masks: Both, depth_confidence: float) -> Tensor:
        """Which pairs leave by the paper's thresholds: (b,) bool."""
        rest = [
            (unsettled(self.confidence(x), self.settled_confidence, self.config.exit_rule) * mask).sum(1)
            for x, mask in zip(states, masks, strict=True)
        ]
        return pair_exits(rest[0] + rest[1], masks[0].sum(1) + masks[1].sum(1), depth_confidence)

    def _by_calibration(self, states: Both, masks: Both, inside: Tensor) -> tuple[Tensor, Both]:
        """As `_after`. A pair that is rejected leaves without points, so without matches."""
        matchable = [self.assignment.probability_matchable(x) for x in states]
        (x0, some0), (x1, some1) = map(_most_matchable, states, masks, matchable)
        rest = [((1 - self.confidence(x)) * some).sum(1) for x, some in ((x0, some0), (x1, some1))]
        scores = dense_matches(self.assignment(x0, x1, some0, some1), some0, some1, COUNTED_SCORE)[1]
        ratio = unsettled_ratio(rest[0] + rest[1], scores.sum(1))
        leaves = inside & ((ratio <= self.exit_ratio) | self.is_last)
        rejected = inside & (ratio >= self.reject_ratio) & ~self.is_last
        stays = ~(inside & ~leaves)[:, None]  # points of pairs that have left, or leave with their matches
        least = self.config.pruning_min_points
        mask0, mask1 = (
            mask
            & (stays | (mask.sum(1, keepdim=True) <= least) | (probability >= self.prune_matchability))
            & ~rejected[:, None]
            for probability, mask in zip(matchable, masks, strict=True)
        )
        return leaves | (inside & ~(mask0.any(1) & mask1.any(1))), (mask0, mask1)


class SuperGlueGraph(MatcherGraph):
    """SuperGlue with all its Sinkhorn iterations."""

    def __init__(self, matcher: SuperGlue) -> None:
        super().__init__(matcher.config.input_dim, "scores")
        self.network = deepcopy(matcher.network).cpu()  # tracing changes it
        self.config = matcher.config

    def match(self, side0: Side, side1: Side) -> tuple[Tensor, ...]:
        """As the base class has it."""
        mask0, mask1 = side0["mask"], side1["mask"]
        positions0, positions1 = (
            keypoint_inputs(side["keypoints"], side["scores"], side["size"]) for side in (side0, side1)
        )
        log_p = self.network(side0["descriptors"], side1["descriptors"], positions0, positions1, mask0, mask1)
        matches, scores = dense_matches(log_p[:, :-1, :-1], mask0, mask1, self.config.filter_threshold)
        layers = torch.full_like(mask0[:, 0], self.config.num_layers, dtype=torch.int64)
        return matches, scores.clamp(max=1), layers


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


def _most_matchable(states: Tensor, mask: Tensor, matchable: Tensor) -> tuple[Tensor, Tensor]:
    """The points that say how far a pair is: their states (b, k, d), and which are points (b, k) bool.

    states: (b, n, d). mask: (b, n) bool, which are points. matchable: (b, n) probability to have a match.
    """
    count = states.shape[1]
    # Always as many, so that no shape depends on which is less.
    ranked = pad(matchable.masked_fill(~mask, -1), (0, PROBED_POINTS), value=-2.0)
    order = ranked.argsort(1, descending=True)[:, :PROBED_POINTS]
    places = order.clamp(max=count - 1)
    real = mask.gather(1, places) & (order < count)
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1])), real
