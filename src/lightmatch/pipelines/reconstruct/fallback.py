"""`--features auto`: SIFT, whose keypoints are the most accurate, and LightPoint where it registers more photos.

LightPoint is tried only where SIFT leaves photos out and LightPoint finds that they overlap others, so that photos of
something else cost the time to extract features and to match a few pairs, no more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Set
from dataclasses import replace

from lightmatch.errors import ReconstructionError
from lightmatch.matchers import DEFAULT_MATCHER
from lightmatch.pipelines.reconstruct.attempt import Attempt, Sources, attempt, gathered_pictures, matched_pictures
from lightmatch.pipelines.reconstruct.config import AUTO, ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.mapping import NothingRegisteredError
from lightmatch.pipelines.reconstruct.matching import MatchedPairs, match_pairs
from lightmatch.pipelines.reconstruct.models import loaded_models
from lightmatch.pipelines.reconstruct.summary import FeaturesTrial
from lightmatch.reconstruction import CameraPriors

logger = logging.getLogger(__name__)

FIRST, FALLBACK = "sift", "lightpoint"
_LEAST_LEFT_OUT = 0.02  # of the photos; fewer are not worth reconstructing all photos a second time
_OVERLAP = 0.5  # probability that two photos overlap


def first_features(config: ReconstructConfig) -> ReconstructConfig:
    """The options with features that an extractor has."""
    return replace(config, features=FIRST) if config.features == AUTO else config


def fallback_features(config: ReconstructConfig, known: CameraPriors | None) -> ReconstructConfig | None:
    """The options of a second attempt; None where features, matches or poses are given.

    Nor is there one where mirrored photos are flipped, in the folder of results, which both attempts would share.
    """
    is_default = config.features == AUTO and config.matcher == DEFAULT_MATCHER and config.imported is None
    has_poses = known is not None and bool(known.poses)
    may_apply = is_default and not has_poses and config.mirrored != "flip-back"
    return replace(config, features=FALLBACK) if may_apply else None


def best_attempt(
    run: Run, sources: Sources, known: CameraPriors | None, second: ReconstructConfig | None
) -> tuple[Attempt, tuple[FeaturesTrial, ...]]:
    """The models that the features of `run` give, or those of the second options where they hold more photos.

    Also returned is what both gave, if there were two attempts.
    """
    gathered, matched = matched_pictures(run, sources, gathered_pictures(run, sources))
    names = {picture.name for picture in gathered.pictures}

    def second_attempt(left_out: Set[str]) -> Attempt | None:
        if second is None or not is_worthwhile(len(left_out), len(names)):
            return None
        return _second_attempt(replace(run, config=second, variant=second.features), sources, known, matched, left_out)

    try:
        first = attempt(run, sources, known, gathered, matched)
    except NothingRegisteredError:
        other = second_attempt(names)
        if other is None:
            raise
        return other, (FeaturesTrial(run.config.features, 0), other.trial)
    other = second_attempt(names - first.settled)
    if other is None:
        return first, ()
    has_more = other.trial.num_registered > first.trial.num_registered
    return (other if has_more else first), (first.trial, other.trial)


def _second_attempt(
    run: Run, sources: Sources, known: CameraPriors | None, matched: MatchedPairs, left_out: Set[str]
) -> Attempt | None:
    """Models by the features of `run`, where these find that photos of those left out overlap others.

    matched: the pairs of the first attempt.
    """
    with loaded_models(run.config) as models:
        sources = replace(sources, models=models)
        gathered = gathered_pictures(run, sources)
        pictures, names = gathered.pictures, {picture.name for picture in gathered.pictures}
        pairs = [pair for pair in matched.pairs if names.issuperset(pair) and not left_out.isdisjoint(pair)]
        found = overlapping(match_pairs(run, pictures, pairs, models.matcher), left_out)
        if not found:
            return None
        run.progress.announce(
            f"{len(left_out)} of {len(pictures)} photos are left out, and {run.config.features} matches {len(found)} of"
            " them: all are reconstructed with it too"
        )
        try:
            return attempt(run, sources, known, *matched_pictures(run, sources, gathered))
        except ReconstructionError as error:
            logger.info("with %s: %s", run.config.features, error)
            return None


def is_worthwhile(num_left_out: int, num_pictures: int) -> bool:
    """Whether so many photos are left out that a second attempt may be worth its time."""
    return num_left_out > 0 and num_left_out >= _LEAST_LEFT_OUT * num_pictures


def overlapping(matched: MatchedPairs, names: Collection[str]) -> frozenset[str]:
    """Those of the photos that overlap another one, by the overlap classifier."""
    return frozenset(
        name
        for pair, found in matched.read()
        if found.probability is not None and found.probability >= _OVERLAP
        for name in pair
        if name in names
    )
