"""`reconstruct`: inputs → features → pairs → matches → verified pairs → models → files and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lightmatch.inputs import Inputs, at_most, common_folder, find_inputs, relative_name
from lightmatch.pipelines.output import is_output, resumable_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.attempt import Sources
from lightmatch.pipelines.reconstruct.checks import check_disk_holds, explained_when_full, orientations_kept
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.fallback import best_attempt, fallback_features, first_features
from lightmatch.pipelines.reconstruct.imported import ImportedExtractor
from lightmatch.pipelines.reconstruct.models import Models, loaded_models
from lightmatch.pipelines.reconstruct.report import write_report
from lightmatch.pipelines.reconstruct.results import write_results
from lightmatch.pipelines.reconstruct.summary import Summary, summary_of
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
    requested, config = config, first_features(config)
    with loaded_models(config) as models:
        known = None if config.known is None else read_camera_priors(config.known)
        inputs = find_inputs(paths, output=output, masks=config.masks, is_output=is_output)
        if config.max_images is not None:
            inputs = at_most(inputs, config.max_images)
        imported = None
        if config.imported is not None:  # keypoints and matches of another program, instead of extraction and matching
            imported = _imported(config.imported, paths, inputs, models)
            config = replace(config, panorama="no", mirrored="keep")
        sources = Sources(paths, inputs, models, imported)
        with explained_when_full(output), resumable_output(output, overwrite):
            run = Run.of(output, config, progress, executor)
            check_disk_holds(run, inputs, sources.extractor.load().kind)
            with orientations_kept(run.layout.orientations):
                best, tried = best_attempt(run, sources, known, fallback_features(requested, known))
            codec.write(run.layout.picture_keys, {picture.name: picture.key for picture in best.gathered.pictures})
            write_results(run, best.gathered, best.mapped)
            summary = summary_of(best.run, inputs, best.gathered, best.verified, best.mapped, tried)
            codec.write(run.layout.summary, summary, indent=2)
            with run.progress.stage("report", 1) as step:
                write_report(output)
                step()
    return summary


def _imported(source: Path, paths: Sequence[Path], inputs: Inputs, models: Models) -> ImportedExtractor:
    """Keypoints that another program found. Raises InvalidValueError where they belong to other photos."""
    folder = common_folder(paths)
    names = tuple((photo.path, relative_name(photo.path, folder)) for photo in inputs.photos)
    extractor = ImportedExtractor(source, names, models.run)
    extractor.load().imported.check_names(inputs, folder)
    return extractor
