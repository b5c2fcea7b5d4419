"""Multi-view stereo: a dense cloud from a finished model, for example to initialise Gaussian splats.

Every pixel of every photo is matched along its epipolar lines in neighbouring photos (`depth`), and a point is kept
where the depths of several photos agree (`fusion`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.reconstruction.outputs.clouds import DensePoints
from lightmatch.reconstruction.stereo.depth import depth_map
from lightmatch.reconstruction.stereo.fusion import Agreed, agreed_points, joined, merge
from lightmatch.reconstruction.stereo.views import Cache, StereoImages, StereoView, dense_views, require_long_side
from lightmatch.runtime.threads import thread_pool

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_NUM_NEIGHBORS = 5
_LEAST_SCORE = 0.5  # mean NCC; low, since fusion rejects wrong depths
_CONFIRMING = 2  # other views that must confirm a point, where there are as many
_KEPT_PICTURES = 24  # in memory, about 2 MB each at the default size
_SURPLUS = 4  # points gathered for each one of max_points, since fusion removes duplicates
_LEVELS = 65535  # inverse depths are stored in 16 bits: equal steps are about equal along epipolar lines


@dataclass(frozen=True)
class DensifyOptions:
    """How dense a cloud is. Raises InvalidValueError where an option is out of range.

    max_points: beyond it a random sample is kept. seed: of the sample; the same input gives the same bits.
    long_side: px that photos are resized to: half of it is four times as fast, twice of it finds four times the points
    with half the error.
    """

    max_points: int = 1_000_000
    seed: int = 0
    long_side: int = 800

    def __post_init__(self) -> None:
        if self.max_points < 1:
            raise InvalidValueError(f"max_points: expected at least 1, got {self.max_points}")
        require_long_side(self.long_side)


def densify(
    model: Reconstruction,
    images: Path,
    masks: Path | None,
    options: DensifyOptions | None = None,
    *,
    scratch: Path | None = None,
    on_depth: Callable[[str, np.ndarray, np.ndarray], None] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> DensePoints:
    """A dense cloud of points on which at least three photos (two, if there are no more) agree, in the model's frame.

    images: the folder of the photos in the model. masks: the folder of `<name>.png`, where pixels of 0 give no points;
    photos without a mask are used whole. scratch: a folder for depth maps (1 MB a photo), the system's
    temporary folder where None. on_depth: called for each photo, from several threads, with its name, K (3, 3) of its
    undistorted camera, our pixels, and the depth (h, w) float32, z in the camera, 0 without a point of the cloud.
    progress: called twice for each photo.

    Takes about 3 s of one core for each photo, and memory for a few dozen photos and the cloud. A model of fewer than
    two photos gives no points.
    Raises InvalidValueError where a photo has another size than its camera,
    ImageReadError where one cannot be read.
    """
    options = options or DensifyOptions()
    pictures = StereoImages(model, images, masks, options.long_side, _KEPT_PICTURES)
    views = dense_views(model, pictures, _NUM_NEIGHBORS)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="depth-") as folder:
        maps = _Maps(Path(folder), views)

        def find(number: int) -> None:
            view = views[number]
            others = [(views[other], pictures(views[other].name)) for other in view.neighbors]
            if others:
                found = depth_map(view, pictures(view.name), others)
                maps.write(number, np.where(found.score >= _LEAST_SCORE, found.inverse_depth, 0))

        with thread_pool() as pool:
            for _ in pool.map(find, range(len(views))):
                progress()
        return _fused(views, maps, pictures, options.max_points, options.seed, on_depth, progress)


def _fused(
    views: list[StereoView],
    maps: _Maps,
    pictures: StereoImages,
    max_points: int,
    seed: int,
    on_depth: Callable[[str, np.ndarray, np.ndarray], None] | None,
    progress: Callable[[], None],
) -> DensePoints:
    """The confirmed points of all views, merged."""
    clouds, footprints = [_nothing()], [np.zeros(0, np.float32)]
    share = max(_SURPLUS * max_points // max(len(views), 1), 1)

    def gather(number: int) -> tuple[DensePoints, np.ndarray]:
        view = views[number]
        others = [(views[other], maps(other)) for other in view.neighbors]
        found = agreed_points(view, maps(number), others, min(_CONFIRMING, max(len(others), 1)))
        if on_depth is not None:
            on_depth(view.name, view.K, _depth(view, found))
        chosen = _some(len(found.points), share, seed, number)
        colors = pictures(view.name).rgb.reshape(-1, 3)[found.pixels[chosen]]
        points = found.points[chosen].astype(np.float32)
        return DensePoints(points, colors, found.normals[chosen], found.num_views[chosen]), found.footprint[chosen]

    with thread_pool() as pool:
        for cloud, footprint in pool.map(gather, range(len(views))):
            clouds.append(cloud)
            footprints.append(footprint)
            progress()
    merged, _ = merge(joined(clouds), np.concatenate(footprints))
    return merged.select(_some(len(merged), max_points, seed, len(views)))


def _depth(view: StereoView, found: Agreed) -> np.ndarray:
    """(h, w) float32: the depth of the confirmed points in their view, 0 elsewhere."""
    depth = np.zeros(view.size[0] * view.size[1], np.float32)
    depth[found.pixels] = (found.points - view.center) @ view.rotation[2]
    return depth.reshape(view.size[::-1])


def _some(count: int, most: int, seed: int, stream: int) -> np.ndarray:
    """A random sample of at most `most` of `count` indices, ascending. stream: seeds independent samples."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng((seed, stream)).choice(count, most, replace=False))


def _nothing() -> DensePoints:
    return DensePoints(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.float32), np.zeros(0, np.int32)
    )


class _Maps:
    """The inverse depth maps of all views, on disk, 16 bits a pixel."""

    def __init__(self, folder: Path, views: list[StereoView]) -> None:
        self._folder, self._views = folder, views
        self._cache: Cache[int, np.ndarray] = Cache(self._read, _KEPT_PICTURES)

    def write(self, number: int, inverse_depth: np.ndarray) -> None:
        """Write the inverse depth (h, w) of view `number`, 0 where unknown."""
        low, high = self._views[number].inverse_depths
        levels = 1 + np.rint((inverse_depth - low) / (high - low) * (_LEVELS - 1))
        np.save(self._path(number), np.where(inverse_depth > 0, levels, 0).astype(np.uint16))

    def __call__(self, number: int) -> np.ndarray:
        """The inverse depth of view `number`, (h, w) float32."""
        return self._cache(number)

    def _read(self, number: int) -> np.ndarray:
        if not self._path(number).is_file():
            return np.zeros(self._views[number].size[::-1], np.float32)
        levels = np.load(self._path(number)).astype(np.float32)
        low, high = self._views[number].inverse_depths
        return np.where(levels > 0, np.float32(low) + (levels - 1) * np.float32((high - low) / (_LEVELS - 1)), 0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npy"
