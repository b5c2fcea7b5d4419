"""`reconstruct`: inputs → features → pairs → matches → verified pairs → models → files and report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightmatch.extractors import Extractor
from lightmatch.inputs import Inputs, at_most, common_folder, find_inputs, relative_name
from lightmatch.matchers.learned import LearnedMatcher
from lightmatch.pipelines.output import is_output, resumable_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import first_pass
from lightmatch.pipelines.reconstruct.checks import (
    announce_costs,
    check_disk_holds,
    check_enough,
    explained_when_full,
    orientations_kept,
    with_rig_gaps,
)
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.image_matching import match_images
from lightmatch.pipelines.reconstruct.imported import ImportedExtractor
from lightmatch.pipelines.reconstruct.mapping import map_pictures
from lightmatch.pipelines.reconstruct.matching import MatchedPairs, match_pairs
from lightmatch.pipelines.reconstruct.mirrored import find_mirrored, photos_among, without_mirrored
from lightmatch.pipelines.reconstruct.models import Models, ModelSource, loaded_models
from lightmatch.pipelines.reconstruct.pairs import pairs_of
from lightmatch.pipelines.reconstruct.pictures import Gathered, gather
from lightmatch.pipelines.reconstruct.report import write_report
from lightmatch.pipelines.reconstruct.results import write_results
from lightmatch.pipelines.reconstruct.summary import Summary, summary_of
from lightmatch.pipelines.reconstruct.verification import verify_pairs
from lightmatch.reconstruction import known_camera_model, read_camera_priors
from lightmatch.runtime import codec
from lightmatch.runtime.executor import Executor


def reconstruct(
    photos: str | Path | Sequence[str | Path],
    output: str | Path,
    config: ReconstructConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Summary:
    """Reconstruct cameras and points from photos and videos.

    photos: folders (searched with their subfolders), photos, videos, or several of all. output: a new or empty folder,
        or one of an earlier run: one that did not finish goes on where it was; the results of a finished one are
        replaced with `overwrite`, and what still holds of its features and matches is used again.
    executor: who cuts panoramas, extracts, matches, verifies, matches again with known poses, computes depth maps and
        undistorts photos; threads of this process unless another is given. With one of other machines
        (`runtime.cluster.RayCluster`) all paths are absolute, and the same there.
    Writes report.html, sparse/, splat/ and the other files of docs/output-files.md. What cannot be read is left out,
    with a warning.
    Raises ReconstructionError when fewer than two pictures can be read, nothing can be registered, another run works
    on `output`, or its disk cannot hold the results. Where the camera only rotated it is a PureRotationError, and
    orientations.json is there.
    """
    paths = [Path(path) for path in ([photos] if isinstance(photos, str | Path) else photos)]
    output, config = Path(output), config or ReconstructConfig()
    config = replace(config, camera_model=known_camera_model(config.camera_model))
    with loaded_models(config) as models:
        known = None if config.known is None else read_camera_priors(config.known)
        inputs = find_inputs(paths, output=output, masks=config.masks, is_output=is_output)
        if config.max_images is not None:
            inputs = at_most(inputs, config.max_images)
        imported = None
        if config.imported is not None:  # keypoints and matches of another program, instead of extraction and matching
            imported = _imported(config.imported, paths, inputs, models)
            config = replace(config, panorama="no", mirrored="keep")
        sources = _Sources(paths, inputs, models, imported)
        with explained_when_full(output), resumable_output(output, overwrite):
            run = Run.of(output, config, progress, executor)
            check_disk_holds(run, inputs, sources.extractor.load().kind)
            gathered, matched = _gather_and_match(run, sources)
            if models.image_matcher is None and config.mirrored != "keep":
                gathered, matched = _settle_mirrored(run, sources, gathered, matched)
            pictures = gathered.pictures
            codec.write(run.layout.picture_keys, {picture.name: picture.key for picture in pictures})
            mapping_run = replace(run, config=_for_mapping(config, sources, pictures))
            with orientations_kept(run.layout.orientations):
                verified = verify_pairs(mapping_run, pictures, matched, known)
                if verified.is_ambiguous and matched.by_few:  # what tells look-alikes apart is what does not match
                    matched = match_pairs(run, pictures, matched.pairs, models.matcher)
                    verified = verify_pairs(mapping_run, pictures, matched, known)
            mapped = map_pictures(mapping_run, pictures, verified, models.matcher.load(), known)
            write_results(mapping_run, gathered, mapped)
            summary = summary_of(run, inputs, gathered, verified, mapped)
            codec.write(run.layout.summary, summary, indent=2)
            with run.progress.stage("report", 1) as step:
                write_report(output)
                step()
    return summary


@dataclass(frozen=True)
class _Sources:
    """What a run starts from."""

    paths: Sequence[Path]  # as the user named them
    inputs: Inputs
    models: Models
    imported: ImportedExtractor | None

    @property
    def extractor(self) -> ModelSource[Extractor]:
        """Where the keypoints of a photo come from."""
        return self.imported or self.models.extractor


def _imported(source: Path, paths: Sequence[Path], inputs: Inputs, models: Models) -> ImportedExtractor:
    """Keypoints that another program found. Raises InvalidValueError where they belong to other photos."""
    folder = common_folder(paths)
    names = tuple((photo.path, relative_name(photo.path, folder)) for photo in inputs.photos)
    extractor = ImportedExtractor(source, names, models.run)
    extractor.load().imported.check_names(inputs, folder)
    return extractor


def _gather_and_match(run: Run, sources: _Sources, flipped: Collection[str] = ()) -> tuple[Gathered, MatchedPairs]:
    """Pictures, their features, and their matches. flipped: as for `gather`."""
    gathered = gather(run, sources.inputs, sources.extractor, flipped)
    check_enough(sources.paths, sources.inputs, gathered)
    if run.config.rig:
        gathered = with_rig_gaps(gathered)
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
    run: Run, sources: _Sources, gathered: Gathered, matched: MatchedPairs
) -> tuple[Gathered, MatchedPairs]:
    """Leave mirrored photos out; with --mirrored flip-back, flip them, extract and match again."""
    extractor, matcher = sources.models.extractor.load(), sources.models.matcher.load()
    mirrored = find_mirrored(run, gathered.pictures, matched, extractor, matcher)
    flipped = photos_among(gathered.pictures, mirrored) if run.config.mirrored == "flip-back" else []
    if flipped:
        gathered, matched = _gather_and_match(run, sources, [photo.requested_name for photo in flipped])
    names = {photo.name for photo in flipped}
    gathered = without_mirrored(gathered, mirrored - names, names)
    check_enough(sources.paths, sources.inputs, gathered)
    return gathered, matched.without(mirrored - names)


def _for_mapping(config: ReconstructConfig, sources: _Sources, pictures: Sequence[Picture]) -> ReconstructConfig:
    """Options from verification on.

    Keypoints of image matchers and of other programs have no descriptors: all of them are used, and guided matching is
    off.
    """
    if sources.models.image_matcher is None and sources.imported is None:
        return config
    return replace(config, max_keypoints=max(1, *(picture.num_keypoints for picture in pictures)), guided_keypoints=0)
