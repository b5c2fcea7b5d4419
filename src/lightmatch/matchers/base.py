"""What all matchers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightmatch.types import FeatureKind, Features, Image, Matches


class Matcher(ABC):
    """Features of two images in, matches out.

    Any number of keypoints is welcome on either side; none gives no matches. The result lies on the
    device of the first features.
    """

    graph: ClassVar[str | None] = None  # "module:class" of what `lightmatch export` writes; None: it is not exported

    @abstractmethod
    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of each pair, equal to its own single call whatever stands beside it in the list."""

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Matches of one pair."""
        return self.match_batch([(features0, features1)])[0]

    def weights_digest(self) -> str:
        """Digest of the weights and of how they are used; "" where its name says all that matches depend on."""
        return ""


@dataclass(frozen=True, eq=False)
class PointMatches:
    """Places in two images that are taken for the same."""

    points0: Tensor  # (k, 2) float32 px
    points1: Tensor  # (k, 2) float32 px
    scores: Tensor  # (k,) float32 in 0…1

    def __len__(self) -> int:
        return len(self.scores)


class ImageMatcher(ABC):
    """Two images in, matched points out: for what cannot look at one image alone."""

    name: str  # its specification
    described: str  # all that its matches depend on, but the images
    licence: str  # of the model, for people
    long_side_px: int = 1024  # what it shrinks images to, at most: how exact its points are

    @abstractmethod
    def __call__(self, image0: Image, image1: Image) -> PointMatches:
        """Matches of one pair, in px of the images."""


def no_matches(device: torch.device) -> Matches:
    """The empty result."""
    indices, scores = torch.empty((0, 2), dtype=torch.int64), torch.empty(0, dtype=torch.float32)
    return Matches(indices.to(device), scores.to(device))


def matched_places(points: Tensor, scores: Tensor, image_size: tuple[int, int], name: str) -> Features:
    """Places of one image that a matcher of images matched, as features of its own kind, without descriptors.

    points: (n, 2) px. scores: (n,). image_size: (width, height) px. name: of the matcher.
    """
    kind = FeatureKind(name, 1)  # of nothing but zeros: no matcher of features takes this kind
    return Features(points.float(), scores.float(), torch.zeros(len(points), 1), image_size, kind)
