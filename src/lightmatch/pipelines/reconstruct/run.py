"""The whole way, stage by stage."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lightmatch.errors import ReconstructionError
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.inputs import (
    Inputs,
    at_most,
    bytes_per_keypoint,
    check_disk,
    common_folder,
    describe_gaps,
    estimate_disk,
    find_inputs,
    picture_size,
    relative_name,
    rig_frames,
    rig_gaps,
    too_few,
)
from lightmatch.matchers import DEFAULT_MATCHER, create_image_matcher, create_matcher, takes_images
from lightmatch.pairing import CLASSIFIER_VERSION
from lightmatch.pipelines.output import is_output, resumable_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.image_matching import match_images
from lightmatch.pipelines.reconstruct.imported import Imported, ImportedKeypoints
from lightmatch.pipelines.reconstruct.mapping import map_pictures
from lightmatch.pipelines.reconstruct.matching import MatchedPairs, match_pairs
from lightmatch.pipelines.reconstruct.mirrored import find_mirrored, photos_among, without_mirrored
from lightmatch.pipelines.reconstruct.pairs import expected_pairs, pairs_of
from lightmatch.pipelines.reconstruct.panoramas import PanoramaOptions
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName, Gathered, Picture, gather
from lightmatch.pipelines.reconstruct.report import write_report
from lightmatch.pipelines.reconstruct.results import write_results
from lightmatch.pipelines.reconstruct.summary import SUMMARY_NAME, Summary, summary_of
from lightmatch.pipelines.reconstruct.verification import verify_pairs
from lightmatch.reconstruction import PureRotationError, known_camera_model, read_camera_priors
from lightmatch.runtime import codec
from lightmatch.runtime.stages import Stages
from lightmatch.runtime.store import FeatureStore, MatchStore, digest

logger = logging.getLogger(__name__)


def reconstruct(
    photos: str | Path | Sequence[str | Path],
    output: str | Path,
    config: ReconstructConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Reconstruct cameras and points from photos and videos.

    photos: folders (searched with their subfolders), photos, videos, or several of all. output: a new or empty folder,
        or one of an earlier run: one that did not finish goes on where it was; the results of a finished one are
        replaced with `overwrite`, and what still holds of its features and matches is used again.
    Writes report.html, sparse/, splat/ and the other files of docs/output-files.md. What cannot be read is left out,
    with a warning.
    Raises ReconstructionError when fewer than two pictures can be read, nothing can be registered, another run works
    on `output`, or its disk cannot hold the results. Where the camera only rotated it is a PureRotationError, and
    orientations.json is there.
    """
    paths = [Path(path) for path in ([photos] if isinstance(photos, str | Path) else photos)]
    output = Path(output)
    asked = config or ReconstructConfig()
    config = replace(asked, camera_model=known_camera_model(asked.camera_model))
    progress = progress or Progress()
    extractor = create_extractor(config.features, max_keypoints=config.extracted_keypoints, device=config.device)
    of_images = None
    if takes_images(config.matcher):
        of_images = create_image_matcher(config.matcher, max_keypoints=config.max_keypoints, device=config.device)
    # Where images are matched, features are for choosing pairs alone.
    name = DEFAULT_MATCHER if of_images else config.matcher
    matcher = create_matcher(name, extractor.kind, device=config.device, precision=config.precision)
    known = None if config.known is None else read_camera_priors(config.known)
    inputs = find_inputs(paths, output=output, masks=config.masks, is_output=is_output)
    if config.max_images is not None:
        inputs = at_most(inputs, config.max_images)
    imported, imported_names = None, {}
    if config.imported is not None:  # what was found elsewhere stands where extraction and matching do
        imported, folder = Imported.open(config.imported), common_folder(paths)
        imported.check_names(inputs, folder)
        extractor = ImportedKeypoints(
            imported, {photo.path: relative_name(photo.path, folder) for photo in inputs.photos}
        )
        imported_names = {photo.name: relative_name(photo.path, folder) for photo in inputs.photos}
        config = replace(config, panorama="no", mirrored="keep")

    with _explained_when_full(output), resumable_output(output, overwrite):
        _check_disk(inputs, output, extractor, config)
        stages = Stages(output / "store" / "stages")
        store = FeatureStore(output / "store" / "features")
        panoramas = PanoramaOptions(config.panorama, (config.ignore_below_deg, config.ignore_above_deg))
        images = output / "images"
        match_store = MatchStore(output / "store" / "matches")
        described = digest(config.matcher, config.device, config.precision, config.max_keypoints, CLASSIFIER_VERSION)

        def gather_and_match(flipped: Collection[str] = ()) -> tuple[Gathered, MatchedPairs]:
            gathered = gather(inputs, output, extractor, store, stages, progress, config.max_pixels, panoramas, flipped)
            _check_enough(paths, inputs, gathered)
            if config.rig:
                gathered = _with_rig_gaps(gathered)
            if imported is not None:
                every = FeaturesByName(gathered.pictures, store)
                return gathered, imported.match(gathered.pictures, imported_names, every, output, match_store)
            strongest = FeaturesByName(gathered.pictures, store, config.max_keypoints)
            pairs = pairs_of(gathered.pictures, strongest, config, stages, progress)
            if of_images is not None:
                merged = match_images(gathered.pictures, pairs, of_images, output, store, match_store, progress)
                return replace(gathered, pictures=merged[0]), merged[1]
            found = match_pairs(gathered.pictures, pairs, strongest, matcher, described, match_store, progress)
            return gathered, found

        gathered, matched = gather_and_match()
        if of_images is None and config.mirrored != "keep":
            mirrored = find_mirrored(gathered.pictures, matched, store, extractor, matcher, images, stages, progress)
            flipped = photos_among(gathered.pictures, mirrored) if config.mirrored == "flip-back" else []
            if flipped:
                gathered, matched = gather_and_match([photo.asked for photo in flipped])
            names = {photo.name for photo in flipped}
            gathered = without_mirrored(gathered, mirrored - names, names)
            matched = matched.without(mirrored - names)
        pictures = gathered.pictures
        _check_enough(paths, inputs, gathered)
        keys = {picture.name: picture.key for picture in pictures}
        codec.write(output / "store" / "pictures.json", keys)  # for `lightmatch localize`
        features = FeaturesByName(pictures, store)
        kept = config  # for what follows
        # Of both all places count, and none has a descriptor for guided matching.
        if of_images is not None or imported is not None:
            kept = replace(config, max_keypoints=_most_keypoints(pictures), guided_keypoints=0)
        strongest = FeaturesByName(pictures, store, kept.max_keypoints)
        with _orientations_kept(output):
            verified = verify_pairs(pictures, matched, strongest, known, kept, images, stages, progress)
        mapped = map_pictures(pictures, verified, features, matcher, known, kept, images, stages, progress)
        write_results(gathered, mapped, kept, output, stages, progress)
        summary = summary_of(inputs, gathered, verified, mapped, config, progress.seconds)
        codec.write(output / SUMMARY_NAME, summary, indent=2)
        with progress.stage("report", 1) as step:
            write_report(output)
            step()
    return summary


@contextmanager
def _explained_when_full(output: Path) -> Iterator[None]:
    """A full disk ends the run with what to do; what is whole by then is kept."""
    try:
        yield
    except Exception as error:
        if _is_full(error):
            raise ReconstructionError(
                f"{output}: its disk is full; make room and start the same command again, it goes on from here"
            ) from error
        raise


@contextmanager
def _orientations_kept(output: Path) -> Iterator[None]:
    """Where a camera only rotated, what can be had is written: focal lengths and rotations."""
    path = output / "orientations.json"
    path.unlink(missing_ok=True)
    try:
        yield
    except PureRotationError as error:
        codec.write(path, tuple(camera.orientations() for camera in error.turned), indent=1)
        raise


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # safetensors, SQLite and COLMAP have errors of their own for it.
        said = str(error).lower()
        if "no space left on device" in said or "disk is full" in said:
            return True
        error = error.__cause__ or error.__context__
    return False


def _check_disk(inputs: Inputs, output: Path, extractor: Extractor, config: ReconstructConfig) -> None:
    sizes = [picture_size(photo) for photo in inputs.photos]
    estimate = estimate_disk(
        sizes,
        num_pairs=expected_pairs(len(sizes), config.pairs),
        max_keypoints=config.extracted_keypoints,
        keypoint_bytes=bytes_per_keypoint(extractor.kind),
        splat=config.splat,
        depth_maps=config.depth_maps,
    )
    written = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    check_disk(estimate, output, written=written)


def _with_rig_gaps(gathered: Gathered) -> Gathered:
    """With a warning where moments lack a photo of a camera. Raises InvalidValueError where the photos are no rig's."""
    photos = [picture.name for picture in gathered.pictures if picture.view_of is None]
    if not photos:  # panoramas alone, each a rig in itself
        return gathered
    frames = rig_frames(photos)
    said = describe_gaps(rig_gaps(frames), len(frames))
    return replace(gathered, warnings=(*gathered.warnings, *filter(None, [said])))


def _most_keypoints(pictures: Sequence[Picture]) -> int:
    return max(1, *(picture.num_keypoints for picture in pictures))


def _check_enough(paths: Sequence[Path], inputs: Inputs, gathered: Gathered) -> None:
    if len(gathered.pictures) < 2:
        raise ReconstructionError(_too_few(paths, inputs, gathered))


def _too_few(paths: Sequence[Path], inputs: Inputs, gathered: Gathered) -> str:
    if len(gathered.pictures) == len(inputs.videos) == 1 and not inputs.photos:
        shown = inputs.videos[0].shown
        return (
            f"{shown}: expected a video in which the camera moves, all of this one shows one view; walk while filming"
        )
    mirrored = [left for left in gathered.left_out if left.kind == "mirrored"]
    if mirrored:
        photo = mirrored[0]
        return f"{photo.name}: expected a photo as it was taken, got one that is {photo.reason}; {photo.advice}"
    unreadable = [left.reason.removeprefix("unreadable: ") for left in gathered.left_out if left.kind == "unreadable"]
    twice = sum(left.kind == "duplicate" for left in gathered.left_out) + len(inputs.duplicates)
    return too_few(paths, len(gathered.pictures), unreadable, twice)
