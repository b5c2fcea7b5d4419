"""The numbers of a reconstruction: photos and the best model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightmatch.colmap.models import registered_names
from lightmatch.reconstruction.diagnostics.reasons import Evidence, LeftOut, explain_left_out

if TYPE_CHECKING:
    from pycolmap import Reconstruction


@dataclass(frozen=True)
class PhotosSummary:
    """The photos of a run."""

    num_images: int  # found, readable or not; one that is there twice counts once
    num_registered: int  # in the best model
    not_registered: tuple[LeftOut, ...]
    sources: Mapping[str, str]  # what the user calls each photo, by the name of its copy in images/


@dataclass(frozen=True)
class ModelSummary:
    """The numbers of one model."""

    num_cameras: int  # intrinsics: photos may share them
    num_points: int
    num_observations: int
    mean_track_length: float  # observations of a point
    mean_reprojection_error_px: float


def summarize_model(model: Reconstruction) -> ModelSummary:
    """The numbers of a model."""
    return ModelSummary(
        num_cameras=model.num_cameras(),
        num_points=model.num_points3D(),
        num_observations=model.compute_num_observations(),
        mean_track_length=model.compute_mean_track_length(),
        mean_reprojection_error_px=model.compute_mean_reprojection_error(),
    )


def summarize_photos(
    models: Sequence[Reconstruction], sources: Mapping[str, str], evidence: Evidence, not_used: Sequence[LeftOut]
) -> PhotosSummary:
    """Which photos are in the first model, and a reason for each that is not.

    models: at least one. sources: the photo behind each name in the models. evidence: what is known of the photos that
    were read. not_used: those that were not.
    """
    registered = registered_names(models[0])
    elsewhere = {
        name: number for number, model in reversed(list(enumerate(models))) for name in registered_names(model)
    }
    missing = (*explain_left_out(evidence, registered, elsewhere, sources), *not_used)
    return PhotosSummary(
        num_images=len(registered) + sum(photo.kind != "duplicate" for photo in missing),
        num_registered=len(registered),
        not_registered=missing,
        sources=dict(sources),
    )
