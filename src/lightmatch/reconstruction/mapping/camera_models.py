"""Camera models richer than SIMPLE_RADIAL, each kept only where it predicts held-out tracks better.

A rich model from the start makes mapping unstable, and one with too little data fits noise. So models are made with a
plain one, and every camera with data enough is then offered more freedom, step by step, the step that helps most first;
a step is kept where held-out observations are predicted better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightmatch.colmap.projection import pixels_from_points, rays_from_pixels
from lightmatch.reconstruction.mapping.held_out import Comparison, HeldOutScore, HeldOutScorer, compare
from lightmatch.reconstruction.mapping.thinning import thin_points
from lightmatch.sfm.bundle_adjustment import AdjustOptions, FreeIntrinsics, adjust, used_cameras

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

MOST_CAMERAS = 8  # those with most observations are offered more; each offer costs an adjustment
MIN_GAIN = 0.001  # of the area of `HeldOutScore`: less is not worth a parameter, however sure

_TOLERANCE = 1e-6  # of adjustments: at 1e-5 a principal point, which trades against rotations, may not move at all

_GRID = 21  # rays a side, to convert one camera model to another
_FIT_STEPS = 30


@dataclass(frozen=True)
class CameraModelOffer:
    """A camera model to try, and the least data it is tried with."""

    model: str  # COLMAP's name; "" keeps the model and frees the principal point
    free: FreeIntrinsics
    min_photos: int
    min_observations: int
    after: str = ""  # a plainer model, without whose help this one is not tried

    @property
    def label(self) -> str:
        """For people."""
        return self.model or "principal point free"


OFFERS = (  # the plainest first
    CameraModelOffer("RADIAL", FreeIntrinsics(), 4, 400),
    CameraModelOffer("", FreeIntrinsics(principal_point=True), 6, 1000),
    CameraModelOffer("OPENCV", FreeIntrinsics(), 6, 1000),
    CameraModelOffer("FULL_OPENCV", FreeIntrinsics(), 15, 10_000, after="OPENCV"),
    CameraModelOffer("THIN_PRISM_FISHEYE", FreeIntrinsics(), 15, 10_000, after="OPENCV"),
)
_GROWING = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")  # models that may grow
_ORDER = (*_GROWING, "FULL_OPENCV", "THIN_PRISM_FISHEYE")


@dataclass(frozen=True)
class CameraModelTrial:
    """One offer of more freedom to one camera."""

    camera_id: int
    camera_model: str
    kept: bool
    comparison: Comparison | None  # None where the adjustment failed
    why: str


class _State(NamedTuple):
    """A copy that has not seen the held-out tracks, its score, and what is free of its cameras."""

    unseen: Reconstruction
    score: HeldOutScore
    options: AdjustOptions


def select_camera_models(
    model: Reconstruction,
    scorer: HeldOutScorer,
    options: AdjustOptions | None = None,
    offered: tuple[CameraModelOffer, ...] = OFFERS,
) -> tuple[AdjustOptions, list[CameraModelTrial]]:
    """Give the cameras of a model, in place, the camera models that predict held-out tracks better.

    options: what is free of each camera now; cameras of which nothing is free (known intrinsics) are never touched.
    Returns what is free afterwards, and all that was tried. Where anything was kept the model is adjusted anew.
    """
    options = options or AdjustOptions()
    trials: list[CameraModelTrial] = []
    unseen = scorer.without(model)
    thin_points(unseen)  # every trial is an adjustment
    _adjust(unseen, options)
    state = _State(unseen, scorer.measure(unseen), options)
    if not state.score.is_valid:
        return options, trials
    for camera_id, num_photos, num_observations in _by_data(model)[:MOST_CAMERAS]:
        offers = [
            offer for offer in offered if num_photos >= offer.min_photos and num_observations >= offer.min_observations
        ]
        while offers and options.of(camera_id).any:
            offers, found = _try_in_turn(
                [offer for offer in offers if _is_richer(offer, state, camera_id)], state, scorer, camera_id
            )
            good = [number for number, (_, new) in enumerate(found) if new is not None]
            best = _plainest_best([found[number][1] for number in good])
            for trial, new in found:
                kept = best is not None and new is best
                trials.append(
                    replace(trial, kept=True, why="predicts best, for its number of parameters") if kept else trial
                )
            if best is None:
                break
            state = best
            # What did not help by itself will not help after; what did may have become needless.
            offers = [offers[number] for number in good if found[number][1] is not best]
    if state.unseen is not unseen:
        for camera_id in used_cameras(model):
            if state.options.of(camera_id).any:
                richer = state.unseen.camera(camera_id)
                set_camera_model(model.camera(camera_id), richer.model_name, richer.params)
        _adjust(model, state.options)
    return state.options, trials


def _adjust(model: Reconstruction, options: AdjustOptions) -> None:
    adjust(model, replace(options, tolerance=min(options.tolerance, _TOLERANCE)))


def _plainest_best(states: list[_State | None]) -> _State | None:
    """The best of some states in order of plainness: a later one must improve on the best before it."""
    best: _State | None = None
    for state in states:
        if state is not None and (best is None or _is_worth_it(compare(state.score, best.score))):
            best = state
    return best


def _is_worth_it(comparison: Comparison) -> bool:
    return comparison.improves and comparison.difference >= MIN_GAIN


def set_camera_model(camera: Camera, model_name: str, params: np.ndarray) -> None:
    """Change the model and parameters of a camera, in place."""
    import pycolmap

    camera.model = getattr(pycolmap.CameraModelId, model_name)
    camera.params = params.tolist()


def converted(camera: Camera, model_name: str) -> np.ndarray:
    """Parameters of another camera model that project as this camera does, as nearly as that model can.

    Least squares over rays through a grid of pixels (Levenberg–Marquardt, numeric derivatives).
    """
    import pycolmap

    other = pycolmap.Camera.create_from_model_name(
        camera.camera_id, model_name, camera.mean_focal_length(), camera.width, camera.height
    )
    params = np.array(other.params)
    if len(camera.focal_length_idxs()) == len(other.focal_length_idxs()):
        params[other.focal_length_idxs()] = np.array(camera.params)[camera.focal_length_idxs()]
    params[other.principal_point_idxs()] = np.array(camera.params)[camera.principal_point_idxs()]
    grid = np.stack(np.meshgrid(np.linspace(0, camera.width, _GRID), np.linspace(0, camera.height, _GRID)), -1)
    rays = rays_from_pixels(camera, grid.reshape(-1, 2))
    seen = np.isfinite(rays).all(1)
    rays = np.column_stack((rays[seen], np.ones(seen.sum())))
    wanted = pixels_from_points(camera, rays)
    # The principal point is not fitted: it would trade against tangential distortion.
    free = np.setdiff1d(np.arange(len(params)), other.principal_point_idxs())

    def residual(values: np.ndarray) -> np.ndarray:
        trial = params.copy()
        trial[free] = values
        other.params = trial.tolist()
        return np.nan_to_num(pixels_from_points(other, rays) - wanted, nan=1e6, posinf=1e6, neginf=-1e6).ravel()

    values, damping = params[free], 1e-6
    error = residual(values)
    for _ in range(_FIT_STEPS):
        steps = np.where(np.abs(values) > 1, 1e-4 * np.abs(values), 1e-6)
        jacobian = np.column_stack(
            [
                (residual(values + step * axis) - error) / step
                for step, axis in zip(steps, np.eye(len(free)), strict=True)
            ]
        )
        scale = np.linalg.norm(jacobian, axis=0) + 1e-12
        jacobian /= scale
        normal = jacobian.T @ jacobian + damping * np.eye(len(free))
        proposed = values - np.linalg.solve(normal, jacobian.T @ error) / scale
        new = residual(proposed)
        if new @ new < error @ error:
            values, error, damping = proposed, new, damping / 10
        else:
            damping *= 10
    params[free] = values
    return params


def _by_data(model: Reconstruction) -> list[tuple[int, int, int]]:
    """Cameras with their numbers of photos and observations, those with most observations first."""
    photos: dict[int, int] = {}
    observations: dict[int, int] = {}
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        photos[image.camera_id] = photos.get(image.camera_id, 0) + 1
        observations[image.camera_id] = observations.get(image.camera_id, 0) + image.num_points3D
    order = sorted(photos, key=lambda camera: (-observations[camera], camera))
    return [(camera, photos[camera], observations[camera]) for camera in order]


def _is_richer(offer: CameraModelOffer, state: _State, camera_id: int) -> bool:
    if not offer.model:
        return not state.options.of(camera_id).principal_point
    model_name = state.unseen.camera(camera_id).model_name
    return model_name in _GROWING and _ORDER.index(offer.model) > _ORDER.index(model_name)


def _try_in_turn(
    offers: list[CameraModelOffer], state: _State, scorer: HeldOutScorer, camera_id: int
) -> tuple[list[CameraModelOffer], list[tuple[CameraModelTrial, _State | None]]]:
    """The offers that were tried, and what came of each; one is left out where the plainer one before did not help."""
    tried: list[CameraModelOffer] = []
    found: list[tuple[CameraModelTrial, _State | None]] = []
    no_help: set[str] = set()
    for offer in offers:
        if offer.after and offer.after in no_help:
            continue
        tried.append(offer)
        found.append(_try(state, scorer, camera_id, offer))
        if found[-1][1] is None:
            no_help.add(offer.model)
    return tried, found


def _try(
    state: _State, scorer: HeldOutScorer, camera_id: int, offer: CameraModelOffer
) -> tuple[CameraModelTrial, _State | None]:
    """Adjust a copy with the camera model and compare; the new state where it is better."""
    import pycolmap

    before = state.options.of(camera_id)
    free = replace(before, principal_point=before.principal_point or offer.free.principal_point)
    options = replace(state.options, cameras={**state.options.cameras, camera_id: free})
    copy = pycolmap.Reconstruction(state.unseen)
    camera = copy.camera(camera_id)
    if offer.model:
        set_camera_model(camera, offer.model, converted(camera, offer.model))
    _adjust(copy, options)
    if camera.has_bogus_params(0.1, 10.0, 10.0) or not np.isfinite(np.array(camera.params)).all():
        return CameraModelTrial(camera_id, offer.label, False, None, "its parameters became impossible"), None
    score = scorer.measure(copy)
    comparison = compare(score, state.score)
    better = _is_worth_it(comparison)
    if better:
        why = "predicts held-out observations better, but another model does more, or as much with fewer parameters"
    elif comparison.improves:
        why = "predicts held-out observations better by too little to matter"
    else:
        why = "predicts held-out observations no better: the difference is within chance"
    return CameraModelTrial(camera_id, offer.label, False, comparison, why), _State(
        copy, score, options
    ) if better else None
