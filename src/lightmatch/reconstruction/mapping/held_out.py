"""Held-out score of a model: observations that it has not seen, predicted photo by photo.

Counts of registered photos and reprojection errors say only how well a model fits what it kept. Here a part of the
tracks, chosen from the matches alone (see `tracks`), is taken out of a copy, the copy is adjusted without them, and
each of their observations is predicted from the other photos of its track. What cannot be predicted, because the photo
or the others are not placed, is a miss. A richer camera that only fits noise predicts worse, and so does a model whose
parts stand wrongly to each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.models import registered_images
from lightmatch.colmap.projection import pixels_from_points, rays_from_pixels
from lightmatch.errors import InvalidValueError
from lightmatch.sfm.bundle_adjustment import AdjustOptions, adjust
from lightmatch.sfm.tracks import Tracks, hold_out
from lightmatch.sfm.triangulation import Observations, leave_one_out

if TYPE_CHECKING:
    from pycolmap import Reconstruction

REFERENCE_SIDE_PX = 1600  # errors are as in a picture whose longer side has this many pixels
THRESHOLDS_PX = (1.0, 2.0, 4.0)
MIN_ANGLE_DEG = 0.5  # between two of the rays a prediction is made from: below, the depth is a guess
MIN_TRACKS = 30  # with fewer, a score is not valid

_NUM_DRAWS = 1000
_LONGEST = 16  # observations of a track that are predicted and that predict: the time grows with their square


@dataclass(frozen=True)
class PhotoScore:
    """How well the held-out observations of one photo are predicted; shares are rounded to four digits."""

    num_observations: int
    within_4px: float  # share, 0…1, per REFERENCE_SIDE_PX
    area: float  # as `HeldOutScore.area`


@dataclass(frozen=True)
class ScoreSummary:
    """The numbers of a `HeldOutScore`; errors in px per REFERENCE_SIDE_PX."""

    area: float  # 0…1, 1 where all is exact
    within_1px: float  # share of the observations, 0…1
    within_2px: float
    within_4px: float
    median_px: float | None  # of those predicted; None where none is
    num_observations: int
    num_predicted: int
    num_tracks: int


@dataclass(frozen=True)
class HeldOutScore:
    """How well a model predicts observations it has not seen."""

    names: tuple[str, ...]  # (c) photos
    photos: np.ndarray  # (m,) number of the photo of each observation
    tracks: np.ndarray  # (m,) number of its track
    errors_px: np.ndarray  # (m,) of the prediction, per REFERENCE_SIDE_PX; inf for a miss

    @property
    def is_valid(self) -> bool:
        """Whether there are enough tracks for the score to mean anything."""
        return len(np.unique(self.tracks)) >= MIN_TRACKS

    @cached_property
    def gains(self) -> np.ndarray:
        """(m,) in 0…1: each observation's share in `area`."""
        return np.mean([np.clip(1 - self.errors_px / limit, 0, 1) for limit in THRESHOLDS_PX], axis=0)

    @property
    def area(self) -> float:
        """Area under the curve of recall over error, up to 1, 2 and 4 px, their mean: 0…1, 1 where all is exact."""
        return float(self.gains.mean()) if len(self.gains) else 0.0

    def recall(self, limit_px: float) -> float:
        """Share of the observations predicted within a limit."""
        return float((self.errors_px <= limit_px).mean()) if len(self.errors_px) else 0.0

    @property
    def num_predicted(self) -> int:
        """Observations that are no misses, however far off."""
        return int(np.isfinite(self.errors_px).sum())

    @property
    def median_px(self) -> float:
        """Median error of those predicted; NaN where none is."""
        predicted = self.errors_px[np.isfinite(self.errors_px)]
        return float(np.median(predicted)) if len(predicted) else float("nan")

    def by_photo(self) -> dict[str, PhotoScore]:
        """The score of each photo that has held-out observations, by name."""
        answer: dict[str, PhotoScore] = {}
        for number, name in enumerate(self.names):
            own = self.photos == number
            if own.any():
                within = float((self.errors_px[own] <= THRESHOLDS_PX[-1]).mean())
                answer[name] = PhotoScore(int(own.sum()), round(within, 4), round(float(self.gains[own].mean()), 4))
        return answer

    def summary(self) -> ScoreSummary:
        """The numbers, without the observations."""
        return ScoreSummary(
            self.area,
            *(self.recall(limit) for limit in THRESHOLDS_PX),
            median_px=self.median_px if self.num_predicted else None,
            num_observations=len(self.errors_px),
            num_predicted=self.num_predicted,
            num_tracks=len(np.unique(self.tracks)),
        )


@dataclass(frozen=True)
class Comparison:
    """How much more area one model has than another, with the 95 % interval by bootstrap over tracks."""

    difference: float
    low: float
    high: float

    @property
    def improves(self) -> bool:
        """Whether the first is better, and not by chance."""
        return self.low > 0

    @property
    def worsens(self) -> bool:
        """Whether the first is worse, and not by chance."""
        return self.high < 0


class HeldOutScorer:
    """Scores models of one database by its held-out tracks."""

    def __init__(self, tracks: Tracks, chosen: np.ndarray | None = None) -> None:
        """tracks: all of the database. chosen: (t,) bool, which are held out; `hold_out`'s choice by default."""
        self._kept_away = tracks.select(hold_out(tracks) if chosen is None else chosen)
        self.held_out = _shortened(self._kept_away)

    def without(self, model: Reconstruction) -> Reconstruction:
        """A copy of a model without the points that hold a held-out keypoint; not adjusted yet."""
        import pycolmap

        copy = pycolmap.Reconstruction(model)
        doomed: set[int] = set()
        for number, image_id in self._registered(model).items():
            image = copy.image(image_id)
            for keypoint in self._kept_away.keypoints[self._kept_away.photos == number].tolist():
                if keypoint < image.num_points2D() and (point := image.point2D(keypoint)).has_point3D():
                    doomed.add(point.point3D_id)
        for point_id in sorted(doomed):
            copy.delete_point3D(point_id)
        return copy

    def score(self, model: Reconstruction, options: AdjustOptions | None = None) -> HeldOutScore:
        """Take the held-out tracks out of a copy, adjust the copy, and measure it. The model itself stays as it is.

        options: which intrinsics the adjustment may move; those of the model that is scored.
        """
        copy = self.without(model)
        adjust(copy, options)
        return self.measure(copy)

    def measure(self, model: Reconstruction) -> HeldOutScore:
        """What a model that has not seen the held-out tracks predicts of them.

        An observation is predicted from the others of its track: at least two, that agree on a point in front of them
        and see it under MIN_ANGLE_DEG or more. A point behind the photo of the predicted observation is a miss.
        """
        held = self.held_out
        errors = np.full(len(held.photos), np.inf)
        focals = np.zeros(len(held.photos))
        rays = np.full((len(held.photos), 2), np.nan)
        rotations, translations = np.zeros((len(held.photos), 3, 3)), np.zeros((len(held.photos), 3))
        registered = self._registered(model)
        for number, image_id in registered.items():
            own = held.photos == number
            image = model.image(image_id)
            camera = model.camera(image.camera_id)
            pose = image.cam_from_world()
            rays[own] = rays_from_pixels(camera, held.xy[own])
            focals[own] = camera.mean_focal_length()
            rotations[own], translations[own] = pose.rotation.matrix(), pose.translation

        usable = np.isfinite(rays).all(1)
        counts = np.add.reduceat(usable.astype(np.int64), held.starts[:-1]) if len(held) else np.zeros(0, np.int64)
        left_out = leave_one_out(
            Observations(
                np.concatenate(([0], np.cumsum(counts))),
                rotations[usable],
                translations[usable],
                rays[usable],
                focals[usable],
            )
        )
        points = np.full((len(held.photos), 3), np.nan)
        good = left_out.supported & (left_out.angles_deg >= MIN_ANGLE_DEG)
        points[np.flatnonzero(usable)[good]] = left_out.points[good]
        for number, image_id in registered.items():
            rows = np.flatnonzero((held.photos == number) & np.isfinite(points).all(1))
            if not len(rows):
                continue
            local = points[rows] @ rotations[rows[0]].T + translations[rows[0]]
            front = local[:, 2] > 0
            rows, local = rows[front], local[front]
            if len(rows):
                projected = pixels_from_points(model.camera(model.image(image_id).camera_id), local)
                error = np.linalg.norm(projected - held.xy[rows], axis=1)
                errors[rows] = np.where(np.isfinite(error), error, np.inf)
        errors *= (REFERENCE_SIDE_PX / held.sizes.max(1))[held.photos] if len(held.photos) else 1.0
        return HeldOutScore(held.names, held.photos, held.track_of, errors)

    def _registered(self, model: Reconstruction) -> dict[int, int]:
        """COLMAP's id of each registered photo, by its number among the tracks."""
        ids = {image.name: image.image_id for image in registered_images(model)}
        return {number: ids[name] for number, name in enumerate(self.held_out.names) if name in ids}


def compare(new: HeldOutScore, old: HeldOutScore, seed: int = 0) -> Comparison:
    """The difference in area, with its interval by paired bootstrap over tracks (Efron & Tibshirani 1993, chapter 13).

    Observations of one track are not independent, so whole tracks are drawn. Raises InvalidValueError where the scores
    are not of the same held-out tracks.
    """
    if len(new.tracks) != len(old.tracks) or (new.tracks != old.tracks).any() or (new.photos != old.photos).any():
        raise InvalidValueError(
            "compare: expected scores of the same held-out tracks; score both with one HeldOutScorer"
        )
    if not len(new.tracks):
        return Comparison(0.0, 0.0, 0.0)
    count = int(new.tracks.max()) + 1
    gained = np.bincount(new.tracks, new.gains - old.gains, count)
    counts = np.bincount(new.tracks, minlength=count).astype(float)
    generator = np.random.default_rng(seed)
    drawn = np.empty(_NUM_DRAWS)
    for draw in range(_NUM_DRAWS):
        chosen = generator.integers(count, size=count)
        drawn[draw] = gained[chosen].sum() / counts[chosen].sum()
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Comparison(float(gained.sum() / counts.sum()), float(low), float(high))


def _shortened(tracks: Tracks) -> Tracks:
    """At most _LONGEST observations of each track, spread evenly over its photos."""
    if not (tracks.lengths > _LONGEST).any():
        return tracks
    kept = []
    for start, length in zip(tracks.starts[:-1].tolist(), tracks.lengths.tolist(), strict=True):
        kept.append(start + np.unique(np.linspace(0, length - 1, min(length, _LONGEST)).astype(np.int64)))
    lengths = [len(chosen) for chosen in kept]
    index = np.concatenate(kept)
    return Tracks(
        tracks.names,
        tracks.sizes,
        np.concatenate(([0], np.cumsum(lengths))),
        tracks.photos[index],
        tracks.keypoints[index],
        tracks.xy[index],
        tracks.num_contradictory,
    )
