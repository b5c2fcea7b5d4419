"""What came of a reconstruction, in numbers and plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lightmatch.colmap.models import registered_names
from lightmatch.reconstruction.diagnostics.capture_advice import Advice
from lightmatch.reconstruction.diagnostics.reasons import Evidence, LeftOut, explain_left_out, no_model_reason

if TYPE_CHECKING:
    from pycolmap import Reconstruction

__all__ = ["LeftOut", "ReconstructionSummary", "no_model_reason", "summarize"]


@dataclass(frozen=True)
class ReconstructionSummary:
    """The numbers of one reconstruction; `to_json` is what summary.json holds."""

    num_images: int  # photos found, readable or not; one that is there twice counts once
    num_registered: int
    not_registered: tuple[LeftOut, ...]
    num_points: int
    num_observations: int
    mean_track_length: float
    mean_reprojection_error_px: float
    num_models: int
    num_cameras: int
    num_pairs: int
    num_verified_pairs: int
    seconds: dict[str, float]  # by stage
    frame: dict[str, Any] = field(default_factory=dict)  # WorldFrame.to_json of the first model: unit, up, GPS
    gps_residuals_m: dict[str, float] = field(default_factory=dict)  # horizontal, by photo, where the model is metric
    story: tuple[dict[str, Any], ...] = ()  # how the model was chosen, step by step, in plain values
    uncertainty: dict[str, dict[str, float]] = field(default_factory=dict)  # by photo, then by quantity with its unit
    warnings: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()  # for the set as a whole; each left-out photo has its own

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "advice": [advice.sentence for advice in self.advice]}


def summarize(
    models: Sequence[Reconstruction],
    sources: Mapping[str, str],
    unreadable: Sequence[LeftOut],
    num_keypoints: Mapping[str, int],
    num_pairs: int,
    verified: Mapping[tuple[str, str], int],
    seconds: Mapping[str, float],
    *,
    evidence: Evidence | None = None,
    frame: Mapping[str, Any] | None = None,
    gps_residuals_m: Mapping[str, float] | None = None,
    story: Sequence[Mapping[str, Any]] = (),
    uncertainty: Mapping[str, Mapping[str, float]] | None = None,
    warnings: Sequence[str] = (),
    advice: Sequence[Advice] = (),
) -> ReconstructionSummary:
    """Numbers of the first model, and a reason for each photo it lacks.

    models: at least one. sources: the photo behind each name in the models. num_keypoints: by name.
    verified: matches by pair of names. evidence: what else is known of the photos, instead of num_keypoints and
    verified alone. frame: `WorldFrame.to_json`. The rest is told as it is given; frame, story and uncertainty must be
    plain values.
    """
    best = models[0]
    registered = registered_names(best)
    elsewhere = {
        name: number for number, model in reversed(list(enumerate(models))) for name in registered_names(model)
    }
    left_out = explain_left_out(evidence or Evidence(num_keypoints, verified), registered, elsewhere, sources)
    missing = (*left_out, *unreadable)
    return ReconstructionSummary(
        num_images=len(registered) + sum(photo.kind != "duplicate" for photo in missing),
        num_registered=len(registered),
        not_registered=missing,
        num_points=best.num_points3D(),
        num_observations=best.compute_num_observations(),
        mean_track_length=best.compute_mean_track_length(),
        mean_reprojection_error_px=best.compute_mean_reprojection_error(),
        num_models=len(models),
        num_cameras=best.num_cameras(),
        num_pairs=num_pairs,
        num_verified_pairs=len(verified),
        seconds=dict(seconds),
        frame=dict(frame or {}),
        gps_residuals_m={name: round(metres, 2) for name, metres in (gps_residuals_m or {}).items()},
        story=tuple(dict(step) for step in story),
        uncertainty={name: dict(values) for name, values in (uncertainty or {}).items()},
        warnings=tuple(warnings),
        advice=tuple(advice),
    )
