"""The LightGlue network and its pass over a batch of unequal pairs.

Source: Lindenberger, Sarlin, Pollefeys: LightGlue: Local Feature Matching at Light Speed, ICCV 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightmatch.errors import InvalidValueError
from lightmatch.networks.adaptive import (
    PROBED_POINTS,
    Calibration,
    ExitRule,
    PreparedImage,
    TokenConfidence,
    Tokens,
    confidence_threshold,
    pair_exits,
    points_kept,
    unsettled,
    unsettled_ratio,
)
from lightmatch.networks.assignment import AssignmentHead
from lightmatch.networks.attention import TransformerLayer
from lightmatch.networks.folded import FoldedLayer
from lightmatch.networks.projection import descriptor_projection
from lightmatch.networks.rotary import FourierPositions, Positions, Rotary
from lightmatch.networks.score_calibration import COUNTED_SCORE, ScoreCalibration


@dataclass(frozen=True)
class LightGlueConfig:
    """Size of the network, and how much work it may save.

    `calibration` decides which pairs and points leave. Where it is None, depth_confidence and width_confidence do, each
    switched off by None.
    """

    features: str = "sift"  # name of the FeatureKind it belongs to
    input_dim: int = 128  # descriptor width of those features
    input_projection: bool = True  # a linear map of the descriptors; without it the widths must be equal
    positions: Positions = "xy_logscale_orientation"
    descriptor_dim: int = 256
    num_layers: int = 9
    num_heads: int = 4
    depth_confidence: float | None = 0.95  # share of settled points at which a pair leaves
    exit_rule: ExitRule = "settled"  # what counts as settled
    width_confidence: float | None = 0.99  # certainty of being unmatchable at which a point leaves
    filter_threshold: float = 0.1  # least probability of a match
    pruning_min_points: int = 0  # an image with no more points left is not pruned further
    calibration: Calibration | None = None  # thresholds that belong to the weights

    def __post_init__(self) -> None:
        for name in ("input_dim", "descriptor_dim", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise InvalidValueError(f"LightGlueConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if self.descriptor_dim % (2 * self.num_heads):
            raise InvalidValueError(
                f"LightGlueConfig.descriptor_dim: expected a multiple of 2·num_heads = {2 * self.num_heads}"
                f" (rotary positions turn pairs of channels), got {self.descriptor_dim}"
            )
        if not self.input_projection and self.input_dim != self.descriptor_dim:
            raise InvalidValueError(
                f"LightGlueConfig.input_projection: expected True where descriptors of width {self.input_dim} become"
                f" states of width {self.descriptor_dim}, got False"
            )
        if self.positions not in get_args(Positions):
            raise InvalidValueError(
                f"LightGlueConfig.positions: expected one of {', '.join(get_args(Positions))}; got {self.positions!r}"
            )
        if self.exit_rule not in get_args(ExitRule):
            raise InvalidValueError(
                f"LightGlueConfig.exit_rule: expected one of {', '.join(get_args(ExitRule))}; got {self.exit_rule!r}"
            )
        for name in ("depth_confidence", "width_confidence", "filter_threshold"):
            value = getattr(self, name)
            if value is None and name != "filter_threshold":
                continue
            if value is None or not 0 <= value <= 1:
                hint = "" if name == "filter_threshold" else "; None switches it off"
                raise InvalidValueError(f"LightGlueConfig.{name}: expected 0…1, got {value}{hint}")
        if self.calibration is not None and len(self.calibration.layers) != self.num_layers - 1:
            raise InvalidValueError(
                f"LightGlueConfig.calibration: expected thresholds for {self.num_layers - 1} layers, all but the last,"
                f" got {len(self.calibration.layers)}"
            )

    @property
    def position_dim(self) -> int:
        """2 for (x, y), 4 with scale and orientation."""
        return 2 if self.positions == "xy" else 4


class PairMatches(NamedTuple):
    """Matches of one pair with m and n points."""

    indices: Tensor  # (k, 2) int64
    scores: Tensor  # (k,) float32
    stop_layer: int  # layers run
    layers0: Tensor  # (m,) int64, layers each point took part in
    layers1: Tensor  # (n,) int64
    probabilities: Tensor | None = None  # (k,) float32, that each match is right; None where this is not calibrated


class LightGlueNetwork(nn.Module):
    """Input projection, positions, and per layer a transformer layer with its heads.

    Parameter names are those of the released weights in their newer generation.
    """

    def __init__(self, config: LightGlueConfig) -> None:
        super().__init__()
        dim, num_layers = config.descriptor_dim, config.num_layers
        # Unit descriptors become states of unit variance, which training finds much slower by itself.
        gain = max(config.input_dim, dim) ** 0.5
        projection = descriptor_projection(config.input_dim, dim, gain) if config.input_projection else nn.Identity()
        self.input_proj = projection
        self.posenc = FourierPositions(config.position_dim, dim // config.num_heads)
        self.transformers = nn.ModuleList(TransformerLayer(dim, config.num_heads) for _ in range(num_layers))
        self.log_assignment = nn.ModuleList(AssignmentHead(dim) for _ in range(num_layers))
        self.token_confidence = nn.ModuleList(TokenConfidence(dim) for _ in range(num_layers - 1))
        self._folded_layers: tuple[list[tuple[int, int]], list[FoldedLayer]] | None = None  # and of which weights

    def compute_in(self, dtype: torch.dtype) -> Self:
        """Let the layers compute in `dtype`; states between them, positions and the heads stay float32."""
        self.transformers.to(dtype)
        return self

    def embed(self, descriptors: Tensor, positions: Tensor) -> tuple[Tensor, Rotary]:
        """States (b, n, d) before the first layer, and the encoding of their places.

        descriptors: (b, n, input_dim). positions: (b, n, 2 or 4), normalised.
        """
        return self.input_proj(descriptors).float(), self.posenc(positions)  # autocast gives half precision

    @torch.no_grad()
    def prepare(self, descriptors: Tensor, positions: Tensor) -> PreparedImage:
        """What all pairs of an image share: everything up to the first attention to another image.

        descriptors: (n, input_dim). positions: (n, 2 or 4), normalised.
        """
        states, (cos, sin) = self.embed(descriptors[None], positions[None])
        states = self._folded()[0].self_attn(states, (cos, sin))
        return PreparedImage(states[0], cos[0], sin[0])

    def forward(
        self,
        descriptors0: Tensor,
        descriptors1: Tensor,
        positions0: Tensor,
        positions1: Tensor,
        valid0: Tensor | None = None,
        valid1: Tensor | None = None,
        *,
        recompute: bool = False,
    ) -> list[tuple[Tensor, Tensor]]:
        """States of all points after every layer, for training: num_layers × ((b, m, d), (b, n, d)).

        descriptors: (b, m or n, input_dim). positions: (b, m or n, 2 or 4), normalised. valid: (b, m or n) bool, None
        where nothing is padding. recompute: keep only each layer's input and compute the rest again in the
        backward pass, which takes a third more time and a fraction of the memory (gradient checkpointing).
        """
        states0, rotary0 = self.embed(descriptors0, positions0)
        states1, rotary1 = self.embed(descriptors1, positions1)
        states = []
        for layer in self.transformers:
            inputs = (states0, states1, rotary0, rotary1, valid0, valid1)
            states0, states1 = checkpoint(layer, *inputs, use_reentrant=False) if recompute else layer(*inputs)
            states.append((states0, states1))
        return states

    @torch.no_grad()
    def match(self, tokens0: Tokens, tokens1: Tokens, config: LightGlueConfig) -> list[PairMatches]:
        """Matches of every pair of the batch, each as if it were alone.

        tokens0/1: of prepared images, one row a pair, at least one point in every row.
        """
        adapt = self._adapt if config.calibration is None else self._adapt_calibrated
        last = len(self.transformers) - 1
        results: dict[int, PairMatches] = {}
        pairs = list(range(len(tokens0.counts)))  # which pair each row of the batch is
        for layer, transformer in enumerate(self._folded()):
            tokens0, tokens1 = _run_layer(transformer, layer, tokens0, tokens1)
            if layer == last:
                left = dict(enumerate(self._matches(layer, tokens0, tokens1, config)))
            else:
                tokens0, tokens1, left = adapt(layer, tokens0, tokens1, config)
            results.update((pairs[row], found) for row, found in left.items())
            stay = [row for row in range(len(pairs)) if row not in left]
            if not stay:
                break
            if left:
                tokens0, tokens1 = tokens0.rows(stay), tokens1.rows(stay)
                pairs = [pairs[row] for row in stay]
        return [results[pair] for pair in sorted(results)]

    @torch.no_grad()
    def assignment(self, tokens0: Tokens, tokens1: Tokens) -> Tensor:
        """Log-probability of every match after the last layer, by all points: (b, m, n) float32.

        tokens0/1: as in `match`. Rows and columns of padding mean nothing.
        """
        for layer, transformer in enumerate(self._folded()):
            tokens0, tokens1 = _run_layer(transformer, layer, tokens0, tokens1)
        return self.log_assignment[-1](tokens0.states, tokens1.states, tokens0.valid, tokens1.valid)

    def run_layer(self, layer: int, tokens0: Tokens, tokens1: Tokens) -> tuple[Tokens, Tokens]:
        """The tokens after `layer` (0-based)."""
        return _run_layer(self._folded()[layer], layer, tokens0, tokens1)

    def unsettled_ratios(self, layer: int, tokens0: Tokens, tokens1: Tokens) -> list[float]:
        """`unsettled_ratio` of each pair after `layer` (0-based), by the most matchable points of both images."""
        head, confidence = cast(AssignmentHead, self.log_assignment[layer]), self.token_confidence[layer]
        ratios = []
        for row, counts in enumerate(zip(tokens0.counts, tokens1.counts, strict=True)):
            both = (tokens.states[row, :count] for tokens, count in zip((tokens0, tokens1), counts, strict=True))
            x0, x1 = (x[head.matchability(x)[:, 0].topk(min(PROBED_POINTS, len(x))).indices] for x in both)
            unsettled_points = (1 - confidence(x0)).sum() + (1 - confidence(x1)).sum()
            ratios.append(unsettled_ratio(unsettled_points, head.matches(x0, x1, COUNTED_SCORE)[1].sum()))
        return torch.stack(ratios).tolist()

    def matchability(self, layer: int, tokens: Tokens) -> Tensor:
        """Probability of each point to have a match, by the head of `layer` (0-based): (b, n)."""
        return cast(AssignmentHead, self.log_assignment[layer]).probability_matchable(tokens.states)

    def _folded(self) -> list[FoldedLayer]:
        """The layers as matching runs them, made again when weights have changed."""
        parameters = list(self.transformers.parameters())
        state = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters]
        if self._folded_layers is None or self._folded_layers[0] != state:
            layers = [FoldedLayer(cast(TransformerLayer, layer)) for layer in self.transformers]
            self._folded_layers = state, layers
        return self._folded_layers[1]

    def _adapt_calibrated(
        self, layer: int, tokens0: Tokens, tokens1: Tokens, config: LightGlueConfig
    ) -> tuple[Tokens, Tokens, dict[int, PairMatches]]:
        """After a layer: the points that stay, and the matches of the pairs that leave, by their row."""
        assert config.calibration is not None
        thresholds = config.calibration.layers[layer]
        left: dict[int, PairMatches] = {}
        if thresholds.tests_pairs:
            ratios = self.unsettled_ratios(layer, tokens0, tokens1)
            rejected = [row for row, ratio in enumerate(ratios) if thresholds.rejects(ratio)]
            settled = [row for row, ratio in enumerate(ratios) if thresholds.settles(ratio)]
            if rejected:
                left.update(zip(rejected, self._no_matches(layer, tokens0, tokens1, rejected), strict=True))
            if settled:
                found = self._matches(layer, tokens0.rows(settled), tokens1.rows(settled), config)
                left.update(zip(settled, found, strict=True))
        least = thresholds.prune_matchability
        if least is not None and len(left) < len(tokens0.counts):
            spared = [row in left for row in range(len(tokens0.counts))]
            tokens0, tokens1 = self.drop_points(layer, tokens0, tokens1, least, spared, config)
            left.update(self._emptied(layer, tokens0, tokens1))
        return tokens0, tokens1, left

    def drop_points(
        self,
        layer: int,
        tokens0: Tokens,
        tokens1: Tokens,
        least: float | None,
        spared: list[bool],
        config: LightGlueConfig,
    ) -> tuple[Tokens, Tokens]:
        """Without the points that are less matchable than `least` after `layer` (0-based); None: with all.

        spared: pairs that keep theirs; those with few points do too.
        """
        if least is None:
            return tokens0, tokens1
        kept = [self.matchability(layer, tokens) >= least for tokens in (tokens0, tokens1)]
        return self._keep(tokens0, kept[0], spared, config), self._keep(tokens1, kept[1], spared, config)

    def _adapt(
        self, layer: int, tokens0: Tokens, tokens1: Tokens, config: LightGlueConfig
    ) -> tuple[Tokens, Tokens, dict[int, PairMatches]]:
        """The same by the thresholds of the paper.

        The exit is tested first: a pair that leaves is matched with all the points it came with.
        """
        threshold = confidence_threshold(layer, len(self.transformers))
        confidence0 = confidence1 = None
        leave = [False] * len(tokens0.counts)
        if config.depth_confidence is not None:
            confidence0 = self.token_confidence[layer](tokens0.states)
            confidence1 = self.token_confidence[layer](tokens1.states)
            rest0, rest1 = (unsettled(c, threshold, config.exit_rule) for c in (confidence0, confidence1))
            unconfident = tokens0.sum(rest0) + tokens1.sum(rest1)
            totals = torch.tensor([tokens0.totals, tokens1.totals], device=unconfident.device).sum(0)
            leave = pair_exits(unconfident, totals, config.depth_confidence).tolist()
        out = [row for row, leaves in enumerate(leave) if leaves]
        found = self._matches(layer, tokens0.rows(out), tokens1.rows(out), config) if out else []
        left = dict(zip(out, found, strict=True))
        if config.width_confidence is not None and not all(leave):
            tokens0, tokens1 = (
                self._keep(
                    tokens,
                    points_kept(self.matchability(layer, tokens), confidence, threshold, config.width_confidence),
                    leave,
                    config,
                )
                for tokens, confidence in ((tokens0, confidence0), (tokens1, confidence1))
            )
            left.update(self._emptied(layer, tokens0, tokens1))
        return tokens0, tokens1, left

    def _keep(self, tokens: Tokens, kept: Tensor, spared: list[bool], config: LightGlueConfig) -> Tokens:
        """Only the points that are kept, (b, n) bool; all of the pairs that are spared or have few points."""
        few = [count <= config.pruning_min_points for count in tokens.counts]
        all_stay = torch.tensor([a or b for a, b in zip(spared, few, strict=True)], device=kept.device)
        return tokens.keep(kept | all_stay[:, None])

    def _no_matches(self, layer: int, tokens0: Tokens, tokens1: Tokens, rows: list[int]) -> list[PairMatches]:
        """Of these pairs: that nothing was found."""
        device = tokens0.states.device
        indices, scores = torch.empty((0, 2), dtype=torch.int64, device=device), torch.empty(0, device=device)
        return [PairMatches(indices, scores, layer + 1, tokens0.layers_of(row), tokens1.layers_of(row)) for row in rows]

    def _emptied(self, layer: int, tokens0: Tokens, tokens1: Tokens) -> dict[int, PairMatches]:
        """Of the pairs without a point left in one image, by row: there is nothing to find."""
        empty = [row for row, counts in enumerate(zip(tokens0.counts, tokens1.counts, strict=True)) if min(counts) == 0]
        return dict(zip(empty, self._no_matches(layer, tokens0, tokens1, empty), strict=True))

    def _matches(self, layer: int, tokens0: Tokens, tokens1: Tokens, config: LightGlueConfig) -> list[PairMatches]:
        """What pairs leave with after `layer` (0-based)."""
        scores = None if config.calibration is None else config.calibration.scores
        if scores is None:
            return self.assign(layer, tokens0, tokens1, config.filter_threshold)
        # A pair's probabilities must not depend on the threshold.
        least = min(config.filter_threshold, COUNTED_SCORE)
        return [
            _with_probabilities(found, scores, config.filter_threshold)
            for found in self.assign(layer, tokens0, tokens1, least)
        ]

    def assign(self, layer: int, tokens0: Tokens, tokens1: Tokens, threshold: float) -> list[PairMatches]:
        """Matches of all pairs in the batch by the head of `layer` (0-based)."""
        head = cast(AssignmentHead, self.log_assignment[layer])
        found = []
        for row, (count0, count1) in enumerate(zip(tokens0.counts, tokens1.counts, strict=True)):
            indices, scores = head.matches(tokens0.states[row, :count0], tokens1.states[row, :count1], threshold)
            indices = torch.stack((tokens0.index[row][indices[:, 0]], tokens1.index[row][indices[:, 1]]), -1)
            found.append(PairMatches(indices, scores, layer + 1, tokens0.layers_of(row), tokens1.layers_of(row)))
        return found


def _run_layer(transformer: FoldedLayer, layer: int, tokens0: Tokens, tokens1: Tokens) -> tuple[Tokens, Tokens]:
    states0, states1, valid0, valid1 = tokens0.states, tokens1.states, tokens0.valid, tokens1.valid
    if layer > 0:  # the first is done when images are prepared
        states0 = transformer.self_attn(states0, tokens0.rotary, valid0)
        states1 = transformer.self_attn(states1, tokens1.rotary, valid1)
    states0, states1 = transformer.cross_attn(states0, states1, valid0, valid1)
    return tokens0.after_layer(states0, layer + 1), tokens1.after_layer(states1, layer + 1)


def _with_probabilities(found: PairMatches, calibration: ScoreCalibration, threshold: float) -> PairMatches:
    """The matches of one pair above the threshold, with their probabilities."""
    kept = found.scores > threshold
    probabilities = calibration.probabilities(found.scores)
    return found._replace(indices=found.indices[kept], scores=found.scores[kept], probabilities=probabilities[kept])
