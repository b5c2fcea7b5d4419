"""Photos, keypoints and matches into a COLMAP database, and their geometric verification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lightmatch.errors import ReconstructionError
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.interchange.pairs import check_range
from lightmatch.reconstruction.cameras import known_camera_model
from lightmatch.reconstruction.colmap_log import colmap_log
from lightmatch.threads import num_threads
from lightmatch.types import Features, Matches


class MatchDatabase:
    """A COLMAP database of photos, keypoints and matches, for the mapper to read."""

    def __init__(self, path: Path, images: Path, cameras: Iterable[list[str]], camera_model: str) -> None:
        """Make the database and enter photos and cameras.

        path: a file that does not exist yet. images: folder of upright photos that COLMAP can read.
        cameras: names of photos (relative to `images`), one list for each camera they share.
        camera_model: COLMAP's name, such as SIMPLE_RADIAL. Focal lengths come from EXIF where it has them.
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
            self._ids = {image.name: image.image_id for image in database.read_all_images()}
        refused = [name for names in cameras for name in names if name not in self._ids]
        if refused:
            raise ReconstructionError(f"COLMAP could not read {', '.join(refused[:3])} in {images}")

    def write(self, features: Mapping[str, Features], matches: Iterable[tuple[tuple[str, str], Matches]]) -> None:
        """Enter keypoints by photo, then matches by pair of photos, one by one; all or nothing."""
        import pycolmap

        counts: dict[str, int] = {}
        with pycolmap.Database.open(self.path) as database, pycolmap.DatabaseTransaction(database):
            for name, value in features.items():
                counts[name] = len(value)
                keypoints = colmap_from_pixels(value.keypoints).cpu().numpy()
                database.write_keypoints(self._ids[name], keypoints.astype(np.float32))
            for (name0, name1), found in matches:
                # COLMAP does not check indices: one out of range ends the whole process.
                check_range(found, (name0, name1), (counts[name0], counts[name1]))
                if len(found):
                    indices = found.indices.cpu().numpy().astype(np.uint32)
                    database.write_matches(self._ids[name0], self._ids[name1], np.ascontiguousarray(indices))

    def verify(self, max_error_px: float = 4.0, seed: int | None = None) -> None:
        """Keep the matches of each pair that agree with one geometry (LO-RANSAC)."""
        import pycolmap

        options = pycolmap.TwoViewGeometryOptions()
        options.ransac.max_error = max_error_px
        options.compute_relative_pose = True
        verifier = pycolmap.GeometricVerifierOptions()
        verifier.num_threads = num_threads()
        if seed is not None:
            options.ransac.random_seed = seed
            verifier.num_threads = 1
        with colmap_log():
            pycolmap.geometric_verification(self.path, verifier_options=verifier, two_view_geometry_options=options)


def verified_matches(path: Path) -> dict[tuple[str, str], int]:
    """Number of verified matches by pair of photos, of a database that was verified."""
    import pycolmap

    with pycolmap.Database.open(path) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        pairs, counts = database.read_two_view_geometry_num_inliers()
    split = (pycolmap.pair_id_to_image_pair(pair) for pair in pairs)
    named = [(names[id0], names[id1]) for id0, id1 in split]
    return {pair: count for pair, count in zip(named, counts, strict=True) if count}
