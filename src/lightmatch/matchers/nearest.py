"""Nearest-neighbour matching: no learning, any descriptor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightmatch.errors import FeatureMismatchError, InvalidValueError
from lightmatch.matchers.base import Matcher, no_matches
from lightmatch.types import Features, Matches

# Distances held at a time: 16 M float32 are 64 MiB, whatever the number of keypoints.
_BLOCK_ELEMENTS = 1 << 24


class NearestNeighbor(Matcher):
    """Each keypoint takes the one with the nearest descriptor (Euclidean).

    ratio: the nearest must be nearer than `ratio` times the second nearest (Lowe 2004, section 7.1);
        None switches the test off. With `mutual` the test holds in both directions, so that swapping the
        images swaps the result.
    mutual: keep only pairs that are each other's nearest.
    Scores are 1 − nearest/second distance (the worse direction where mutual): how clear the choice was;
    0 where there is no second neighbour to tell.
    """

    def __init__(self, ratio: float | None = 0.8, mutual: bool = True) -> None:
        if ratio is not None and not 0 < ratio <= 1:
            raise InvalidValueError(f"NearestNeighbor.ratio: expected 0 < ratio ≤ 1 or None, got {ratio}")
        self.ratio = ratio
        self.mutual = mutual

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of each pair."""
        for features0, features1 in pairs:
            if features0.kind != features1.kind:
                raise FeatureMismatchError(
                    f"expected features of one kind, got {features0.kind.name!r} and {features1.kind.name!r};"
                    " extract both images with the same extractor"
                )
        return [self._match(*pair) for pair in pairs]

    def _match(self, features0: Features, features1: Features) -> Matches:
        device = features0.device
        if len(features0) == 0 or len(features1) == 0:
            return no_matches(device)
        descriptors0, descriptors1 = features0.descriptors, features1.descriptors.to(device)
        index1, distinctness = _nearest(descriptors0, descriptors1)
        index0 = torch.arange(len(index1), device=device)
        kept = self._clear(distinctness, len(features1))
        if self.mutual:
            back, distinctness_back = _nearest(descriptors1, descriptors0)
            kept &= (back[index1] == index0) & self._clear(distinctness_back, len(features0))[index1]
            distinctness = torch.minimum(distinctness, distinctness_back[index1])
        return Matches(torch.stack((index0, index1), -1)[kept], distinctness[kept])

    def _clear(self, distinctness: Tensor, num_candidates: int) -> Tensor:
        """Which choices pass the ratio test; one among a single candidate has nothing to be compared with."""
        if self.ratio is None or num_candidates < 2:
            return torch.ones_like(distinctness, dtype=torch.bool)
        return distinctness > 1 - self.ratio


def _nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest reference of each query, and 1 − nearest/second distance, (m,) each."""
    squares = references.square().sum(1)
    neighbours = min(2, len(references))
    index, distinctness = [], []
    for block in queries.split(max(1, _BLOCK_ELEMENTS // len(references))):
        # |a − b|² = |a|² + |b|² − 2ab; |a|² does not change the order within a row.
        partial = torch.addmm(squares, block, references.T, alpha=-2)
        best = partial.topk(neighbours, largest=False)
        index.append(best.indices[:, 0])
        distances = (best.values + block.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
        second = distances[:, -1]
        # Two equal neighbours (distances 0 and 0 too) are not distinct at all.
        ratio = torch.where(second > 0, distances[:, 0] / second, torch.ones_like(second))
        distinctness.append(1 - ratio)
    return torch.cat(index), torch.cat(distinctness)
