"""What the user named → working copies in OUT/images, and features in the store."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from lightmatch.errors import ReconstructionError
from lightmatch.extractors import Extractor
from lightmatch.images import Levels, common_levels
from lightmatch.inputs import Inputs, find_overlays, overlay_warning
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import (
    CameraAndSize,
    Extraction,
    Picture,
    camera_of,
    extract_picture,
)
from lightmatch.pipelines.reconstruct.jobs import Job, frame_jobs, photo_jobs
from lightmatch.pipelines.reconstruct.models import ModelSource
from lightmatch.pipelines.reconstruct.panoramas import PanoramaCutter
from lightmatch.reconstruction import LeftOut
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.store import digest
from lightmatch.types import Features

logger = logging.getLogger(__name__)

_IN_MEMORY = 64  # photos whose features are kept in memory: those of a few blocks of pairs


@dataclass(frozen=True)
class Gathered:
    """All pictures that can be used, by name, and those that cannot."""

    pictures: tuple[Picture, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...] = ()
    set_aside: tuple[Picture, ...] = ()  # left out for what their matches say; their working copies stay
    levels: Levels | None = None  # that the photos were read with: see `load_image`


class FeaturesByName(Mapping[str, Features]):
    """Features by the name of their picture, read when asked for; a few are kept in memory.

    Threads may share it; pickled it holds keys, no features.
    """

    def __init__(self, keys: Mapping[str, str], cache: Cache, most: int | None = None) -> None:
        """keys: in the cache, by name. most: keypoints of each, the strongest; None for all."""
        self._keys = dict(keys)
        self._cache = cache
        self._most = most
        self._read: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, run: Run, pictures: Sequence[Picture], most: int | None = None) -> FeaturesByName:
        """Those of the pictures of a run."""
        return cls({picture.name: picture.key for picture in pictures}, run.cache, most)

    def __reduce__(self) -> tuple[type[FeaturesByName], tuple[dict[str, str], Cache, int | None]]:
        return FeaturesByName, (self._keys, self._cache, self._most)

    def __getitem__(self, name: str) -> Features:
        with self._lock:
            if name in self._read:
                self._read.move_to_end(name)
                return self._read[name]
        found = self._cache.features.read(self._keys[name])
        if found is None:
            raise ReconstructionError(
                f"{name}: expected its features in the store, found none or damaged ones; start the run again, what is"
                " whole is kept"
            )
        features = found if self._most is None else found.strongest(self._most)
        with self._lock:
            self._read[name] = features
            while len(self._read) > _IN_MEMORY:
                self._read.popitem(last=False)
        return features

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def gather(run: Run, inputs: Inputs, extractor: ModelSource[Extractor], flipped: Collection[str] = ()) -> Gathered:
    """Make working copies and masks in the folder of results, and features in the cache, of all that can be read.

    What an earlier run finished is not done again: a picture's features and its copy, where both are whole.
    flipped: `requested_name` of the photos that are mirrored, which get left and right exchanged.
    """
    warnings: list[str] = []
    max_pixels = run.config.max_pixels
    levels = common_levels((photo.path for photo in inputs.photos), max_pixels)
    if levels is not None:
        warnings.append(
            f"photos of one channel: values from {levels[0]:.6g} to {levels[1]:.6g} are taken as black to white, in all"
            " of them alike"
        )
    cutter = PanoramaCutter(run)
    jobs = photo_jobs(inputs, levels, max_pixels)
    unreadable_videos: list[LeftOut] = []
    jobs += frame_jobs(run, inputs, cutter.folder_for, warnings, unreadable_videos)
    jobs = [replace(job, flipped=job.name in flipped) for job in cutter.cut(jobs)]
    overlays = _overlays(jobs, max_pixels, levels)
    warnings += filter(None, [overlay_warning(overlays.values())])
    model = extractor.load()
    described = _describe(model)
    if overlays:
        described = digest(described, *(part for key in sorted(overlays) for part in (key, overlays[key].tobytes())))

    setup = Extraction(run.layout, run.cache, extractor, described, overlays)
    found = run.map("extract", partial(extract_picture, setup), jobs, most=model.most_side_by_side)
    left_out = [*unreadable_videos, *(result for result in found if isinstance(result, LeftOut))]
    pictures = [result for result in found if isinstance(result, Picture)]
    if not (flipped or run.variant):  # the first time in a run
        for photo in left_out:
            logger.warning("%s", photo.problem)
    pictures, twice = _without_duplicates(sorted(pictures, key=lambda picture: picture.name))
    return Gathered(tuple(pictures), (*left_out, *twice), tuple(warnings), levels=levels)


def _overlays(jobs: Sequence[Job], max_pixels: int, levels: Levels | None) -> dict[CameraAndSize, np.ndarray]:
    """Overlays, (height, width) bool, of pictures of one size; of views those that look the same way."""
    taken: dict[str, list[Path]] = defaultdict(list)
    for job in jobs:
        taken[camera_of(job)].append(job.source)
    return {
        (camera, size): overlay
        for camera, paths in taken.items()
        for size, overlay in find_overlays(paths, max_pixels, levels).items()
    }


def _describe(extractor: Extractor) -> str:
    """Everything that the features of a picture depend on, but the picture."""
    return digest(
        version("lightmatch"),
        type(extractor).__qualname__,
        asdict(extractor.kind),
        repr(extractor.config),
        extractor.weights_digest(),
    )


def _without_duplicates(pictures: Sequence[Picture]) -> tuple[list[Picture], list[LeftOut]]:
    """The same pixels in two files are one picture: the first by name. Frames of videos and views are left alone."""
    first: dict[str, Picture] = {}
    kept, twice = [], []
    for picture in pictures:
        earlier = first.setdefault(picture.pixels, picture)
        if earlier is picture or picture.video is not None or picture.view_of is not None:
            kept.append(picture)
        else:
            twice.append(LeftOut.same_picture(picture.shown, earlier.shown))
    return kept, twice
