"""Matchers as graphs.

All take and give whole batches, padded: a mask says which rows are points. Matches are dense as well: for each point
of image 0 the one of image 1, or −1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightmatch.export.graphs import Graph
from lightmatch.matchers.lightglue import LightGlue
from lightmatch.matchers.superglue import SuperGlue
from lightmatch.networks.adaptive import (
    PROBED_POINTS,
    Calibration,
    TokenConfidence,
    confidence_threshold,
    pair_exits,
    unsettled,
    unsettled_ratio,
)
from lightmatch.networks.assignment import AssignmentHead, log_assignment, mask_similarity
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
_Step = tuple[Both, Tensor, Both]
"""States of both images after a layer, layers run for each pair (b,), and which points are still in, (b, n) bool."""


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
        """Any number of pairs, and of points in either image."""
        return {
            f"{name}{number}": {0: "batch"} if name == "size" else {0: "batch", 1: f"points{number}"}
            for number in (0, 1)
            for name in self._side
        }


class LightGlueGraph(MatcherGraph):
    """LightGlue, with the exits its config asks for; where its scores are calibrated a fourth output, probabilities0.

    A pair keeps the states of the layer it left at while others go on; the layers behind the last pair's exit are not
    run at all. Points that a calibration drops are masked, for their number differs from pair to pair: the matches are
    the same, the time is not saved. By the paper's thresholds (`width_confidence`) none is dropped.
    """

    def __init__(self, matcher: LightGlue) -> None:
        config = matcher.config
        super().__init__(config.input_dim, *(() if config.positions == "xy" else ("scales", "orientations")))
        self.network = deepcopy(matcher.network).cpu()  # tracing changes it
        self.config = config
        self._scores = None if config.calibration is None else config.calibration.scores
        if self._scores is not None:
            self.outputs = (*self.outputs, "probabilities0")

    def match(self, side0: Side, side1: Side) -> tuple[Tensor, ...]:
        """As the base class has it."""
        states0, rotary0 = self._start(side0)
        states1, rotary1 = self._start(side1)
        masks: Both = (side0["mask"], side1["mask"])
        states: Both = (states0, states1)
        layers = torch.zeros_like(masks[0][:, 0], dtype=torch.int64)  # run for each pair; 0 as long as it is in
        for number in range(len(self.network.transformers)):
            inputs = (states, layers, masks, (rotary0, rotary1))
            run = self._layer(number)
            states, layers, masks = (
                torch.cond((layers == 0).any(), run, _skip, inputs) if self._leaves else run(*inputs)
            )
        (states0, states1), (mask0, mask1) = states, masks
        log_p = self._assign(states0, states1, layers - 1, mask0, mask1)
        threshold = self.config.filter_threshold
        if self._scores is None:
            return *dense_matches(log_p, mask0, mask1, threshold), layers
        matches, scores = dense_matches(log_p, mask0, mask1, min(threshold, COUNTED_SCORE))
        kept = scores > threshold
        probabilities = torch.where(kept, self._scores.probabilities(scores), 0.0)
        return torch.where(kept, matches, -1), torch.where(kept, scores, 0.0), layers, probabilities

    @property
    def _leaves(self) -> bool:
        """Whether pairs can leave before the last layer."""
        return self.config.calibration is not None or self.config.depth_confidence is not None

    def _start(self, side: Side) -> tuple[Tensor, Rotary]:
        """States before the first layer, and the cosines and sines of its rotary positions."""
        positions = position_inputs(
            self.config.positions, side["keypoints"], side["size"], side.get("scales"), side.get("orientations")
        )
        dtype = self.network.posenc.Wr.weight.dtype
        return self.network.embed(side["descriptors"].to(dtype), positions)

    def _layer(self, number: int) -> Callable[..., _Step]:
        """The layer `number` (0-based) for all pairs, from which those that have left come back as they were."""
        layer = self.network.transformers[number]
        is_last = number == len(self.network.transformers) - 1

        def run(states: Both, layers: Tensor, masks: Both, rotary: tuple[Rotary, Rotary]) -> _Step:
            new = layer(*states, *rotary, *masks)
            if not self._leaves:
                return new, torch.full_like(layers, number + 1), (masks[0].clone(), masks[1].clone())
            inside = layers == 0
            new0, new1 = (torch.where(inside[:, None, None], *both) for both in zip(new, states, strict=True))
            new = new0, new1
            leaves = inside
            if not is_last and self.config.calibration is not None:
                leaves, masks = self._by_calibration(number, new, inside, masks, self.config.calibration)
            elif not is_last:
                leaves = inside & self._by_confidence(number, new, masks)
            return new, torch.where(leaves, number + 1, layers), (masks[0].clone(), masks[1].clone())

        return run

    def _by_confidence(self, number: int, states: Both, masks: Both) -> Tensor:
        """Which pairs leave after a layer by the paper's thresholds: (b,) bool."""
        assert self.config.depth_confidence is not None
        head = cast(TokenConfidence, self.network.token_confidence[number])
        threshold = confidence_threshold(number, len(self.network.transformers))
        rest = [
            (unsettled(head(x), threshold, self.config.exit_rule) * mask).sum(1)
            for x, mask in zip(states, masks, strict=True)
        ]
        return pair_exits(rest[0] + rest[1], masks[0].sum(1) + masks[1].sum(1), self.config.depth_confidence)

    def _by_calibration(
        self, number: int, states: Both, inside: Tensor, masks: Both, calibration: Calibration
    ) -> tuple[Tensor, Both]:
        """Which of the pairs that are inside leave after a layer, (b,) bool, and the points that stay.

        A pair that is rejected leaves without points, so without matches.
        """
        thresholds, (mask0, mask1) = calibration.layers[number], masks
        assignment = cast(AssignmentHead, self.network.log_assignment[number])
        leaves, rejected = torch.zeros_like(inside), torch.zeros_like(inside)
        if thresholds.tests_pairs:
            confidence = cast(TokenConfidence, self.network.token_confidence[number])
            (x0, some0), (x1, some1) = (
                _most_matchable(assignment, x, mask) for x, mask in zip(states, masks, strict=True)
            )
            rest = [((1 - confidence(x)) * some).sum(1) for x, some in ((x0, some0), (x1, some1))]
            scores = dense_matches(assignment(x0, x1, some0, some1), some0, some1, COUNTED_SCORE)[1]
            ratio = unsettled_ratio(rest[0] + rest[1], scores.sum(1))
            if thresholds.exit_ratio is not None:
                leaves = inside & (ratio <= thresholds.exit_ratio)
            if thresholds.reject_ratio is not None:
                rejected = inside & (ratio >= thresholds.reject_ratio)
        stays = ~(inside & ~leaves)[:, None]  # points of pairs that have left, or leave with their matches
        least = thresholds.prune_matchability
        if least is not None:
            mask0, mask1 = (
                mask & (stays | (assignment.probability_matchable(x) >= least))
                for x, mask in zip(states, (mask0, mask1), strict=True)
            )
        mask0, mask1 = mask0 & ~rejected[:, None], mask1 & ~rejected[:, None]
        emptied = inside & ~(mask0.any(1) & mask1.any(1))
        return leaves | emptied, (mask0, mask1)

    def _assign(self, states0: Tensor, states1: Tensor, layer: Tensor, mask0: Tensor, mask1: Tensor) -> Tensor:
        """Log assignment (b, m, n) of each pair by the head of its own layer, (b,) int64, 0-based."""
        heads = [cast(AssignmentHead, head) for head in self.network.log_assignment]
        if not self._leaves:
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


def _most_matchable(head: AssignmentHead, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The points that say how far a pair is: their states (b, k, d), and which are points (b, k) bool."""
    order = head.probability_matchable(states).masked_fill(~mask, -1).argsort(1, descending=True)[:, :PROBED_POINTS]
    return states.gather(1, order[..., None].expand(-1, -1, states.shape[-1])), mask.gather(1, order)


def _skip(states: Both, layers: Tensor, masks: Both, _: object) -> _Step:
    # A branch may not hand out what it was given.
    return (states[0].clone(), states[1].clone()), layers.clone(), (masks[0].clone(), masks[1].clone())
