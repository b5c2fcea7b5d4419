"""Panoramas → perspective views: which pictures are panoramas, and the files of their views and masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image as PilImage

from lightmatch.errors import ImageReadError, InvalidValueError, ReconstructionError
from lightmatch.geometry.panoramas import (
    VIEWS,
    PanoramaArea,
    cut_view,
    directions_of_view,
    elevations_deg,
)
from lightmatch.images import load_image
from lightmatch.inputs import (
    Panoramas,
    VideoInput,
    declared_area,
    looks_like_panorama,
    mask_path,
    read_mask,
    two_to_one_size,
    write_mask,
)
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.jobs import FIRST_VIEW, Job, ViewOf
from lightmatch.runtime.files import file_digest, replacing
from lightmatch.runtime.store import digest
from lightmatch.runtime.threads import thread_pool
from lightmatch.video import ChosenFrame, read_frames
from lightmatch.video import read_facts as read_video_facts

_T = TypeVar("_T")

_FEWEST = 0.02  # of a view's pixels: where less is to be used, the view is left out
_LOOKED_AT = 9  # pictures of one size, or frames of a video


@dataclass(frozen=True)
class _Options:
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


class PanoramaCutter:
    """Finds the panoramas among the pictures and cuts them into views in OUT/images; what is there is not cut again."""

    def __init__(self, run: Run) -> None:
        config = run.config
        self.run, self.layout, self.cache = run, run.layout, run.cache
        self.options = _Options(config.panorama, (config.ignore_below_deg, config.ignore_above_deg))

    def folder_for(self, video: VideoInput, frames: Sequence[ChosenFrame]) -> Path:
        """Where the frames of a video go: those of a panoramic one are no pictures of the run themselves."""
        is_panoramic = bool(frames) and self._is_panoramic(video, frames)
        return (self.layout.panoramic_frames if is_panoramic else self.layout.images) / video.folder

    def cut(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, those of panoramas replaced by those of their views.

        A panorama that cannot be read stays as it is, for whoever reads it next to tell.
        Raises ReconstructionError where panoramas were announced and there is none.
        """
        panoramas = self._panoramas(jobs)
        if not panoramas:
            if self.options.which == "yes":
                raise ReconstructionError(
                    "panorama: expected pictures twice as wide as high, got none; give 360° pictures in equirectangular"
                    " projection, as the camera's own program exports them"
                )
            return list(jobs)
        found: list[Job] = []
        with self.run.progress.stage("panoramas", len(jobs)) as step, thread_pool() as pool:
            for views in pool.map(lambda job: self._views(job) if job.name in panoramas else [job], jobs):
                found += views
                step()
        return found

    def _is_panoramic(self, video: VideoInput, frames: Sequence[ChosenFrame]) -> bool:
        if self.options.which == "no":
            return False
        facts = read_video_facts(video.path)
        if facts.width != 2 * facts.height or self.options.which == "yes":
            return facts.width == 2 * facts.height
        some = [frame.index for frame in _some(frames)]

        def look() -> bool:
            return _most(looks_like_panorama(frame.pixels) for frame in read_frames(video.path, some))

        key = digest("panoramic", file_digest(video.path), some)
        return self.cache.value(f"panoramic-{digest(video.folder)[:8]}", key, bool, look)

    def _panoramas(self, jobs: Sequence[Job]) -> set[str]:
        """The names of those that are: they say so, or most of their size, out of a few, look so."""
        if self.options.which == "no":
            return set()
        found: set[str] = set()
        by_size: dict[tuple[int, int], list[Job]] = defaultdict(list)
        for job in jobs:
            if job.video is not None:
                found.update([job.name] if job.source.is_relative_to(self.layout.panoramic_frames) else [])
            elif declared_area(job.source) is not None:
                found.add(job.name)
            elif (size := two_to_one_size(job.source)) is not None:
                by_size[size].append(job)
        for alike in by_size.values():
            if self.options.which == "yes" or _most(map(_looks_like_one, _some(alike))):
                found.update(job.name for job in alike)
        return found

    def _views(self, job: Job) -> list[Job]:
        name = f"panorama-{digest(job.name)[:12]}"
        try:
            sources = [file_digest(path) for path in (job.source, job.mask) if path is not None]
            key = digest("views of 90°", sources, asdict(self.options), job.name, job.levels)
            cut = self.cache.value(name, key, tuple[CutView, ...], lambda: self._cut(job))
            if not all(self._is_there(view) for view in cut):
                self.cache.forget(name)
                cut = self.cache.value(name, key, tuple[CutView, ...], lambda: self._cut(job))
        except (ImageReadError, InvalidValueError):
            return [job]
        return [self._job(job, view) for view in cut]

    def _is_there(self, view: CutView) -> bool:
        mask = mask_path(self.layout.masks, view.name)
        return (self.layout.images / view.name).is_file() and (mask.is_file() or not view.masked)

    def _job(self, job: Job, view: CutView) -> Job:
        copy = self.layout.images / view.name
        return replace(
            job,
            source=copy,
            name=view.name,
            shown=f"{job.shown}, {view.view}",
            mask=mask_path(self.layout.masks, view.name) if view.masked else None,
            levels=None,
            view_of=ViewOf(view.rig, view.view, job.shown),
            facts_from=job.source,
        )

    def _cut(self, job: Job) -> tuple[CutView, ...]:
        """Write the views and their masks; what they are."""
        image = load_image(job.source, job.max_pixels, job.levels)
        area = None if job.video is not None else declared_area(job.source)
        if area is None:
            area = PanoramaArea(image.size)
        mask = None if job.mask is None else read_mask(job.mask, image.size)
        rig = job.video or f"panoramas_{area.view_side}"
        inside = job.name.removeprefix(f"{job.video}/")
        inside += "" if PurePosixPath(inside).suffix.lower() in (".jpg", ".jpeg") else ".jpg"
        low, high = self.options.elevations_deg
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
            with replacing(self.layout.images / name) as partial:
                PilImage.fromarray(pixels).save(partial, "JPEG", quality=95, subsampling="4:4:4")
            masked = not kept.all()
            if masked:
                write_mask(kept, mask_path(self.layout.masks, name))
            views.append(CutView(name, rig, view, bool(masked)))
        return tuple(views)


def _some(items: Sequence[_T]) -> list[_T]:
    """A few, evenly taken."""
    return [items[n] for n in sorted({int(n) for n in np.linspace(0, len(items) - 1, _LOOKED_AT)})]


def _most(votes: Iterable[bool]) -> bool:
    counted = list(votes)
    return sum(counted) > len(counted) / 2


def _looks_like_one(job: Job) -> bool:
    try:
        return looks_like_panorama(load_image(job.source, job.max_pixels, job.levels).pixels)
    except (ImageReadError, InvalidValueError):
        return False
