"""Georegistration of models: metric by GPS where possible, else upright where possible, centred and scaled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from lightmatch.colmap.models import ModelArrays, model_arrays, registered_names
from lightmatch.errors import listed
from lightmatch.reconstruction.georegistration.gps import GeodeticPosition, GpsPosition, gps_origin, local_metres
from lightmatch.reconstruction.georegistration.gps_fit import GpsFit, fit_gps
from lightmatch.reconstruction.georegistration.upright import (
    TRUSTED_STD_DEG,
    UpDirection,
    find_up,
    tilt_std_deg,
    upright_rotation,
)

if TYPE_CHECKING:
    from pycolmap import Reconstruction

UpFrom = Literal["gps", "gravity", "cameras", "cameras and ground", "ground"]

_MIN_SPREAD = 2.2  # of the cameras, in standard deviations of the GPS noise: the least for a scale
_MAX_SCALE_STD = 0.15  # relative; a less certain scale is rejected
_MAX_HEADING_STD_DEG = 20.0


@dataclass(frozen=True)
class GpsFrame:
    """Where a metric model lies on the earth, and how well GPS fits it."""

    latitude_deg: float  # of the origin, WGS84
    longitude_deg: float
    altitude_m: float | None
    scale_std_percent: float  # one standard deviation
    heading_std_deg: float  # of north
    noise_m: float  # of one horizontal axis
    median_residual_m: float  # horizontal, of the inliers
    residuals_m: Mapping[str, float]  # horizontal, by photo; inliers and outliers
    outliers: tuple[str, ...]  # photos


@dataclass(frozen=True)
class FrameSummary:
    """What the coordinates of a model mean."""

    metric: bool  # whether the unit is the metre
    unit: str  # for people
    upright: bool = False  # whether `up` is to be trusted
    up: tuple[float, float, float] | None = None  # direction in the world; None where it is not known
    up_from: UpFrom | None = None
    up_std_deg: float | None = None
    gps: GpsFrame | None = None  # where metric by GPS
    notes: tuple[str, ...] = ()  # sentences for people


KNOWN_POSES_FRAME = FrameSummary(metric=False, unit="as in the known poses")


@dataclass(frozen=True, eq=False)
class Georegistration:
    """The similarity that was applied to a model, and the axes and unit that result.

    Metric: x east, y north, z up, in metres from `origin`. Otherwise: z up, the first photo (by name) looks along y,
    the origin is the median of the camera centres, and their mean distance from it is 1.
    """

    scale: float  # new units per unit of the mapper's model
    rotation: np.ndarray  # (3, 3) new from old
    translation: np.ndarray  # (3,)
    metric: bool
    upright: bool  # whether the tilt is known to 5°; z is the best estimate in any case
    up_from: UpFrom
    up_std_deg: float
    scale_std: float | None = None  # relative, where metric
    heading_std_deg: float | None = None  # of north, where metric
    origin: GpsPosition | None = None  # where metric
    gps_noise_m: float | None = None  # of one horizontal axis
    gps_residuals_m: Mapping[str, float] = field(default_factory=dict)  # horizontal, by photo; inliers and outliers
    gps_outliers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # sentences for the user

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Transform points (n, 3) of the mapper's model."""
        return self.scale * points @ self.rotation.T + self.translation

    def summary(self) -> FrameSummary:
        """What the numbers of the model mean, without the transformation."""
        gps = None
        if self.metric and self.origin is not None:
            residuals = [value for name, value in self.gps_residuals_m.items() if name not in self.gps_outliers]
            gps = GpsFrame(
                latitude_deg=self.origin.latitude_deg,
                longitude_deg=self.origin.longitude_deg,
                altitude_m=self.origin.altitude_m,
                scale_std_percent=100 * (self.scale_std or 0.0),
                heading_std_deg=self.heading_std_deg or 0.0,
                noise_m=self.gps_noise_m or 0.0,
                median_residual_m=float(np.median(residuals)),
                residuals_m=dict(self.gps_residuals_m),
                outliers=self.gps_outliers,
            )
        return FrameSummary(
            metric=self.metric,
            unit="m" if self.metric else "mean distance of the cameras from their middle",
            upright=self.upright,
            up=(0.0, 0.0, 1.0),
            up_from=self.up_from,
            up_std_deg=self.up_std_deg,
            gps=gps,
            notes=self.notes,
        )


def find_georegistration(
    model: ModelArrays,
    positions: Mapping[str, GeodeticPosition] | None = None,
    *,
    gravity: Mapping[str, np.ndarray] | None = None,
    origin: GeodeticPosition | None = None,
    seed: int = 0,
) -> Georegistration:
    """The georegistration of a model of at least one camera.

    positions: GPS by photo; not every photo needs one, and photos outside the model are ignored. gravity: measured
    direction of gravity by photo, (3,) in camera axes (x right, y down, z forward). origin: of the metric frame, by
    default the median of `positions`: give the same one for several models of one place. seed: of the searches.
    """
    rows = gravity or {}
    measured = np.array([rows.get(name, np.full(3, np.nan)) for name in model.names]).reshape(-1, 3)

    def up_of(chosen: np.ndarray) -> UpDirection:
        known = measured[chosen] if rows else None
        return find_up(model.rotations[chosen], model.centers[chosen], model.points, gravity=known, seed=seed)

    up = up_of(np.ones(len(model.names), bool))
    notes: list[str] = []
    if positions:
        frame = _by_gps(model, positions, origin or gps_origin(positions), up, up_of, notes, seed)
        if frame is not None:
            return frame
    return _by_cameras(model, up, notes)


def georegister(
    models: Sequence[Reconstruction],
    positions: Mapping[str, GeodeticPosition] | None = None,
    *,
    gravity: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> list[Georegistration]:
    """Georegister each of `models`, which are changed in place. Metric models share one origin.

    positions, gravity, seed: see `find_georegistration`. Returns the georegistration of each model.
    """
    # Of the photos of the first model, where it has such: photos of another place do not move it.
    inside = set(registered_names(models[0])) if models else set()
    own = {name: place for name, place in (positions or {}).items() if name in inside}
    origin = gps_origin(own or positions) if positions else None
    frames = []
    for model in models:
        frame = find_georegistration(model_arrays(model), positions, gravity=gravity, origin=origin, seed=seed)
        apply_georegistration(model, frame)
        frames.append(frame)
    return frames


def apply_georegistration(model: Reconstruction, frame: Georegistration) -> None:
    """Transform the cameras and points of `model` in place."""
    import pycolmap

    rotation = pycolmap.Rotation3d(frame.rotation)
    model.transform(pycolmap.Sim3d(frame.scale, rotation, frame.translation))


def _by_gps(
    model: ModelArrays,
    positions: Mapping[str, GeodeticPosition],
    origin: GeodeticPosition,
    up: UpDirection,
    up_of: Callable[[np.ndarray], UpDirection],
    notes: list[str],
    seed: int,
) -> Georegistration | None:
    """The metric georegistration; None, with the reason added to `notes`, where GPS does not allow one."""
    local = local_metres({name: positions[name] for name in model.names if name in positions}, origin)
    if len(local) < 3:
        notes.append(f"not metric: GPS positions of at least 3 photos are needed, {len(local)} in this model have one")
        return None
    known = [row for row, name in enumerate(model.names) if name in local]
    names = [model.names[row] for row in known]
    targets = np.array([local[name] for name in names])
    fit = fit_gps(model.centers[known], targets, up.direction, _reweighted(up), seed=seed)
    if fit is not None and not fit.inliers.all():
        # Cameras whose GPS disagrees may be misplaced, so up is estimated without them.
        consistent = np.ones(len(model.names), bool)
        consistent[np.array(known)[~fit.inliers]] = False
        up = up_of(consistent)
        fit = fit_gps(model.centers[known], targets, up.direction, _reweighted(up), seed=seed)
    if fit is None:
        notes.append(f"not metric: the GPS positions of {len(local)} photos do not agree with the model")
        return None
    why_not = _too_weak(fit)
    if why_not:
        notes.append(f"not metric: {why_not}")
        return None
    num_used = int(fit.inliers.sum())
    notes.append(
        f"metric by the GPS of {num_used} photos: scale within {100 * fit.scale_std:.1f} %,"
        f" north within {fit.heading_std_deg:.1f}°"
    )
    upright = fit.tilt_std_deg <= TRUSTED_STD_DEG
    moved_deg = math.degrees(math.acos(float(np.clip(fit.rotation[2] @ up.direction, -1, 1))))
    up_from: UpFrom = "gps" if fit.tilt_std_deg < 0.7 * tilt_std_deg(_reweighted(up)) else up.source
    if up.trustworthy and moved_deg > 3 * max(up.std_deg, 1.0):
        notes.append(f"up by GPS and up by the cameras differ by {moved_deg:.0f}°: check the model")
    elif not upright:
        notes.append(f"possibly not upright: {up.note}, and GPS does not determine it")
    outliers = tuple(name for name, fits in zip(names, fit.inliers, strict=True) if not fits)
    if outliers:
        notes.append(
            f"GPS and the model contradict each other in {listed(outliers, 3)}:"
            " the GPS position or the model is wrong there"
        )
    residuals = {name: float(value) for name, value in zip(names, fit.residuals_m, strict=True)}
    return Georegistration(
        fit.scale,
        fit.rotation,
        fit.translation,
        metric=True,
        upright=upright,
        up_from=up_from,
        up_std_deg=fit.tilt_std_deg,
        scale_std=fit.scale_std,
        heading_std_deg=fit.heading_std_deg,
        origin=GpsPosition(origin.latitude_deg, origin.longitude_deg, origin.altitude_m),
        gps_noise_m=fit.noise_m,
        gps_residuals_m=residuals,
        gps_outliers=outliers,
        notes=tuple(notes),
    )


def _reweighted(up: UpDirection) -> np.ndarray:
    """The information on up from the cameras, nearly none where they are inconsistent, so that GPS prevails."""
    return up.information if up.level_share >= 0.6 else 0.01 * up.information


def _too_weak(fit: GpsFit) -> str | None:
    """Why the scale of a fit to GPS is too uncertain; None where it is not."""
    if fit.spread_m < _MIN_SPREAD * fit.noise_m:
        return (
            f"the cameras are within {fit.spread_m:.1f} m of their middle, too close for the noise of GPS"
            f" ({max(fit.noise_m, 0.1):.1f} m)"
        )
    if fit.scale_std > _MAX_SCALE_STD or fit.heading_std_deg > _MAX_HEADING_STD_DEG:
        return (
            f"by GPS the scale is uncertain by {100 * fit.scale_std:.0f} % and north by {fit.heading_std_deg:.0f}°;"
            " take photos farther apart"
        )
    return None


def _by_cameras(model: ModelArrays, up: UpDirection, notes: list[str]) -> Georegistration:
    """Upright as far as known, centred on the cameras and scaled by their distances."""
    rotation = upright_rotation(up.direction)
    forward = rotation @ model.rotations[0, 2]
    if math.hypot(forward[0], forward[1]) > 0.1:
        angle = math.pi / 2 - math.atan2(forward[1], forward[0])
    else:  # it looks straight down: the top of its picture is +y
        top = rotation @ -model.rotations[0, 1]
        angle = math.pi / 2 - math.atan2(top[1], top[0])
    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ rotation
    middle = rotation.T @ np.median(model.centers @ rotation.T, 0)  # medians depend on the axes: those of the new frame
    distance = float(np.linalg.norm(model.centers - middle, axis=1).mean())
    depth = float(np.median(np.linalg.norm(model.points - middle, axis=1))) if len(model.points) else 0.0
    if distance > 1e-3 * depth:
        scale = 1 / distance
        notes.append("without unit: 1 is the mean distance of the cameras from their middle")
    else:
        scale = 1 / depth if depth > 0 else 1.0
        notes.append("without unit: all cameras are at one place, 1 is the median distance of the points")
    notes.append(up.note)
    return Georegistration(
        scale,
        rotation,
        -scale * rotation @ middle,
        metric=False,
        upright=up.trustworthy,
        up_from=up.source,
        up_std_deg=up.std_deg,
        notes=tuple(notes),
    )
