"""Evidence for the overlap of a pair from its matches alone: a few numbers, cheap to compute."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightmatch.types import Features, Matches

_NEIGHBORS = 8  # matches around a match that should stay around it
_GRID = 8  # cells along each side of a photo
_MOST_MATCHES = 1024  # the best by score: more add no evidence, and the cost is quadratic
_ROTATIONS, _OCTAVES = 24, 16  # bins of 15° and of half an octave; windows are two by two


@dataclass(frozen=True)
class PairEvidence:
    """Measures of a pair from its features and matches alone; all 0 without matches."""

    num_matches: int
    share_matched: float  # matches over the keypoints of the photo that has fewer
    mean_score: float
    locality: float  # share of neighbouring matches that are neighbours in both photos, less chance: at most 1
    coverage: float  # part of the cells with keypoints that matches reach, in the photo where it is less
    agreement: float  # share of matches with the same rotation and scale; 0 for kinds of features without them


def gather_evidence(features0: Features, features1: Features, matches: Matches) -> PairEvidence:
    """The evidence of a pair, from at most 1024 matches of the highest scores; 2 to 20 ms."""
    num_matches = len(matches)
    if num_matches == 0:
        return PairEvidence(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    points0, points1 = matches.points(features0, features1)
    best = matches.scores.argsort(descending=True, stable=True)[:_MOST_MATCHES]
    coverage = min(
        _num_cells(points, features.image_size) / _num_cells(features.keypoints, features.image_size)
        for points, features in ((points0, features0), (points1, features1))
    )
    return PairEvidence(
        num_matches,
        num_matches / min(len(features0), len(features1)),
        float(matches.scores.mean()),
        locality(points0[best], points1[best]),
        coverage,
        _agreement(features0, features1, matches.indices[best]),
    )


def locality(points0: Tensor, points1: Tensor) -> float:
    """Share of each match's nearest matches in photo 0 that are its nearest in photo 1 too, less chance.

    points0, points1: (k, 2) px. 1 for a photo and its rotated and scaled copy, about 0 for random matches; 0 for
    fewer than three. Source of the idea: Ma et al.: Locality Preserving Matching, IJCV 2019, section 3.
    """
    count = len(points0)
    neighbors = min(_NEIGHBORS, (count - 1) // 2)
    if neighbors < 1:
        return 0.0
    near0, near1 = (_nearest(points, neighbors) for points in (points0, points1))
    kept = float((near0[:, :, None] == near1[:, None]).any(2).float().mean())
    chance = neighbors / (count - 1)
    return (kept - chance) / (1 - chance)


def _nearest(points: Tensor, count: int) -> Tensor:
    """(n, count): the nearest other points of each."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    return distances.topk(count, dim=1, largest=False).indices


def _num_cells(points: Tensor, image_size: tuple[int, int]) -> int:
    """Number of grid cells of the photo with at least one of the points (n ≥ 1, 2)."""
    cell = ((points + 0.5) / points.new_tensor(image_size) * _GRID).floor().clamp(0, _GRID - 1).long()
    return len(torch.unique(cell[:, 1] * _GRID + cell[:, 0]))


def _agreement(features0: Features, features1: Features, indices: Tensor) -> float:
    """Share of the matches in the fullest window of 30° of rotation and a factor of 2 of scale.

    Source of the idea: Jégou, Douze, Schmid: Hamming embedding and weak geometric consistency, ECCV 2008, section 4.
    """
    if not (features0.kind.has_scale_orientation and features1.kind.has_scale_orientation):
        return 0.0
    assert features0.orientations is not None and features1.orientations is not None  # the kind has them
    assert features0.scales is not None and features1.scales is not None
    index0, index1 = indices.unbind(1)
    rotation = (features1.orientations[index1] - features0.orientations[index0]) / (2 * torch.pi)
    ratio = (features1.scales[index1] / features0.scales[index0].clamp(min=1e-6)).clamp(min=1e-6)
    column = (rotation * _ROTATIONS).floor().long() % _ROTATIONS
    row = ((ratio.log2() * 2).floor() + _OCTAVES // 2).long().clamp(0, _OCTAVES - 1)
    counts = torch.bincount(row * _ROTATIONS + column, minlength=_OCTAVES * _ROTATIONS).reshape(_OCTAVES, _ROTATIONS)
    wide = counts + counts.roll(-1, 1)  # rotations wrap around, scales do not
    return float((wide[:-1] + wide[1:]).max() / len(indices))
