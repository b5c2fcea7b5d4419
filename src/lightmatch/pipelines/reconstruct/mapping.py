"""A verified database → models, refined with many more matches, and put into a world frame."""

from __future__ import annotations

import logging
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.models import extract_colors
from lightmatch.errors import ReconstructionError
from lightmatch.inputs import rig_frames
from lightmatch.matchers import Matcher
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.panorama_rigs import is_first, panorama_rigs
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName
from lightmatch.pipelines.reconstruct.verification import PairSummary, Verified
from lightmatch.reconstruction import (
    KNOWN,
    KNOWN_POSES_FRAME,
    AdjustOptions,
    CameraPriors,
    CameraRig,
    FrameSummary,
    MappingHistory,
    MappingOptions,
    ModelHistory,
    RefineOptions,
    Remapper,
    Reregistration,
    adjust,
    apply_rigs,
    copy_database,
    database_to_map,
    derive_rig,
    folders_of,
    georegister,
    map_given_poses,
    map_with_selection,
    models_apart,
    no_model_reason,
    read_model,
    refine,
    refining_steps,
    restore_matches,
    try_camera_per_photo,
    try_edited_photos,
    with_all_points,
)
from lightmatch.runtime.files import file_digest
from lightmatch.runtime.store import digest
from lightmatch.sfm.uncertainty import CameraUncertainty

if TYPE_CHECKING:
    from pycolmap import Reconstruction

logger = logging.getLogger(__name__)

_DATABASE = "database.db"  # of the best model's matches


class NothingRegisteredError(ReconstructionError):
    """No two of the photos could start a model."""


@dataclass(frozen=True)
class _MappedFacts:
    """What is known of models, kept beside them."""

    num_models: int
    has_own_database: bool  # else the best model's matches are all the verified ones, in their database
    history: ModelHistory
    frame: FrameSummary  # of the best
    uncertainties: tuple[CameraUncertainty, ...]  # of the best, in the unit of its frame


@dataclass(frozen=True, kw_only=True)
class Mapped(_MappedFacts):
    """Models, the best first, and how they came about."""

    key: str  # digest of all they depend on, and of the best: on several threads no two runs give the same numbers
    database: Path  # of the best model's matches
    models: tuple[Reconstruction, ...]


def map_pictures(
    run: Run, pictures: Sequence[Picture], verified: Verified, matcher: Matcher, known: CameraPriors | None
) -> Mapped:
    """Map in the way that predicts held-out observations best, and refine: two stages.

    matcher: for photos left out at first. Raises NothingRegisteredError.
    """
    config, images = run.config, run.layout.images
    first = _first_models(run, pictures, verified, known)
    key = digest("refined", first.key, config.guided_keypoints)

    def make(folder: Path) -> _MappedFacts:
        more = FeaturesByName.of(run, pictures) if config.guided_keypoints > config.max_keypoints else None
        edited = config.cameras == "auto" and not config.rig and config.mirrored != "keep"
        apart = {frozenset((pair.name0, pair.name1)) for pair in verified.doppelgangers}
        candidates = _candidates([pair for pair in verified.pairs if frozenset((pair.name0, pair.name1)) not in apart])
        held = known is not None and bool(known.poses)  # photos without a given pose stay out then
        reregistration = None if held else Reregistration(candidates, matcher, verified.known_cameras, edited=edited)
        best, *others = _read_models(first.folder, first.num_models)
        with run.progress.stage("refine", refining_steps(best, more)) as step:
            refined = refine(
                best,
                first.database,
                folder / _DATABASE,
                images,
                more,
                RefineOptions(first.adjust_options, reregistration, config.seed),
                executor=run.executor,
                on_step=step,
            )
        models = models_apart([refined.model, *others])
        extract_colors(models[1:], images)
        # All views of a panorama have its one position.
        gps = {picture.name: picture.gps for picture in pictures if picture.gps is not None and is_first(picture)}
        gravity = {picture.name: np.array(picture.gravity) for picture in pictures if picture.gravity is not None}
        frames = [] if held else georegister(models, gps, gravity=gravity, seed=config.seed or 0)
        _write_models(models, folder)
        scale = 1.0 if held else frames[0].scale  # units of the world per unit of the mapper's model
        return _MappedFacts(
            len(models),
            refined.database != first.database,
            ModelHistory(first.history, refined.history, first.known_poses, first.rig_warnings),
            KNOWN_POSES_FRAME if held else frames[0].summary(),
            tuple(replace(camera, position=camera.position * scale) for camera in refined.uncertainties),
        )

    folder, facts = run.cache.folder(run.stage_name("refined"), key, _MappedFacts, make)
    database = folder / _DATABASE if facts.has_own_database else first.database
    key = digest(key, [file_digest(path) for path in sorted((folder / "0").iterdir())])
    return Mapped(**vars(facts), key=key, database=database, models=_read_models(folder, facts.num_models))


def _write_models(models: Sequence[Reconstruction], folder: Path) -> None:
    """Write models as 0, 1, … in a folder."""
    for number, model in enumerate(models):
        (folder / str(number)).mkdir()
        model.write_binary(folder / str(number))


def _read_models(folder: Path, count: int) -> tuple[Reconstruction, ...]:
    return tuple(read_model(folder / str(number)) for number in range(count))


@dataclass(frozen=True)
class _FirstFacts:
    """What is known of models before refinement, kept beside them."""

    num_models: int
    has_own_database: bool  # else the matches are all the verified ones, in their database
    adjust_options: AdjustOptions
    history: MappingHistory | None = None  # None where poses are known
    known_poses: str | None = None  # their file
    rig_warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _First(_FirstFacts):
    """What mapping makes of verified matches, before refinement."""

    key: str  # digest of all they depend on, and of the best: on several threads no two runs give the same numbers
    database: Path  # of the best model's matches
    folder: Path  # of the models


def _first_models(run: Run, pictures: Sequence[Picture], verified: Verified, known: CameraPriors | None) -> _First:
    """The first models. They are a stage of their own, for mapping thousands of photos takes an hour."""
    config = run.config
    key = digest(
        "mapped, a camera each where photos disagree by much, edited photos (points held), few tracks of many photos",
        verified.key,
        config.cameras,
        config.mirrored,
        config.guided_keypoints > config.max_keypoints,
        config.mapper,
        config.rig,
        config.seed,
    )

    def make(folder: Path) -> _FirstFacts:
        scratch = folder / "scratch"  # databases of what is tried
        scratch.mkdir()
        with run.progress.stage("map", len(pictures)) as step:
            if known is not None and known.poses:
                found = _map_known_poses(run, verified, known)
            else:
                found = _map(run, pictures, verified, scratch, step)
        _write_models(found.models, folder)
        has_own_database = found.database != verified.database
        if has_own_database:
            copy_database(found.database, folder / _DATABASE)
        shutil.rmtree(scratch)
        return _FirstFacts(
            len(found.models),
            has_own_database,
            found.adjust_options,
            found.history,
            found.known_poses,
            found.rig_warnings,
        )

    folder, facts = run.cache.folder(run.stage_name("mapped"), key, _FirstFacts, make)
    database = folder / _DATABASE if facts.has_own_database else verified.database
    return _First(**vars(facts), key=key, database=database, folder=folder)


@dataclass(frozen=True)
class _Found:
    """What mapping found; the database may be one of its scratch files."""

    models: Sequence[Reconstruction]
    database: Path
    adjust_options: AdjustOptions
    history: MappingHistory | None = None
    known_poses: str | None = None
    rig_warnings: tuple[str, ...] = ()


def _map_known_poses(run: Run, verified: Verified, known: CameraPriors) -> _Found:
    seed = run.config.seed
    model = map_given_poses(verified.database, run.layout.images, known, seed=seed)
    held = AdjustOptions(
        cameras=dict.fromkeys(verified.known_cameras, KNOWN),
        held_in_rigs=verified.held_in_rigs,
        poses=False,
        threads=None if seed is None else 1,
    )
    return _Found([model], verified.database, held, known_poses=str(known.source))


def _map(
    run: Run, pictures: Sequence[Picture], verified: Verified, scratch: Path, on_image: Callable[[], None]
) -> _Found:
    config, images = run.config, run.layout.images
    # Camera models, uncertainties and colours are those of the refined model.
    options = MappingOptions(
        mapper=config.mapper,
        known_cameras=verified.known_cameras,
        held_in_rigs=verified.held_in_rigs,
        select_camera_models=False,
        uncertainty=False,
        colors=False,
    )
    thinned = database = database_to_map(verified.database, scratch / "thinned.db")
    result = map_with_selection(database, images, seed=config.seed, options=options, on_image=on_image)
    if config.cameras == "auto" and not config.rig and not verified.known_cameras:
        remapper = Remapper(images, config.camera_model, config.seed, options)
        result, database = try_camera_per_photo(result, database, scratch / "cameras.db", remapper)
        result, database = try_edited_photos(result, database, scratch / "cameras.db", remapper)
    if not result.models:
        count = {picture.name: picture.num_keypoints for picture in pictures}
        why = no_model_reason(count, verified.num_inliers)
        raise NothingRegisteredError(f"nothing could be registered of {len(pictures)} photos: {why}")
    models = result.models
    if thinned != verified.database:
        if database == thinned:
            database = verified.database
        else:  # photos were given other cameras since
            restore_matches(database, verified.database)
        if config.guided_keypoints <= config.max_keypoints:  # else the points are made when it is matched again
            models = [with_all_points(models[0], database, config.seed), *models[1:]]
    found = _Found(models, database, result.adjust_options, result.history)
    return _with_rigs(found, pictures, scratch / "rig.db") if config.rig else found


def _with_rigs(found: _Found, pictures: Sequence[Picture], target: Path) -> _Found:
    """The best model with its cameras fixed to each other, and the photos it lacked of moments that it has."""
    model, given = found.models[0], panorama_rigs(pictures)
    names = [picture.name for picture in pictures if picture.view_of is None]
    rigs: list[CameraRig] = []
    notes = []
    for folders in folders_of(rig_frames(names).values()):
        try:
            rigs.append(derive_rig(model, folders))
        except ReconstructionError as error:
            notes.append(str(error))
    for note in notes:
        logger.warning("%s", note)
    if not rigs:
        return replace(found, rig_warnings=tuple(notes))
    copy_database(found.database, target)
    apply_rigs(target, [*rigs, *given], model)
    adjust(model, found.adjust_options)
    return replace(found, database=target, rig_warnings=tuple(notes))


def _candidates(pairs: Sequence[PairSummary]) -> dict[str, list[str]]:
    """Of each photo the others it was matched with, the likeliest to overlap first."""
    ranked: dict[str, list[tuple[float, float, float, str]]] = defaultdict(list)
    for pair in pairs:
        for name, other in ((pair.name0, pair.name1), (pair.name1, pair.name0)):
            ranked[name].append((-pair.num_inliers, -(pair.probability or 0.0), -pair.num_matches, other))
    return {name: [other for *_, other in sorted(others)] for name, others in ranked.items()}
