"""What mapping tried, what it kept and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightmatch.reconstruction.mapping.camera_models import CameraModelTrial
from lightmatch.reconstruction.mapping.cleaning import RemovedPhoto
from lightmatch.reconstruction.mapping.held_out import Comparison, PhotoScore, ScoreSummary
from lightmatch.reconstruction.mapping.merging import MergeTrial


@dataclass(frozen=True)
class Attempt:
    """One way to make models of the database."""

    name: str
    seconds: float
    num_registered: tuple[int, ...]  # of its models, the largest first
    num_points: int  # of the largest
    score: ScoreSummary | None  # of the largest; None where there is none
    comparison: Comparison | None  # against the best before it; None for the first
    kept: bool  # better than all before it
    why: str


@dataclass(frozen=True)
class CameraPerPhotoTrial:
    """Mapping again with a camera for each photo, because photos disagree about the focal length they share."""

    comparison: Comparison
    kept: bool
    why: str


@dataclass(frozen=True)
class MappingHistory:
    """What mapping tried, what it kept and why."""

    num_photos: int  # in the database
    num_connected: int  # of these, by verified pairs
    num_tracks: int
    num_held_out: int  # tracks
    num_contradictory: int  # tracks
    seconds: float
    attempts: tuple[Attempt, ...] = ()
    best: str | None = None  # name of the attempt that was kept; None where nothing could be registered
    merges: tuple[MergeTrial, ...] = ()
    removed_photos: tuple[RemovedPhoto, ...] = ()  # outlier cameras
    camera_models: tuple[CameraModelTrial, ...] = ()
    removed_observations: int | None = None  # None where none were looked for
    score: ScoreSummary | None = None  # of the best model at the end; None where there is none
    photo_scores: Mapping[str, PhotoScore] = field(default_factory=dict)  # by name
    camera_per_photo: CameraPerPhotoTrial | None = None  # None where it was not tried
    edited_photos: tuple[str, ...] = ()  # that look cropped or stretched: mapped with cameras of their own
