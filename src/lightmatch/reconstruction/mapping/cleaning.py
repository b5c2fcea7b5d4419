"""Outlier cameras, which a model places far out of the scene, and points that do not fit: found and removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightmatch.colmap.models import registered_images
from lightmatch.reconstruction.mapping.held_out import HeldOutScore, HeldOutScorer
from lightmatch.sfm.bundle_adjustment import AdjustOptions, adjust

if TYPE_CHECKING:
    from pycolmap import Image, Reconstruction

FAR = 8.0  # times the median distance of the others from their middle
FAR_ALONE = 4.0  # times the distance between neighbours, in 9 of 10 cases: a walk's end is far out, but not alone
FEW_POINTS = 20  # seen by a photo
NARROW_DEG = 1.0  # nine of ten points of a photo seen under less: where it stands is a guess
LITTLE_PREDICTED = 0.25  # of the share that is usual in this model
FEW_HELD_OUT = 8  # observations: fewer say nothing

MAX_ERROR_PX = 4.0  # of an observation, COLMAP's own limit
MIN_ANGLE_DEG = 0.75  # between the widest two rays of a point; no more than the relaxed start asks

_SOME_PHOTOS = 5  # of fewer, none can be called far


@dataclass(frozen=True)
class RemovedPhoto:
    """A photo that was taken out of a model, and by what evidence."""

    name: str
    distance: float  # from the middle, in median distances of the others
    num_points: int
    angle_deg: float  # nine of ten of its points are seen under less
    predicted: float | None  # share of its held-out observations within 4 px; None where there are too few
    reasons: tuple[str, ...]


def find_outlier_cameras(model: Reconstruction, score: HeldOutScore) -> list[RemovedPhoto]:
    """Photos that stand far outside of the others and that something else speaks against; the model stays as it is.

    Far: more than FAR median distances from the middle of the others, and more than FAR_ALONE usual steps from the
    nearest one. That alone proves nothing (an overview is taken from afar), so one of these must hold as well: the
    photo sees fewer than FEW_POINTS points; nine of ten of its points are seen under less than NARROW_DEG, so that its
    place is a guess; or of its held-out observations less than LITTLE_PREDICTED of the usual share is predicted.
    """
    shares = {name: of.within_4px for name, of in score.by_photo().items() if of.num_observations >= FEW_HELD_OUT}
    usual = float(np.median(list(shares.values()))) if shares else 0.0
    found = []
    for image, distance in _far_cameras(model):
        angle, share = _viewing_angle_deg(model, image), shares.get(image.name)
        reasons = []
        if image.num_points3D < FEW_POINTS:
            reasons.append(f"sees only {image.num_points3D} points")
        if angle < NARROW_DEG:
            reasons.append(f"sees its points under angles of at most {angle:.2f}°, so its place is a guess")
        if share is not None and share < LITTLE_PREDICTED * usual:
            reasons.append(f"{share:.0%} of its held-out observations are predicted, usual are {usual:.0%}")
        if reasons:
            far = f"stands {distance:.0f} times as far out as the others"
            found.append(RemovedPhoto(image.name, distance, image.num_points3D, angle, share, (far, *reasons)))
    return found


def remove_outlier_cameras(
    model: Reconstruction, scorer: HeldOutScorer, options: AdjustOptions | None = None
) -> list[RemovedPhoto]:
    """Take outlier cameras out of a model, in place, and adjust it; those removed, with reasons.

    Photos of a rig are removed only where all photos of their frame are found.
    """
    if not _far_cameras(model):  # there is none, and no need of a score
        return []
    found = find_outlier_cameras(model, scorer.score(model, options))
    names = {removed.name for removed in found}
    frames: dict[int, list[str]] = {}
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        frames.setdefault(image.frame_id, []).append(image.name)
    doomed = [frame for frame, members in frames.items() if names.issuperset(members)]
    if len(frames) - len(doomed) < 2:
        return []
    for frame in doomed:
        model.deregister_frame(frame)
    if doomed:
        adjust(model, options)
    gone = {name for frame in doomed for name in frames[frame]}
    return [removed for removed in found if removed.name in gone]


def filter_points(
    model: Reconstruction, max_error_px: float = MAX_ERROR_PX, min_angle_deg: float = MIN_ANGLE_DEG
) -> int:
    """Delete observations that err more, and points seen under smaller angles or by one photo; how many observations.

    Sizes of errors are in the pixels of each photo.
    """
    import pycolmap

    manager = pycolmap.ObservationManager(model)
    num_removed = manager.filter_all_points3D(max_error_px, min_angle_deg)
    num_removed += manager.filter_observations_with_negative_depth()
    model.update_point_3d_errors()
    return int(num_removed)


def _far_cameras(model: Reconstruction) -> list[tuple[Image, float]]:
    """Photos that stand far out and alone, with the distance from the middle in median distances."""
    images = registered_images(model)
    if len(images) < _SOME_PHOTOS:
        return []
    # Photos of one frame of a rig, as the views of a panorama, are one camera here.
    centers: dict[int, np.ndarray] = {}
    for image in images:
        centers.setdefault(image.frame_id, image.projection_center())
    distances, alone = _outlying(np.array(list(centers.values())))
    far = {
        frame: float(distance)
        for frame, distance, step in zip(centers, distances, alone, strict=True)
        if distance > FAR and step > FAR_ALONE
    }
    return [(image, far[image.frame_id]) for image in images if image.frame_id in far]


def _outlying(centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(c,) distances from the middle in median distances, and (c,) to the nearest other one in usual steps."""
    middle = np.median(centers, axis=0)
    from_middle = np.linalg.norm(centers - middle, axis=1)
    nearest = np.array([np.partition(np.linalg.norm(centers - center, axis=1), 1)[1] for center in centers])
    tiny = np.finfo(float).tiny
    return from_middle / max(float(np.median(from_middle)), tiny), nearest / max(float(np.quantile(nearest, 0.9)), tiny)


def _viewing_angle_deg(model: Reconstruction, image: Any) -> float:
    """Under what angle nine of ten points of a photo are seen, at most: the widest with any other photo, per point."""
    center = image.projection_center()
    centers = {}
    widest = []
    for number in image.get_observation_point2D_idxs():
        point = model.point3D(image.point2D(number).point3D_id)
        others = []
        for element in point.track.elements:
            if element.image_id != image.image_id:
                if element.image_id not in centers:
                    centers[element.image_id] = model.image(element.image_id).projection_center()
                others.append(centers[element.image_id])
        if others:
            own = (point.xyz - center) / np.linalg.norm(point.xyz - center)
            rays = point.xyz - np.array(others)
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            chord = np.linalg.norm(rays - own, axis=1).max()
            widest.append(np.degrees(2 * np.arcsin(min(1.0, chord / 2))))
    return float(np.quantile(widest, 0.9)) if widest else 0.0
