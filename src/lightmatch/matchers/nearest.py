"""Nearest-neighbour matching: no learning, any descriptor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightmatch.errors import FeatureMismatchError, InvalidValueError
from lightmatch.matchers.base import Matcher, no_matches
from lightmatch.matchers.family import MatcherFamily, MatcherSetup, Proposals, register
from lightmatch.matchers.spec import MatcherSpec
from lightmatch.types import Features, Matches

DEFAULT_RATIO = 0.8
_NO_RATIO, _ONE_WAY = "none", "oneway"

# Distances held at a time, whatever the number of keypoints: 2 M float32 are 8 MiB, which caches hold.
_BLOCK_ELEMENTS = 1 << 21


class NearestNeighbor(Matcher):
    """Each keypoint takes the one with the nearest descriptor (Euclidean).

    ratio: the nearest must be nearer than `ratio` times the second nearest (Lowe 2004, section 7.1);
        None switches the test off. With `mutual` the test holds in both directions, so that swapping the
        images swaps the result.
    mutual: keep only pairs that are each other's nearest.
    device: where to compute; None is where the features lie.
    Scores are 1 − nearest/second distance (the worse direction where mutual): how clear the choice was;
    0 where there is no second neighbour to tell. Distances under 5e-4 (of unit descriptors) are lost in rounding.
    """

    def __init__(
        self, ratio: float | None = DEFAULT_RATIO, mutual: bool = True, device: torch.device | str | None = None
    ) -> None:
        if ratio is not None and not 0 < ratio <= 1:
            raise InvalidValueError(f"NearestNeighbor.ratio: expected 0 < ratio ≤ 1 or None, got {ratio}")
        self.ratio = ratio
        self.mutual = mutual
        self.device = device

    @torch.no_grad()
    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of each pair."""
        for features0, features1 in pairs:
            if features0.kind != features1.kind:
                raise FeatureMismatchError(
                    f"expected features of one kind, got {features0.kind} and {features1.kind};"
                    " extract both images with the same extractor"
                )
        return [self._match(*pair) for pair in pairs]

    def _match(self, features0: Features, features1: Features) -> Matches:
        home = features0.device
        device = home if self.device is None else self.device
        if len(features0) == 0 or len(features1) == 0:
            return no_matches(home)
        forward, backward = _search(
            features0.descriptors.to(device), features1.descriptors.to(device), both=self.mutual
        )
        index1, distinctness = forward.nearest, forward.distinctness()
        index0 = torch.arange(len(index1), device=device)
        kept = self._clear(distinctness, len(features1))
        if self.mutual:
            clear_back = self._clear(backward.distinctness(), len(features0))
            kept &= (backward.nearest[index1] == index0) & clear_back[index1]
            distinctness = torch.minimum(distinctness, backward.distinctness()[index1])
        return Matches(torch.stack((index0, index1), -1)[kept], distinctness[kept]).to(home)

    def _clear(self, distinctness: Tensor, num_candidates: int) -> Tensor:
        """Which choices pass the ratio test; one among a single candidate has nothing to be compared with."""
        if self.ratio is None or num_candidates < 2:
            return torch.ones_like(distinctness, dtype=torch.bool)
        return distinctness > 1 - self.ratio


class _Neighbours(NamedTuple):
    """Of each point: its nearest, and the squared distances to the nearest and the second nearest."""

    nearest: Tensor  # (n,) int64
    first: Tensor  # (n,) float32
    second: Tensor  # (n,) float32, inf where there is none

    def distinctness(self) -> Tensor:
        """1 − nearest/second distance; 0 where there is no second, or both are equal (at distance 0 too)."""
        ratio = self.first.sqrt() / self.second.sqrt()
        return torch.where(self.second.isfinite() & (self.second > 0), 1 - ratio, torch.zeros_like(ratio))

    def nearer(self, other: _Neighbours) -> _Neighbours:
        """The best of two searches among different candidates; of equals, this one's."""
        second = torch.minimum(torch.minimum(self.second, other.second), torch.maximum(self.first, other.first))
        nearest = torch.where(other.first < self.first, other.nearest, self.nearest)
        return _Neighbours(nearest, torch.minimum(self.first, other.first), second)


def _search(descriptors0: Tensor, descriptors1: Tensor, both: bool) -> tuple[_Neighbours, _Neighbours]:
    """Neighbours of each point of image 0 in image 1, and the other way round where `both` (else empty).

    The distances are computed once for both directions, a block of rows at a time.
    """
    squares1 = descriptors1.square().sum(1)
    empty = squares1[:0]
    rows = []
    columns = _Neighbours(torch.zeros_like(squares1, dtype=torch.int64), squares1 + torch.inf, squares1 + torch.inf)
    num_rows = max(1, _BLOCK_ELEMENTS // len(descriptors1))
    # Two buffers for all blocks: made anew for each, they would break the heap into gigabytes of holes.
    buffers = descriptors0.new_empty(2 if both else 1, min(num_rows, len(descriptors0)) * len(descriptors1))
    start = 0
    for block in descriptors0.split(num_rows):
        shape = (len(block), len(descriptors1))
        squares = torch.mm(block, descriptors1.T, out=buffers[0, : shape[0] * shape[1]].view(shape))
        # |a − b|² = |a|² + |b|² − 2ab
        squares.mul_(-2).add_(squares1).add_(block.square().sum(1, keepdim=True)).clamp_(min=0)
        if both:
            # Minima along rows are much faster than along columns.
            turned = buffers[1, : shape[0] * shape[1]].view(shape[::-1]).copy_(squares.T)
            found = _two_nearest(turned)
            columns = columns.nearer(found._replace(nearest=found.nearest + start))
        rows.append(_two_nearest(squares))
        start += len(block)
    forward = _Neighbours(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
    return forward, columns if both else _Neighbours(empty.long(), empty, empty)


def _two_nearest(squares: Tensor) -> _Neighbours:
    """The two smallest of each row; two passes of a minimum are several times faster than topk.

    squares: (m, n), overwritten.
    """
    first, index = squares.min(1)
    squares.scatter_(1, index[:, None], torch.inf)
    return _Neighbours(index, first, squares.amin(1))


@register("nearest")
class NearestFamily(MatcherFamily):
    """Mutual nearest neighbours with a ratio test in both directions, of any features.

    nearest is nearest:0.8. nearest:none: without a ratio test. nearest:0.8,oneway: each keypoint of image 0 takes its
    nearest that passes the ratio test, whomever that one would take (Lowe 2004).
    """

    usage = "nearest, nearest:RATIO with 0 < RATIO ≤ 1, or nearest:none; ,oneway behind either"
    options = (_ONE_WAY,)

    def check(self, spec: MatcherSpec) -> None:
        """As in the base class."""
        self._ratio(spec)

    def create(self, spec: MatcherSpec, setup: MatcherSetup) -> NearestNeighbor:
        """As in the base class."""
        return NearestNeighbor(self._ratio(spec), _ONE_WAY not in spec.options, setup.device)

    def propose(self, spec: MatcherSpec, setup: MatcherSetup) -> Proposals:
        """All nearest neighbours: one passes the ratio test where its score, 1 − nearest/second, is above 1 − ratio."""
        ratio, mutual = self._ratio(spec), _ONE_WAY not in spec.options
        matcher = NearestNeighbor(None, mutual, setup.device)
        return Proposals(matcher, -math.inf if ratio is None else 1 - ratio, "nearest" if mutual else "nearest-oneway")

    def _ratio(self, spec: MatcherSpec) -> float | None:
        if spec.source == _NO_RATIO:
            return None
        try:
            ratio = float(spec.source) if spec.source else DEFAULT_RATIO
        except ValueError as error:
            raise self.refuse(spec, repr(spec.source)) from error
        if not 0 < ratio <= 1:
            raise self.refuse(spec, repr(spec.source))
        return ratio
