"""Models of one database put together where they share points: a similarity from tracks, then one model of both."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from lightmatch.colmap.interruption import run_cancellable
from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.models import registered_images, registered_names
from lightmatch.colmap.options import pipeline_options
from lightmatch.colmap.projection import rays_from_pixels
from lightmatch.geometry.alignment import align_points
from lightmatch.reconstruction.mapping.cleaning import MAX_ERROR_PX, filter_points
from lightmatch.reconstruction.mapping.held_out import Comparison, HeldOutScorer, compare
from lightmatch.sfm.bundle_adjustment import AdjustOptions, adjust
from lightmatch.sfm.tracks import Tracks

if TYPE_CHECKING:
    from pycolmap import Reconstruction

MIN_SHARED_POINTS = 10  # that agree on one similarity
MIN_AGREEING = 0.15  # of the shared points; whether to merge is decided by held-out observations
AGREE_PX = 16.0  # of a point of one model in a photo of the other, both ways, per 1600 px of the longer side

_NUM_TRIALS = 500
_LIMITS_PX = (16.0, 8.0, MAX_ERROR_PX)  # the parts fit roughly at first
_REFERENCE_SIDE_PX = 1600


class Join(NamedTuple):
    """How one model lies in another."""

    similarity: np.ndarray  # (3, 4) scale · rotation | translation: base from other
    num_shared: int  # tracks that are points of both
    num_agreeing: int

    @property
    def is_sound(self) -> bool:
        """Whether enough of the shared points agree."""
        return self.num_agreeing >= max(MIN_SHARED_POINTS, MIN_AGREEING * self.num_shared)


@dataclass(frozen=True)
class MergeTrial:
    """An attempt to bring one model into another."""

    photos: tuple[str, ...]  # that only the smaller one has
    num_shared: int
    num_agreeing: int
    comparison: Comparison | None  # None where no similarity was found
    kept: bool
    why: str


def merge_models(
    models: list[Reconstruction],
    database: Path,
    tracks: Tracks,
    scorer: HeldOutScorer,
    options: AdjustOptions | None = None,
    seed: int = 0,
) -> tuple[list[Reconstruction], list[MergeTrial]]:
    """Bring the lesser models into the first where held-out observations say so; what remains, and what was tried.

    models: of one database, the best first. Models whose photos are all in the first are dropped.
    """
    if not models:
        return [], []
    base, rest, trials = models[0], [], []
    score = None  # of `base`, as soon as it is needed
    for other in models[1:]:
        photos = tuple(sorted(set(registered_names(other)) - set(registered_names(base))))
        if not photos:
            continue
        join = find_join(base, other, tracks, seed)
        if join.is_sound and score is None:
            score = scorer.score(base, options)
        if not join.is_sound or score is None or not score.is_valid:
            why = "too few held-out tracks to compare"
            if not join.is_sound:
                why = f"of {join.num_shared} points they share, only {join.num_agreeing} agree on how they lie"
            trials.append(MergeTrial(photos, join.num_shared, join.num_agreeing, None, False, why))
            rest.append(other)
            continue
        merged = joined(base, other, join, database, options, seed)
        new = scorer.score(merged, options)
        comparison = compare(new, score)
        kept = comparison.improves
        why = (
            "predicts held-out observations better"
            if kept
            else "predicts held-out observations no better: the difference is within chance"
        )
        trials.append(MergeTrial(photos, join.num_shared, join.num_agreeing, comparison, kept, why))
        if kept:
            base, score = merged, new
        else:
            rest.append(other)
    return [base, *rest], trials


def find_join(base: Reconstruction, other: Reconstruction, tracks: Tracks, seed: int = 0) -> Join:
    """The similarity that brings `other` into `base`, from tracks that are points of both.

    RANSAC over three shared points (Umeyama 1991) each; a point agrees when it appears where it was seen in a photo of
    the other model, both ways: distances between points would need a scale that nobody knows. `is_sound` says whether
    enough of them agree.
    """
    shared = _shared_points(base, other, tracks)
    nowhere = np.full((3, 4), np.nan)
    if len(shared.points0) < MIN_SHARED_POINTS:
        return Join(nowhere, len(shared.points0), 0)
    generator = np.random.default_rng(seed)
    best, count = np.zeros(len(shared.points0), bool), 0
    for _ in range(_NUM_TRIALS):
        chosen = generator.choice(len(shared.points0), 3, replace=False)
        agrees = _agreeing(shared, _similarity(shared, chosen))
        if agrees.sum() > count:
            best, count = agrees, int(agrees.sum())
    for _ in range(5):  # again from all that agree, until they stay the same
        if count < MIN_SHARED_POINTS:
            return Join(nowhere, len(shared.points0), count)
        agrees = _agreeing(shared, _similarity(shared, np.flatnonzero(best)))
        if agrees.sum() <= count:
            break
        best, count = agrees, int(agrees.sum())
    return Join(_similarity(shared, np.flatnonzero(best)), len(shared.points0), count)


def joined(
    base: Reconstruction,
    other: Reconstruction,
    join: Join,
    database: Path,
    options: AdjustOptions | None = None,
    seed: int = 0,
) -> Reconstruction:
    """One model of the photos of both, its points made anew from the database, adjusted; both stay as they are.

    Photos of both keep the pose of `base`, cameras of both its intrinsics.
    """
    import pycolmap

    merged = pycolmap.Reconstruction(base)
    moved = pycolmap.Reconstruction(other)
    moved.transform(pycolmap.Sim3d(join.similarity))
    for frame_id in sorted(moved.reg_frame_ids()):
        if not merged.exists_frame(frame_id) or not merged.frame(frame_id).has_pose():
            _add_frame(merged, moved, frame_id)
    for limit_px in _LIMITS_PX:
        merged = retriangulated(merged, database, seed, limit_px)
        adjust(merged, options)
        filter_points(merged, limit_px)
    return merged


def _add_frame(merged: Reconstruction, moved: Reconstruction, frame_id: int) -> None:
    """Register a frame of another model of the same database with all its photos, without points."""
    import pycolmap

    frame = moved.frame(frame_id)
    if merged.exists_frame(frame_id):
        merged.frame(frame_id).rig_from_world = frame.rig_from_world
        merged.register_frame(frame_id)
        return
    images = [moved.image(image_id) for image_id in sorted(moved.reg_image_ids())]
    images = [image for image in images if image.frame_id == frame_id]
    rig = moved.rig(frame.rig_id)
    for sensor in rig.sensor_ids():  # a frame may lack some of the rig's cameras
        if not merged.exists_camera(sensor.id):
            merged.add_camera(pycolmap.Camera(moved.camera(sensor.id).todict()))
    if not merged.exists_rig(frame.rig_id):
        merged.add_rig(copy.copy(rig))
    added = copy.copy(frame)
    added.reset_rig_ptr()
    merged.add_frame(added)
    for image in images:
        keypoints = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        same = pycolmap.Image(name=image.name, keypoints=keypoints, camera_id=image.camera_id, image_id=image.image_id)
        same.frame_id = frame_id
        merged.add_image(same)
    merged.register_frame(frame_id)


def retriangulated(
    model: Reconstruction, database: Path, seed: int | None = 0, max_error_px: float = MAX_ERROR_PX
) -> Reconstruction:
    """The model with its points made anew from all verified matches; poses and intrinsics stay."""
    import pycolmap

    options = pipeline_options(seed)
    options.mapper.filter_max_reproj_error = max_error_px
    options.triangulation.merge_max_reproj_error = options.triangulation.complete_max_reproj_error = max_error_px
    token = pycolmap.CancellationToken()
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch, colmap_log(FATAL):
        return run_cancellable(
            lambda: pycolmap.triangulate_points(
                model, database, scratch, scratch, clear_points=True, options=options, cancellation_token=token
            ),
            token.cancel,
        )


class _Shared(NamedTuple):
    """Points of both models, and one observation of each in both."""

    points0: np.ndarray  # (k, 3) in the base
    points1: np.ndarray  # (k, 3) in the other
    rotations: tuple[np.ndarray, np.ndarray]  # (k, 3, 3) of a photo that sees the point, in the base and in the other
    translations: tuple[np.ndarray, np.ndarray]  # (k, 3)
    rays: tuple[np.ndarray, np.ndarray]  # (k, 2) where it was seen
    focals: tuple[np.ndarray, np.ndarray]  # (k,) px per 1600 px of the longer side


def _shared_points(base: Reconstruction, other: Reconstruction, tracks: Tracks) -> _Shared:
    sides = [_points_of_tracks(model, tracks) for model in (base, other)]
    both = sorted(sides[0].keys() & sides[1].keys())
    columns: list[list[tuple[np.ndarray, ...]]] = [[], []]
    for track in both:
        for side, model in enumerate((base, other)):
            point_id, image_id, keypoint = sides[side][track]
            image = model.image(image_id)
            pose = image.cam_from_world()
            camera = model.camera(image.camera_id)
            ray = rays_from_pixels(camera, image.point2D(keypoint).xy[None])[0]
            focal = camera.mean_focal_length() * _REFERENCE_SIDE_PX / max(camera.width, camera.height)
            point = model.point3D(point_id).xyz
            columns[side].append((point, pose.rotation.matrix(), pose.translation, ray, np.array(focal)))
    stacked = [
        [np.array([row[field] for row in rows]).reshape(-1, *shape) for field, shape in enumerate(_SHAPES)]
        for rows in columns
    ]
    (points0, *first), (points1, *second) = stacked
    rotations, translations, rays, focals = zip(first, second, strict=True)
    return _Shared(points0, points1, rotations, translations, rays, focals)


_SHAPES = ((3,), (3, 3), (3,), (2,), ())


def _points_of_tracks(model: Reconstruction, tracks: Tracks) -> dict[int, tuple[int, int, int]]:
    """By track: the point most of its keypoints belong to, and the first photo and keypoint that see it."""
    ids = {image.name: image.image_id for image in registered_images(model)}
    votes: dict[int, dict[int, list[tuple[int, int]]]] = {}
    for number, name in enumerate(tracks.names):
        if name not in ids:
            continue
        image = model.image(ids[name])
        own = np.flatnonzero(tracks.photos == number)
        for track, keypoint in zip(tracks.track_of[own].tolist(), tracks.keypoints[own].tolist(), strict=True):
            point = image.point2D(keypoint)
            if point.has_point3D():
                votes.setdefault(track, {}).setdefault(point.point3D_id, []).append((ids[name], keypoint))
    answer = {}
    for track, points in votes.items():
        point_id = min(points, key=lambda point: (-len(points[point]), point))
        answer[track] = (point_id, *points[point_id][0])
    return answer


def _similarity(shared: _Shared, chosen: np.ndarray) -> np.ndarray:
    """(3, 4) base from other, by some of the shared points."""
    found = align_points(torch.from_numpy(shared.points1[chosen]), torch.from_numpy(shared.points0[chosen]))
    return torch.cat((found.scale * found.rotation, found.translation[:, None]), 1).numpy()


def _agreeing(shared: _Shared, similarity: np.ndarray) -> np.ndarray:
    """(k,) bool: each point appears within AGREE_PX of where it was seen, in both models."""
    linear, shift = similarity[:, :3], similarity[:, 3]
    if not np.isfinite(similarity).all() or np.linalg.det(linear) <= 0:
        return np.zeros(len(shared.points0), bool)
    in_base = shared.points1 @ linear.T + shift
    in_other = (shared.points0 - shift) @ np.linalg.inv(linear).T
    agrees = np.ones(len(in_base), bool)
    for side, points in enumerate((in_base, in_other)):
        local = np.einsum("kij,kj->ki", shared.rotations[side], points) + shared.translations[side]
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.linalg.norm(local[:, :2] / local[:, 2:] - shared.rays[side], axis=1) * shared.focals[side]
        agrees &= (local[:, 2] > 0) & (error < AGREE_PX)
    return agrees
