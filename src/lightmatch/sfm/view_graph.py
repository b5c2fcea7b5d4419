"""Which photos verified matches connect, and a copy of the database with only the connections that can be trusted."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import numpy as np

from lightmatch.errors import ReconstructionError

TRUSTED_MATCHES = 30  # verified in a pair: fewer are often chance, or far things that look alike


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a COLMAP database, whatever its journal holds. Raises ReconstructionError if damaged."""
    try:
        with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        raise ReconstructionError(
            f"{source}: expected a COLMAP database that can be copied, got: {error}; make it anew"
        ) from error


def connected_photos(database: Path, min_matches: int = TRUSTED_MATCHES) -> int:
    """Number of photos in the largest group that pairs of `min_matches` verified matches and more connect."""
    import networkx

    strong = networkx.Graph([pair for pair, count in zip(*_pairs(database), strict=True) if count >= min_matches])
    return max(map(len, networkx.connected_components(strong)), default=0)


def drop_weak_pairs(database: Path, min_matches: int = TRUSTED_MATCHES) -> int:
    """Delete the verified matches of pairs with fewer than `min_matches`, in place; their number.

    A weak pair stays where it is the best connection between two groups (it lies on the maximum spanning tree): without
    it, photos would be lost.
    """
    import pycolmap
    from networkx.utils import UnionFind

    groups, dropped = UnionFind(), []
    for pair, count in sorted(zip(*_pairs(database), strict=True), key=lambda found: (-found[1], found[0])):
        connected = groups[pair[0]] == groups[pair[1]]
        groups.union(*pair)
        if connected and count < min_matches:
            dropped.append(pair)
    with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
        for id0, id1 in sorted(dropped):
            opened.delete_two_view_geometry(id0, id1)
    return len(dropped)


def doubtful_focal_lengths(database: Path, known: frozenset[int] = frozenset()) -> list[int]:
    """Ids of cameras whose focal length from EXIF most of their trusted pairs contradict.

    COLMAP calls a pair uncalibrated when the fundamental matrix explains clearly more of its matches than the essential
    matrix made with the focal lengths given (Schönberger & Frahm 2016, section 4.1). known: cameras never doubted.
    """
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        camera_of = {image.image_id: image.camera_id for image in opened.read_all_images()}
        told = {camera.camera_id for camera in opened.read_all_cameras() if camera.has_prior_focal_length}
        votes: dict[int, list[bool]] = {camera: [] for camera in told - known}
        for pair_id, geometry in zip(*opened.read_two_view_geometries(), strict=True):
            if len(geometry.inlier_matches) < TRUSTED_MATCHES:
                continue
            uncalibrated = geometry.config == int(pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED)
            calibrated = geometry.config == int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
            for photo in pycolmap.pair_id_to_image_pair(pair_id):
                if camera_of[photo] in votes and (uncalibrated or calibrated):
                    votes[camera_of[photo]].append(uncalibrated)
    return sorted(camera for camera, against in votes.items() if against and np.mean(against) > 0.5)


def distrust_focal_lengths(database: Path, cameras: list[int]) -> None:
    """Mark focal lengths as guesses, in place, so that they are estimated from the pairs."""
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        for camera_id in cameras:
            camera = opened.read_camera(camera_id)
            camera.has_prior_focal_length = False
            opened.update_camera(camera)


def _pairs(database: Path) -> tuple[list[tuple[int, int]], list[int]]:
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        pair_ids, counts = opened.read_two_view_geometry_num_inliers()
    found = sorted(
        (pycolmap.pair_id_to_image_pair(pair), int(n)) for pair, n in zip(pair_ids, counts, strict=True) if n
    )
    return [pair for pair, _ in found], [count for _, count in found]
