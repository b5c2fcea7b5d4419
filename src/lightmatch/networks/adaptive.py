"""Adaptive depth and width: early exit of pairs, pruning of points.

Two rules decide. Calibrated thresholds (`Calibration`) belong to trained weights and were chosen on pairs, so that a
stated agreement with the full network holds. Without them the thresholds are those of Lindenberger et al. 2023,
section 3.3, fixed by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lightmatch.networks.rotary import Rotary
from lightmatch.networks.score_calibration import ScoreCalibration

ExitRule = Literal["settled", "expected"]
"""Which points count as settled when a pair may leave: those confident enough, or all by their probability.

settled: the share of points above the layer's threshold (Lindenberger et al. 2023, equation 9). expected: the mean
confidence, which is the share of points expected to keep their match to the end, where confidences are calibrated;
no threshold has to be chosen for it.
"""

PROBED_POINTS = 512
"""Points of each image, the most matchable, that say how far a pair is, at a fraction of a layer's cost."""


@dataclass(frozen=True)
class LayerThresholds:
    """What leaves after one layer. None: nothing does.

    The ratio is that of `unsettled_ratio`: low where nearly all is decided, high where nothing seems to match.
    """

    exit_ratio: float | None = None  # a pair of at most this ratio leaves with the matches of this layer
    reject_ratio: float | None = None  # a pair of at least this ratio leaves without matches
    prune_matchability: float | None = None  # a point that is less probable to have a match leaves

    @property
    def tests_pairs(self) -> bool:
        """Whether pairs can leave here."""
        return self.exit_ratio is not None or self.reject_ratio is not None

    def rejects(self, ratio: float) -> bool:
        """Whether a pair of this ratio leaves without matches."""
        return self.reject_ratio is not None and ratio >= self.reject_ratio

    def settles(self, ratio: float) -> bool:
        """Whether a pair of this ratio leaves with its matches."""
        return self.exit_ratio is not None and ratio <= self.exit_ratio and not self.rejects(ratio)


@dataclass(frozen=True)
class Calibration:
    """Thresholds chosen on pairs of photos, and what was found to hold for them.

    On pairs like those of the calibration, each with probability 1 − error over the draw of these pairs: of the
    confident matches (score ≥ 0.5) of the full network at least the share `agreement` stays, in the mean over the pairs
    that it verifies and that are not rejected; and of the pairs that it verifies at most the share `false_rejections`
    is rejected.
    """

    layers: tuple[LayerThresholds, ...]  # after each layer but the last
    agreement: float  # 0…1
    false_rejections: float  # 0…1
    error: float  # 0…1, of each of the two statements
    num_pairs: int  # that the statements were tested on
    num_overlapping: int  # of them, pairs that the full network verifies
    source: str = ""  # the photos, in words
    scores: ScoreCalibration | None = None  # how probable it is that a match of a score is right; None: not known

    def summary(self) -> str:
        """One line for people."""
        exits, rejections = (
            any(getattr(layer, name) is not None for layer in self.layers) for name in ("exit_ratio", "reject_ratio")
        )
        kept = f"keeps {self.agreement:.4g} of the confident matches" if exits else "no early exits"
        wrong = f"rejects at most {self.false_rejections:.4g} of overlapping pairs" if rejections else "no rejections"
        said = "" if self.scores is None else ", matches have probabilities"
        tested = f"{1 - self.error:.0%} sure by {self.num_pairs} pairs, {self.num_overlapping} of them overlapping"
        return f"calibrated: {kept}, {wrong}{said} ({tested})"


def unsettled_ratio(unsettled_points: Tensor, expected_matches: Tensor) -> Tensor:
    """Points that will still change their match, per match that will be right, as the network expects: (b,) each.

    unsettled_points: sum of 1 − confidence over points of both images. expected_matches: sum of the scores of the
    matches between them so far. The ratio hardly depends on the number of keypoints; it is infinite without a match.
    """
    return unsettled_points.float() / (2 * expected_matches.float())


def confidence_threshold(layer: int, num_layers: int) -> float:
    """How confident a point must be after `layer` (0-based) to count as settled.

    Source: Lindenberger et al. 2023, section 3.3: λ_l = 0.8 + 0.1·exp(−4l/L).
    """
    return min(max(0.8 + 0.1 * math.exp(-4.0 * layer / num_layers), 0.0), 1.0)


class TokenConfidence(nn.Module):
    """Probability that a point's match after this layer is the one the last layer would give."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, n, d) → (b, n) float32."""
        return self.logits(x).float().sigmoid()

    def logits(self, x: Tensor) -> Tensor:
        """The same before the sigmoid. Gradients stop here: the confidence loss must not change the descriptors."""
        return self.token[0](x.detach()).squeeze(-1)


def pair_exits(unconfident: Tensor, num_points: Tensor, depth_confidence: float) -> Tensor:
    """Whether each pair may leave: enough of ALL its points are settled, pruned ones counted as settled.

    unconfident: (b,) sum of `unsettled` over the points still in, of both images. num_points: (b,) at the start.
    Returns (b,) bool.
    """
    return 1.0 - unconfident.float() / num_points > depth_confidence


def unsettled(confidence: Tensor, threshold: float | Tensor, rule: ExitRule) -> Tensor:
    """Weight of each point against an early exit, (b, n) float32 in 0…1. confidence: (b, n)."""
    return (confidence < threshold).float() if rule == "settled" else 1 - confidence


def points_kept(matchable: Tensor, confidence: Tensor | None, threshold: float, width_confidence: float) -> Tensor:
    """Which points stay: those that may have a match, and those not yet confident.

    matchable: (b, n) probability. confidence: (b, n), None where adaptive depth is off. Returns (b, n) bool.
    """
    kept = matchable > 1 - width_confidence
    return kept if confidence is None else kept | (confidence <= threshold)


class PreparedImage(NamedTuple):
    """Points of one image before cross-attention: shared by all its pairs."""

    states: Tensor  # (n, d)
    cos: Tensor  # (n, head_dim / 2), with `sin` the rotary encoding of the places
    sin: Tensor  # (n, head_dim / 2)


@dataclass(frozen=True)
class Tokens:
    """The remaining points of one image of each pair, between layers.

    Pairs leave by `rows`, points leave by `keep`; both make a smaller value, so that what is left in the
    batch is all that is computed on. `counts` mirrors `valid` on the host: padding is known without a
    wait for the device.
    """

    states: Tensor  # (b, n, d)
    rotary: Rotary  # (b, n, head_dim / 2) each
    index: Tensor  # (b, n) int64, place among all points of the image; padding points behind the last
    layers: Tensor  # (b, points at the start + 1) int64, layers each took part in; the last is for padding
    counts: list[int]  # points of each image still in
    totals: list[int]  # points of each image at the start

    @classmethod
    def start(cls, images: Sequence[PreparedImage]) -> Tokens:
        """All points of the images, padded to the longest."""
        counts = [len(image.states) for image in images]
        states, cos, sin = (pad_sequence(list(parts), batch_first=True) for parts in zip(*images, strict=True))
        size, length = states.shape[:2]
        index = torch.arange(length, device=states.device).expand(size, -1)
        padding = index >= torch.tensor(counts, device=states.device)[:, None]
        layers = torch.zeros((size, length + 1), dtype=torch.int64, device=states.device)
        return cls(states, (cos, sin), index.masked_fill(padding, length), layers, counts, counts)

    @property
    def valid(self) -> Tensor | None:
        """(b, n) bool; None where nothing is padding, since attention without a mask is faster."""
        length = self.states.shape[1]
        return None if min(self.counts) == length else self.index < self.layers.shape[1] - 1

    def layers_of(self, row: int) -> Tensor:
        """Layers that each point of a pair took part in, (points at the start,) int64."""
        return self.layers[row, : self.totals[row]]

    def after_layer(self, states: Tensor, layer: int) -> Tokens:
        """The tokens with new states (b, n, d) after `layer` (1-based)."""
        return replace(self, states=states, layers=self.layers.scatter(1, self.index, layer))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the real points: (b, n) → (b,)."""
        valid = self.valid
        return (values if valid is None else values.masked_fill(~valid, 0)).sum(1)

    def rows(self, rows: list[int]) -> Tokens:
        """Only these pairs of the batch, in increasing order, cut to their longest."""
        if len(rows) == len(self.counts):
            return self
        counts = [self.counts[row] for row in rows]
        length = max(counts)
        select = torch.tensor(rows, device=self.states.device)
        cos, sin = self.rotary
        return Tokens(
            self.states[select, :length],
            (cos[select, :length], sin[select, :length]),
            self.index[select, :length],
            self.layers[select],
            counts,
            [self.totals[row] for row in rows],
        )

    def keep(self, flags: Tensor) -> Tokens:
        """Only the points with a flag, (b, n) bool, packed to the front in their old order."""
        valid = self.valid
        kept = flags if valid is None else flags & valid
        counts = kept.sum(1).tolist()
        if counts == self.counts:
            return self
        order = torch.argsort((~kept).to(torch.uint8), dim=1, stable=True)[:, : max(counts)]
        index = self.index.masked_fill(~kept, self.layers.shape[1] - 1)
        cos, sin = (_gather(part, order) for part in self.rotary)
        return replace(
            self, states=_gather(self.states, order), rotary=(cos, sin), index=index.gather(1, order), counts=counts
        )


def _gather(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
