"""From a first model to the last: matches of many more keypoints, better lenses, errors that do not pull.

A first model comes from the few matches that can be had without geometry. Once its cameras are known it is matched
again (see `rematching`), photos that it lacks are placed against it (see `second_chance`), it is adjusted so that
outliers pull less and less, and offered richer lenses; each step is kept only where the judge agrees.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.reconstruction.mapping.camera_models import enrich_cameras
from lightmatch.reconstruction.mapping.cleaning import filter_points
from lightmatch.reconstruction.mapping.held_out import HeldOutScore, Judge, compare
from lightmatch.reconstruction.refinement.rematching import pairs_to_rematch, rematch
from lightmatch.reconstruction.refinement.reregistration import SecondChance, place_left_out
from lightmatch.sfm.bundle_adjustment import AdjustOptions, FreeIntrinsics, adjust
from lightmatch.sfm.tracks import read_tracks
from lightmatch.sfm.uncertainty import CameraUncertainty, camera_uncertainties
from lightmatch.types import Features

if TYPE_CHECKING:
    from pycolmap import Reconstruction

logger = logging.getLogger(__name__)

ROBUST_PX = 0.5  # about the error of a keypoint: larger ones are more and more likely to be wrong
FINAL = 1e-6  # tolerance of the last adjustment
_STEPS = 5  # after matching again pair by pair: judging it, left-out photos, lenses, adjusting, uncertainty
_FEW_PHOTOS = 3  # in a model of two, points have no third view to be judged by


@dataclass(frozen=True)
class Refined:
    """A model and the database of its matches."""

    model: Reconstruction
    database: Path
    score: HeldOutScore
    adjust_options: AdjustOptions
    uncertainties: tuple[CameraUncertainty, ...]
    story: dict[str, Any]  # plain values, for JSON


def refining_steps(model: Reconstruction, features: Mapping[str, Features] | None) -> int:
    """How often `refine` calls its on_step."""
    again = features is not None and model.num_reg_images() >= _FEW_PHOTOS
    return _STEPS + (len(pairs_to_rematch(model)) if again else 0)


def refine(
    model: Reconstruction,
    database: Path,
    target: Path,
    images: Path,
    features: Mapping[str, Features] | None,
    *,
    options: AdjustOptions | None = None,
    second_chance: SecondChance | None = None,
    richer_lenses: bool = True,
    seed: int | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Refined:
    """Make a model denser and its cameras more precise; `model` itself stays as it is.

    database: of the model, verified. target: where the database of the new matches is written. features: by photo,
    with more keypoints than the database has, the first of them the same; None leaves the matches as they are.
    options: what may be adjusted. second_chance: for photos that the model lacks, placed by their matches with it; it
    needs features. on_step: called `refining_steps` times. Seeded results repeat to the bit.
    """
    import pycolmap

    options = replace(options or AdjustOptions(), robust_px=ROBUST_PX)
    story: dict[str, Any] = {}
    best, used, judge = pycolmap.Reconstruction(model), database, None
    if features is not None and model.num_reg_images() >= _FEW_PHOTOS:
        dense = rematch(model, database, target, images, features, adjust_options=options, seed=seed, on_pair=on_step)
        of_target = Judge(read_tracks(target))
        kept, told = _judged(dense, best, of_target, options, seed)
        story["rematched"] = [told]
        if kept:
            best, used, judge = dense, target, of_target
    on_step()
    if features is not None and used == target and second_chance is not None:
        more, trials = place_left_out(best, target, features, second_chance, seed)
        story["second_chance"] = [trial.to_json() for trial in trials]
        if more.num_reg_images() > best.num_reg_images():
            freed = _with_free_centres(options, more, [trial.name for trial in trials if trial.shape])
            second = target.with_name(f"{target.stem}-more{target.suffix}")
            dense = rematch(more, target, second, images, features, adjust_options=freed, seed=seed)
            of_second = Judge(read_tracks(second))
            kept, told = _judged(dense, best, of_second, freed, seed)
            story["rematched"].append(told)
            if kept:
                best, judge, options = dense, of_second, freed
                second.replace(target)
    on_step()
    judge = judge or Judge(read_tracks(used))
    adjust(best, options)
    if richer_lenses:
        options, trials = enrich_cameras(best, judge, options)
        story["lenses"] = [trial.to_json() for trial in trials]
    on_step()
    story["removed_observations"] = filter_points(best)
    adjust(best, replace(options, tolerance=FINAL))
    score = judge.score(best, options)
    on_step()
    uncertainties = tuple(camera_uncertainties(best, options)) if options.poses else ()
    story["uncertainties"] = [camera.to_json() for camera in uncertainties]
    story["score"] = score.to_json()
    story["photos"] = score.by_photo()
    with colmap_log(FATAL):
        best.extract_colors_for_all_images(images)
    on_step()
    return Refined(best, used, score, options, uncertainties, story)


def _with_free_centres(options: AdjustOptions, model: Reconstruction, photos: Sequence[str]) -> AdjustOptions:
    """The options, with principal points of the cameras of these photos free."""
    ids = [image.camera_id for name in photos if (image := model.find_image_with_name(name)) is not None]
    return replace(options, cameras={**options.cameras, **dict.fromkeys(ids, FreeIntrinsics(principal_point=True))})


def _judged(
    dense: Reconstruction, before: Reconstruction, judge: Judge, options: AdjustOptions, seed: int | None
) -> tuple[bool, dict[str, Any]]:
    """Whether a model from more matches is to be kept, and what to tell of it."""
    comparison = compare(judge.score(dense, options), judge.score(before, options), seed or 0)
    kept = dense.num_reg_images() >= before.num_reg_images() and not comparison.worsens
    photos = dense.num_reg_images() - before.num_reg_images()
    added = f", {photos} more photos" if photos > 0 else ""
    return kept, {
        "name": f"{dense.num_points3D()} points instead of {before.num_points3D()}{added}",
        "comparison": comparison.to_json(),
        "kept": kept,
        "why": "predicts held-out tracks no worse" if kept else "predicts held-out tracks worse",
    }
