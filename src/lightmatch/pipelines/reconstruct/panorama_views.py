"""A panorama → perspective views: their files and masks, by jobs of an executor."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from PIL import Image as PilImage

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.geometry.panoramas import (
    VIEWS,
    PanoramaArea,
    cut_view,
    directions_of_view,
    elevations_deg,
)
from lightmatch.images import load_image
from lightmatch.inputs import Panoramas, declared_area, mask_path, read_mask, write_mask
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.reconstruct.jobs import FIRST_VIEW, Job, ViewOf
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.files import file_digest, replacing
from lightmatch.runtime.store import digest

_FEWEST = 0.02  # of a view's pixels: where less is to be used, the view is left out


@dataclass(frozen=True)
class PanoramaOptions:
    """Which pictures are panoramas, and what of them is used."""

    which: Panoramas
    elevations_deg: tuple[float, float]  # what lies lower or higher is ignored: a tripod, the sky


@dataclass(frozen=True)
class CutView:
    """A view that was cut from a panorama and written."""

    name: str  # relative to OUT/images
    rig: str
    view: str
    masked: bool  # whether it has a mask


@dataclass(frozen=True, eq=False)
class CuttingSetup:
    """What the jobs of all panoramas share."""

    layout: Layout
    cache: Cache
    options: PanoramaOptions


def cut_panorama(setup: CuttingSetup, job: Job) -> list[Job]:
    """Write the views of a panorama that are not there; their jobs, or the panorama's own where it cannot be read.

    A job of an executor.
    """
    name = f"panorama-{digest(job.name)[:12]}"
    try:
        sources = [file_digest(path) for path in (job.source, job.mask) if path is not None]
        key = digest("views of 90°", sources, asdict(setup.options), job.name, job.levels)
        cut = setup.cache.value(name, key, tuple[CutView, ...], lambda: _cut(setup, job))
        if not all(_is_there(setup, view) for view in cut):
            setup.cache.forget(name)
            cut = setup.cache.value(name, key, tuple[CutView, ...], lambda: _cut(setup, job))
    except (ImageReadError, InvalidValueError):
        return [job]
    return [_job(setup, job, view) for view in cut]


def _is_there(setup: CuttingSetup, view: CutView) -> bool:
    mask = mask_path(setup.layout.masks, view.name)
    return (setup.layout.images / view.name).is_file() and (mask.is_file() or not view.masked)


def _job(setup: CuttingSetup, job: Job, view: CutView) -> Job:
    copy = setup.layout.images / view.name
    return replace(
        job,
        source=copy,
        name=view.name,
        shown=f"{job.shown}, {view.view}",
        mask=mask_path(setup.layout.masks, view.name) if view.masked else None,
        levels=None,
        view_of=ViewOf(view.rig, view.view, job.shown),
        facts_from=job.source,
    )


def _cut(setup: CuttingSetup, job: Job) -> tuple[CutView, ...]:
    """Write the views and their masks; what they are."""
    image = load_image(job.source, job.max_pixels, job.levels)
    area = None if job.video is not None else declared_area(job.source)
    if area is None:
        area = PanoramaArea(image.size)
    mask = None if job.mask is None else read_mask(job.mask, image.size)
    rig = job.video or f"panoramas_{area.view_side}"
    inside = job.name.removeprefix(f"{job.video}/")
    inside += "" if PurePosixPath(inside).suffix.lower() in (".jpg", ".jpeg") else ".jpg"
    low, high = setup.options.elevations_deg
    views = []
    for view in VIEWS:
        pixels, kept = cut_view(image.pixels, view, area)
        if mask is not None:
            kept &= cut_view(mask.astype(np.uint8) * 255, view, area)[0] >= 128
        if (low, high) != (-90.0, 90.0):
            elevations = elevations_deg(directions_of_view(view, area.view_side))
            kept &= (elevations >= low) & (elevations <= high)
        if kept.mean() < _FEWEST and view != FIRST_VIEW:
            continue
        name = f"{rig}/{view}/{inside}"
        with replacing(setup.layout.images / name) as partial:
            PilImage.fromarray(pixels).save(partial, "JPEG", quality=95, subsampling="4:4:4")
        masked = not kept.all()
        if masked:
            write_mask(kept, mask_path(setup.layout.masks, name))
        views.append(CutView(name, rig, view, bool(masked)))
    return tuple(views)
