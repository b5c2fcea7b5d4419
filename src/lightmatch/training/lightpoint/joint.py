"""LightPoint and LightGlue trained as one network: the matcher's loss reaches the descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.correspondence import Correspondence, correspond
from lightmatch.matchers import LightGlue
from lightmatch.networks.lightglue import LightGlueNetwork
from lightmatch.networks.lightpoint import LightPointMaps, LightPointNetwork
from lightmatch.networks.rotary import Positions
from lightmatch.training.batches import PairBatch
from lightmatch.training.lightpoint.detection import detect, predict_maps, project_to_other_view
from lightmatch.training.lightpoint.objective import StudentObjective, StudentObjectiveConfig
from lightmatch.training.lightpoint.views import StudentBatch, StudentViews
from lightmatch.training.losses import LightGlueObjective
from lightmatch.types import Features


@dataclass(frozen=True)
class JointConfig:
    """Options of the matcher's loss."""

    weight: float = 0.5  # of the matcher's loss, beside LightPoint's own
    num_points: int = 256  # of a view at most, the strongest
    match_px: float = 2.0
    unmatchable_px: float = 4.0
    near_px: float = (
        2.0  # between photos of a scene: keypoints this near to a point that the teachers matched are that point
    )

    def __post_init__(self) -> None:
        if self.weight < 0 or self.num_points < 1 or not 0 < self.match_px <= self.unmatchable_px or self.near_px <= 0:
            raise InvalidValueError(
                "JointConfig: expected weight ≥ 0, num_points ≥ 1, 0 < match_px ≤ unmatchable_px and near_px > 0,"
                f" got {self}"
            )


class JointNetwork(nn.Module):
    """LightPoint and LightGlue as one module."""

    def __init__(self, features: LightPointNetwork, matcher: LightGlueNetwork) -> None:
        super().__init__()
        self.features = features
        self.matcher = matcher


class JointLosses(NamedTuple):
    """Means over the batch, each a scalar tensor, before they are weighted."""

    total: Tensor  # what is minimised
    space: Tensor  # see StudentLosses, to `place`
    gram: Tensor
    score: Tensor
    pair: Tensor
    place: Tensor
    positive: Tensor  # see losses.MatcherLosses, to `geometry`
    negative: Tensor
    confidence: Tensor
    geometry: Tensor


class JointObjective(nn.Module):
    """LightPoint's losses, and LightGlue's on the keypoints that LightPoint finds in the same views."""

    def __init__(
        self,
        network: JointNetwork,
        positions: Positions,
        student: StudentObjectiveConfig | None = None,
        config: JointConfig | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.student = StudentObjective(network.features, student)
        self.matching = LightGlueObjective(network.matcher, positions)
        self.config = config or JointConfig()

    def forward(self, batch: StudentBatch, train_confidence: bool = False) -> JointLosses:
        """The losses of a batch. train_confidence: train the exit heads too."""
        maps = predict_maps(self.network.features, batch)
        own = self.student.losses(batch, maps)
        with torch.autocast(maps.logits.device.type, enabled=False):
            pairs = [detected_pair(self.network.features, maps, batch, pair, self.config) for pair in range(len(batch))]
        matched = self.matching(PairBatch.collate(pairs, batch.names), train_confidence)
        total = own.total + self.config.weight * matched.total
        return JointLosses(total, *own[1:], *matched[1:])


def detected_pair(
    network: LightPointNetwork, maps: LightPointMaps, batch: StudentBatch, pair: int, config: JointConfig
) -> tuple[Features, Features, Correspondence]:
    """The keypoints of LightPoint in both views of pair number `pair`, and their true matches."""
    found = [detect(network, maps, batch, 2 * pair + side, config.num_points) for side in (0, 1)]
    carried = [project_to_other_view(batch, 2 * pair + side, found[side].keypoints, config.near_px) for side in (0, 1)]
    truth = correspond(
        found[0].keypoints,
        found[1].keypoints,
        carried[0],
        carried[1],
        match_px=config.match_px,
        unmatchable_px=config.unmatchable_px,
        similarity=(found[0].descriptors @ found[1].descriptors.mT).detach(),
    )
    return found[0], found[1], truth


@dataclass(frozen=True)
class JointValidation:
    """Precision and recall of the matcher on LightPoint's keypoints, on the same `steps` batches at every call."""

    views: StudentViews
    config: JointConfig
    steps: int = 3

    @torch.inference_mode()
    def __call__(self, network: LightPointNetwork, matcher: LightGlue) -> Mapping[str, float]:
        """match_precision and match_recall, means over pairs that have true matches."""
        rows = []
        device = next(network.parameters()).device
        for step in range(self.steps):
            batch = self.views[step].to(device)
            maps = predict_maps(network, batch)
            for pair in range(len(batch)):
                features0, features1, truth = detected_pair(network, maps, batch, pair, self.config)
                if not len(truth.matches):
                    continue
                right, wrong = (
                    int(flags.sum()) for flags in truth.correct_and_incorrect(matcher(features0, features1).indices)
                )
                rows.append((right / max(right + wrong, 1), right / len(truth.matches)))
        precision, recall = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2).mean(0).tolist()
        return {"match_precision": precision, "match_recall": recall}
