"""Input of multi-view stereo: undistorted images with poses, and the neighbours to match each with."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import cv2
import numpy as np

from lightmatch.colmap.models import registered_images
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import COLMAP_PIXEL_OFFSET
from lightmatch.images import ANY_NUMBER, fitting_size, load_image, resize_to_fit
from lightmatch.inputs.masks import working_mask
from lightmatch.sfm.undistortion import Undistorter

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_BEST_ANGLE_DEG = 8.0  # triangulation angle: wide enough for an accurate depth, narrow enough for similar patches
_NARROWER_DEG, _WIDER_DEG = 4.0, 10.0  # the weight falls to 0.6 at this distance below and above it
_MARGIN = 1.25  # factor by which depths may exceed the range of the sparse points


@dataclass(frozen=True, eq=False)
class StereoView:
    """A registered photo at working size, with its undistorted camera."""

    name: str
    size: tuple[int, int]  # (width, height) px
    K: np.ndarray  # (3, 3), our pixels at that size
    rotation: np.ndarray  # (3, 3) camera from world
    center: np.ndarray  # (3,) in the frame of the model
    inverse_depths: tuple[float, float]  # least and largest, from the sparse points observed
    neighbors: tuple[int, ...]  # indices of other views to match with, best first


@dataclass(frozen=True, eq=False)
class StereoImage:
    """The pixels of a view."""

    rgb: np.ndarray  # (height, width, 3) uint8
    mask: np.ndarray | None  # (height, width) bool, False where pixels are ignored


class StereoImages:
    """Loads the images of views, resized and undistorted; the last `keep` are cached.

    images, masks: folders. long_side: px. keep: number of images in memory. Threads may share it; pickled it holds
    cameras, no images.
    """

    def __init__(self, model: Reconstruction, images: Path, masks: Path | None, long_side: int, keep: int) -> None:
        import pycolmap

        self._images, self._masks, self._long_side, self._keep = images, masks, long_side, keep
        self._undistorters: dict[int, Undistorter] = {}
        self._camera_of: dict[str, int] = {}
        self._num_photos: Counter[int] = Counter()
        for photo in registered_images(model):
            self._camera_of[photo.name] = photo.camera_id
            self._num_photos[photo.camera_id] += 1
            if photo.camera_id not in self._undistorters:
                camera = pycolmap.Camera(model.camera(photo.camera_id).todict())
                camera.rescale(*fitting_size((camera.width, camera.height), long_side))
                self._undistorters[photo.camera_id] = Undistorter(camera)
        self._cache: Cache[str, StereoImage] = Cache(self._load, keep)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_cache"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._cache = Cache(self._load, self._keep)

    def camera(self, camera_id: int) -> tuple[tuple[int, int], np.ndarray]:
        """(width, height) px and K (3, 3), our pixels, of the images of a camera."""
        camera = self._undistorters[camera_id].camera
        return (camera.width, camera.height), camera.K().numpy()

    def __call__(self, name: str) -> StereoImage:
        """The image of the photo `name`."""
        return self._cache(name)

    def _load(self, name: str) -> StereoImage:
        undistorter = self._undistorters[self._camera_of[name]]
        small = resize_to_fit(load_image(self._images / name, ANY_NUMBER), self._long_side)
        mask = None if self._masks is None else working_mask(self._masks, name)
        if mask is not None:
            # A resized pixel is valid only where all its source pixels are.
            shrunk = cv2.resize((~mask).astype(np.float32), small.size, interpolation=cv2.INTER_AREA)
            mask = undistorter.mask(shrunk == 0)
        rgb = undistorter.picture(small.pixels)
        if self._num_photos[self._camera_of[name]] == 1:  # thousands of photos may have a camera each
            undistorter.release()
        return StereoImage(rgb, mask)


_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Cache(Generic[_K, _V]):
    """A thread-safe cache of the last `keep` values of the function `make`."""

    def __init__(self, make: Callable[[_K], _V], keep: int) -> None:
        self._make, self._keep = make, keep
        self._values: OrderedDict[_K, _V] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: _K) -> _V:
        """The value of `key`, computed where it is not cached."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = self._make(key)  # outside the lock: two threads may both compute it, but no thread waits
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._keep:
                self._values.popitem(last=False)
        return value


def dense_views(model: Reconstruction, pictures: StereoImages, num_neighbors: int) -> list[StereoView]:
    """The registered photos with their neighbours, by name; photos without sparse points in view are left out.

    Neighbours share the most points at a good triangulation angle and a similar distance. Source of the weight by
    angle: Yao et al. 2018 (MVSNet), section 4.1, with a wider angle, since the windows here are larger.
    """
    photos = registered_images(model)
    ids = np.array(sorted(model.points3D), np.int64)
    points = np.array([model.point3D(number).xyz for number in ids.tolist()], np.float64).reshape(-1, 3)
    seen = [_rows(ids, [p.point3D_id for p in photo.get_observation_points2D()]) for photo in photos]
    poses = [photo.cam_from_world() for photo in photos]
    rotations = np.array([pose.rotation.matrix() for pose in poses]).reshape(-1, 3, 3)
    centers = np.array([photo.projection_center() for photo in photos]).reshape(-1, 3)
    cameras = [pictures.camera(photo.camera_id) for photo in photos]
    focals = np.array([K[0, 0] for _, K in cameras])
    # All observations by point, so that the photos that see a point lie side by side.
    row = np.concatenate([*seen, np.zeros(0, np.int64)])
    photo_of = np.repeat(np.arange(len(photos)), [len(rows) for rows in seen])
    order = np.argsort(row, kind="stable")
    photo_of, start = photo_of[order], np.searchsorted(row[order], np.arange(len(ids) + 1))
    views: list[StereoView] = []
    kept: list[int] = []
    for number, rows in enumerate(seen):
        depths = (points[rows] - centers[number]) @ rotations[number, 2]
        rows, depths = rows[depths > 0], depths[depths > 0]
        if not len(rows):
            continue
        counts = start[rows + 1] - start[rows]
        others = np.concatenate([photo_of[start[r] : start[r + 1]] for r in rows])
        weights = neighbor_weights(np.repeat(points[rows], counts, 0), others, number, centers, focals)
        score = np.bincount(others, weights, minlength=len(photos))
        score[number] = 0
        best = np.argsort(-score, kind="stable")[:num_neighbors]
        near, far = (float(depth) for depth in np.quantile(depths, (0.005, 0.995)))
        kept.append(number)
        views.append(
            StereoView(
                photos[number].name,
                *cameras[number],
                rotations[number],
                centers[number],
                (1 / (far * _MARGIN), _MARGIN / near),
                tuple(int(other) for other in best if score[other] > 0),
            )
        )
    place = {number: position for position, number in enumerate(kept)}
    return [_renumbered(view, place) for view in views]


def _rows(ids: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
    """Indices in the ascending `ids` of the points `wanted`, each once."""
    return np.unique(np.searchsorted(ids, np.array(wanted, np.int64)))


def neighbor_weights(
    points: np.ndarray, others: np.ndarray, number: int, centers: np.ndarray, focals: np.ndarray
) -> np.ndarray:
    """(n,): weight of photo `others[i]` for triangulating `points[i]` with photo `number`; 1 at the best angle.

    points: (n, 3) in the world. others: (n,) numbers of photos. centers: (m, 3) of all photos. focals: (m,) px.
    """
    here, there = centers[number] - points, centers[others] - points
    length0, length1 = np.linalg.norm(here, axis=1), np.linalg.norm(there, axis=1)
    cosine = (here * there).sum(1) / np.maximum(length0 * length1, 1e-300)
    angle = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))
    off = (angle - _BEST_ANGLE_DEG) / np.where(angle < _BEST_ANGLE_DEG, _NARROWER_DEG, _WIDER_DEG)
    zoom = (focals[others] / np.maximum(length1, 1e-300)) / (focals[number] / np.maximum(length0, 1e-300))
    return np.exp(-0.5 * off**2) * np.minimum(zoom, 1 / zoom)


def _renumbered(view: StereoView, place: dict[int, int]) -> StereoView:
    neighbors = tuple(place[number] for number in view.neighbors if number in place)
    return StereoView(view.name, view.size, view.K, view.rotation, view.center, view.inverse_depths, neighbors)


def require_long_side(long_side: int) -> None:
    """Raise InvalidValueError where images are too small for the correlation windows. long_side: px."""
    if long_side < 64:
        raise InvalidValueError(f"long_side: expected at least 64 px, got {long_side}")


def rays(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(3, h, w) float64: the ray of each pixel in camera coordinates, z = 1. K: (3, 3) without skew. size: (w, h)."""
    width, height = size
    grid = np.ones((3, height, width))
    grid[0] = (np.arange(width) - K[0, 2]) / K[0, 0]
    grid[1] = ((np.arange(height) - K[1, 2]) / K[1, 1])[:, None]
    return grid


def scaled(K: np.ndarray, from_size: tuple[int, int], to_size: tuple[int, int]) -> np.ndarray:
    """K (3, 3) after resizing the image. from_size, to_size: (width, height) px."""
    ratio = np.array([to_size[0] / from_size[0], to_size[1] / from_size[1], 1.0])
    resized = K * ratio[:, None]
    resized[:2, 2] += COLMAP_PIXEL_OFFSET * (ratio[:2] - 1)
    return resized
