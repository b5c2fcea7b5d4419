"""What stays in place in the pictures while the scene moves: logos, time codes, frames, and what is behind a turntable.

Its matches agree with one another in every pair, that the camera stood still, and so pull photos of different views
together. They are found before any geometry is estimated: in pairs whose other matches move far, and as one, those that
stay in place vote for their places. Where votes of many pairs gather, matches that stay in place are no evidence.
Points so far away that they stay in place do so in one pair and not in the next, for no hand turns a camera so evenly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from lightmatch.geometry.robust import estimate_fundamental, estimate_homography
from lightmatch.types import Features, Matches

_STILL_PX = 4.0  # a match that moves less stays in place
_MOVED = 0.03  # of the long side: how far the other matches of a pair move, in the median, for it to vote
_LEAST_MOVING, _AS_ONE = 30, 0.5  # so many they are, and such a part of them agrees with one geometry
_CELL_PX = 8  # places are told apart to this
_VOTES = 3  # at least, in a place and those around it; fewer where few pairs vote
_SHARE = 0.2  # of the matches there that stay in place, at least
_LEAST_SHARE = 0.02  # of all matches: ordinary photos have 0.3 % such matches at most, those with overlays 10 to 70 %

Pair = tuple[str, str]
Size = tuple[int, int]


@dataclass(frozen=True)
class FixedPlaces:
    """Where matches that stay in place are no evidence, by the size of the pictures."""

    cells: Mapping[Size, np.ndarray]  # (h, w) bool, cells of _CELL_PX

    def without(self, features0: Features, features1: Features, matches: Matches) -> Matches:
        """The matches but for those that stay in place there."""
        size = features0.image_size
        if size not in self.cells or features1.image_size != size or not len(matches):
            return matches
        places = _places(features0, features1, matches)
        cells = self.cells[size]
        fixed = [cells[_indices(cells.shape, side / _CELL_PX)] for side in places]
        keep = torch.from_numpy(~(_still(places) & (fixed[0] | fixed[1])))
        return replace(matches, indices=matches.indices[keep], scores=matches.scores[keep])


def find_fixed_places(features: Mapping[str, Features], matches: Iterable[tuple[Pair, Matches]]) -> FixedPlaces:
    """Look through all pairs; pictures of different sizes tell nothing of each other."""
    voting: dict[Size, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}  # places, and what stays, by pair
    num_matches: dict[Size, int] = {}  # of all pairs that move
    for (name0, name1), found in matches:
        features0, features1 = features[name0], features[name1]
        if features1.image_size == features0.image_size and len(found) >= _LEAST_MOVING:
            places = _places(features0, features1, found)
            still = _still(places)
            size = features0.image_size
            if _moves_far(places, ~still, size):
                num_matches[size] = num_matches.get(size, 0) + len(found)
                if still.mean() >= _LEAST_SHARE and _moves_as_one(places, ~still):
                    voting.setdefault(size, []).append((*places, still))
    gathered = {size: _gathered(size, pairs, num_matches[size]) for size, pairs in voting.items()}
    return FixedPlaces({size: found for size, found in gathered.items() if found is not None})


def _gathered(
    size: Size, pairs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], num_matches: int
) -> np.ndarray | None:
    """(h, w) bool: where votes gather, alone or with those of the cells around; None where that is next to nothing."""
    shape = (-(-size[1] // _CELL_PX), -(-size[0] // _CELL_PX))
    votes, others = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for *places, still in pairs:
        for counts, chosen in ((votes, still), (others, ~still)):
            for side in places:
                np.add.at(counts, _indices(shape, side[chosen] / _CELL_PX), 0.5)
    near, others = (cv2.boxFilter(counts, -1, (3, 3), normalize=False) for counts in (votes, others))
    found = (near >= min(_VOTES, len(pairs))) & (near >= _SHARE * (near + others))
    return found if votes[found].sum() >= _LEAST_SHARE * num_matches else None


def _moves_far(places: tuple[np.ndarray, np.ndarray], moving: np.ndarray, size: Size) -> bool:
    """Whether the matches (k,) that do not stay in place are many and move far."""
    if moving.sum() < _LEAST_MOVING:
        return False
    return bool(np.median(np.linalg.norm(places[1][moving] - places[0][moving], axis=1)) >= _MOVED * max(size))


def _moves_as_one(places: tuple[np.ndarray, np.ndarray], moving: np.ndarray) -> bool:
    """Whether one geometry explains most of the matches that do not stay in place."""
    points0, points1 = (torch.from_numpy(side[moving]) for side in places)
    return any(
        estimate(points0, points1, threshold_px=_STILL_PX, estimator="opencv").num_inliers >= _AS_ONE * len(points0)
        for estimate in (estimate_homography, estimate_fundamental)
    )


def _places(features0: Features, features1: Features, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """(k, 2) px in both pictures, float64."""
    indices = matches.indices.cpu()
    return (
        features0.keypoints.cpu()[indices[:, 0]].double().numpy(),
        features1.keypoints.cpu()[indices[:, 1]].double().numpy(),
    )


def _still(places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return np.linalg.norm(places[1] - places[0], axis=1) < _STILL_PX


def _indices(shape: tuple[int, ...], places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    column, row = places.round().astype(int).T
    return row.clip(0, shape[0] - 1), column.clip(0, shape[1] - 1)
