"""Views of posed photos: ground truth from depth maps, or from the 3D points of a reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError, TrainingError
from lightmatch.extractors import Extractor
from lightmatch.geometry.coordinates import (
    compose_rigid,
    invert_rigid,
    pairwise_distances,
    scale_intrinsics,
    transform_points,
)
from lightmatch.geometry.correspondence import Projection, Visibility, project_by_depth
from lightmatch.geometry.depth import project, unproject
from lightmatch.geometry.epipolar import essential_from_pose, fundamental_from_essential
from lightmatch.images import keypoints_to_size, load_image, resize_to_fit
from lightmatch.runtime.files import file_state
from lightmatch.training.overlap import choose_views, fitting_pairs
from lightmatch.training.photos import Split
from lightmatch.training.posed_scenes import DepthPhoto, PosedScene, find_scenes, read_depth, read_scene
from lightmatch.training.views import ViewGroup
from lightmatch.types import Features, Image


@dataclass(frozen=True)
class PosedConfig:
    """How groups are formed from posed photos. The overlap range is that of Sun et al. 2021 (LoFTR)."""

    views_per_group: int = 6
    long_side: int = 1024  # px that photos are resized to
    overlap: tuple[float, float] = (0.1, 0.7)  # of a pair: the smaller of both overlaps
    validation_share: float = 0.1  # part of each scene's photos that is held out
    point_px: float = 2.0  # without depth maps: keypoints this near to the image of a 3D point are that point

    def __post_init__(self) -> None:
        if self.views_per_group < 2 or self.long_side < 1 or self.point_px <= 0 or not 0 < self.validation_share < 1:
            raise InvalidValueError(
                "PosedConfig: expected views_per_group ≥ 2, long_side ≥ 1, point_px > 0 and validation_share"
                f" inside 0…1, got {self}"
            )
        if not 0 <= self.overlap[0] < self.overlap[1] <= 1:
            raise InvalidValueError(f"PosedConfig.overlap: expected 0 ≤ low < high ≤ 1, got {self.overlap}")


@dataclass(frozen=True)
class PosedSource:
    """Groups of photos that overlap; the group of an index is always the same. Scenes come in turn.

    models: folders with photos and a COLMAP model, with or without depth maps, and roots of MegaDepth's form.
    Of each scene some photos that overlap are held out for validation.
    """

    models: Sequence[Path]
    split: Split = "train"
    seed: int = 0
    config: PosedConfig = PosedConfig()
    _views: dict[tuple[Path, Path], _View] = field(default_factory=dict, init=False, compare=False)  # of scene, photo

    def __repr__(self) -> str:
        # What the groups depend on, for the name of their folder: a model may have been made anew.
        paths = find_scenes(self.models)
        files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*points3D.*")))]
        states = [(str(file), file_state(file)) for file in files]
        scenes = [str(path) for path in paths]
        return f"PosedSource({scenes}, {states}, {self.split}, {self.seed}, {self.config}, {_HELD_OUT} held out)"

    def group(self, index: int, extractor: Extractor) -> ViewGroup:
        """Group number `index`. Raises TrainingError where a scene is no such folder or has too few photos."""
        rng = np.random.default_rng((self.seed, index))
        paths = find_scenes(self.models)
        scene = read_scene(paths[index % len(paths)])
        members = np.array(_members(scene, self.split, self.config.validation_share))
        fits = fitting_pairs(scene.overlap[np.ix_(members, members)], *self.config.overlap)
        chosen = members[choose_views(fits, min(self.config.views_per_group, len(members)), rng)]
        views = [self._view(scene, scene.photos[number], extractor) for number in chosen]
        return ViewGroup.from_projections(
            [view.features for view in views],
            [[_project(view, other) for other in views] for view in views],
            torch.stack([torch.stack([_fundamental(view, other) for other in views]) for view in views]).float(),
        )

    def _view(self, scene: PosedScene, photo: DepthPhoto, extractor: Extractor) -> _View:
        """A photo, which all groups that it is in show alike."""
        key = scene.path, photo.path
        if key not in self._views:
            if len(self._views) >= _KEPT_VIEWS:
                self._views.clear()
            self._views[key] = _load_view(scene, photo, extractor, self.config)
        return self._views[key]


_KEPT_VIEWS = 200  # photos whose features and depths stay in memory: groups of one scene share them
_HELD_OUT = 6  # photos of a scene at least, for validation to see more than one pair; or a quarter of few


def _members(scene: PosedScene, split: Split, share: float) -> list[int]:
    """The photos of one side: held out are the first by name and those that overlap most with it."""
    count = len(scene.photos)
    if count < 4:
        raise TrainingError(
            f"{scene.path}: expected at least 4 posed photos (with depth maps, where there are any), got {count}"
        )
    num_held_out = min(max(round(share * count), min(count // 4, _HELD_OUT), 2), count - 2)
    nearness = np.minimum(scene.overlap[0], scene.overlap[:, 0])
    nearness[0] = np.inf
    order = np.argsort(-nearness, kind="stable")
    return sorted((order[:num_held_out] if split == "validation" else order[num_held_out:]).tolist())


@dataclass(frozen=True, eq=False)
class _View:
    """An undistorted photo with the known depths of its keypoints."""

    features: Features
    K: Tensor  # (3, 3) float64
    cam_from_world: Tensor  # (3, 4) float64
    depth_map: Tensor | None  # (h, w) float32, of any size; without it:
    observed: Tensor  # (k,) int64, 3D points that are seen
    point: Tensor  # (n,) int64, the 3D point that each keypoint is, where it is one
    point_depth: Tensor  # (n,) float64, its depth; 0 where a keypoint is none


def _load_view(scene: PosedScene, photo: DepthPhoto, extractor: Extractor, config: PosedConfig) -> _View:
    image = load_image(photo.path)
    stated = photo.size or image.size
    # Sizes of one photo at two resolutions differ by rounding; of a photo rotated by its EXIF tag by far more.
    if abs(stated[0] * image.size[1] - stated[1] * image.size[0]) > 2 * max(*stated, *image.size):
        raise TrainingError(
            f"{photo.path}: expected a photo of the shape its camera has, {stated[0]}×{stated[1]} px,"
            f" got {image.size[0]}×{image.size[1]}; use the photos the model was made from, upright in the file"
        )
    image = resize_to_fit(image, config.long_side)
    K = scale_intrinsics(photo.K, stated, image.size)
    image, mask = _undistort(image, K, photo.distortion)
    features = extractor(image, mask)
    depth_map = None if photo.depth is None else read_depth(photo.depth)
    point, point_depth = _points_at_keypoints(scene, photo, features, K, config.point_px)
    return _View(features, K, photo.cam_from_world, depth_map, photo.observed, point, point_depth)


def _undistort(image: Image, K: Tensor, distortion: tuple[float, ...]) -> tuple[Image, np.ndarray | None]:
    """The image as a pinhole camera of the same K sees it, and a mask of where the photo reaches."""
    if not distortion:
        return image, None
    matrix, coefficients = K.numpy(), np.array(distortion)
    reach = cv2.undistort(np.full(image.pixels.shape[:2], 255, np.uint8), matrix, coefficients)
    inner = cv2.erode(reach, np.ones((2 * _BORDER_PX + 1, 2 * _BORDER_PX + 1), np.uint8)) == 255
    return Image(np.asarray(cv2.undistort(image.pixels, matrix, coefficients)), image.path), inner


_BORDER_PX = 4  # margin along the border of the undistorted photo, which would give keypoints


def _points_at_keypoints(
    scene: PosedScene, photo: DepthPhoto, features: Features, K: Tensor, radius_px: float
) -> tuple[Tensor, Tensor]:
    """The 3D point (n,) whose image is nearest to each keypoint, and its depth (n,), 0 beyond `radius_px`."""
    in_camera = transform_points(photo.cam_from_world, scene.points[photo.observed])
    places, depth = project(in_camera, K)
    if not len(features) or not len(places):
        return torch.zeros(len(features), dtype=torch.int64), torch.zeros(len(features), dtype=torch.float64)
    distance, nearest = pairwise_distances(features.keypoints.double(), places.nan_to_num(posinf=1e9)).min(1)
    return photo.observed[nearest], torch.where(distance <= radius_px, depth[nearest], 0)


def _relative_pose(view: _View, other: _View) -> Tensor:
    return compose_rigid(other.cam_from_world, invert_rigid(view.cam_from_world))


def _fundamental(view: _View, other: _View) -> Tensor:
    return fundamental_from_essential(essential_from_pose(_relative_pose(view, other)), view.K, other.K)


def _project(view: _View, other: _View) -> Projection:
    """The keypoints of `view` in `other`."""
    motion, keypoints = _relative_pose(view, other), view.features.keypoints.double()
    size0, size1 = view.features.image_size, other.features.image_size
    if view.depth_map is not None and other.depth_map is not None:
        map_size0, map_size1 = _size(view.depth_map), _size(other.depth_map)
        seen = project_by_depth(
            keypoints_to_size(keypoints, size0, map_size0),
            view.depth_map.double(),
            scale_intrinsics(view.K, size0, map_size0),
            other.depth_map.double(),
            scale_intrinsics(other.K, size1, map_size1),
            motion,
        )
        return Projection(keypoints_to_size(seen.points, map_size1, size1), seen.visibility)
    known = view.point_depth > 0
    places, _ = project(transform_points(motion, unproject(keypoints, view.point_depth, view.K)), other.K)
    inside = ((places >= -0.5) & (places < places.new_tensor(size1) - 0.5)).all(-1)
    # A point inside the other photo that was not found there may be hidden, or only have been missed.
    visible = known & inside & torch.isin(view.point, other.observed)
    visibility = torch.where(known & ~inside, int(Visibility.HIDDEN), int(Visibility.UNKNOWN))
    visibility = torch.where(visible, int(Visibility.VISIBLE), visibility)
    return Projection(places.float(), visibility.to(torch.uint8))


def _size(depth_map: Tensor) -> tuple[int, int]:
    return depth_map.shape[1], depth_map.shape[0]
