"""Losses of the matchers: an objective takes a batch and returns losses to minimise.

An objective is a module with the network inside, so that one call, and one wrapper for several GPUs, holds
everything that has gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from torch.utils.checkpoint import checkpoint

from lightmatch.networks.adaptive import TokenConfidence
from lightmatch.networks.assignment import AssignmentHead
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork
from lightmatch.networks.rotary import Positions, position_inputs
from lightmatch.networks.superglue import SuperGlueConfig, SuperGlueNetwork, keypoint_inputs
from lightmatch.training.batches import PairBatch
from lightmatch.training.epipolar import epipolar_loss
from lightmatch.types import FeatureBatch


class MatcherLosses(NamedTuple):
    """Means over the batch, each a scalar tensor."""

    total: Tensor  # what is minimised
    positive: Tensor  # last layer: −log P of the true matches
    negative: Tensor  # last layer: −log(1 − σ) of the unmatchable points
    confidence: Tensor  # binary cross-entropy of the exit heads; 0 while they are not trained
    geometry: Tensor  # cost of the true matches under the geometry of the found ones; 0 while it has no weight


@dataclass(frozen=True)
class LightGlueObjectiveConfig:
    """Parts of LightGlue's loss, which can be disabled for ablations."""

    every_layer: bool = True  # supervise all layers, or the last alone
    matchability: bool = True  # learn which points have no match
    geometry: float = 0.0  # weight of the loss on the epipolar geometry that the matches give
    recompute: bool = False  # less memory for a third more time, see LightGlueNetwork.forward


class LightGlueObjective(nn.Module):
    """Negative log-likelihood of the true assignment after every layer, and of the exits.

    Source: Lindenberger et al. 2023, equations 10 to 12.
    """

    def __init__(
        self, network: LightGlueNetwork, positions: Positions, config: LightGlueObjectiveConfig | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.positions: Positions = positions
        self.config = config or LightGlueObjectiveConfig()

    def forward(self, batch: PairBatch, train_confidence: bool = False) -> MatcherLosses:
        """Losses of a batch. train_confidence: train the exit heads too; their gradients reach no other parameters."""
        inputs0, inputs1 = (_network_inputs(f, self.positions) for f in (batch.features0, batch.features1))
        (descriptors0, positions0, valid0), (descriptors1, positions1, valid1) = inputs0, inputs1
        recompute = self.config.recompute and self.training
        states = self.network(descriptors0, descriptors1, positions0, positions1, valid0, valid1, recompute=recompute)
        last = len(states) - 1
        layers = range(last + 1) if self.config.every_layer or train_confidence else [last]
        terms: list[_LayerTerms] = []
        for layer in layers:
            head, (x0, x1) = cast(AssignmentHead, self.network.log_assignment[layer]), states[layer]
            arguments = (head, x0, x1, valid0, valid1, batch, self.config.matchability, train_confidence)
            terms.append(
                checkpoint(_layer_terms, *arguments, use_reentrant=False) if recompute else _layer_terms(*arguments)
            )
        supervised = terms if self.config.every_layer else terms[-1:]
        total = torch.stack([0.5 * (term.positive + term.negative) for term in supervised]).mean()
        confidence = total.new_zeros(())
        if train_confidence and last > 0:
            heads = cast(list[TokenConfidence], list(self.network.token_confidence))
            confidence = torch.stack(
                [
                    _confidence_loss(head, states[layer], terms[layer], terms[last], valid0, valid1)
                    for layer, head in enumerate(heads)
                ]
            ).mean()
        geometry = total.new_zeros(())
        if self.config.geometry:
            geometry = _geometry_loss(
                cast(AssignmentHead, self.network.log_assignment[last]), states[last], valid0, valid1, batch
            )
        total = total + confidence + self.config.geometry * geometry
        parts = terms[-1].positive, terms[-1].negative, confidence, geometry
        return MatcherLosses(total, *(part.detach() for part in parts))


class SuperGlueObjective(nn.Module):
    """Negative log-likelihood of the true assignment, dustbins included, after the last layer alone.

    Matches and points without one weigh half each, as in `LightGlueObjective`, so that the two can be compared.
    Source: Sarlin et al. 2020 (SuperGlue), equation 12.
    """

    def __init__(self, network: SuperGlueNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: PairBatch, train_confidence: bool = False) -> MatcherLosses:
        """Losses of a batch; SuperGlue has no exits to train."""
        (x0, places0, valid0), (x1, places1, valid1) = (
            (f.descriptors, keypoint_inputs(f.keypoints, f.scores, f.image_sizes), _valid(f))
            for f in (batch.features0, batch.features1)
        )
        log_p = self.network(x0, x1, places0, places1, valid0, valid1)
        pair, i, j = batch.matches.unbind(1)
        positive = _mean_over_pairs(-log_p[pair, i, j], pair, len(batch))
        surprise = [-log_p[:, :-1, -1][batch.unmatchable0], -log_p[:, -1, :-1][batch.unmatchable1]]
        pairs = [unmatchable.nonzero()[:, 0] for unmatchable in (batch.unmatchable0, batch.unmatchable1)]
        negative = _mean_over_pairs(torch.cat(surprise), torch.cat(pairs), len(batch))
        total = 0.5 * (positive + negative)
        return MatcherLosses(total, positive.detach(), negative.detach(), total.new_zeros(()), total.new_zeros(()))


class _LayerTerms(NamedTuple):
    positive: Tensor  # ()
    negative: Tensor  # ()
    choice0: Tensor  # (b, m) int64: best partner, n for none; (b, 0) where not computed
    choice1: Tensor  # (b, n) int64


def lightglue_objective(
    network: LightGlueNetwork, config: LightGlueConfig, options: LightGlueObjectiveConfig
) -> LightGlueObjective:
    """The objective of a recipe with a table [lightglue]; options: its table [objective]."""
    return LightGlueObjective(network, config.positions, options)


def superglue_objective(
    network: SuperGlueNetwork, config: SuperGlueConfig, options: LightGlueObjectiveConfig
) -> SuperGlueObjective:
    """The objective of a recipe with a table [superglue], which has no options."""
    return SuperGlueObjective(network)


def _network_inputs(features: FeatureBatch, positions: Positions) -> tuple[Tensor, Tensor, Tensor | None]:
    """Descriptors, position inputs, and which points are real (None where all are)."""
    places = position_inputs(
        positions, features.keypoints, features.image_sizes, features.scales, features.orientations
    )
    return features.descriptors, places, _valid(features)


def _valid(features: FeatureBatch) -> Tensor | None:
    """Which points are real; None where all are, since attention without a mask is faster."""
    return None if bool(features.valid.all()) else features.valid


def _layer_terms(
    head: AssignmentHead,
    x0: Tensor,
    x1: Tensor,
    valid0: Tensor | None,
    valid1: Tensor | None,
    batch: PairBatch,
    with_matchability: bool,
    with_choices: bool,
) -> _LayerTerms:
    """Loss of one layer. The assignment is evaluated only at the true matches; only the similarity is in memory."""
    with torch.autocast(x0.device.type, enabled=False):  # similarities reach 100, where bfloat16 has steps of a half
        similarity = head.similarity(x0.float(), x1.float(), valid0, valid1)
        logits0, logits1 = (head.matchability(x.float()).squeeze(-1) for x in (x0, x1))
    row, column = similarity.logsumexp(2), similarity.logsumexp(1)
    if not with_matchability:
        logits0, logits1 = torch.full_like(logits0, torch.inf), torch.full_like(logits1, torch.inf)
    pair, i, j = batch.matches.unbind(1)
    log_p = 2 * similarity[pair, i, j] - row[pair, i] - column[pair, j]
    log_p = log_p + logsigmoid(logits0[pair, i]) + logsigmoid(logits1[pair, j])
    positive = _mean_over_pairs(-log_p, pair, len(batch))
    negative = positive.new_zeros(())
    if with_matchability:
        pair0, pair1 = (u.nonzero()[:, 0] for u in (batch.unmatchable0, batch.unmatchable1))
        surprise = torch.cat([-logsigmoid(-logits0[batch.unmatchable0]), -logsigmoid(-logits1[batch.unmatchable1])])
        negative = _mean_over_pairs(surprise, torch.cat((pair0, pair1)), len(batch))
    none = torch.empty((len(batch), 0), dtype=torch.int64, device=row.device)
    if not with_choices:
        return _LayerTerms(positive, negative, none, none)
    with torch.no_grad():
        log_all = 2 * similarity - row[:, :, None] - column[:, None]
        log_all += logsigmoid(logits0)[:, :, None] + logsigmoid(logits1)[:, None]
        best0, choice0 = log_all.max(2)
        best1, choice1 = log_all.max(1)
        choice0 = choice0.masked_fill(logsigmoid(-logits0) > best0, log_all.shape[2])
        choice1 = choice1.masked_fill(logsigmoid(-logits1) > best1, log_all.shape[1])
    return _LayerTerms(positive, negative, choice0, choice1)


def _geometry_loss(
    head: AssignmentHead,
    states: tuple[Tensor, Tensor],
    valid0: Tensor | None,
    valid1: Tensor | None,
    batch: PairBatch,
) -> Tensor:
    """Mean over the pairs whose matches determine an epipolar geometry, 0 without any."""
    with torch.autocast(states[0].device.type, enabled=False):
        log_all = head(states[0].float(), states[1].float(), valid0, valid1)
        losses = []
        for pair, both in enumerate(zip(batch.features0.unbatch(), batch.features1.unbatch(), strict=True)):
            features0, features1 = both
            loss = epipolar_loss(
                log_all[pair, : len(features0), : len(features1)],
                features0.keypoints,
                features1.keypoints,
                batch.matches[batch.matches[:, 0] == pair, 1:],
                (features0.image_size, features1.image_size),
            )
            if loss is not None:
                losses.append(loss)
        return torch.stack(losses).mean() if losses else log_all.new_zeros(())


def _mean_over_pairs(values: Tensor, pair: Tensor, num_pairs: int) -> Tensor:
    """Mean of the means within each pair; pairs without values do not count. values, pair: (k,)."""
    count = torch.bincount(pair, minlength=num_pairs)
    weight = 1 / (count[pair] * (count > 0).sum().clamp_min(1))
    return (values * weight).sum()


def _confidence_loss(
    head: TokenConfidence,
    states: tuple[Tensor, Tensor],
    terms: _LayerTerms,
    last: _LayerTerms,
    valid0: Tensor | None,
    valid1: Tensor | None,
) -> Tensor:
    """Cross-entropy of "this layer's choice is the last layer's", over all points of both images."""
    losses = []
    for x, choice, final, valid in (
        (states[0], terms.choice0, last.choice0, valid0),
        (states[1], terms.choice1, last.choice1, valid1),
    ):
        target = (choice == final).float()
        loss = binary_cross_entropy_with_logits(head.logits(x).float(), target, reduction="none")
        losses.append(loss.flatten() if valid is None else loss[valid])
    return torch.cat(losses).mean()
