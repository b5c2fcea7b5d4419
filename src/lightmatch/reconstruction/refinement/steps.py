"""From a first model to the last: matches of many more keypoints, richer camera models, robust errors.

A first model comes from the few matches that can be had without geometry. Once its cameras are known it is matched
again (see `rematching`), photos that it lacks are placed against it (see `reregistration`), it is adjusted so that
outliers pull less and less, and offered richer camera models; each step is kept only where held-out observations are
predicted no worse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightmatch.colmap.models import extract_colors
from lightmatch.reconstruction.mapping.camera_models import CameraModelTrial, select_camera_models
from lightmatch.reconstruction.mapping.cleaning import filter_points
from lightmatch.reconstruction.mapping.held_out import (
    Comparison,
    HeldOutScore,
    HeldOutScorer,
    PhotoScore,
    ScoreSummary,
    compare,
)
from lightmatch.reconstruction.refinement.rematching import RematchOptions, pairs_to_rematch, rematch
from lightmatch.reconstruction.refinement.reregistration import Reregistration, ReregistrationTrial, reregister
from lightmatch.runtime.executor import Executor
from lightmatch.sfm.bundle_adjustment import AdjustOptions, FreeIntrinsics, adjust
from lightmatch.sfm.tracks import read_tracks
from lightmatch.sfm.uncertainty import CameraUncertainty, camera_uncertainties
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Reconstruction

logger = logging.getLogger(__name__)

ROBUST_PX = 0.5  # about the error of a keypoint: larger ones are more and more likely to be wrong
FINAL = 1e-6  # tolerance of the last adjustment
_STEPS = 5  # after matching again pair by pair: its score, left-out photos, camera models, adjusting, uncertainty
_FEW_PHOTOS = 3  # in a model of two, points have no third view to be predicted from


@dataclass(frozen=True)
class RematchTrial:
    """A model made from matches along epipolar lines, compared with the one before."""

    name: str  # what it has more, for people
    comparison: Comparison
    kept: bool
    why: str


@dataclass(frozen=True)
class RefinementHistory:
    """What refinement tried, what it kept and why, and the numbers of the model at the end."""

    removed_observations: int
    score: ScoreSummary
    photo_scores: Mapping[str, PhotoScore] = field(default_factory=dict)  # by name
    rematches: tuple[RematchTrial, ...] = ()
    reregistrations: tuple[ReregistrationTrial, ...] = ()
    camera_models: tuple[CameraModelTrial, ...] = ()


@dataclass(frozen=True)
class Refined:
    """A model and the database of its matches."""

    model: Reconstruction
    database: Path
    score: HeldOutScore
    adjust_options: AdjustOptions
    uncertainties: tuple[CameraUncertainty, ...]  # in the unit of the model
    history: RefinementHistory


def refining_steps(model: Reconstruction, features: Mapping[str, Features] | None) -> int:
    """How often `refine` calls its on_step."""
    again = features is not None and model.num_reg_images() >= _FEW_PHOTOS
    return _STEPS + (len(pairs_to_rematch(model)) if again else 0)


@dataclass(frozen=True)
class RefineOptions:
    """How a model is refined."""

    adjust: AdjustOptions = field(default_factory=AdjustOptions)  # what may be adjusted
    reregistration: Reregistration | None = None  # of photos that the model lacks; it needs features
    seed: int | None = None


def refine(
    model: Reconstruction,
    database: Path,
    target: Path,
    images: Path,
    features: Mapping[str, Features] | None,
    how: RefineOptions | None = None,
    *,
    executor: Executor | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Refined:
    """Make a model denser and its cameras more precise; `model` itself stays as it is.

    database: of the model, verified. target: where the database of the new matches is written, and stays if the model
    made of them is kept. features: by photo, with more keypoints than the database has, the first of them the same;
    None leaves the matches as they are.
    executor: matches several pairs again at a time; threads of this process by default.
    on_step: called `refining_steps` times. Seeded results repeat to the bit.
    """
    import pycolmap

    how = how or RefineOptions()
    options, reregistration, seed = replace(how.adjust, robust_px=ROBUST_PX), how.reregistration, how.seed
    rematches: list[RematchTrial] = []
    reregistrations: list[ReregistrationTrial] = []
    best, used, scorer, pairs = pycolmap.Reconstruction(model), database, None, []
    if features is not None and model.num_reg_images() >= _FEW_PHOTOS:
        pairs, again = pairs_to_rematch(model), RematchOptions(options, seed)
        dense = rematch(
            model, database, target, images, features, again, pairs=pairs, executor=executor, on_pair=on_step
        )
        of_target = HeldOutScorer(read_tracks(target))
        trial = _compared(dense, best, of_target, options, seed)
        rematches.append(trial)
        if trial.kept:
            best, used, scorer = dense, target, of_target
        else:
            target.unlink()
    on_step()
    if features is not None and used == target and reregistration is not None:
        more, reregistrations = reregister(best, target, features, reregistration, seed)
        if more.num_reg_images() > best.num_reg_images():
            freed = _with_free_centres(options, more, [photo.name for photo in reregistrations if photo.shape])
            second = target.with_name(f"{target.stem}-more{target.suffix}")
            done, again = set(pairs), RematchOptions(freed, seed)
            # A few photos more hardly move the others: what was matched between those is as good as before.
            pairs = [pair for pair in pairs_to_rematch(more) if pair not in done]
            dense = rematch(more, target, second, images, features, again, pairs=pairs, executor=executor)
            of_second = HeldOutScorer(read_tracks(second))
            trial = _compared(dense, best, of_second, freed, seed)
            rematches.append(trial)
            if trial.kept:
                best, scorer, options = dense, of_second, freed
                second.replace(target)
            else:
                second.unlink()
                reregistrations = [
                    replace(one, kept=False, why="placed, but the model with it predicts held-out observations worse")
                    if one.kept
                    else one
                    for one in reregistrations
                ]
    on_step()
    scorer = scorer or HeldOutScorer(read_tracks(used))
    adjust(best, options)
    options, camera_models = select_camera_models(best, scorer, options)
    on_step()
    removed_observations = filter_points(best)
    adjust(best, replace(options, tolerance=FINAL))
    removed_observations += filter_points(best)  # a point of two rays may have moved behind a camera
    score = scorer.score(best, options)
    on_step()
    uncertainties = tuple(camera_uncertainties(best, options)) if options.poses else ()
    extract_colors([best], images)
    on_step()
    history = RefinementHistory(
        removed_observations,
        score.summary(),
        score.by_photo(),
        tuple(rematches),
        tuple(reregistrations),
        tuple(camera_models),
    )
    return Refined(best, used, score, options, uncertainties, history)


def _with_free_centres(options: AdjustOptions, model: Reconstruction, photos: Sequence[str]) -> AdjustOptions:
    """The options, with principal points of the cameras of these photos free."""
    ids = [image.camera_id for name in photos if (image := model.find_image_with_name(name)) is not None]
    return replace(options, cameras={**options.cameras, **dict.fromkeys(ids, FreeIntrinsics(principal_point=True))})


def _compared(
    dense: Reconstruction, before: Reconstruction, scorer: HeldOutScorer, options: AdjustOptions, seed: int | None
) -> RematchTrial:
    """Whether a model from more matches is to be kept: no photo fewer, and held-out observations predicted no worse."""
    comparison = compare(scorer.score(dense, options), scorer.score(before, options), seed or 0)
    kept = dense.num_reg_images() >= before.num_reg_images() and not comparison.worsens
    photos = dense.num_reg_images() - before.num_reg_images()
    added = f", {photos} more photos" if photos > 0 else ""
    return RematchTrial(
        f"{dense.num_points3D()} points instead of {before.num_points3D()}{added}",
        comparison,
        kept,
        "predicts held-out observations no worse" if kept else "predicts held-out observations worse",
    )
