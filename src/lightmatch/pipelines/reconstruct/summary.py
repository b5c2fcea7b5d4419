"""What came of a run, in numbers and words: the content of summary.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lightmatch.inputs import Inputs
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.mapping import Mapped
from lightmatch.pipelines.reconstruct.panorama_rigs import panorama_note, panorama_poses
from lightmatch.pipelines.reconstruct.pictures import Gathered
from lightmatch.pipelines.reconstruct.verification import Verified
from lightmatch.reconstruction import (
    Evidence,
    LeftOut,
    ReconstructionSummary,
    advise,
    edited_warnings,
    matches_seen_twice,
    model_arrays,
    summarize,
)

_UP = np.array([0.0, 0.0, 1.0])  # of the world that models are put into


def summary_of(
    inputs: Inputs, gathered: Gathered, verified: Verified, mapped: Mapped, progress: Progress
) -> ReconstructionSummary:
    """The numbers of the best model, why photos are not in it, what to photograph next, and what to be wary of."""
    pictures = gathered.pictures
    num_keypoints = {picture.name: picture.num_keypoints for picture in pictures}
    evidence = Evidence(
        num_keypoints,
        verified.num_inliers,
        quality={picture.name: picture.quality for picture in pictures},
        cameras=verified.cameras,
        twins=[(twin["name0"], twin["name1"]) for twin in verified.twins],
        turned=verified.turned,
        flung_out=[photo["name"] for photo in mapped.story.get("removed_photos", ())],
    )
    arrays = model_arrays(mapped.models[0])
    advice = advise(arrays, _UP, verified.num_inliers, matches_seen_twice(mapped.database, arrays.names))
    return summarize(
        mapped.models,
        {picture.name: picture.shown for picture in pictures},
        [*gathered.left_out, *_not_used(inputs)],
        num_keypoints,
        len(verified.pairs),
        verified.num_inliers,
        progress.seconds,
        evidence=evidence,
        frame=mapped.frame,
        gps_residuals_m=mapped.gps_residuals_m,
        story=list(_steps(mapped.story)),
        uncertainty=_uncertainty(mapped),
        warnings=[
            *filter(None, [panorama_note(panorama_poses(pictures, mapped.models[0]))]),
            *gathered.warnings,
            *verified.warnings,
            *edited_warnings(mapped.models[0], _edited(mapped.story)),
            *mapped.story.get("rigs", ()),
        ],
        advice=advice,
    )


def _not_used(inputs: Inputs) -> Iterator[LeftOut]:
    """Files that were named and are no picture of the run."""
    for twice in inputs.duplicates:
        yield LeftOut(twice.shown, f"the same file as {twice.first}", "duplicate")
    for ignored in inputs.ignored:
        if ignored.lost:
            yield LeftOut(ignored.shown, ignored.reason, "unreadable")


def _uncertainty(mapped: Mapped) -> dict[str, dict[str, float]]:
    """Standard deviations by photo, in the unit of the world frame."""
    return {
        camera["name"]: {"position": camera["position"] * mapped.scale, "rotation_deg": camera["rotation_deg"]}
        for camera in mapped.story.get("uncertainties", ())
    }


def _steps(story: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """How the model came about: what was tried at each step, what was kept, and why."""
    attempts = story.get("attempts", ())
    if attempts:
        kept = [attempt for attempt in attempts if attempt["kept"]]
        yield {
            "step": "mapping",
            "candidates": [_attempt(attempt) for attempt in attempts],
            "kept": kept[-1]["name"] if kept else "none",
            "why": kept[-1]["why"] if kept else "nothing could be registered",
        }
    if "a_camera_each" in story:
        yield _step("cameras", "a camera for each photo", story["a_camera_each"])
    for trial in story.get("merged", ()):
        yield _step("merging", f"{len(trial['photos'])} photos of another model", trial)
    for trial in story.get("rematched", ()):
        yield _step("matching again", trial["name"], trial)
    for trial in story.get("second_chance", ()):
        yield _step("left-out photos", trial["name"], trial)
    for trial in story.get("lenses", ()):
        yield _step("lens", f"camera {trial['camera_id']}: {trial['lens']}", trial)
    for photo in story.get("removed_photos", ()):
        yield {"step": "cleaning", "candidates": [photo["name"]], "kept": "", "why": "; ".join(photo["reasons"])}


def _edited(story: Mapping[str, Any]) -> set[str]:
    """Photos that were cropped or stretched: those that mapping found, and those placed afterwards."""
    placed = {trial["name"] for trial in story.get("second_chance", ()) if trial["kept"] and trial["shape"]}
    return placed | set(story.get("edited", ()))


def _attempt(attempt: Mapping[str, Any]) -> str:
    counts = attempt["num_registered"]
    registered = f"{counts[0]} photos" if counts else "none"
    return f"{attempt['name']}: {registered}"


def _step(step: str, candidate: str, trial: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "step": step,
        "candidates": [candidate],
        "kept": candidate if trial["kept"] else "as before",
        "why": trial["why"],
    }
