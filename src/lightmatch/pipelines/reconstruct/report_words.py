"""A run's summary in the words of the page: figures, frame, history, options."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.summary import Summary
from lightmatch.reconstruction import FrameSummary
from lightmatch.report.page import PageFigure, PageStep


def page_figures(summary: Summary) -> Iterator[PageFigure]:
    """Numbers of the best model and of the pairs."""
    model = summary.model
    yield PageFigure("Points", f"{model.num_points:,}")
    yield PageFigure("Observations", f"{model.num_observations:,}")
    yield PageFigure("Observations of a point, on average", f"{model.mean_track_length:,.2f}")
    yield PageFigure("Reprojection error, mean", f"{model.mean_reprojection_error_px:,.2f}\u202fpx")
    yield PageFigure("Cameras (intrinsics)", f"{model.num_cameras:,}")
    yield PageFigure("Pairs of photos matched", f"{len(summary.pairs):,}")
    yield PageFigure("Verified pairs", f"{summary.num_verified_pairs:,}")


def page_frame(frame: FrameSummary) -> Iterator[tuple[str, str]]:
    """What is known of the coordinate frame: label and value."""
    yield "Metric", _value(frame.metric)
    yield "Unit of length", frame.unit
    if frame.up is not None:
        yield "Upright", _value(frame.upright)
    if frame.up_from is not None:
        yield "Up direction from", frame.up_from
    if frame.up_std_deg is not None:
        yield "Up, uncertainty", f"{_rounded(frame.up_std_deg)}°"
    for note in frame.notes:
        yield "Note", note
    gps = frame.gps
    if gps is None:
        return
    altitude = "" if gps.altitude_m is None else f", {gps.altitude_m:.6g}\u202fm"
    yield "Origin", f"{gps.latitude_deg:.6g}°, {gps.longitude_deg:.6g}°{altitude}"
    yield "Scale, uncertainty", f"{_rounded(gps.scale_std_percent)}\u202f%"
    yield "North, uncertainty", f"{_rounded(gps.heading_std_deg)}°"
    yield "GPS, noise", f"{_rounded(gps.noise_m)}\u202fm"
    yield "GPS, median distance", f"{_rounded(gps.median_residual_m)}\u202fm"
    if gps.outliers:
        yield "GPS, outliers", ", ".join(gps.outliers)


def page_history(summary: Summary) -> Iterator[PageStep]:
    """What was tried at each step, what was kept, and why."""
    mapping, refinement = summary.history.mapping, summary.history.refinement
    if summary.features_tried:
        tried = "; ".join(f"{trial.features}: {trial.num_registered} photos" for trial in summary.features_tried)
        is_first = summary.config.features == summary.features_tried[0].features
        why = "the second kind does not register more photos" if is_first else "it registers more photos"
        yield PageStep("features", tried, summary.config.features, why)
    if mapping is not None and mapping.attempts:
        kept = next((attempt for attempt in reversed(mapping.attempts) if attempt.kept), None)
        candidates = "; ".join(
            f"{attempt.name}: {f'{attempt.num_registered[0]} photos' if attempt.num_registered else 'none'}"
            for attempt in mapping.attempts
        )
        if kept is None:
            yield PageStep("mapping", candidates, "none", "nothing could be registered")
        else:
            yield PageStep("mapping", candidates, kept.name, kept.why)
    if mapping is not None and mapping.camera_per_photo is not None:
        yield _step("cameras", "a camera for each photo", mapping.camera_per_photo)
    for merge in () if mapping is None else mapping.merges:
        yield _step("merging", f"{len(merge.photos)} photos of another model", merge)
    for rematch in refinement.rematches:
        yield _step("matching again", rematch.name, rematch)
    for photo in refinement.reregistrations:
        yield _step("re-registration", photo.name, photo)
    for trial in (*(() if mapping is None else mapping.camera_models), *refinement.camera_models):
        yield _step("camera model", f"camera {trial.camera_id}: {trial.camera_model}", trial)
    for removed in () if mapping is None else mapping.removed_photos:
        yield PageStep("cleaning", "", f"{removed.name} removed", "; ".join(removed.reasons))


def page_options(config: ReconstructConfig) -> Iterable[tuple[str, str]]:
    """Each option's name and value."""
    return [(_words(field.name), _value(getattr(config, field.name))) for field in dataclasses.fields(config)]


class _Trial(Protocol):
    @property
    def kept(self) -> bool: ...

    @property
    def why(self) -> str: ...


def _step(step: str, candidate: str, trial: _Trial) -> PageStep:
    return PageStep(step, candidate, candidate if trial.kept else "unchanged", trial.why)


def _words(key: str) -> str:
    """A name of ours as words: max_keypoints → Max keypoints."""
    text = key.removeprefix("num_").replace("_", " ")
    return text[:1].upper() + text[1:]


def _value(value: bool | int | float | str | Path | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _rounded(value: float) -> str:
    return f"{round(value, 2):.6g}"
