"""COLMAP's database through pycolmap, by names of photos: the one place that holds its handles, ids and pair ids.

Keypoints are in COLMAP's pixels, with the centre of the first pixel at (0.5, 0.5), unless a method says otherwise.
Pairs come in the order of the photos' ids, so that whatever is sorted by a count alone has one order.
`database_files` reads databases of any version without pycolmap.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.geometry.epipolar import essential_from_pose
from lightmatch.runtime.files import replacing

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction, RigConfig, TwoViewGeometry

Pair = tuple[str, str]

_ONE_PLACE = 1e-6  # units of a model: distances up to this are rounding, as between the views of one panorama


class Photo(NamedTuple):
    """A photo and its camera, with the ids that models made of the database have too."""

    name: str
    image_id: int
    camera_id: int


@contextmanager
def open_database(path: Path, *, write: bool = False) -> Generator[Database]:
    """A database for one block. write: all that the block changes is written at its end, on an error too."""
    import pycolmap

    with ExitStack() as stack:
        opened = stack.enter_context(pycolmap.Database.open(path))
        if write:
            stack.enter_context(pycolmap.DatabaseTransaction(opened))
        yield Database(path, opened)


def incremental_pipeline(path: Path, options: Any) -> Any:
    """The pycolmap.IncrementalPipeline of a database, which it reads whole. options: IncrementalPipelineOptions."""
    import pycolmap

    with pycolmap.Database.open(path) as opened:
        return pycolmap.IncrementalPipeline(options, opened, pycolmap.ReconstructionManager())


@contextmanager
def replacing_database(path: Path) -> Generator[Path]:
    """As `replacing`, without the journal that a program may have left beside the old database.

    SQLite would take it for the new one's, and read the old pages.
    """
    with replacing(path) as partial:
        yield partial
        for ending in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + ending).unlink(missing_ok=True)


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a COLMAP database, whatever its journal holds.

    Raises ReconstructionError where it is damaged, or not there.
    """
    if not source.is_file():
        raise ReconstructionError(f"{source}: expected a COLMAP database, found none")
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        raise ReconstructionError(
            f"{source}: expected a COLMAP database that can be copied, got: {error}; make it anew"
        ) from error


class Database:
    """Photos, cameras, keypoints, matches and verified pairs; made by `open_database`."""

    def __init__(self, path: Path, opened: Any) -> None:
        """opened: a pycolmap.Database."""
        self.path = path
        self._opened = opened

    @cached_property
    def photos(self) -> tuple[Photo, ...]:
        """All photos, sorted by name."""
        images = self._opened.read_all_images()
        return tuple(sorted(Photo(image.name, image.image_id, image.camera_id) for image in images))

    @property
    def cameras(self) -> dict[int, Camera]:
        """All cameras by id, as they are now; see `update_camera`."""
        return {camera.camera_id: camera for camera in self._opened.read_all_cameras()}

    def photo(self, name: str) -> Photo:
        """The photo of a name. Raises InvalidValueError where there is none."""
        if name not in self._by_name:
            raise InvalidValueError(
                f"{self.path}: expected the name of a photo in it, the path relative to the folder of images,"
                f" got {name!r}"
            )
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def camera_of(self, name: str) -> Camera:
        """The camera of a photo, as it is now."""
        return self._opened.read_camera(self.photo(name).camera_id)

    def update_camera(self, camera: Camera) -> None:
        """Replace the camera of the same id."""
        self._opened.update_camera(camera)

    def keypoints(self, name: str) -> np.ndarray:
        """(n, 2) float64."""
        return np.array(self._opened.read_keypoints(self.photo(name).image_id), np.float64)[:, :2].reshape(-1, 2)

    def replace_keypoints(self, name: str, xy: Tensor) -> None:
        """Replace the keypoints of a photo. xy: (n, 2) px with the centre of the first pixel at (0, 0)."""
        rows = colmap_from_pixels(xy).cpu().numpy().astype(np.float32)
        self._opened.update_keypoints(self.photo(name).image_id, rows)

    def append_keypoints(self, name: str, xy: np.ndarray) -> np.ndarray:
        """Add keypoints (m, 2) behind those of a photo, of the smallest scale where it has scales; all (n + m, 2)."""
        image_id = self.photo(name).image_id
        stored = np.asarray(self._opened.read_keypoints(image_id), np.float32)
        stored = stored.reshape(len(stored), stored.shape[1] or 2)  # of a photo without keypoints (0, 0)
        added = np.zeros((len(xy), stored.shape[1]), np.float32)
        added[:, :2] = xy
        if stored.shape[1] == 4:  # scale and orientation; of 6, an affine shape
            added[:, 2] = 1
        elif stored.shape[1] == 6:
            added[:, 2] = added[:, 5] = 1
        both = np.concatenate((stored, added))
        there = self._opened.exists_keypoints(image_id)
        (self._opened.update_keypoints if there else self._opened.write_keypoints)(image_id, both)
        return both[:, :2].astype(np.float64)

    def num_matches(self) -> dict[Pair, int]:
        """Numbers of matches before verification."""
        return dict(self._by_pair(*self._opened.read_num_matches()))

    def matches(self, pair: Pair) -> np.ndarray:
        """(k, 2) uint32: matches before verification; none where the pair was not matched."""
        return np.array(self._opened.read_matches(*self._ids(pair)), np.uint32).reshape(-1, 2)

    def all_matches(self) -> Iterator[tuple[Pair, np.ndarray]]:
        """Pairs and their matches before verification, (k, 2)."""
        for pair, found in self._by_pair(*self._opened.read_all_matches()):
            yield pair, np.array(found).reshape(-1, 2)

    def num_verified(self) -> dict[Pair, int]:
        """Numbers of verified matches of the pairs that have any."""
        counts = self._opened.read_two_view_geometry_num_inliers()
        return {pair: int(count) for pair, count in self._by_pair(*counts) if count}

    def verified(self) -> Iterator[tuple[Pair, TwoViewGeometry]]:
        """Pairs and their two-view geometry, also those without an inlier; its `inlier_matches` are (k, 2)."""
        yield from self._by_pair(*self._opened.read_two_view_geometries())

    def inliers(self, pair: Pair) -> np.ndarray:
        """(k, 2) uint32: the verified matches of a pair, in its order."""
        geometry = self._opened.read_two_view_geometry(*self._ids(pair))
        return np.asarray(geometry.inlier_matches, np.uint32).reshape(-1, 2)

    def replace_verified(self, pair: Pair, inliers: np.ndarray, cam1_from_cam0: Tensor) -> None:
        """Give a pair verified matches, (k, 2) uint32, of two calibrated cameras, and their relative pose.

        cam1_from_cam0: (3, 4), its translation of any length. Two photos of one place get no essential matrix.
        """
        import pycolmap

        geometry = pycolmap.TwoViewGeometry()
        geometry.config = int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED)
        pose = cam1_from_cam0.double().cpu().clone()
        length = float(pose[:, 3].norm())
        pose[:, 3] = pose[:, 3] / length if length > _ONE_PLACE else 0.0
        geometry.cam2_from_cam1 = pycolmap.Rigid3d(pose.numpy())
        if length > _ONE_PLACE:
            geometry.E = essential_from_pose(pose).numpy()
        self.replace_inliers(pair, geometry, inliers)

    def replace_inliers(self, pair: Pair, geometry: TwoViewGeometry, inliers: np.ndarray) -> None:
        """Give a pair other verified matches, (k, 2), of the same geometry."""
        geometry.inlier_matches = np.ascontiguousarray(inliers, np.uint32)
        self.drop_verified([pair])
        self._opened.write_two_view_geometry(*self._ids(pair), geometry)

    def drop_verified(self, pairs: Iterable[Pair]) -> None:
        """Delete two-view geometries, where there are any; matches stay. InvalidValueError for photos not in it."""
        for ids in [self._ids(pair) for pair in pairs]:
            if self._opened.exists_two_view_geometry(*ids):
                self._opened.delete_two_view_geometry(*ids)

    def apply_rigs(self, rigs: Sequence[RigConfig], model: Reconstruction | None = None) -> None:
        """Replace all rigs and frames by these, in a model of the database too."""
        import pycolmap

        if model is None:
            pycolmap.apply_rig_config(list(rigs), self._opened)
        else:
            pycolmap.apply_rig_config(list(rigs), self._opened, model)

    def enter_frame(self, model: Reconstruction, name: str) -> None:
        """Enter into a model the frame of a photo, its rig, cameras and images, as far as the model lacks them."""
        import pycolmap

        frame = self._opened.read_frame(self._opened.read_image(self.photo(name).image_id).frame_id)
        images = [self._opened.read_image(data.id) for data in frame.image_ids]
        rig = self._opened.read_rig(frame.rig_id)
        for sensor in rig.sensor_ids():  # a frame may lack some of the rig's cameras
            if not model.exists_camera(sensor.id):
                model.add_camera(self._opened.read_camera(sensor.id))
        if not model.exists_rig(frame.rig_id):
            model.add_rig(rig)
        if not model.exists_frame(frame.frame_id):
            added = copy.copy(frame)
            added.reset_rig_ptr()
            model.add_frame(added)
        for image in images:
            if not model.exists_image(image.image_id):
                xy = self.keypoints(image.name)
                entered = pycolmap.Image(
                    name=image.name, keypoints=xy, camera_id=image.camera_id, image_id=image.image_id
                )
                entered.frame_id = frame.frame_id
                model.add_image(entered)

    def copy_contents(self, source: Database) -> None:
        """Enter cameras' values, keypoints, matches and verified pairs of `source`, which has the same photos.

        The cameras here may be others: each takes the values that the camera of its photo has in `source`.
        """
        for photo in sorted(source.photos, key=lambda photo: photo.image_id):
            camera = source.camera_of(photo.name)
            camera.camera_id = self.photo(photo.name).camera_id
            self._opened.update_camera(camera)
        for photo in sorted(source.photos, key=lambda photo: photo.image_id):
            rows = source._opened.read_keypoints(photo.image_id)
            self._opened.write_keypoints(self.photo(photo.name).image_id, rows)
        for pair, geometry in source.verified():
            self._opened.write_two_view_geometry(*self._ids(pair), geometry)
            if source._opened.exists_matches(*source._ids(pair)):
                self._opened.write_matches(*self._ids(pair), source._opened.read_matches(*source._ids(pair)))

    @cached_property
    def _by_name(self) -> dict[str, Photo]:
        return {photo.name: photo for photo in self.photos}

    def _ids(self, pair: Pair) -> tuple[int, int]:
        return self.photo(pair[0]).image_id, self.photo(pair[1]).image_id

    def _by_pair(self, pair_ids: Sequence[int], values: Sequence[Any]) -> list[tuple[Pair, Any]]:
        """Pairs of names and their values, in the order of ids."""
        import pycolmap

        names = {photo.image_id: photo.name for photo in self.photos}
        found = []
        for place in sorted(range(len(pair_ids)), key=lambda place: pair_ids[place]):
            id0, id1 = pycolmap.pair_id_to_image_pair(pair_ids[place])
            found.append(((names[id0], names[id1]), values[place]))
        return found
