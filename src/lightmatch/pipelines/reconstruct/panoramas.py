"""Which pictures are panoramas; they are cut into perspective views (see `panorama_views`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from lightmatch.errors import ImageReadError, InvalidValueError, ReconstructionError
from lightmatch.images import load_image
from lightmatch.inputs import VideoInput, declared_area, looks_like_panorama, two_to_one_size
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.jobs import Job
from lightmatch.pipelines.reconstruct.panorama_views import CuttingSetup, PanoramaOptions, cut_panorama
from lightmatch.runtime.files import file_digest
from lightmatch.runtime.store import digest
from lightmatch.video import ChosenFrame, read_frames
from lightmatch.video import read_facts as read_video_facts

_T = TypeVar("_T")

_LOOKED_AT = 9  # pictures of one size, or frames of a video


class PanoramaCutter:
    """Finds the panoramas among the pictures and cuts them into views in OUT/images; what is there is not cut again."""

    def __init__(self, run: Run) -> None:
        config = run.config
        self.run, self.layout, self.cache = run, run.layout, run.cache
        self.options = PanoramaOptions(config.panorama, (config.ignore_below_deg, config.ignore_above_deg))

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
        setup = CuttingSetup(self.layout, self.cache, self.options)
        named = [job for job in jobs if job.name in panoramas]
        cut = self.run.map("panoramas", partial(cut_panorama, setup), named)
        views = {job.name: of_job for job, of_job in zip(named, cut, strict=True)}
        return [view for job in jobs for view in views.get(job.name, [job])]

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
