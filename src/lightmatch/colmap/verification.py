"""Photos, keypoints and matches into a COLMAP database, and their geometric verification."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.cameras import guess_impossible_focal_length, is_distorted, known_camera_model
from lightmatch.colmap.database_writing import colmap_descriptors, keypoint_rows
from lightmatch.colmap.log import colmap_log
from lightmatch.colmap.pairs import check_range
from lightmatch.errors import ReconstructionError
from lightmatch.geometry.chance import log10_false_alarms_of_matches
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.geometry.screening import may_share_geometry
from lightmatch.runtime.executor import Executor, Threads
from lightmatch.types import Features, Matches

if TYPE_CHECKING:
    from pycolmap import Camera, TwoViewGeometry

logger = logging.getLogger(__name__)

_MAX_TRIALS = 2500  # COLMAP's 10000 take 4 times as long, for 0.01 % more matches in pairs of 30 or more
_PLANES = (4, 5, 6)  # COLMAP's configurations of a homography
_IN_MEMORY = 256  # pairs whose matches are in memory at a time
_IMAGES_IN_MEMORY = 512  # whose keypoints are
_BLOCK = 4  # pairs of a job
_THREADS = Threads()


class MatchDatabase:
    """A COLMAP database of photos, keypoints and matches, for the mapper to read."""

    def __init__(self, path: Path, images: Path, cameras: Iterable[list[str]], camera_model: str) -> None:
        """Make the database and enter photos and cameras.

        path: a file that does not exist yet. images: folder of upright photos that COLMAP can read.
        cameras: names of photos (relative to `images`), one list for each camera they share.
        camera_model: COLMAP's name, such as SIMPLE_RADIAL. Focal lengths come from EXIF where it has them and they can
        be; what cannot is logged and guessed.
        """
        import pycolmap

        self.path = path
        options = pycolmap.ImageReaderOptions()
        options.camera_model = known_camera_model(camera_model)
        pycolmap.Database.open(path).close()
        with colmap_log():
            for names in cameras:
                pycolmap.import_images(
                    path, images, camera_mode=pycolmap.CameraMode.SINGLE, image_names=names, options=options
                )
        with pycolmap.Database.open(path) as database:
            taken_by = {image.camera_id: image.name for image in database.read_all_images()}
            for camera in database.read_all_cameras():
                said = guess_impossible_focal_length(camera)
                if said is not None:
                    database.update_camera(camera)
                    logger.warning(
                        "%s and the photos of its camera: EXIF's focal length, %.3g px in a picture of %d x %d px,"
                        " cannot be and is not used",
                        taken_by[camera.camera_id],
                        said,
                        camera.width,
                        camera.height,
                    )
            self._ids = {image.name: image.image_id for image in database.read_all_images()}
        refused = [name for names in cameras for name in names if name not in self._ids]
        if refused:
            raise ReconstructionError(f"COLMAP could not read {', '.join(refused[:3])} in {images}")

    def write(
        self,
        features: Mapping[str, Features],
        matches: Iterable[tuple[tuple[str, str], Matches]],
        *,
        descriptors: bool = False,
    ) -> None:
        """Enter keypoints by photo, then matches by pair of photos, one by one. An error leaves what came before it.

        descriptors: also scales, orientations and descriptors, for programs that match again; mapping needs none.
        """
        import pycolmap

        counts: dict[str, int] = {}
        with pycolmap.Database.open(self.path) as database, pycolmap.DatabaseTransaction(database):
            for name, value in features.items():
                counts[name] = len(value)
                if descriptors:
                    database.write_keypoints(self._ids[name], keypoint_rows(value))
                    database.write_descriptors(self._ids[name], colmap_descriptors(value))
                    continue
                keypoints = colmap_from_pixels(value.keypoints).cpu().numpy()
                database.write_keypoints(self._ids[name], keypoints.astype(np.float32))
            for (name0, name1), found in matches:
                # COLMAP does not check indices: one out of range ends the whole process.
                check_range(found, (name0, name1), (counts[name0], counts[name1]))
                if len(found):
                    indices = found.indices.cpu().numpy().astype(np.uint32)
                    database.write_matches(self._ids[name0], self._ids[name1], np.ascontiguousarray(indices))

    def verify(
        self,
        max_error_px: float = 4.0,
        seed: int | None = None,
        on_pair: Callable[[], None] = lambda: None,
        executor: Executor = _THREADS,
    ) -> None:
        """Keep the matches of each pair that agree with one geometry (LO-RANSAC). An error leaves the pairs before it.

        No match of a pair is kept where fewer than 15 agree, or no more than would by chance (`geometry.chance`); where
        a quick search shows that, the thorough one is left out (`geometry.screening`).
        Pairs that have a geometry are left as they are. on_pair: called for each other pair. executor: estimates
        several pairs at a time, with a seed each by itself, so that results repeat to the bit on any number of threads.
        """
        import pycolmap

        setup = VerificationSetup(max_error_px, seed)
        with pycolmap.Database.open(self.path) as database:
            camera_of = {image.image_id: database.read_camera(image.camera_id) for image in database.read_all_images()}

            @lru_cache(_IMAGES_IN_MEMORY)
            def points_of(image_id: int) -> np.ndarray:
                return np.array(database.read_keypoints(image_id), np.float64)[:, :2]

            matched, _ = database.read_num_matches()
            pairs = [pycolmap.pair_id_to_image_pair(pair) for pair in matched]
            pairs = sorted(pair for pair in pairs if not database.exists_two_view_geometry(*pair))

            def block_of(start: int) -> VerificationBlock:
                ids = pairs[start : start + _BLOCK]
                used = sorted({image_id for pair in ids for image_id in pair})
                return VerificationBlock(
                    tuple(ids),
                    {image_id: camera_of[image_id] for image_id in used},
                    {image_id: points_of(image_id) for image_id in used},
                    tuple(np.array(database.read_matches(*pair), np.uint32).reshape(-1, 2) for pair in ids),
                )

            with colmap_log(), pycolmap.DatabaseTransaction(database):
                for first in range(0, len(pairs), _IN_MEMORY):
                    starts = range(first, min(first + _IN_MEMORY, len(pairs)), _BLOCK)
                    blocks = [block_of(start) for start in starts]
                    with closing(executor.map(partial(verify_block, setup), blocks)) as results:
                        for block, geometries in zip(blocks, results, strict=True):
                            for pair, geometry in zip(block.pairs, geometries, strict=True):
                                database.write_two_view_geometry(*pair, geometry)
                                on_pair()


@dataclass(frozen=True)
class VerificationSetup:
    """What the jobs of all blocks share."""

    max_error_px: float
    seed: int | None


@dataclass(frozen=True, eq=False)
class VerificationBlock:
    """Pairs of images with all that their verification needs."""

    pairs: tuple[tuple[int, int], ...]  # ids of images
    cameras: Mapping[int, Camera]  # by id of an image
    points: Mapping[int, np.ndarray]  # (n, 2) px of COLMAP, by id of an image
    matches: tuple[np.ndarray, ...]  # (k, 2) of each pair


def verify_block(setup: VerificationSetup, block: VerificationBlock) -> list[TwoViewGeometry]:
    """The two-view geometry of each pair, an empty one where there is none: a job of an executor."""
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_error = setup.max_error_px
    options.ransac.max_num_trials = _MAX_TRIALS
    options.compute_relative_pose = True
    if setup.seed is not None:
        options.ransac.random_seed = setup.seed
    geometries = []
    for pair, matches in zip(block.pairs, block.matches, strict=True):
        points0, points1 = (block.points[image_id] for image_id in pair)
        camera0, camera1 = (block.cameras[image_id] for image_id in pair)
        matched = points0[matches[:, 0]], points1[matches[:, 1]]
        found = pycolmap.TwoViewGeometry()
        bent = is_distorted(camera0) or is_distorted(camera1)  # its matches need not agree with one matrix
        if bent or may_share_geometry(*matched, setup.max_error_px, setup.seed or 0, options.min_num_inliers):
            found = pycolmap.estimate_two_view_geometry(camera0, points0, camera1, points1, matches, options)
        count, plane = len(found.inlier_matches), found.config in _PLANES
        if (
            count < options.min_num_inliers
            or log10_false_alarms_of_matches(*matched, count, setup.max_error_px, plane=plane) > 0
        ):
            found = pycolmap.TwoViewGeometry()
        geometries.append(found)
    return geometries


def verified_matches(path: Path) -> dict[tuple[str, str], int]:
    """Number of verified matches by pair of photos, of a database that was verified."""
    import pycolmap

    with pycolmap.Database.open(path) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        pairs, counts = database.read_two_view_geometry_num_inliers()
    split = (pycolmap.pair_id_to_image_pair(pair) for pair in pairs)
    named = [(names[id0], names[id1]) for id0, id1 in split]
    return {pair: count for pair, count in zip(named, counts, strict=True) if count}
