"""Detection of fisheye lenses without metadata, from the matches of pairs, before mapping.

Matches between fisheye images fit neither a fundamental matrix nor the rays of a normal lens, but the rays of an
equidistant fisheye with about the right focal length. Matches of ordinary photos fit all of them equally well: COLMAP
uses a fundamental matrix where that has more inliers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightmatch.colmap.database import Database, Pair, open_database
from lightmatch.colmap.log import FATAL, colmap_log

if TYPE_CHECKING:
    from pycolmap import Camera

MODEL = "OPENCV_FISHEYE"

_FOCAL_LENGTHS = (0.22, 0.26, 0.3, 0.35, 0.4, 0.46, 0.53)  # in units of the longer side of the image
_FIRST = (0.3, 0.4)  # tried first
_NORMAL = 1.2  # the same, of a fisheye model that is nearly a pinhole
_MORE = 1.05  # times the inliers of a normal lens; at most 1.002 on 30 ordinary sets
_MAX_ERROR_PX, _MAX_TRIALS = 4.0, 1000
_MOST_PAIRS, _LEAST_MATCHES = 12, 80
_FEWEST_PAIRS = 2


@dataclass(frozen=True)
class Fisheye:
    """A camera whose matches fit a fisheye lens better than a normal one."""

    camera_id: int
    focal_length_px: float
    num_explained: int  # inliers with that focal length
    num_explained_normal: int  # inliers of a normal lens
    num_photos: int

    def __str__(self) -> str:
        more = self.num_explained / max(1, self.num_explained_normal) - 1
        return (
            f"{self.num_photos} photos are treated as fisheye photos, which explains {more:.0%} more of their matches"
            " than a normal lens; if that is wrong, name the lens with --camera-model"
        )


def find_fisheyes(database: Path, *, seed: int | None = None) -> list[Fisheye]:
    """Cameras of a matched database without a focal length from EXIF whose matches fit a fisheye lens better.

    Cameras that already have a fisheye model are always returned, with the focal length of most inliers.
    seed: of RANSAC; None is not repeatable.
    """
    found = []
    with open_database(database) as opened, colmap_log(FATAL):
        num_photos = Counter(photo.camera_id for photo in opened.photos)
        cameras = opened.cameras
        for camera_id, pairs in _pairs_by_camera(opened).items():
            camera = cameras[camera_id]
            if camera.has_prior_focal_length or len(pairs) < _FEWEST_PAIRS:
                continue
            is_fisheye = "FISHEYE" in camera.model_name
            explain = _Explaining(opened, camera, pairs, -1 if seed is None else seed)
            normal = explain.with_focal_length(_NORMAL)
            explained = {ratio: explain.with_focal_length(ratio) for ratio in _FIRST}
            if not is_fisheye and max(explained.values()) <= normal:
                continue
            explained |= {ratio: explain.with_focal_length(ratio) for ratio in _FOCAL_LENGTHS if ratio not in explained}
            best = max(explained, key=lambda ratio: explained[ratio])
            if is_fisheye or explained[best] >= _MORE * normal:
                focal = best * max(camera.width, camera.height)
                found.append(Fisheye(camera_id, focal, explained[best], normal, num_photos[camera_id]))
    return found


def make_fisheyes(database: Path, fisheyes: list[Fisheye]) -> None:
    """Give cameras in the database the focal lengths found; those that are no fisheyes become OPENCV_FISHEYE."""
    with open_database(database, write=True) as opened:
        cameras = opened.cameras
        for fisheye in fisheyes:
            opened.update_camera(_fisheye(cameras[fisheye.camera_id], fisheye.focal_length_px))


def _fisheye(camera: Camera, focal_length_px: float) -> Camera:
    """A fisheye camera of the same size. COLMAP verifies its pairs only where the focal length counts as a prior."""
    import pycolmap

    model = camera.model_name if "FISHEYE" in camera.model_name else MODEL
    made = pycolmap.Camera.create_from_model_name(camera.camera_id, model, focal_length_px, camera.width, camera.height)
    made.has_prior_focal_length = True
    return made


def _pairs_by_camera(database: Database) -> dict[int, list[Pair]]:
    """By camera id, the pairs of two of its photos with most matches."""
    taken_by = {photo.name: photo.camera_id for photo in database.photos}
    found: dict[int, list[Pair]] = defaultdict(list)
    counts = database.num_matches()
    for pair in sorted(counts, key=lambda pair: -counts[pair]):
        if counts[pair] >= _LEAST_MATCHES and taken_by[pair[0]] == taken_by[pair[1]]:
            found[taken_by[pair[0]]].append(pair)
    return {camera: pairs[:_MOST_PAIRS] for camera, pairs in sorted(found.items())}


class _Explaining:
    """Counts inliers of some pairs under a fisheye model."""

    def __init__(self, database: Database, camera: Camera, pairs: list[Pair], seed: int) -> None:
        import pycolmap

        self._camera = camera
        self._matches = [database.matches(pair) for pair in pairs]
        self._points = [[database.keypoints(name) for name in pair] for pair in pairs]
        self._options = pycolmap.TwoViewGeometryOptions()
        self._options.ransac.max_error = _MAX_ERROR_PX
        self._options.ransac.max_num_trials = _MAX_TRIALS
        self._options.ransac.random_seed = seed

    def with_focal_length(self, ratio: float) -> int:
        """Number of inliers of all pairs. ratio: focal length in units of the longer side."""
        import pycolmap

        camera = _fisheye(self._camera, ratio * max(self._camera.width, self._camera.height))
        return sum(
            len(pycolmap.estimate_two_view_geometry(camera, a, camera, b, matches, self._options).inlier_matches)
            for (a, b), matches in zip(self._points, self._matches, strict=True)
        )
