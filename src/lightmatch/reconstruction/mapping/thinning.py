"""Enough observations to place every photo: of large sets, those of the longest tracks.

Mapping takes time in proportion to the observations that it adjusts, and places photos no worse by a few hundred of
them than by thousands; points that were left out are made when the model is matched again (see `refinement`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.database import copy_database, open_database
from lightmatch.reconstruction.mapping.cleaning import filter_points
from lightmatch.reconstruction.mapping.merging import retriangulated
from lightmatch.sfm.tracks import Tracks, read_tracks

if TYPE_CHECKING:
    from pycolmap import Reconstruction

FEW_PHOTOS = 30  # of up to as many, all matches are mapped
WANTED = 300  # observations of a photo
FEWEST = 50  # matches that a pair keeps, or all it has: so no photo loses what connects it


def database_to_map(database: Path, target: Path) -> Path:
    """The database to map with: of more than FEW_PHOTOS photos `target`, a copy with fewer matches; else the same."""
    with open_database(database) as opened:
        num_photos = len(opened.photos)
    if num_photos <= FEW_PHOTOS:
        return database
    thin_matches(database, target, WANTED)
    return target


def with_all_points(model: Reconstruction, database: Path, seed: int | None) -> Reconstruction:
    """A model of few matches with points of all those of `database`, of the same photos; not adjusted."""
    dense = retriangulated(model, database, seed)
    filter_points(dense)
    return dense


def restore_matches(database: Path, full: Path) -> None:
    """Give a database of thinned matches all verified ones of `full` again; its cameras and ids may be others."""
    with open_database(full) as source, open_database(database, write=True) as opened:
        for pair, geometry in source.verified():
            opened.replace_inliers(pair, geometry, geometry.inlier_matches)


def thin_matches(database: Path, target: Path, wanted: int) -> int:
    """Make a copy of a verified database with fewer verified matches; their number.

    Tracks are taken from the longest on, each that has a photo with less than `wanted` observations. A pair keeps the
    matches of these tracks; one that would keep less than FEWEST keeps all of its own.
    COLMAP's global mapper chooses tracks in the same way (`track_required_tracks_per_view`).
    """
    tracks = read_tracks(database)
    label_of = _labels(tracks, _chosen(tracks, wanted))
    copy_database(database, target)
    left = 0
    with open_database(target, write=True) as opened:
        for pair, geometry in list(opened.verified()):
            matches = np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
            first, second = (_looked_up(label_of[name], matches[:, side]) for side, name in enumerate(pair))
            kept = matches[(first == second) & (first >= 0)]
            if FEWEST <= len(kept) < len(matches):
                opened.replace_inliers(pair, geometry, kept)
            else:
                kept = matches
            left += len(kept)
    return left


def thin_points(model: Reconstruction) -> None:
    """Delete points of a model of more than FEW_PHOTOS photos: of the longest tracks those stay that photos need."""
    images = sorted(model.reg_image_ids())
    if len(images) <= FEW_PHOTOS:
        return
    have = dict.fromkeys(images, 0)
    for number, point in sorted(model.points3D.items(), key=lambda item: (-item[1].track.length(), item[0])):
        photos = {seen.image_id for seen in point.track.elements}
        if any(have[photo] < WANTED for photo in photos):
            for photo in photos:
                have[photo] += 1
        else:
            model.delete_point3D(number)


def _chosen(tracks: Tracks, wanted: int) -> np.ndarray:
    """(t,) bool."""
    chosen = np.zeros(len(tracks), bool)
    have = np.zeros(len(tracks.names), np.int64)
    starts = tracks.starts.tolist()
    for track in np.argsort(-tracks.lengths, kind="stable").tolist():
        photos = tracks.photos[starts[track] : starts[track + 1]]
        if (have[photos] < wanted).any():
            chosen[track] = True
            have[photos] += 1
    return chosen


def _labels(tracks: Tracks, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """By photo: the chosen track of each keypoint, or -1; keypoints after the last of any track are left out."""
    order = np.argsort(tracks.photos, kind="stable")
    bounds = np.searchsorted(tracks.photos[order], np.arange(len(tracks.names) + 1))
    labels: dict[str, np.ndarray] = {}
    for number, name in enumerate(tracks.names):
        own = order[bounds[number] : bounds[number + 1]]
        found = np.full(int(tracks.keypoints[own].max(initial=-1)) + 1, -1)
        track = tracks.track_of[own]
        found[tracks.keypoints[own]] = np.where(chosen[track], track, -1)
        labels[name] = found
    return labels


def _looked_up(labels: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    found = np.full(len(keypoints), -1)
    known = keypoints < len(labels)
    found[known] = labels[keypoints[known]]
    return found
