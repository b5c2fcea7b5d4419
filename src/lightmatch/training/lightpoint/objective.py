"""The loss of LightPoint: distillation from its teachers, and agreement between two views of one photo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d, smooth_l1_loss

from lightmatch.geometry.homography import transfer
from lightmatch.networks.lightpoint import (
    LightPointMaps,
    LightPointNetwork,
    subpixel_offsets,
)
from lightmatch.training.lightpoint.detection import predict_maps
from lightmatch.training.lightpoint.views import StudentBatch


class StudentLosses(NamedTuple):
    """Means over the batch, each a scalar tensor, before they are weighted."""

    total: Tensor  # what is minimised
    space: Tensor  # 1 − cosine between our descriptors in a teacher's space and the teacher's, mean over teachers
    gram: Tensor  # squared difference of the similarities within a view, ours against the teachers'
    score: Tensor  # cross-entropy of the scores
    pair: Tensor  # −log of the dual softmax at true pairs
    place: Tensor  # px between a keypoint of one view and that of the other, robust


@dataclass(frozen=True)
class StudentObjectiveConfig:
    """Weights of the parts of the loss, each of which an ablation may take away."""

    space: float = 1.0
    gram: float = 10.0
    score: float = 1.0
    pair: float = 0.0
    place: float = 0.0
    altered_weight: float = 1.0  # in space and gram, of views that do not show the photo as the teachers saw it
    inverse_temperature: float = 20.0  # of the dual softmax
    keypoint_weight: float = 20.0  # a pixel of target t weighs 1 + this · t in the cross-entropy
    teacher_weights: dict[str, float] = field(default_factory=dict)  # 1 for those not named


class StudentObjective(nn.Module):
    """Distillation of keypoints and descriptors, and agreement between views.

    Sources: distillation of descriptors by their similarities: Park et al.: Relational Knowledge Distillation, 2019;
    dual softmax: Rocco et al.: NCNet, 2018, section 3.1, as Potje et al.: XFeat, 2024, equation 4, train with it;
    agreement of places: Zhao et al.: ALIKED, 2023, section III-C (reprojection loss).
    """

    def __init__(self, network: LightPointNetwork, config: StudentObjectiveConfig | None = None) -> None:
        super().__init__()
        self.network = network
        self.config = config or StudentObjectiveConfig()

    def forward(self, batch: StudentBatch, _: bool = False) -> StudentLosses:
        """The losses of a batch."""
        return self.losses(batch, predict_maps(self.network, batch))

    def losses(self, batch: StudentBatch, maps: LightPointMaps) -> StudentLosses:
        """The losses of a batch with network output `maps`; in float32, since bfloat16 moves keypoints by 1 px."""
        with torch.autocast(maps.logits.device.type, enabled=False):
            return self._losses(batch, maps)

    def _losses(self, batch: StudentBatch, maps: LightPointMaps) -> StudentLosses:
        config, logits = self.config, maps.logits
        descriptors = self.network.describe(maps.cells, batch.points)
        space, gram = self._distillation(batch, descriptors)
        score = score_loss(logits, batch.targets, batch.inside, config.keypoint_weight)
        both = batch.valid[0::2] & batch.valid[1::2]
        zero = score.new_zeros(())
        pair = pair_loss(descriptors, both, config.inverse_temperature) if config.pair else zero
        place = place_loss(logits, batch, both) if config.place else zero
        parts = (space, gram, score, pair, place)
        weights = (config.space, config.gram, config.score, config.pair, config.place)
        total = torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum()
        return StudentLosses(total, *(part.detach() for part in parts))

    def _distillation(self, batch: StudentBatch, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Losses in the teachers' spaces and of the similarities within each view."""
        view = torch.where(batch.plain, 1.0, self.config.altered_weight)
        weight = view[:, None] * batch.valid
        spaces, similarities, weights = [], [], []
        for name, teacher in batch.descriptors.items():
            cosine = (self.network.in_space(descriptors, name) * teacher).sum(-1)
            spaces.append(_mean(1 - cosine, weight))
            similarities.append(teacher @ teacher.mT)
            weights.append(self.config.teacher_weights.get(name, 1.0))
        share = torch.tensor(weights) / sum(weights)
        target = sum(part * weight for part, weight in zip(similarities, share, strict=True))
        among = weight[:, :, None] * batch.valid[:, None]
        gram = _mean((descriptors @ descriptors.mT - target).square(), among)
        return sum(part * weight for part, weight in zip(spaces, share, strict=True)), gram  # type: ignore[return-value]


def score_loss(logits: Tensor, targets: Tensor, inside: Tensor, keypoint_weight: float) -> Tensor:
    """Cross-entropy of the scores where the photo is, minus the entropy of the targets: 0 for perfect scores.

    logits, targets (0…1): (b, h, w). inside: (b, h, w) bool, pixels that show the photo. A pixel of target t weighs
    1 + keypoint_weight · t.
    """
    weight = (1 + keypoint_weight * targets) * inside
    entropy = torch.special.entr(targets) + torch.special.entr(1 - targets)
    loss = binary_cross_entropy_with_logits(logits, targets, reduction="none") - entropy
    return _mean(loss, weight)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean, 0 where nothing has weight."""
    return (weight * values).sum() / weight.sum().clamp_min(1e-6)


def pair_loss(descriptors: Tensor, both: Tensor, inverse_temperature: float) -> Tensor:
    """−log of row and column softmax at the true pairs, mean over all. descriptors: (2b, n, d). both: (b, n)."""
    similarity = inverse_temperature * descriptors[0::2] @ descriptors[1::2].mT
    similarity = similarity.masked_fill(~(both[:, :, None] & both[:, None]), -1e4)
    true = similarity.diagonal(dim1=1, dim2=2)
    surprise = similarity.logsumexp(2) + similarity.logsumexp(1) - 2 * true
    return _mean(surprise, both) / 2


_SEARCH_PX = 2  # a label's keypoint is the highest pixel within this
_FAR_PX = 2.0  # keypoints farther apart than this are not the same point


def place_loss(logits: Tensor, batch: StudentBatch, both: Tensor) -> Tensor:
    """Robust distance, px, between the keypoints of both views, each projected into the other.

    logits: (2b, h, w). both: (b, n) bool, points of the batch that both views of a pair show.
    """
    image, point = batch.valid.nonzero(as_tuple=True)
    x, y = batch.points[image, point].round().long().unbind(-1)
    x, y, peak = _climb(logits.detach(), image, x, y)
    found = torch.stack((x, y), -1) + subpixel_offsets(logits, image, x, y)
    places = batch.points.clone()
    places[image, point] = found
    peaks = torch.zeros_like(batch.valid)
    peaks[image, point] = peak
    usable = both & batch.warped[:, None] & peaks[0::2] & peaks[1::2]
    forth = transfer(batch.homographies, places[0::2]) - places[1::2]
    back = transfer(torch.linalg.inv(batch.homographies), places[1::2]) - places[0::2]
    usable &= (forth.detach().norm(dim=-1) < _FAR_PX) & (back.detach().norm(dim=-1) < _FAR_PX)
    if not bool(usable.any()):
        return logits.sum() * 0
    apart = torch.cat((forth[usable], back[usable]))
    return smooth_l1_loss(apart, torch.zeros_like(apart), beta=0.5)


def _climb(logits: Tensor, image: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The highest pixel within `_SEARCH_PX` of each, and whether it is higher than its neighbours."""
    steps = torch.arange(-_SEARCH_PX, _SEARCH_PX + 1, device=x.device)
    dx, dy = (part.flatten() for part in torch.meshgrid(steps, steps, indexing="xy"))
    height, width = logits.shape[1:]
    around_x, around_y = (x[:, None] + dx).clamp(1, width - 2), (y[:, None] + dy).clamp(1, height - 2)
    best = logits[image[:, None], around_y, around_x].argmax(1, keepdim=True)
    x, y = around_x.gather(1, best)[:, 0], around_y.gather(1, best)[:, 0]
    top = max_pool2d(logits[:, None], 3, stride=1, padding=1)[:, 0]
    return x, y, logits[image, y, x] == top[image, y, x]
