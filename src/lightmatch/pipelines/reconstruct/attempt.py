"""Photos → models by one kind of features: what `reconstruct` may do twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightmatch.extractors import Extractor
from lightmatch.inputs import Inputs
from lightmatch.matchers.learned import LearnedMatcher
from lightmatch.pipelines.reconstruct import first_pass
from lightmatch.pipelines.reconstruct.checks import announce_costs, check_enough, with_rig_gaps
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.image_matching import match_images
from lightmatch.pipelines.reconstruct.imported import ImportedExtractor
from lightmatch.pipelines.reconstruct.mapping import Mapped, map_pictures
from lightmatch.pipelines.reconstruct.matching import MatchedPairs, match_pairs
from lightmatch.pipelines.reconstruct.mirrored import find_mirrored, photos_among, without_mirrored
from lightmatch.pipelines.reconstruct.models import Models, ModelSource
from lightmatch.pipelines.reconstruct.pairs import pairs_of
from lightmatch.pipelines.reconstruct.pictures import Gathered, gather
from lightmatch.pipelines.reconstruct.summary import FeaturesTrial
from lightmatch.pipelines.reconstruct.verification import Verified, verify_pairs
from lightmatch.reconstruction import CameraPriors


@dataclass(frozen=True)
class Sources:
    """What a run starts from."""

    paths: Sequence[Path]  # as the user named them
    inputs: Inputs
    models: Models
    imported: ImportedExtractor | None

    @property
    def extractor(self) -> ModelSource[Extractor]:
        """Where the keypoints of a photo come from."""
        return self.imported or self.models.extractor


@dataclass(frozen=True)
class Attempt:
    """What came of photos, by one kind of features."""

    run: Run  # with the options of it
    gathered: Gathered
    verified: Verified
    mapped: Mapped

    @property
    def settled(self) -> frozenset[str]:
        """Photos other features would not add: registered ones, of a camera that only rotated, of doppelgängers."""
        registered = {image.name for image in self.mapped.models[0].images.values() if image.has_pose}
        alike = {name for pair in self.verified.doppelgangers for name in (pair.name0, pair.name1)}
        return frozenset(registered).union(self.verified.only_rotated, alike)

    @property
    def trial(self) -> FeaturesTrial:
        """What the summary says of it."""
        return FeaturesTrial(self.run.config.features, self.mapped.models[0].num_reg_images())


def gathered_pictures(run: Run, sources: Sources, flipped: Collection[str] = ()) -> Gathered:
    """Pictures and their features. flipped: as for `gather`. Raises ReconstructionError where they are too few."""
    gathered = gather(run, sources.inputs, sources.extractor, flipped)
    check_enough(sources.paths, sources.inputs, gathered)
    return with_rig_gaps(gathered) if run.config.rig else gathered


def matched_pictures(run: Run, sources: Sources, gathered: Gathered) -> tuple[Gathered, MatchedPairs]:
    """Pictures and their matches, without mirrored photos."""
    gathered, matched = _matched(run, sources, gathered)
    if sources.models.image_matcher is None and run.config.mirrored != "keep":
        gathered, matched = _settle_mirrored(run, sources, gathered, matched)
    return gathered, matched


def attempt(
    run: Run, sources: Sources, known: CameraPriors | None, gathered: Gathered, matched: MatchedPairs
) -> Attempt:
    """Matches → models. Raises NothingRegisteredError; PureRotationError where the camera only rotated."""
    pictures, matcher = gathered.pictures, sources.models.matcher
    mapping_run = replace(run, config=_for_mapping(run.config, sources, pictures))
    verified = verify_pairs(mapping_run, pictures, matched, known)
    if verified.is_ambiguous and matched.by_few:  # what tells look-alikes apart is what does not match
        matched = match_pairs(run, pictures, matched.pairs, matcher)
        verified = verify_pairs(mapping_run, pictures, matched, known)
    return Attempt(run, gathered, verified, map_pictures(mapping_run, pictures, verified, matcher.load(), known))


def _matched(run: Run, sources: Sources, gathered: Gathered) -> tuple[Gathered, MatchedPairs]:
    """Pictures, with keypoints of their matches where images are matched, and the matches."""
    if sources.imported is not None:
        by_path = dict(sources.imported.names)
        names = {photo.name: by_path[photo.path] for photo in sources.inputs.photos}
        return gathered, sources.imported.load().imported.match(run, gathered.pictures, names)
    pairs = pairs_of(run, gathered.pictures)
    few_first = _matches_few_first(run.config, sources.models, len(gathered.pictures), len(pairs))
    announce_costs(run, gathered.pictures, len(pairs), sources.extractor.load().kind, few_first=few_first)
    if sources.models.image_matcher is not None:
        pictures, matched = match_images(run, gathered.pictures, pairs, sources.models.image_matcher)
        return replace(gathered, pictures=pictures), matched
    return gathered, match_pairs(run, gathered.pictures, pairs, sources.models.matcher, few_first=few_first)


def _matches_few_first(config: ReconstructConfig, models: Models, num_pictures: int, num_pairs: int) -> bool:
    """Whether all pairs are matched by few keypoints first: for a network, where that saves time."""
    worthwhile = first_pass.is_worthwhile(num_pictures, num_pairs, config.max_keypoints)
    may = config.matches_few_first and models.image_matcher is None
    return may and worthwhile and isinstance(models.matcher.load(), LearnedMatcher)


def _settle_mirrored(
    run: Run, sources: Sources, gathered: Gathered, matched: MatchedPairs
) -> tuple[Gathered, MatchedPairs]:
    """Leave mirrored photos out; with --mirrored flip-back, flip them, extract and match again."""
    extractor, matcher = sources.models.extractor.load(), sources.models.matcher.load()
    mirrored = find_mirrored(run, gathered.pictures, matched, extractor, matcher)
    flipped = photos_among(gathered.pictures, mirrored) if run.config.mirrored == "flip-back" else []
    if flipped:
        gathered = gathered_pictures(run, sources, [photo.requested_name for photo in flipped])
        gathered, matched = _matched(run, sources, gathered)
    names = {photo.name for photo in flipped}
    gathered = without_mirrored(gathered, mirrored - names, names)
    check_enough(sources.paths, sources.inputs, gathered)
    return gathered, matched.without(mirrored - names)


def _for_mapping(config: ReconstructConfig, sources: Sources, pictures: Sequence[Picture]) -> ReconstructConfig:
    """Options from verification on.

    Keypoints of image matchers and of other programs have no descriptors: all of them are used, and guided matching is
    off.
    """
    if sources.models.image_matcher is None and sources.imported is None:
        return config
    return replace(config, max_keypoints=max(1, *(picture.num_keypoints for picture in pictures)), guided_keypoints=0)
