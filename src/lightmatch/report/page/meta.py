"""The JSON of the page: all but arrays and pictures, as the scripts in assets/js read it.

docs/report.schema.json is its schema. A change of a name here is one of the scripts too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lightmatch.report.page.data import PageData, PageDoppelganger, PageFigure, PageModel, PagePhoto, PageStep

VERSION = 2  # of the format; 1 was without a version


@dataclass(frozen=True)
class MetaPhoto:
    """A `PagePhoto` without its pictures; what is not finite is null."""

    name: str
    size: tuple[int, int] | None
    num_keypoints: int | None
    reason: str
    advice: str
    is_duplicate: bool
    position_uncertainty: float | None
    rotation_uncertainty_deg: float | None


@dataclass(frozen=True)
class MetaLens:
    """A `PageLens`; what is not finite is null."""

    model: str
    size: tuple[int, int]
    params: tuple[tuple[str, float | None], ...]
    focal_px: float | None
    field_of_view_deg: float | None


@dataclass(frozen=True)
class MetaModel:
    """A `PageModel` without its arrays."""

    name: str
    num_points: int  # of the model; more than are shown where those are a sample
    up: tuple[float, float, float]
    origin: tuple[float, float, float]  # to be added to all places of its arrays
    lenses: tuple[MetaLens, ...]


@dataclass(frozen=True)
class PageMeta:
    """A `PageData` without arrays and pictures."""

    version: int = field(default=VERSION, kw_only=True)
    title: str
    photos: tuple[MetaPhoto, ...]
    models: tuple[MetaModel, ...]
    more_models: tuple[str, ...]
    num_pairs: int  # with verified matches; more than are shown where those are a sample
    doppelgangers: tuple[PageDoppelganger, ...]
    figures: tuple[PageFigure, ...]
    frame: tuple[tuple[str, str], ...]
    unit: str
    warnings: tuple[str, ...]
    advice: tuple[str, ...]
    history: tuple[PageStep, ...]
    seconds: tuple[tuple[str, float], ...]
    options: tuple[tuple[str, str], ...]
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]  # by id of the data block: numpy's name of the type, shape


def page_meta(data: PageData, arrays: Mapping[str, np.ndarray]) -> PageMeta:
    """The JSON of the page. arrays: by id of their data block, as they are packed."""
    num_pairs = 0
    if data.pairs is not None:
        found = data.pairs.num_found
        num_pairs = int(np.count_nonzero(data.pairs.num_inliers)) if found is None else found
    return PageMeta(
        title=data.title,
        photos=tuple(map(_photo, data.photos)),
        models=tuple(map(_model, data.models)),
        more_models=data.more_models,
        num_pairs=num_pairs,
        doppelgangers=data.doppelgangers,
        figures=data.figures,
        frame=data.frame,
        unit=data.unit,
        warnings=data.warnings,
        advice=data.advice,
        history=data.history,
        seconds=data.seconds,
        options=data.options,
        arrays={name: (array.dtype.name, array.shape) for name, array in arrays.items()},
    )


def origin_of(model: PageModel) -> np.ndarray:
    """(3,) the middle of the cameras, rounded: float32 about it keeps what float64 had far from 0."""
    if not len(model.photos):
        return np.zeros(3)
    return np.median(model.centers, axis=0).round(6)


def _photo(photo: PagePhoto) -> MetaPhoto:
    return MetaPhoto(
        name=photo.name,
        size=photo.size,
        num_keypoints=photo.num_keypoints,
        reason=photo.reason,
        advice=photo.advice,
        is_duplicate=photo.is_duplicate,
        position_uncertainty=_finite(photo.position_uncertainty),
        rotation_uncertainty_deg=_finite(photo.rotation_uncertainty_deg),
    )


def _model(model: PageModel) -> MetaModel:
    x, y, z = origin_of(model).tolist()
    return MetaModel(
        name=model.name,
        num_points=len(model.points) if model.num_points is None else model.num_points,
        up=model.up,
        origin=(x, y, z),
        lenses=tuple(
            MetaLens(
                model=lens.model,
                size=lens.size,
                params=tuple((name, _finite(value)) for name, value in lens.params),
                focal_px=_finite(lens.focal_px),
                field_of_view_deg=_finite(lens.field_of_view_deg),
            )
            for lens in model.lens_table
        ),
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
