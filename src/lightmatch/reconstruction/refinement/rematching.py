"""Matching again once the cameras are known: many more keypoints, each searched for along its epipolar line.

What matches without knowing the geometry is a few hundred of the strongest keypoints of a pair. With the poses of a
finished model, thousands more can be matched by their descriptors alone, and each match stands under the same test: the
model becomes denser, its tracks longer, its cameras more precise.
Source: Hartley & Zisserman, Multiple View Geometry, 2nd edition, algorithm 11.4, guided matching.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightmatch.colmap.database import copy_database, open_database
from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.models import registered_images
from lightmatch.colmap.options import pipeline_options
from lightmatch.geometry.coordinates import colmap_from_pixels, compose_rigid, invert_rigid, pixels_from_colmap
from lightmatch.geometry.epipolar import sampson_error_px
from lightmatch.matchers.guided import GuidedOptions, match_guided
from lightmatch.matchers.guided_pairs import PosedViews
from lightmatch.reconstruction.mapping.cleaning import filter_points
from lightmatch.runtime.threads import thread_pool
from lightmatch.sfm.bundle_adjustment import AdjustOptions, adjust
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Image, Reconstruction

MAX_ERROR_PX = 2.0  # from the epipolar line, in a photo of WORKED_ON_PX; features of larger ones are as much coarser
WORKED_ON_PX = 1600
RATIO = 0.8
FEW_SHARED = 15  # points seen by both photos: with fewer, their relative pose is not to be trusted
_DEPTH_MARGIN = 2.0  # how far beyond the depths of the points of a photo others may lie
_COARSE = 1e-4
_OFF = -1e6  # px: where no keypoint can match


def rematch(
    model: Reconstruction,
    database: Path,
    target: Path,
    images: Path,
    features: Mapping[str, Features],
    *,
    adjust_options: AdjustOptions | None = None,
    seed: int | None = None,
    on_pair: Callable[[], None] = lambda: None,
) -> Reconstruction:
    """A denser and more precise model of the same photos, and the database of its matches.

    model: stays as it is. database: of the model, with verified matches; `target` becomes a copy of it in which pairs
    of placed photos that share points have new verified matches: the old ones that agree with the poses, and guided
    ones. features: by the name of the photo, of all that the database has; the first keypoints are those of the
    database, in its order. The copy gets all of them.
    on_pair: called for each pair matched (`pairs_to_rematch` gives their number).
    Returns the model triangulated anew from them and adjusted.
    """
    views = {image.name: _View.of(image, model) for image in registered_images(model)}
    pairs = pairs_to_rematch(model)
    copy_database(database, target)
    with open_database(target) as opened:
        verified = {pair: opened.inliers(pair) for pair in pairs}

    def work(pair: tuple[str, str]) -> np.ndarray:
        first, second = (views[name] for name in pair)
        return _matches_of(first, second, features[pair[0]], features[pair[1]], verified[pair])

    with thread_pool() as pool, open_database(target, write=True) as opened:
        for photo in opened.photos:
            opened.replace_keypoints(photo.name, features[photo.name].keypoints)
        for pair, indices in zip(pairs, pool.map(work, pairs), strict=True):
            opened.replace_verified(pair, indices)
            on_pair()
    return _triangulated(model, target, images, adjust_options, seed)


def pairs_to_rematch(model: Reconstruction) -> list[tuple[str, str]]:
    """Pairs of photos that see enough points together, sorted by name."""
    shared: Counter[tuple[str, ...]] = Counter()  # from the points, not from all pairs: most see nothing together
    names = {image.image_id: image.name for image in registered_images(model)}
    for point in model.points3D.values():
        shared.update(combinations(sorted({names[seen.image_id] for seen in point.track.elements}), 2))
    return sorted((first, second) for (first, second), count in shared.items() if count >= FEW_SHARED)


class _View:
    """What matching needs of a placed photo."""

    def __init__(self, image: Image, depths: tuple[float, float]) -> None:
        assert image.camera is not None  # of a model
        self.camera = image.camera
        self.cam_from_world = torch.from_numpy(image.cam_from_world().matrix())
        self.K = torch.from_numpy(self.camera.calibration_matrix().copy())
        self.K[:2, 2] = pixels_from_colmap(self.K[:2, 2])
        self.depths = depths
        self.max_error_px = MAX_ERROR_PX * max(1.0, max(self.camera.width, self.camera.height) / WORKED_ON_PX)

    @classmethod
    def of(cls, image: Image, model: Reconstruction) -> _View:
        """The view of an image of `model`."""
        pose = image.cam_from_world()
        points = [model.point3D(p.point3D_id).xyz for p in image.points2D if p.has_point3D()]
        depths = np.array([pose * xyz for xyz in points])[:, 2] if points else np.array([1.0])
        near, far = np.quantile(depths[depths > 0], [0.01, 0.99]) if (depths > 0).any() else (1e-6, 1.0)
        return cls(image, (float(near / _DEPTH_MARGIN), float(far * _DEPTH_MARGIN)))

    def ideal(self, features: Features) -> Features:
        """The features with keypoints as an ideal camera of the same K sees them; far off where it cannot."""
        pixels = colmap_from_pixels(features.keypoints.double()).numpy()
        rays = np.asarray(self.camera.cam_from_img(pixels))[:, :2]
        straight = torch.from_numpy(np.where(np.isfinite(rays).all(1, keepdims=True), rays, 0.0))
        points = straight @ self.K[:2, :2].T + self.K[:2, 2]
        points[torch.from_numpy(~np.isfinite(rays).all(1))] = _OFF
        return replace(features, keypoints=points.float())


def _matches_of(
    first: _View, second: _View, features0: Features, features1: Features, verified: np.ndarray
) -> np.ndarray:
    """(k, 2) uint32: verified matches that agree with the poses, and guided ones of keypoints they leave free."""
    ideal0, ideal1 = first.ideal(features0), second.ideal(features1)
    cam1_from_cam0 = compose_rigid(second.cam_from_world, invert_rigid(first.cam_from_world))
    views = PosedViews(cam1_from_cam0, first.K, second.K, first.depths, second.depths)
    most = max(first.max_error_px, second.max_error_px)
    old = torch.from_numpy(verified.astype(np.int64))
    points0, points1 = ideal0.keypoints[old[:, 0]].double(), ideal1.keypoints[old[:, 1]].double()
    old = old[sampson_error_px(views.fundamental(), points0, points1) <= most]
    guided = match_guided(ideal0, ideal1, views, GuidedOptions(max_error_px=most, ratio=RATIO)).indices
    free = ~(torch.isin(guided[:, 0], old[:, 0]) | torch.isin(guided[:, 1], old[:, 1]))
    both = torch.cat((old, guided[free]))
    return both[both[:, 0].argsort()].numpy().astype(np.uint32)


def _triangulated(
    model: Reconstruction, database: Path, images: Path, adjust_options: AdjustOptions | None, seed: int | None
) -> Reconstruction:
    """The cameras of `model` with the points of `database`, adjusted, without outliers."""
    import pycolmap

    options = pipeline_options(seed)
    options.triangulation.ignore_two_view_tracks = model.num_reg_images() > 2
    copy = pycolmap.Reconstruction(model)  # its points and keypoints are replaced by those of the database
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch, colmap_log(FATAL):
        dense = pycolmap.triangulate_points(copy, database, images, scratch, options=options)
    coarse = replace(adjust_options or AdjustOptions(), tolerance=_COARSE)  # outliers are still to go
    for _ in range(2):
        filter_points(dense)
        adjust(dense, coarse)
    filter_points(dense)
    return dense
