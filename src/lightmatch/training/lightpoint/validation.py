"""Metrics of LightPoint on held-out photos: on warped views, and on pairs of a scene matched by the teachers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightmatch.geometry.coordinates import pairwise_distances
from lightmatch.geometry.homography import transfer
from lightmatch.networks.lightpoint import LightPointNetwork
from lightmatch.training.lightpoint.cut import on_photo
from lightmatch.training.lightpoint.detection import detect, predict_maps
from lightmatch.training.lightpoint.views import StudentBatch, StudentViews
from lightmatch.types import Features

_NEAR_PX = 3.0  # keypoints nearer than this are the same point


@dataclass(frozen=True)
class StudentValidation:
    """Metrics on the same `steps` batches of pairs at every call."""

    views: StudentViews
    scenes: StudentViews | None = None  # whose pairs are photos of scenes
    steps: int = 4
    points: int = 384  # keypoints of a view

    @torch.inference_mode()
    def __call__(self, network: LightPointNetwork) -> Mapping[str, float]:
        """Means over pairs.

        repeatability: share of the keypoints, that are visible in both views, with one of the other view within 3 px.
        place_px: mean distance of those. precision, recall: of mutual nearest neighbours, a match is correct within
        3 px; recall of the keypoints that are repeated. scene_recall: share of the places that two photos of a scene
        show whose descriptors are nearest to each other among those of all such places; where `scenes` are given.
        """
        rows: list[Tensor] = []
        device = next(network.parameters()).device
        for step in range(self.steps):
            batch = self.views[step].to(device)
            maps = predict_maps(network, batch)
            for pair in range(len(batch)):
                found = [detect(network, maps, batch, 2 * pair + side, self.points) for side in (0, 1)]
                rows.append(_compare(found[0], found[1], batch, pair))
        means = torch.stack(rows).nanmean(0).tolist()
        scores: dict[str, float] = dict(zip(("repeatability", "place_px", "precision", "recall"), means, strict=True))
        if self.scenes is not None:
            found = [mutual_share(network, self.scenes[step].to(device)) for step in range(self.steps)]
            scores["scene_recall"] = float(torch.cat(found).nanmean())
        return scores


def mutual_share(network: LightPointNetwork, batch: StudentBatch) -> Tensor:
    """(b,): of the places that both views of a pair show, those that are mutual nearest neighbours; NaN without any."""
    descriptors = network.describe(predict_maps(network, batch).cells, batch.points)
    both = batch.valid[0::2] & batch.valid[1::2]
    similarity = descriptors[0::2] @ descriptors[1::2].mT
    similarity = similarity.masked_fill(~(both[:, :, None] & both[:, None]), -2)
    true = similarity.diagonal(dim1=1, dim2=2)
    right = (true == similarity.amax(2)) & (true == similarity.amax(1)) & both
    return right.sum(1) / both.sum(1)


def _compare(found0: Features, found1: Features, batch: StudentBatch, pair: int) -> Tensor:
    places0, places1 = found0.keypoints, found1.keypoints
    forth = transfer(batch.homographies[pair], places0)
    back = transfer(torch.linalg.inv(batch.homographies[pair]), places1)
    shown0, shown1 = on_photo(batch.inside[2 * pair + 1], forth), on_photo(batch.inside[2 * pair], back)
    distance = torch.maximum(pairwise_distances(forth, places1), pairwise_distances(places0, back))
    nearest0, nearest1 = distance.amin(1), distance.amin(0)
    nearest = torch.cat((nearest0[shown0], nearest1[shown1]))
    repeated = nearest < _NEAR_PX
    similarity = found0.descriptors @ found1.descriptors.mT
    best0, best1 = similarity.argmax(1), similarity.argmax(0)
    mutual = (best1[best0] == torch.arange(len(best0), device=best0.device)).nonzero()[:, 0]
    right = (distance[mutual, best0[mutual]] < _NEAR_PX).sum()
    precision = right / shown0[mutual].sum().clamp_min(1)
    recall = right / (nearest0 < _NEAR_PX).sum().clamp_min(1)
    return torch.stack([repeated.float().mean(), nearest[repeated].mean(), precision, recall])
