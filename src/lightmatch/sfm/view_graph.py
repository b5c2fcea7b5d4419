"""Which photos verified matches connect, and a copy of the database with only the connections that can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lightmatch.colmap.database import Pair, open_database

TRUSTED_MATCHES = 30  # verified in a pair: fewer are often chance, or far things that look alike


def connected_photos(database: Path, min_matches: int = TRUSTED_MATCHES) -> int:
    """Number of photos in the largest group that pairs of `min_matches` verified matches and more connect."""
    import networkx

    strong = networkx.Graph([pair for pair, count in _num_verified(database).items() if count >= min_matches])
    return max(map(len, networkx.connected_components(strong)), default=0)


def drop_weak_pairs(database: Path, min_matches: int = TRUSTED_MATCHES) -> int:
    """Delete the verified matches of pairs with fewer than `min_matches`, in place; their number.

    A weak pair stays where it is the best connection between two groups (it lies on the maximum spanning tree): without
    it, photos would be lost.
    """
    from networkx.utils import UnionFind

    counts = _num_verified(database)
    groups, dropped = UnionFind(), []
    for pair in sorted(counts, key=lambda pair: -counts[pair]):
        connected = groups[pair[0]] == groups[pair[1]]
        groups.union(*pair)
        if connected and counts[pair] < min_matches:
            dropped.append(pair)
    with open_database(database, write=True) as opened:
        opened.drop_verified(dropped)
    return len(dropped)


def doubtful_focal_lengths(database: Path, known: frozenset[int] = frozenset()) -> list[int]:
    """Ids of cameras whose focal length from EXIF most of their trusted pairs contradict.

    COLMAP calls a pair uncalibrated when the fundamental matrix explains clearly more of its matches than the essential
    matrix made with the focal lengths given (Schönberger & Frahm 2016, section 4.1). known: cameras never doubted.
    """
    import pycolmap

    with open_database(database) as opened:
        camera_of = {photo.name: photo.camera_id for photo in opened.photos}
        told = {camera_id for camera_id, camera in opened.cameras.items() if camera.has_prior_focal_length}
        votes: dict[int, list[bool]] = {camera: [] for camera in told - known}
        for pair, geometry in opened.verified():
            if len(geometry.inlier_matches) < TRUSTED_MATCHES:
                continue
            uncalibrated = geometry.config == int(pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED)
            calibrated = geometry.config == int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
            for photo in pair:
                if camera_of[photo] in votes and (uncalibrated or calibrated):
                    votes[camera_of[photo]].append(uncalibrated)
    return sorted(camera for camera, against in votes.items() if against and np.mean(against) > 0.5)


def distrust_focal_lengths(database: Path, cameras: list[int]) -> None:
    """Mark focal lengths as guesses, in place, so that they are estimated from the pairs."""
    with open_database(database) as opened:
        stored = opened.cameras
        for camera_id in cameras:
            camera = stored[camera_id]
            camera.has_prior_focal_length = False
            opened.update_camera(camera)


def _num_verified(database: Path) -> dict[Pair, int]:
    with open_database(database) as opened:
        return opened.num_verified()
