"""What a run did and found: the content of summary.json (docs/summary.schema.json describes it)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.images import Levels
from lightmatch.inputs import Inputs
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.mapping import Mapped
from lightmatch.pipelines.reconstruct.panorama_rigs import panorama_note, panorama_poses
from lightmatch.pipelines.reconstruct.pictures import Gathered
from lightmatch.pipelines.reconstruct.verification import DroppedPair, PairSummary, Verified
from lightmatch.reconstruction import (
    Evidence,
    FrameSummary,
    LeftOut,
    ModelHistory,
    ModelSummary,
    PhotosSummary,
    advise,
    edited_warnings,
    matches_seen_twice,
    model_arrays,
    summarize_model,
    summarize_photos,
)
from lightmatch.reconstruction.diagnostics.capture_advice import Advice
from lightmatch.reconstruction.georegistration.upright import find_up
from lightmatch.runtime import codec
from lightmatch.sfm.uncertainty import CameraUncertainty

VERSION = 2  # of the format; 1 was without a version

_UP = np.array([0.0, 0.0, 1.0])  # of the world that models are put into


@dataclass(frozen=True)
class FeaturesTrial:
    """How many photos one kind of features registered."""

    features: str
    num_registered: int  # in the best model


@dataclass(frozen=True)
class Summary:
    """What a run did and found."""

    version: int = field(default=VERSION, kw_only=True)
    photos: PhotosSummary
    model: ModelSummary  # of the best model, sparse/0
    num_models: int
    frame: FrameSummary  # of the best model
    history: ModelHistory  # how the best model came about
    config: ReconstructConfig
    pairs: tuple[PairSummary, ...] = ()  # that were matched
    doppelgangers: tuple[DroppedPair, ...] = ()
    uncertainties: tuple[CameraUncertainty, ...] = ()  # of the best model, in the unit of its frame
    warnings: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()  # for the set as a whole; each left-out photo has its own
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage
    features_tried: tuple[FeaturesTrial, ...] = ()  # where more than one kind was; `config` names the one that was kept
    levels: Levels | None = None  # black and white of photos of one channel that use few of 16 bits, or have floats

    @property
    def num_images(self) -> int:
        """Photos found, readable or not; one that is there twice counts once."""
        return self.photos.num_images

    @property
    def num_registered(self) -> int:
        """Photos in the best model."""
        return self.photos.num_registered

    @property
    def not_registered(self) -> tuple[LeftOut, ...]:
        """The other photos, each with a reason."""
        return self.photos.not_registered

    @property
    def num_verified_pairs(self) -> int:
        """Pairs whose matches agree with one geometry."""
        return sum(pair.num_inliers > 0 for pair in self.pairs)


def read_summary(output: Path) -> Summary:
    """The summary of the finished run in `output`. Raises ReconstructionError where there is none that can be read."""
    path = Layout(output).summary
    try:
        content = codec.read(dict[str, object], path)
        version = content.get("version", 1)
        if version != VERSION:
            raise ReconstructionError(
                f"{path}: expected version {VERSION} of the format, got {version}; reconstruct again into the same"
                " folder with --overwrite, what still holds is used again"
            )
        return codec.from_json(Summary, content, str(path))
    except FileNotFoundError as error:
        raise ReconstructionError(
            f"{output}: expected the results of a finished run, found no {path.name}; name the folder that"
            " `lightmatch reconstruct` wrote to, or run it to its end"
        ) from error
    except (OSError, InvalidValueError) as error:
        raise ReconstructionError(f"{error}: reconstruct again into the same folder with --overwrite") from error


def summary_of(
    run: Run,
    inputs: Inputs,
    gathered: Gathered,
    verified: Verified,
    mapped: Mapped,
    features_tried: tuple[FeaturesTrial, ...] = (),
) -> Summary:
    """The numbers of the best model, why photos are not in it, what to photograph next, and what to be wary of."""
    pictures, best = gathered.pictures, mapped.models[0]
    evidence = Evidence(
        {picture.name: picture.num_keypoints for picture in pictures},
        verified.num_inliers,
        quality={picture.name: picture.quality for picture in pictures},
        cameras=verified.cameras,
        doppelgangers=[(pair.name0, pair.name1) for pair in verified.doppelgangers],
        only_rotated=verified.only_rotated,
        outlier_cameras=mapped.history.outlier_cameras,
        are_poses_given=mapped.history.known_poses is not None,
    )
    sources = {picture.name: picture.shown for picture in (*pictures, *gathered.set_aside)}
    arrays = model_arrays(best)
    is_upright = mapped.frame.up is not None  # with known poses the world is as it was given
    up = _UP if is_upright else find_up(arrays.rotations, arrays.centers, arrays.points).direction
    return Summary(
        photos=summarize_photos(mapped.models, sources, evidence, [*gathered.left_out, *_not_used(inputs)]),
        model=summarize_model(best),
        num_models=len(mapped.models),
        frame=mapped.frame,
        history=mapped.history,
        config=run.config,
        pairs=verified.pairs,
        doppelgangers=verified.doppelgangers,
        uncertainties=mapped.uncertainties,
        warnings=(
            *filter(None, [panorama_note(panorama_poses(pictures, best))]),
            *gathered.warnings,
            *verified.warnings,
            *edited_warnings(best, mapped.history.edited_photos),
            *mapped.history.rig_warnings,
        ),
        advice=tuple(advise(arrays, up, verified.num_inliers, matches_seen_twice(mapped.database, arrays.names))),
        seconds=dict(run.progress.seconds),
        features_tried=features_tried,
        levels=gathered.levels,
    )


def _not_used(inputs: Inputs) -> Iterator[LeftOut]:
    """Files that were named and are no picture of the run."""
    for twice in inputs.duplicates:
        yield LeftOut.same_file(twice.shown, twice.first)
    for ignored in inputs.ignored:
        if ignored.lost:
            yield LeftOut.not_used(ignored.shown, ignored.reason)
