"""Static image points: logos, time codes, frames, or the background of a turntable.

Their matches are consistent with a camera that does not move, and so register photos of different views at one place.
They are detected before geometry is estimated: in pairs whose other matches move far and consistently, matches that do
not move vote for their image cells. In cells with votes from many pairs, matches that do not move are removed.
Points at a great distance may also be static in one pair, but not at the same cells in many pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental, estimate_homography
from lightmatch.types import Features, Matches

_STILL_PX = 4.0  # a match that moves less is static
_MOVED = 0.03  # of the longer side: median motion of the other matches of a pair that votes
_LEAST_MOVING, _AS_ONE = 30, 0.5  # least number of moving matches, and share of them that fits one two-view geometry
_CELL_PX = 8  # size of a cell
_VOTES = 3  # least votes in a cell and its neighbours; fewer where few pairs vote
_SHARE = 0.2  # least share of static matches in a cell
_LEAST_SHARE = 0.02  # of all matches: at most 0.3 % in ordinary photos, 10 to 70 % with overlays

Pair = tuple[str, str]
Size = tuple[int, int]


@dataclass(frozen=True)
class FixedPlaces:
    """Image cells in which matches that do not move are removed, by (width, height) px of the images."""

    cells: Mapping[Size, np.ndarray]  # (h, w) bool, cells of _CELL_PX

    def without(self, features0: Features, features1: Features, matches: Matches) -> Matches:
        """The matches without static ones in these cells."""
        size = features0.image_size
        if size not in self.cells or features1.image_size != size or not len(matches):
            return matches
        places = _places(features0, features1, matches)
        cells = self.cells[size]
        fixed = [cells[_indices(cells.shape, side / _CELL_PX)] for side in places]
        keep = torch.from_numpy(~(_still(places) & (fixed[0] | fixed[1])))
        return matches.subset(keep)


def find_fixed_places(features: Mapping[str, Features], matches: Iterable[tuple[Pair, Matches]]) -> FixedPlaces:
    """Find static cells from the matches of all pairs of images of the same size."""
    voting: dict[Size, _Votes] = {}
    num_matches: dict[Size, int] = defaultdict(int)  # of all pairs with motion
    for (name0, name1), found in matches:
        features0, features1 = features[name0], features[name1]
        if features1.image_size == features0.image_size and len(found) >= _LEAST_MOVING:
            places = _places(features0, features1, found)
            still = _still(places)
            size = features0.image_size
            if _moves_far(places, ~still, size):
                num_matches[size] += len(found)
                if still.mean() >= _LEAST_SHARE and _moves_as_one(places, ~still):
                    voting.setdefault(size, _Votes.of(size)).add(places, still)
    cells = {size: votes.cells(num_matches[size]) for size, votes in voting.items()}
    return FixedPlaces({size: found for size, found in cells.items() if found is not None})


@dataclass
class _Votes:
    """Of the pairs of images of one size, by cell."""

    still: np.ndarray  # (h, w) float32
    moving: np.ndarray
    num_pairs: int = 0

    @classmethod
    def of(cls, size: Size) -> _Votes:
        """None yet."""
        shape = (-(-size[1] // _CELL_PX), -(-size[0] // _CELL_PX))
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def add(self, places: tuple[np.ndarray, np.ndarray], still: np.ndarray) -> None:
        """Count the matches of a pair. places: (k, 2) px in both images. still: (k,) bool, which are static."""
        self.num_pairs += 1
        for counts, chosen in ((self.still, still), (self.moving, ~still)):
            for side in places:
                np.add.at(counts, _indices(counts.shape, side[chosen] / _CELL_PX), 0.5)

    def cells(self, num_matches: int) -> np.ndarray | None:
        """(h, w) bool: cells with enough votes together with their neighbours; None where these are negligible."""
        near, others = (cv2.boxFilter(counts, -1, (3, 3), normalize=False) for counts in (self.still, self.moving))
        found = (near >= min(_VOTES, self.num_pairs)) & (near >= _SHARE * (near + others))
        return found if self.still[found].sum() >= _LEAST_SHARE * num_matches else None


def _moves_far(places: tuple[np.ndarray, np.ndarray], moving: np.ndarray, size: Size) -> bool:
    """Whether the matches that are not static, (k,) bool, are many and move far."""
    if moving.sum() < _LEAST_MOVING:
        return False
    return bool(np.median(np.linalg.norm(places[1][moving] - places[0][moving], axis=1)) >= _MOVED * max(size))


def _moves_as_one(places: tuple[np.ndarray, np.ndarray], moving: np.ndarray) -> bool:
    """Whether most of the matches that are not static fit one homography or fundamental matrix."""
    points0, points1 = (torch.from_numpy(side[moving]) for side in places)
    return any(
        estimate(points0, points1, SearchOptions(threshold_px=_STILL_PX, estimator="opencv")).num_inliers
        >= _AS_ONE * len(points0)
        for estimate in (estimate_homography, estimate_fundamental)
    )


def _places(features0: Features, features1: Features, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Positions of k matches in both images, (k, 2) px float64 each."""
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
