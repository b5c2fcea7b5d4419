"""Mapping with model selection: several ways to make a model, the one that predicts held-out observations best kept."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lightmatch.colmap.models import extract_colors, registered_names
from lightmatch.errors import ReconstructionError
from lightmatch.reconstruction.mapping.camera_models import select_camera_models
from lightmatch.reconstruction.mapping.cleaning import filter_points, remove_outlier_cameras
from lightmatch.reconstruction.mapping.held_out import Comparison, HeldOutScore, HeldOutScorer, compare
from lightmatch.reconstruction.mapping.history import Attempt, MappingHistory
from lightmatch.reconstruction.mapping.mappers import (
    FORWARD,
    ORDINARY,
    RELAXED,
    StartOptions,
    map_globally,
    map_incrementally,
)
from lightmatch.reconstruction.mapping.merging import merge_models
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, FreeIntrinsics, adjust
from lightmatch.sfm.tracks import Tracks, read_tracks
from lightmatch.sfm.uncertainty import CameraUncertainty, camera_uncertainties
from lightmatch.sfm.view_graph import connected_photos, doubtful_focal_lengths

if TYPE_CHECKING:
    from pycolmap import Reconstruction

logger = logging.getLogger(__name__)

Mapper = Literal["auto", "incremental", "global"]

SMALL = 100  # photos: up to here the global mapper is tried too where the incremental one leaves something to gain
ENOUGH = 0.8  # of the photos that pairs connect: a model with fewer has failed
COMPLETE = 0.97  # of the held-out observations predicted: with as many, nothing is left for another mapper to gain
MIN_OBSERVATIONS = 10  # held-out ones of a photo, for their share within 4 px to mean anything


@dataclass(frozen=True)
class MappingOptions:
    """What to try. The defaults suit photos of which nothing is known."""

    mapper: Mapper = "auto"  # which to try; all that may help by default
    both_mappers_up_to: int = SMALL  # photos; beyond, the global mapper runs only where the incremental one has failed
    known_cameras: frozenset[int] = frozenset()  # ids of cameras whose intrinsics are given and never changed
    held_in_rigs: frozenset[int] = frozenset()  # ids of cameras whose place in their rig is given
    free: Mapping[int, FreeIntrinsics] = field(default_factory=dict)  # of other cameras, by id: what may be adjusted
    select_camera_models: bool = True
    merge: bool = True
    clean: bool = True
    uncertainty: bool = True
    colors: bool = True  # of points, which are read from the photos


@dataclass(frozen=True)
class MappingResult:
    """Models, the best first and refined, and how they came about."""

    models: list[Reconstruction]  # empty where nothing could be registered
    score: HeldOutScore | None  # of the first, as it is now
    adjust_options: AdjustOptions  # which intrinsics of the first may move in a further adjustment
    uncertainties: tuple[CameraUncertainty, ...]  # of the first, in its unit; empty unless wanted
    history: MappingHistory


class _Mapping:
    """The state of one run: what was found so far."""

    def __init__(
        self,
        database: Path,
        images: Path,
        seed: int | None,
        options: MappingOptions,
        on_image: Callable[[], None],
        on_attempt: Callable[[str], None],
    ) -> None:
        self.database, self.images, self.seed, self.options = database, images, seed, options
        self._on_image, self._on_attempt = on_image, on_attempt
        self.tracks: Tracks = read_tracks(database)
        self.scorer = HeldOutScorer(self.tracks)
        self.num_photos = len(self.tracks.names)
        self.num_connected = connected_photos(database)
        self.adjust_options = AdjustOptions(
            cameras={**options.free, **dict.fromkeys(sorted(options.known_cameras), KNOWN)},
            held_in_rigs=options.held_in_rigs,
            threads=1 if seed is not None else None,
        )
        self.attempts: list[Attempt] = []
        self.best: list[Reconstruction] = []
        self.others: list[Reconstruction] = []  # of attempts that were not kept
        self.score: HeldOutScore | None = None
        self._num_reported = 0  # photos that on_image was called for

    @property
    def num_registered(self) -> int:
        return self.best[0].num_reg_images() if self.best else 0

    @property
    def has_failed(self) -> bool:
        return self.num_registered < max(2, ENOUGH * self.num_connected)

    @property
    def is_complete(self) -> bool:
        """Whether another mapper has nothing to gain.

        All connected photos are registered, hardly a held-out observation is missed, and no photo's are predicted much
        worse than those of the others.
        """
        score = self.score
        if score is None or not score.is_valid or self.num_registered < self.num_connected:
            return False
        shares = [one.within_4px for one in score.by_photo().values() if one.num_observations >= MIN_OBSERVATIONS]
        even = bool(shares) and min(shares) >= statistics.median(shares) / 2
        return even and score.num_predicted >= COMPLETE * len(score.errors_px)

    def attempt(self, name: str, make: Callable[[Callable[[], None]], list[Reconstruction]]) -> None:
        """Make models in one way, and keep them if they are better than those before."""
        self._on_attempt(name)
        begun, placed = time.perf_counter(), 0

        def on_image() -> None:
            nonlocal placed
            placed += 1
            if self._num_reported < placed <= self.num_photos:
                self._num_reported = placed
                self._on_image()

        try:
            models = make(on_image)
        except ReconstructionError as error:
            self.attempts.append(Attempt(name, time.perf_counter() - begun, (), 0, None, None, False, str(error)))
            return
        if not models:
            why = "nothing could be registered"
            self.attempts.append(Attempt(name, time.perf_counter() - begun, (), 0, None, None, False, why))
            return
        score = self.scorer.score(models[0], self.adjust_options)
        comparison = compare(score, self.score) if self.score else None
        kept, why = self._is_better(models[0], score, comparison)
        counts = tuple(model.num_reg_images() for model in models)
        seconds = time.perf_counter() - begun
        self.attempts.append(
            Attempt(name, seconds, counts, models[0].num_points3D(), score.summary(), comparison, kept, why)
        )
        if kept:
            self.others += self.best
            self.best, self.score = models, score
        else:
            self.others += models

    def _is_better(self, model: Reconstruction, score: HeldOutScore, comparison: Comparison | None) -> tuple[bool, str]:
        if comparison is None:
            return True, "the first model"
        if not score.is_valid:
            size = (model.num_reg_images(), model.num_points3D())
            better = size > (self.num_registered, self.best[0].num_points3D())
            return (
                better,
                f"too few held-out tracks to compare; {'more' if better else 'no more'} photos and points",
            )
        if comparison.improves:
            return True, "predicts held-out observations better"
        if comparison.worsens:
            return False, "predicts held-out observations worse"
        return False, "predicts held-out observations no better: the difference is within chance"

    def incremental(self, start: StartOptions) -> None:
        self.attempt(
            f"incremental, {start.name}",
            lambda on_image: map_incrementally(
                self.database,
                self.images,
                seed=self.seed,
                on_image=on_image,
                start=start,
                known_cameras=self.options.known_cameras,
                colors=False,
            ),
        )

    def globally(self, doubtful: list[int] | None = None) -> None:
        name = "global, focal lengths estimated" if doubtful else "global"
        self.attempt(
            name,
            lambda _: map_globally(
                self.database,
                self.images,
                seed=self.seed,
                known_cameras=self.options.known_cameras,
                doubtful_cameras=doubtful,
            ),
        )

    def extend(self) -> None:
        base = self.best[0]
        self.attempt(
            "photos added to the best",
            lambda _: map_incrementally(
                self.database,
                self.images,
                seed=self.seed,
                known_cameras=self.options.known_cameras,
                extend=base,
                start=RELAXED,
                colors=False,
            ),
        )


def map_with_selection(
    database: Path,
    images: Path,
    *,
    seed: int | None = None,
    options: MappingOptions | None = None,
    on_image: Callable[[], None] = lambda: None,
    on_attempt: Callable[[str], None] = lambda name: None,
) -> MappingResult:
    """Models of a verified database, the best first, with all that was tried.

    database: verified matches; only read, but copies are made beside it. images: folder of the photos, for colours.
    seed: makes the result repeat to the bit, on one thread of COLMAP. on_image: called when a photo is placed, at most
    once per photo. on_attempt: called with the name of each way to map, before it starts.

    By default the incremental mapper runs first. The global one runs too where that model lacks many of the photos that
    pairs connect, or, for sets of up to SMALL photos, lacks any of them or misses held-out observations. Then relaxed
    starts follow, as long as many photos are missing. Of the largest models of all, the one that predicts held-out
    tracks best is kept (see `held_out`), the earlier one where chance could explain the difference. Photos that it
    lacks are then added one by one, and by merging the other models into it; outlier cameras are removed; cameras with
    data enough get richer camera models. Each of these steps is kept only where held-out observations are
    predicted better.
    KeyboardInterrupt stops it within about a second.
    """
    options = options or MappingOptions()
    begun = time.perf_counter()
    run = _Mapping(database, images, seed, options, on_image, on_attempt)
    incremental, globally = options.mapper != "global", options.mapper != "incremental"
    if incremental:
        run.incremental(ORDINARY)
    may_gain = run.num_photos <= options.both_mappers_up_to and not run.is_complete
    if globally and (not incremental or may_gain or run.has_failed):
        run.globally()
    for start in (FORWARD, RELAXED):
        if incremental and run.has_failed:
            run.incremental(start)
    if globally and run.has_failed and (doubtful := doubtful_focal_lengths(database, options.known_cameras)):
        run.globally(doubtful)
    history = MappingHistory(
        num_photos=run.num_photos,
        num_connected=run.num_connected,
        num_tracks=len(run.tracks),
        num_held_out=len(run.scorer.held_out),
        num_contradictory=run.tracks.num_contradictory,
        seconds=0.0,  # at the end
    )
    if not run.best:
        return MappingResult([], None, run.adjust_options, (), _finished(history, run, None, begun))

    if incremental and 2 < run.num_registered < len(np.unique(run.tracks.photos)):  # others share no track
        run.extend()
    models = run.best
    if options.merge:
        on_attempt("merging")
        lesser = sorted(models[1:] + run.others, key=lambda model: (-model.num_reg_images(), -model.num_points3D()))
        models, merges = merge_models(
            [models[0], *lesser], database, run.tracks, run.scorer, run.adjust_options, seed or 0
        )
        history = replace(history, merges=tuple(merges))
    best = models[0]
    if options.clean:
        on_attempt("cleaning")
        removed = remove_outlier_cameras(best, run.scorer, run.adjust_options)
        history = replace(history, removed_photos=tuple(removed))
    adjust_options = run.adjust_options
    if options.select_camera_models:
        on_attempt("camera models")
        adjust_options, trials = select_camera_models(best, run.scorer, run.adjust_options)
        history = replace(history, camera_models=tuple(trials))
    if options.clean:
        history = replace(history, removed_observations=filter_points(best))
        adjust(best, adjust_options)
    score = run.scorer.score(best, adjust_options)
    uncertainties = camera_uncertainties(best, adjust_options) if options.uncertainty else []
    kept = models_apart(models)
    if options.colors:
        extract_colors(kept, images)
    return MappingResult(kept, score, adjust_options, tuple(uncertainties), _finished(history, run, score, begun))


def models_apart(models: list[Reconstruction]) -> list[Reconstruction]:
    """The first model, and of the others, as they come, those with photos that none before has."""
    kept: list[Reconstruction] = []
    seen: set[str] = set()
    for model in models:
        names = set(registered_names(model))
        if not kept or names - seen:
            kept.append(model)
            seen |= names
    return kept


def _finished(history: MappingHistory, run: _Mapping, score: HeldOutScore | None, begun: float) -> MappingHistory:
    """With the attempts, the score of the best model, and the time since `begun`."""
    logger.info("mapping: %d attempts, %d models at first", len(run.attempts), len(run.best))
    return replace(
        history,
        seconds=time.perf_counter() - begun,
        attempts=tuple(run.attempts),
        best=next((attempt.name for attempt in reversed(run.attempts) if attempt.kept), None),
        score=score.summary() if score else None,
        photo_scores=score.by_photo() if score else {},
    )
