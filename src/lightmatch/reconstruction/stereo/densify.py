"""A dense cloud from a finished model: what Gaussian splats start from.

Every pixel of every photo is matched along its epipolar lines in the photos beside it (`dense_depth`), and a point is
kept where the depths of several photos agree (`dense_fusion`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.reconstruction.outputs.clouds import DensePoints
from lightmatch.reconstruction.stereo.depth import depth_map
from lightmatch.reconstruction.stereo.fusion import Agreed, agreed_points, joined, merge
from lightmatch.reconstruction.stereo.views import Cache, Pictures, View, dense_views, require_long_side
from lightmatch.runtime.threads import thread_pool

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_NUM_NEIGHBORS = 5
_LEAST_SCORE = 0.5  # mean correlation; whether it is right, the other views tell
_CONFIRMING = 2  # views beside a point's own, where there are as many
_KEPT_PICTURES = 24  # in memory, about 2 MB each at the usual size
_SURPLUS = 4  # points gathered for each one that may stay: duplicates fall away
_LEVELS = 65535  # depths wait on disk in 16 bits: even steps of inverse depth are even steps along epipolar lines


def densify(
    model: Reconstruction,
    images: Path,
    masks: Path | None,
    *,
    max_points: int = 1_000_000,
    seed: int = 0,
    long_side: int = 800,
    scratch: Path | None = None,
    on_depth: Callable[[str, np.ndarray, np.ndarray], None] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> DensePoints:
    """A dense cloud of what at least three photos (two, where there are no more) see alike, in the world of `model`.

    images: the folder of the photos in the model. masks: of `<name>.png`, 0 gives no points; None, or photos without
    one, hide nothing. max_points: the most there are; a choice at random beyond. seed: of that choice; the result is
    the same to the bit for the same input. long_side: px that photos are shrunk to: half as much is four times as
    fast, twice as much finds four times the points, half as far from the truth. scratch: a folder for depth maps that
    wait (1 MB a photo), the system's own where None. on_depth: called for each photo, from several threads, with its
    name, (3, 3) K of the pinhole camera that looks at it, our pixels, and (h, w) float32 depth, z in the camera, 0
    where no point of the cloud came from. progress: called twice for each photo.

    Takes about 3 s of one core for each photo, and memory for a few dozen of them, however many there are, beside the
    cloud. A model of one photo or of none gives no points.
    Raises InvalidValueError where an option is out of range or a photo has another size than its camera,
    ImageReadError where one cannot be read.
    """
    if max_points < 1:
        raise InvalidValueError(f"max_points: expected at least 1, got {max_points}")
    require_long_side(long_side)
    pictures = Pictures(model, images, masks, long_side, _KEPT_PICTURES)
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
        return _fused(views, maps, pictures, max_points, seed, on_depth, progress)


def _fused(
    views: list[View],
    maps: _Maps,
    pictures: Pictures,
    max_points: int,
    seed: int,
    on_depth: Callable[[str, np.ndarray, np.ndarray], None] | None,
    progress: Callable[[], None],
) -> DensePoints:
    """The points of all views, merged where they meet."""
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


def _depth(view: View, found: Agreed) -> np.ndarray:
    """(h, w) float32: the depth of the points of a view in it, 0 elsewhere."""
    depth = np.zeros(view.size[0] * view.size[1], np.float32)
    depth[found.pixels] = (found.points - view.center) @ view.rotation[2]
    return depth.reshape(view.size[::-1])


def _some(count: int, most: int, seed: int, stream: int) -> np.ndarray:
    """At most `most` of `count` indices at random, ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng((seed, stream)).choice(count, most, replace=False))


def _nothing() -> DensePoints:
    return DensePoints(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.float32), np.zeros(0, np.int32)
    )


class _Maps:
    """The inverse depths of views, on disk."""

    def __init__(self, folder: Path, views: list[View]) -> None:
        self._folder, self._views = folder, views
        self._cache: Cache[int, np.ndarray] = Cache(self._read, _KEPT_PICTURES)

    def write(self, number: int, inverse_depth: np.ndarray) -> None:
        """Keep the map (h, w) of view `number`, 0 where unknown."""
        low, high = self._views[number].inverse_depths
        levels = 1 + np.rint((inverse_depth - low) / (high - low) * (_LEVELS - 1))
        np.save(self._path(number), np.where(inverse_depth > 0, levels, 0).astype(np.uint16))

    def __call__(self, number: int) -> np.ndarray:
        """The map of view `number`, (h, w) float32."""
        return self._cache(number)

    def _read(self, number: int) -> np.ndarray:
        if not self._path(number).is_file():
            return np.zeros(self._views[number].size[::-1], np.float32)
        levels = np.load(self._path(number)).astype(np.float32)
        low, high = self._views[number].inverse_depths
        return np.where(levels > 0, np.float32(low) + (levels - 1) * np.float32((high - low) / (_LEVELS - 1)), 0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npy"
