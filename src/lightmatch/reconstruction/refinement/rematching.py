"""Matching again once the cameras are known: many more keypoints, each searched for along its epipolar line.

What matches without knowing the geometry is a few hundred of the strongest keypoints of a pair. With the poses of a
finished model, thousands more can be matched by their descriptors alone, and each match stands under the same test: the
model becomes denser, its tracks longer, its cameras more precise.
Source: Hartley & Zisserman, Multiple View Geometry, 2nd edition, algorithm 11.4, guided matching.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightmatch.colmap.database import copy_database, open_database
from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.models import registered_images
from lightmatch.colmap.options import pipeline_options
from lightmatch.geometry.coordinates import colmap_from_pixels, compose_rigid, invert_rigid, pixels_from_colmap
from lightmatch.geometry.epipolar import sampson_error_px
from lightmatch.matchers.guided import GuidedOptions, match_guided
from lightmatch.matchers.guided_pairs import PosedViews
from lightmatch.reconstruction.mapping.cleaning import filter_points
from lightmatch.reconstruction.mapping.thinning import FEW_PHOTOS
from lightmatch.runtime.executor import Executor, Threads
from lightmatch.sfm.bundle_adjustment import AdjustOptions, adjust
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Camera, Image, Reconstruction

MAX_ERROR_PX = 2.0  # from the epipolar line, in a photo of WORKED_ON_PX; features of larger ones are as much coarser
WORKED_ON_PX = 1600
RATIO = 0.8
MOST_PARTNERS = 20  # that a photo is matched again with; others may have it among theirs
FEW_SHARED = 15  # points seen by both photos: with fewer, their relative pose is not to be trusted
_DEPTH_MARGIN = 2.0  # how far beyond the depths of the points of a photo others may lie
_COARSE = 1e-4
_OFF = -1e6  # px: where no keypoint can match


@dataclass(frozen=True)
class RematchOptions:
    """How a model is made from new matches."""

    adjust: AdjustOptions = field(default_factory=AdjustOptions)  # what may be adjusted
    seed: int | None = None


def rematch(
    model: Reconstruction,
    database: Path,
    target: Path,
    images: Path,
    features: Mapping[str, Features],
    options: RematchOptions | None = None,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    executor: Executor | None = None,
    on_pair: Callable[[], None] = lambda: None,
) -> Reconstruction:
    """A denser and more precise model of the same photos, and the database of its matches.

    model: stays as it is. database: of the model, with verified matches; `target` becomes a copy of it in which some
    pairs have new verified matches: the old ones that agree with the poses, and guided ones. pairs: which ones, of
    placed photos; by default `pairs_to_rematch` of the model. features: by the name of the photo, of all that the
    database has; the first keypoints are those of the database, in its order. The copy gets all of them. It is pickled
    with each job where the executor uses processes.
    executor: matches several pairs at a time; threads of this process by default. on_pair: called for each pair.
    Returns the model triangulated anew from them and adjusted.
    """
    options = options or RematchOptions()
    views = {image.name: PlacedView.of(image, model) for image in registered_images(model)}
    if pairs is None:
        pairs = pairs_to_rematch(model)
    copy_database(database, target)
    with open_database(target) as opened:
        verified = [opened.inliers(pair) for pair in pairs]
    jobs = [
        PlacedPair(name0, name1, views[name0], views[name1], old)
        for (name0, name1), old in zip(pairs, verified, strict=True)
    ]
    with (
        closing((executor or Threads()).map(partial(rematch_pair, features), jobs)) as results,
        open_database(target, write=True) as opened,
    ):
        for photo in opened.photos:
            opened.replace_keypoints(photo.name, features[photo.name].keypoints)
        for job, indices in zip(jobs, results, strict=True):
            opened.replace_verified((job.name0, job.name1), indices, job.cam1_from_cam0)
            on_pair()
    return _triangulated(model, target, images, options)


def pairs_to_rematch(model: Reconstruction) -> list[tuple[str, str]]:
    """Pairs of photos that see enough points together, sorted by name.

    Of each photo the MOST_PARTNERS that share most points with it, so that their number grows with that of the photos.
    """
    shared: Counter[tuple[str, ...]] = Counter()  # from the points, not from all pairs: most see nothing together
    names = {image.image_id: image.name for image in registered_images(model)}
    for point in model.points3D.values():
        shared.update(combinations(sorted({names[seen.image_id] for seen in point.track.elements}), 2))
    partners: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for (first, second), count in shared.items():
        if count >= FEW_SHARED:
            partners[first].append((-count, second))
            partners[second].append((-count, first))
    best = [(name, other) for name, others in partners.items() for _, other in sorted(others)[:MOST_PARTNERS]]
    return sorted({(min(pair), max(pair)) for pair in best})


@dataclass(frozen=True, eq=False)
class PlacedView:
    """What matching needs of a placed photo."""

    camera: Camera
    cam_from_world: Tensor  # (3, 4)
    depths: tuple[float, float]  # nearest and farthest that a point may have, in units of the model

    @property
    def K(self) -> Tensor:  # noqa: N802
        """(3, 3) float64, our pixels: the intrinsics of the camera without its distortion."""
        K = torch.from_numpy(self.camera.calibration_matrix().copy())
        K[:2, 2] = pixels_from_colmap(K[:2, 2])
        return K

    @property
    def max_error_px(self) -> float:
        """How far from its epipolar line a keypoint may lie."""
        return MAX_ERROR_PX * max(1.0, max(self.camera.width, self.camera.height) / WORKED_ON_PX)

    @classmethod
    def of(cls, image: Image, model: Reconstruction) -> PlacedView:
        """The view of an image of `model`."""
        assert image.camera is not None  # of a model
        pose = image.cam_from_world()
        points = [model.point3D(p.point3D_id).xyz for p in image.points2D if p.has_point3D()]
        depths = np.array([pose * xyz for xyz in points])[:, 2] if points else np.array([1.0])
        near, far = np.quantile(depths[depths > 0], [0.01, 0.99]) if (depths > 0).any() else (1e-6, 1.0)
        depths = float(near / _DEPTH_MARGIN), float(far * _DEPTH_MARGIN)
        return cls(image.camera, torch.from_numpy(pose.matrix()), depths)

    def ideal(self, features: Features) -> Features:
        """The features with keypoints as an ideal camera of the same K sees them; far off where it cannot."""
        pixels = colmap_from_pixels(features.keypoints.double()).numpy()
        rays = np.asarray(self.camera.cam_from_img(pixels))[:, :2]
        straight = torch.from_numpy(np.where(np.isfinite(rays).all(1, keepdims=True), rays, 0.0))
        K = self.K
        points = straight @ K[:2, :2].T + K[:2, 2]
        points[torch.from_numpy(~np.isfinite(rays).all(1))] = _OFF
        return replace(features, keypoints=points.float())

    def stretch(self, keypoints: Tensor) -> Tensor:
        """How far `ideal` moves keypoints (n, 2) apart at most: (n,), 1 for all but fisheyes, whose edges it widens.

        A pixel at 60° from the axis of an equidistant fisheye becomes four.
        """
        if "FISHEYE" not in self.camera.model_name or len(keypoints) == 0:
            return torch.ones(len(keypoints), dtype=torch.float64)
        around = keypoints.double()[:, None] + torch.tensor([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]]).double()
        pixels = colmap_from_pixels(around.reshape(-1, 2)).numpy()
        rays = torch.from_numpy(np.asarray(self.camera.cam_from_img(pixels))[:, :2]).unflatten(0, (-1, 4))
        columns = torch.stack((rays[:, 0] - rays[:, 1], rays[:, 2] - rays[:, 3]), -1) * self.K.diagonal()[:2, None]
        return torch.linalg.matrix_norm(columns.nan_to_num(), ord=2).clamp_min(1)


@dataclass(frozen=True, eq=False)
class PlacedPair:
    """A pair of placed photos to match again."""

    name0: str
    name1: str
    view0: PlacedView
    view1: PlacedView
    verified: np.ndarray  # (k, 2) indices of keypoints: matches of the first model

    @property
    def cam1_from_cam0(self) -> Tensor:
        """(3, 4) float64, in the unit of the model."""
        return compose_rigid(self.view1.cam_from_world, invert_rigid(self.view0.cam_from_world))


def rematch_pair(features: Mapping[str, Features], pair: PlacedPair) -> np.ndarray:
    """Verified matches that agree with the poses, and guided ones of keypoints they leave free: a job of an executor.

    features: by the name of the photo. Returns (k, 2) uint32, indices of keypoints.
    """
    first, second = pair.view0, pair.view1
    features0, features1 = features[pair.name0], features[pair.name1]
    ideal0, ideal1 = first.ideal(features0), second.ideal(features1)
    views = PosedViews(pair.cam1_from_cam0, first.K, second.K, first.depths, second.depths)
    most = max(first.max_error_px, second.max_error_px)
    old = torch.from_numpy(pair.verified.astype(np.int64))
    points0, points1 = ideal0.keypoints[old[:, 0]].double(), ideal1.keypoints[old[:, 1]].double()
    stretch0 = first.stretch(features0.keypoints[old[:, 0]])
    stretch1 = second.stretch(features1.keypoints[old[:, 1]])
    errors_px = sampson_error_px(views.fundamental(), points0, points1)
    old = old[errors_px <= most * torch.maximum(stretch0, stretch1)]
    guided = match_guided(ideal0, ideal1, views, GuidedOptions(max_error_px=most, ratio=RATIO)).indices
    free = ~(torch.isin(guided[:, 0], old[:, 0]) | torch.isin(guided[:, 1], old[:, 1]))
    both = torch.cat((old, guided[free]))
    return both[both[:, 0].argsort()].numpy().astype(np.uint32)


def _triangulated(model: Reconstruction, database: Path, images: Path, how: RematchOptions) -> Reconstruction:
    """The cameras of `model` with the points of `database`, adjusted, without outliers."""
    import pycolmap

    options = pipeline_options(how.seed)
    options.triangulation.ignore_two_view_tracks = model.num_reg_images() > 2
    if model.num_reg_images() > FEW_PHOTOS:
        # Five, COLMAP's own number, take twice as long for 0.04 % more observations.
        options.ba_global_max_refinements = 2
    copy = pycolmap.Reconstruction(model)  # its points and keypoints are replaced by those of the database
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch, colmap_log(FATAL):
        dense = pycolmap.triangulate_points(copy, database, images, scratch, options=options)
    coarse = replace(how.adjust, tolerance=_COARSE)  # outliers are still to go
    for _ in range(2):
        filter_points(dense)
        adjust(dense, coarse)
    filter_points(dense)
    return dense
