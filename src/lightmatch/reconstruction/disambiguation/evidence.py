"""Missing correspondences: keypoints that should be matched in the other photo and are not, evidence of doppelgängers.

Source of the idea: Zach et al. 2008, "What can missing correspondences tell us about 3D structure and motion?".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightmatch.reconstruction.disambiguation.views import Photo, Placement, ViewPair, Views, predict

_SOUND_ERROR = 0.004  # of the longer side; poses estimated from wrong matches have larger errors
_SOUND_ANGLE_DEG = 5.0  # between the poses estimated in the two directions
_NEAR_DEG = 35.0  # viewing angle; beyond it even true pairs miss many matches
_SLACK_DEG = 3.0
_MOST_SCALE = 0.7  # log₂ of the depth ratio up to which keypoints are repeatable
_MARGIN = 0.05  # of the width: points this near to the border may be outside
_GRID = 32  # cells along the longer side; occluders are searched in a cell and its neighbours
_HIDDEN = 0.8  # of the depth: a point may be occluded by anything nearer than this
_CELLS = 8  # along the longer side
_DECISIVE = 3.0  # matches expected in a cell at half the pair's match rate: 5 % of such cells have none by chance
_FEW_CELLS = 8  # decisive cells needed in each direction; with 5, a true pair of an ordinary scene was dropped


class Absence(NamedTuple):
    """Expected and missing correspondences of one photo in the other, counted in cells of its image."""

    missing: int  # cells with enough unoccluded expected matches of which (nearly) none is found
    in_view: int  # cells with so many unoccluded expected matches that finding none is not chance
    lacking: int  # as `missing`, possibly occluded ones included
    decisive: int  # as `in_view`, possibly occluded ones included
    expected: int  # keypoints that should be matched
    found: int  # of these, matched keypoints


def absences(views: Views) -> list[tuple[Absence, Absence] | None]:
    """Missing correspondences in both directions for each of `views.pairs`.

    None where the poses of a pair are inconsistent or too few matches are expected to decide.
    """
    sound = [is_sound(pair) for pair in views.pairs]
    best, second, partner = _reach(views, sound)
    nearest = [_nearest_depths(photo) for photo in views.photos]
    results: list[tuple[Absence, Absence] | None] = []
    for pair, fits in zip(views.pairs, sound, strict=True):
        if not fits:
            results.append(None)
            continue
        sides = []
        for side in (0, 1):
            here, there = pair.photos[side], pair.photos[1 - side]
            reach = np.where(partner[here] == there, second[here], best[here])
            place = pair.placed[side]
            assert place is not None
            sides.append(
                _absence(
                    *(views.photos[here], views.photos[there], nearest[there], place, pair.found[side]),
                    reach if pair.first_keypoints is None else _of_first(reach, pair.first_keypoints),
                )
            )
        enough = min(side.decisive for side in sides) >= _FEW_CELLS
        results.append((sides[0], sides[1]) if enough else None)
    return results


def _of_first(reach: np.ndarray, count: int) -> np.ndarray:
    """The reach of the first keypoints; 0 for the others, of which no match is expected."""
    return np.where(np.arange(len(reach)) < count, reach, 0.0)


def is_sound(pair: ViewPair) -> bool:
    """Whether the poses estimated in both directions fit the matches and each other."""
    there, back = pair.placed
    if there is None or back is None or max(there.error, back.error) > _SOUND_ERROR:
        return False
    trace = float(np.trace(there.rotation @ back.rotation))
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))) <= _SOUND_ANGLE_DEG


def _reach(views: Views, sound: list[bool]) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """For each photo, (n,) over its keypoints: widest matched viewing angle, second widest, photo of the widest."""
    best = [np.zeros(len(photo.keypoints)) for photo in views.photos]
    second = [np.zeros(len(photo.keypoints)) for photo in views.photos]
    partner = [np.full(len(photo.keypoints), -1) for photo in views.photos]
    for pair, fits in zip(views.pairs, sound, strict=True):
        for side in (0, 1) if fits else ():
            here, there = pair.photos[side], pair.photos[1 - side]
            place = pair.placed[side]
            assert place is not None
            index = pair.matches[:, side]
            _, angle_deg, _ = predict(views.photos[here], views.photos[there], place)
            angle_deg = np.nan_to_num(angle_deg[index])
            wider = angle_deg > best[here][index]
            second[here][index] = np.maximum(second[here][index], np.where(wider, best[here][index], angle_deg))
            best[here][index[wider]] = angle_deg[wider]
            partner[here][index[wider]] = there
    return best, second, partner


def _nearest_depths(photo: Photo) -> np.ndarray:
    """Smallest known depth in each grid cell and its neighbours, (rows, columns); NaN where none is known."""
    rows, columns = _squares(photo, np.array([[photo.camera.width, photo.camera.height]]) - 1, _GRID)
    nearest = np.full((rows.item() + 3, columns.item() + 3), np.inf)
    known = np.flatnonzero(np.isfinite(photo.depth))
    rows, columns = _squares(photo, photo.keypoints[known], _GRID)
    for down in range(3):
        for right in range(3):
            np.minimum.at(nearest, (rows + down, columns + right), photo.depth[known])
    return np.where(np.isinf(nearest), np.nan, nearest)[1:-1, 1:-1]


def _squares(photo: Photo, pixels: np.ndarray, along: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column (n,) of the grid cell of each of (n, 2) pixels, with `along` cells along the longer side.

    Pixels outside are clipped to the border.
    """
    limit = np.array([photo.camera.width, photo.camera.height]) - 1
    inside = np.clip(np.nan_to_num(pixels), 0, limit)
    columns, rows = (inside * along / photo.size_px).astype(int).T
    return rows, columns


def _absence(
    photo0: Photo, photo1: Photo, nearest: np.ndarray, place: Placement, matched: np.ndarray, reach: np.ndarray
) -> Absence:
    """Missing correspondences of photo 0 in photo 1.

    nearest: `_nearest_depths` of photo 1; a point counts as in view where it is known and no occluder is nearer.
    matched: indices of matched keypoints of photo 0. reach: (n,) degrees, over which each keypoint was matched.
    """
    pixels, angle_deg, ratio = predict(photo0, photo1, place)
    margin = _MARGIN * photo1.camera.width
    limit = np.array([photo1.camera.width, photo1.camera.height]) - margin
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = ((pixels > margin) & (pixels < limit)).all(1)
        near = (angle_deg <= np.minimum(reach + _SLACK_DEG, _NEAR_DEG)) & (np.abs(np.log2(ratio)) < _MOST_SCALE)
        in_view = nearest[_squares(photo1, pixels, _GRID)] * place.unit > _HIDDEN * ratio * photo0.depth
    expected = inside & near & (reach > 0)
    found = np.zeros(len(expected), bool)
    found[matched] = True
    found &= expected
    row, column = _squares(photo0, photo0.keypoints, _CELLS)
    cell = row * _CELLS + column
    due = np.bincount(cell[expected], minlength=_CELLS**2)
    there = np.bincount(cell[found], minlength=_CELLS**2)
    hit = there > 0
    rate = there[hit].sum() / due[hit].sum() / 2 if hit.any() else 0.0
    lacking, decisive = _lacking(due, there, rate)
    missing, open_cells = _lacking(
        np.bincount(cell[expected & in_view], minlength=_CELLS**2),
        np.bincount(cell[found & in_view], minlength=_CELLS**2),
        rate,
    )
    return Absence(missing, open_cells, lacking, decisive, int(expected.sum()), int(found.sum()))


def _lacking(due: np.ndarray, there: np.ndarray, rate: float) -> tuple[int, int]:
    """Number of cells with (nearly) no match where enough are expected, and number of cells where enough are."""
    decisive = rate * due >= _DECISIVE
    return int((decisive & (there <= rate * due / 5)).sum()), int(decisive.sum())
