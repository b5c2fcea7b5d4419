"""Fisheye lenses that nothing tells of: found by the matches of pairs, before any model is made.

Straight lines are bent in a fisheye's picture, so neither a fundamental matrix nor the rays of a normal lens explain
its pairs; the rays of an equidistant fisheye do, with a focal length near its own. Pairs of ordinary photos are
explained as well by any of them: COLMAP takes a fundamental matrix where that explains more.
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

_FOCAL_LENGTHS = (0.22, 0.26, 0.3, 0.35, 0.4, 0.46, 0.53)  # in long sides of the picture
_FIRST = (0.3, 0.4)  # asked first
_NORMAL = 1.2  # of a lens that is next to none
_MORE = 1.05  # times the matches that a normal lens explains: of 30 ordinary sets it is 1.002 at most
_MAX_ERROR_PX, _MAX_TRIALS = 4.0, 1000
_MOST_PAIRS, _LEAST_MATCHES = 12, 80
_FEWEST_PAIRS = 2


@dataclass(frozen=True)
class Fisheye:
    """A camera whose pairs a fisheye explains better."""

    camera_id: int
    focal_length_px: float
    num_explained: int  # matches, with that focal length
    num_explained_normal: int  # without fisheye
    num_photos: int

    def __str__(self) -> str:
        more = self.num_explained / max(1, self.num_explained_normal) - 1
        return (
            f"{self.num_photos} photos are taken for those of a fisheye lens, which explains {more:.0%} more of their"
            " matches than another; --camera-model says which it is where that is wrong"
        )


def find_fisheyes(database: Path, *, seed: int | None = None) -> list[Fisheye]:
    """Cameras of a matched database, without a focal length of EXIF, whose pairs a fisheye explains better.

    Cameras that have a fisheye's model already are found in any case, with the focal length that explains most.
    """
    found = []
    with open_database(database) as opened, colmap_log(FATAL):
        num_photos = Counter(photo.camera_id for photo in opened.photos)
        cameras = opened.cameras
        for camera_id, pairs in _pairs_by_camera(opened).items():
            camera = cameras[camera_id]
            if camera.has_prior_focal_length or len(pairs) < _FEWEST_PAIRS:
                continue
            said = "FISHEYE" in camera.model_name
            explain = _Explaining(opened, camera, pairs, -1 if seed is None else seed)
            normal = explain.with_focal_length(_NORMAL)
            explained = {ratio: explain.with_focal_length(ratio) for ratio in _FIRST}
            if not said and max(explained.values()) <= normal:
                continue
            explained |= {ratio: explain.with_focal_length(ratio) for ratio in _FOCAL_LENGTHS if ratio not in explained}
            best = max(explained, key=lambda ratio: explained[ratio])
            if said or explained[best] >= _MORE * normal:
                focal = best * max(camera.width, camera.height)
                found.append(Fisheye(camera_id, focal, explained[best], normal, num_photos[camera_id]))
    return found


def make_fisheyes(database: Path, fisheyes: list[Fisheye]) -> None:
    """Give the cameras a fisheye's model and the focal lengths found, for mapping to start with."""
    with open_database(database, write=True) as opened:
        cameras = opened.cameras
        for fisheye in fisheyes:
            opened.update_camera(_fisheye(cameras[fisheye.camera_id], fisheye.focal_length_px))


def _fisheye(camera: Camera, focal_length_px: float) -> Camera:
    """A fisheye in the place of a camera. COLMAP verifies its pairs only where the focal length counts as known."""
    import pycolmap

    made = pycolmap.Camera.create_from_model_name(camera.camera_id, MODEL, focal_length_px, camera.width, camera.height)
    made.has_prior_focal_length = True
    return made


def _pairs_by_camera(database: Database) -> dict[int, list[Pair]]:
    """The pairs with most matches of two photos of one camera, by its id."""
    taken_by = {photo.name: photo.camera_id for photo in database.photos}
    found: dict[int, list[Pair]] = defaultdict(list)
    counts = database.num_matches()
    for pair in sorted(counts, key=lambda pair: -counts[pair]):
        if counts[pair] >= _LEAST_MATCHES and taken_by[pair[0]] == taken_by[pair[1]]:
            found[taken_by[pair[0]]].append(pair)
    return {camera: pairs[:_MOST_PAIRS] for camera, pairs in sorted(found.items())}


class _Explaining:
    """How many matches of some pairs a fisheye explains."""

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
        """ratio: in long sides of the picture."""
        import pycolmap

        camera = _fisheye(self._camera, ratio * max(self._camera.width, self._camera.height))
        return sum(
            len(pycolmap.estimate_two_view_geometry(camera, a, camera, b, matches, self._options).inlier_matches)
            for (a, b), matches in zip(self._points, self._matches, strict=True)
        )
