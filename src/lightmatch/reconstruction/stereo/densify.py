"""Multi-view stereo: a dense cloud from a finished model, for example to initialise Gaussian splats.

Every pixel of every photo is matched along its epipolar lines in neighbouring photos (`depth`), and a point is kept
where the depths of several photos agree (`fusion`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.reconstruction.outputs.clouds import DensePoints
from lightmatch.reconstruction.stereo.depth import depth_map
from lightmatch.reconstruction.stereo.fusion import Agreed, agreed_points, joined, merge
from lightmatch.reconstruction.stereo.views import Cache, StereoImages, StereoView, dense_views, require_long_side
from lightmatch.runtime.executor import Executor, Threads, forget, remembered
from lightmatch.runtime.files import replacing

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_NUM_NEIGHBORS = 5
_LEAST_SCORE = 0.5  # mean NCC; low, since fusion rejects wrong depths
_CONFIRMING = 2  # other views that must confirm a point, where there are as many
_KEPT_MB, _LEAST_KEPT = 256, 24  # pictures, and as many depth maps, in memory: some 130 of the default size
_SURPLUS = 4  # points gathered for each one of max_points, since fusion removes duplicates
_LEVELS = 65535  # inverse depths are stored in 16 bits: equal steps are about equal along epipolar lines

OnDepth = Callable[[str, np.ndarray, np.ndarray], None]


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
    maps: Path | None = None,
    on_depth: OnDepth | None = None,
    executor: Executor | None = None,
    progress: Callable[[], None] = lambda: None,
) -> DensePoints:
    """A dense cloud of points on which at least three photos (two, if there are no more) agree, in the model's frame.

    images: the folder of the photos in the model. masks: the folder of `<name>.png`, where pixels of 0 give no points;
    photos without a mask are used whole. maps: a folder for depth maps (1 MB a photo), a temporary one where None; maps
    that an earlier call for the same model and photos left there are taken.
    on_depth: called for each photo, from several threads or, pickled, in other processes, with its name, K (3, 3) of
    its undistorted camera, our pixels, and the depth (h, w) float32, z in the camera, 0 without a point of the cloud.
    executor: works on several photos at a time; threads of this process by default. progress: called twice for each
    photo.

    Takes about 3 s of one core for each photo, and memory for a few dozen photos and the cloud. A model of fewer than
    two photos gives no points.
    Raises InvalidValueError where a photo has another size than its camera,
    ImageReadError where one cannot be read.
    """
    options = options or DensifyOptions()
    executor = executor or Threads()
    kept = max(_LEAST_KEPT, int(_KEPT_MB * 1e6 / (3 * options.long_side**2)))
    pictures = StereoImages(model, images, masks, options.long_side, kept)
    views = tuple(dense_views(model, pictures, _NUM_NEIGHBORS))
    with nullcontext(maps) if maps is not None else tempfile.TemporaryDirectory(prefix="depth-") as folder:
        scene = StereoScene(uuid4().hex, views, pictures, DepthMaps(Path(folder), views, kept))
        try:
            with closing(executor.map(partial(find_depth, scene), range(len(views)))) as found:
                for _ in found:
                    progress()
            share = max(_SURPLUS * options.max_points // max(len(views), 1), 1)
            fusion = Fusion(scene, share, options.seed, on_depth)
            clouds, footprints = [_nothing()], [np.zeros(0, np.float32)]
            with closing(executor.map(partial(fuse_view, fusion), range(len(views)))) as gathered:
                for cloud, footprint in gathered:
                    clouds.append(cloud)
                    footprints.append(footprint)
                    progress()
        finally:
            forget(scene.run)
    merged, _ = merge(joined(clouds), np.concatenate(footprints))
    return merged.select(_some(len(merged), options.max_points, options.seed, len(views)))


@dataclass(frozen=True, eq=False)
class StereoScene:
    """What the jobs of all views share."""

    run: str  # tells calls apart
    views: tuple[StereoView, ...]
    pictures: StereoImages
    maps: DepthMaps

    def of_process(self) -> StereoScene:
        """The copy that came to this process first: it keeps pictures and depth maps in memory for all jobs."""
        return remembered(self.run, "scene", lambda: self)


def find_depth(scene: StereoScene, number: int) -> None:
    """Write the depth map of view `number`, unless it is there or the view has no neighbours: a job of an executor."""
    scene = scene.of_process()
    view = scene.views[number]
    if view.neighbors and number not in scene.maps:
        others = [(scene.views[other], scene.pictures(scene.views[other].name)) for other in view.neighbors]
        found = depth_map(view, scene.pictures(view.name), others)
        scene.maps.write(number, np.where(found.score >= _LEAST_SCORE, found.inverse_depth, 0))


@dataclass(frozen=True, eq=False)
class Fusion:
    """What the jobs of all views share once their depth maps are there."""

    scene: StereoScene
    share: int  # most points of a view
    seed: int  # of the sample of more
    on_depth: OnDepth | None


def fuse_view(fusion: Fusion, number: int) -> tuple[DensePoints, np.ndarray]:
    """The points of view `number` that other views confirm, and their footprints (n,): a job of an executor."""
    scene = fusion.scene.of_process()
    view = scene.views[number]
    others = [(scene.views[other], scene.maps(other)) for other in view.neighbors]
    found = agreed_points(view, scene.maps(number), others, min(_CONFIRMING, max(len(others), 1)))
    if fusion.on_depth is not None:
        fusion.on_depth(view.name, view.K, _depth(view, found))
    chosen = _some(len(found.points), fusion.share, fusion.seed, number)
    colors = scene.pictures(view.name).rgb.reshape(-1, 3)[found.pixels[chosen]]
    points = found.points[chosen].astype(np.float32)
    return DensePoints(points, colors, found.normals[chosen], found.num_views[chosen]), found.footprint[chosen]


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


class DepthMaps:
    """The inverse depth maps of all views, on disk, 16 bits a pixel; the last few read are kept in memory.

    Threads may share it; pickled it is the name of the folder and the views.
    """

    def __init__(self, folder: Path, views: Sequence[StereoView], keep: int) -> None:
        """keep: number of maps in memory."""
        self._folder, self._views, self._keep = folder, views, keep
        self._cache: Cache[int, np.ndarray] = Cache(self._read, keep)

    def __reduce__(self) -> tuple[type[DepthMaps], tuple[Path, Sequence[StereoView], int]]:
        return DepthMaps, (self._folder, self._views, self._keep)

    def write(self, number: int, inverse_depth: np.ndarray) -> None:
        """Write the inverse depth (h, w) of view `number`, 0 where unknown."""
        low, high = self._views[number].inverse_depths
        levels = 1 + np.rint((inverse_depth - low) / (high - low) * (_LEVELS - 1))
        with replacing(self._path(number)) as partial, partial.open("wb") as file:
            np.save(file, np.where(inverse_depth > 0, levels, 0).astype(np.uint16))

    def __contains__(self, number: int) -> bool:
        """Whether that of view `number` was written."""
        return self._path(number).is_file()

    def __call__(self, number: int) -> np.ndarray:
        """The inverse depth of view `number`, (h, w) float32."""
        return self._cache(number)

    def _read(self, number: int) -> np.ndarray:
        if number not in self:
            return np.zeros(self._views[number].size[::-1], np.float32)
        levels = np.load(self._path(number)).astype(np.float32)
        low, high = self._views[number].inverse_depths
        return np.where(levels > 0, np.float32(low) + (levels - 1) * np.float32((high - low) / (_LEVELS - 1)), 0)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npy"
