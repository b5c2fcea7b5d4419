"""How LightPoint fares on photos held out: on warped views, and on pairs of a scene as the teachers match them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightmatch.extractors.learned import strongest_pixels
from lightmatch.geometry.homography import transfer
from lightmatch.networks.lightpoint import (
    LightPointNetwork,
    local_maxima,
    sample_descriptors,
    standardize,
    subpixel_offsets,
)
from lightmatch.training.lightpoint.views import StudentBatch, StudentViews

_RADIUS_PX = 2  # in which a keypoint must be the highest
_NEAR_PX = 3.0  # keypoints nearer than this are one place


@dataclass(frozen=True)
class StudentValidation:
    """The same pairs at every call, `steps` batches of them."""

    views: StudentViews
    scenes: StudentViews | None = None  # whose pairs are photos of scenes
    steps: int = 4
    points: int = 384  # keypoints of a view

    @torch.inference_mode()
    def __call__(self, network: LightPointNetwork) -> Mapping[str, float]:
        """Means over pairs.

        repeatability: share of the keypoints, of those both views show, with one of the other view within 3 px.
        place_px: mean distance of those. precision, recall: of mutual nearest neighbours, a match being right within
        3 px; recall of the keypoints that are repeated. scene_recall: share of the places that two photos of a scene
        show whose descriptors are nearest to each other among those of all such places; where `scenes` are given.
        """
        rows: list[Tensor] = []
        for step in range(self.steps):
            batch = self.views[step]
            logits, maps = network(standardize(batch.images).contiguous(memory_format=torch.channels_last))
            for pair in range(len(batch)):
                views = [_keypoints(logits, maps, batch, 2 * pair + side, self.points) for side in (0, 1)]
                rows.append(_compare(*views[0], *views[1], batch, pair))
        means = torch.stack(rows).nanmean(0).tolist()
        scores: dict[str, float] = dict(zip(("repeatability", "place_px", "precision", "recall"), means, strict=True))
        if self.scenes is not None:
            found = [_mutual_share(network, self.scenes[step]) for step in range(self.steps)]
            scores["scene_recall"] = float(torch.cat(found).nanmean())
        return scores


def _mutual_share(network: LightPointNetwork, batch: StudentBatch) -> Tensor:
    """(b,): of the places that both views of a pair show, those that are mutual nearest neighbours; NaN without any."""
    _, maps = network(standardize(batch.images).contiguous(memory_format=torch.channels_last))
    descriptors = sample_descriptors(maps, batch.points)
    both = batch.valid[0::2] & batch.valid[1::2]
    similarity = descriptors[0::2] @ descriptors[1::2].mT
    similarity = similarity.masked_fill(~(both[:, :, None] & both[:, None]), -2)
    true = similarity.diagonal(dim1=1, dim2=2)
    right = (true == similarity.amax(2)) & (true == similarity.amax(1)) & both
    return right.sum(1) / both.sum(1)


def _keypoints(logits: Tensor, maps: Tensor, batch: StudentBatch, row: int, count: int) -> tuple[Tensor, Tensor]:
    """The strongest keypoints (n, 2) px of one view, where the photo is, and their descriptors (n, d)."""
    peaks = local_maxima(logits[row : row + 1], _RADIUS_PX)[0] & batch.inside[row]
    pixels, _ = strongest_pixels(logits[row], peaks, count)
    x, y = pixels.unbind(1)
    places = pixels + subpixel_offsets(logits, torch.full_like(x, row), x, y)
    return places, sample_descriptors(maps[row : row + 1], places[None])[0]


def _compare(
    places0: Tensor, descriptors0: Tensor, places1: Tensor, descriptors1: Tensor, batch: StudentBatch, pair: int
) -> Tensor:
    forth = transfer(batch.homographies[pair], places0)
    back = transfer(torch.linalg.inv(batch.homographies[pair]), places1)
    shown0, shown1 = _shown(forth, batch, 2 * pair + 1), _shown(back, batch, 2 * pair)
    distance = torch.maximum(torch.cdist(forth, places1), torch.cdist(places0, back))
    nearest0, nearest1 = distance.amin(1), distance.amin(0)
    nearest = torch.cat((nearest0[shown0], nearest1[shown1]))
    repeated = nearest < _NEAR_PX
    similarity = descriptors0 @ descriptors1.mT
    best0, best1 = similarity.argmax(1), similarity.argmax(0)
    mutual = (best1[best0] == torch.arange(len(best0))).nonzero()[:, 0]
    right = (distance[mutual, best0[mutual]] < _NEAR_PX).sum()
    precision = right / shown0[mutual].sum().clamp_min(1)
    recall = right / (nearest0 < _NEAR_PX).sum().clamp_min(1)
    return torch.stack([repeated.float().mean(), nearest[repeated].mean(), precision, recall])


def _shown(places: Tensor, batch: StudentBatch, row: int) -> Tensor:
    """Which places (n, 2) px lie on the photo in a view."""
    height, width = batch.inside.shape[1:]
    within = ((places >= 0) & (places <= places.new_tensor((width, height)) - 1)).all(-1)
    x, y = torch.where(within[:, None], places, 0).round().long().unbind(-1)
    return within & batch.inside[row, y, x]
