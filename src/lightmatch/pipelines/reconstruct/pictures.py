"""What the user named → working copies in OUT/images, and features in the store."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from lightmatch.errors import ImageReadError, InvalidValueError, ReconstructionError
from lightmatch.extractors import Extractor
from lightmatch.images import MAX_PIXELS, Levels, common_levels, load_image
from lightmatch.images.rotation import flip_image
from lightmatch.images.working_copies import write_working_copy
from lightmatch.inputs import (
    GeoPosition,
    Inputs,
    find_overlays,
    mask_path,
    overlay_warning,
    pixels_digest,
    read_facts,
    read_mask,
    write_mask,
)
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.jobs import Job, ViewOf, frame_jobs, photo_jobs
from lightmatch.pipelines.reconstruct.panoramas import PanoramaCutter, PanoramaOptions
from lightmatch.reconstruction import LeftOut, PictureQuality, picture_quality
from lightmatch.runtime.files import file_digest
from lightmatch.runtime.stages import Stages
from lightmatch.runtime.store import FeatureStore, digest
from lightmatch.runtime.threads import thread_pool
from lightmatch.types import Features

logger = logging.getLogger(__name__)

_Taken = tuple[str, tuple[int, int]]  # the folder of views, or "" of other pictures, and the size

_IN_MEMORY = 64  # photos whose features are kept in memory: those of a few blocks of pairs


@dataclass(frozen=True)
class Picture:
    """A photo or a video's frame with its working copy and its features in the store."""

    name: str  # of the working copy, relative to OUT/images
    asked: str  # as this copy was to be called: without the .jpg that another format adds
    shown: str  # how the user knows it
    key: str  # of its features
    image_size: tuple[int, int]  # px
    num_keypoints: int
    pixels: str  # digest: the same for the same picture in two files
    quality: PictureQuality
    gps: GeoPosition | None = None
    gravity: tuple[float, float, float] | None = None  # measured: its direction in the camera, x right, y down
    video: str | None = None  # the folder of its video
    time_s: float | None = None  # in it
    view_of: ViewOf | None = None  # where it is a view of a panorama


@dataclass(frozen=True)
class Gathered:
    """All pictures that can be used, by name, and those that cannot."""

    pictures: tuple[Picture, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...] = ()
    set_aside: tuple[Picture, ...] = ()  # left out for what their matches say; their working copies stay


@dataclass(frozen=True)
class _PhotoFacts:
    """What was found out of a picture when its features were extracted."""

    suffix: str  # that its working copy adds to its name
    copy: str  # digest of the working copy
    pixels: str  # digest
    quality: PictureQuality
    gps: GeoPosition | None
    gravity: tuple[float, float, float] | None


class FeaturesByName(Mapping[str, Features]):
    """Features by the name of their picture, read when asked for; a few are kept in memory. Threads may share it."""

    def __init__(self, pictures: Sequence[Picture], store: FeatureStore, most: int | None = None) -> None:
        """most: keypoints of each, the strongest; None for all."""
        self._keys = {picture.name: picture.key for picture in pictures}
        self._store = store
        self._most = most
        self._read: OrderedDict[str, Features] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Features:
        with self._lock:
            if name in self._read:
                self._read.move_to_end(name)
                return self._read[name]
        found = self._store.read(self._keys[name])
        if found is None:
            raise ReconstructionError(
                f"{name}: expected its features in the store, found none or damaged ones; start the run again, what is"
                " whole is kept"
            )
        features = found
        if self._most is not None and len(features) > self._most:
            features = features.select(torch.arange(self._most))
        with self._lock:
            self._read[name] = features
            while len(self._read) > _IN_MEMORY:
                self._read.popitem(last=False)
        return features

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def gather(
    inputs: Inputs,
    output: Path,
    extractor: Extractor,
    store: FeatureStore,
    stages: Stages,
    progress: Progress,
    max_pixels: int = MAX_PIXELS,
    panoramas: PanoramaOptions | None = None,
    flipped: Collection[str] = (),
) -> Gathered:
    """Make working copies and masks in `output`, and features in the store, of all that can be read.

    What an earlier run finished is not done again: a picture's features and its copy, where both are whole.
    max_pixels: of a photo; a larger one counts as unreadable. panoramas: which pictures are cut into views.
    flipped: `asked` of pictures whose left and right are exchanged: photos that are mirrored.
    """
    warnings: list[str] = []
    levels = common_levels((photo.path for photo in inputs.photos), max_pixels)
    if levels is not None:
        warnings.append(
            f"photos of one channel: values from {levels[0]:.6g} to {levels[1]:.6g} are taken as black to white, in all"
            " of them alike"
        )
    cutter = PanoramaCutter(panoramas or PanoramaOptions(), output, stages)
    jobs = photo_jobs(inputs, levels, max_pixels)
    jobs += frame_jobs(inputs, cutter.folder_for, stages, progress, warnings)
    jobs = [replace(job, flipped=job.name in flipped) for job in cutter.cut(jobs, progress)]
    overlays = _overlays(jobs, max_pixels, levels)
    warnings += filter(None, [overlay_warning(overlays.values())])
    described = _describe(extractor)
    if overlays:
        described = digest(described, *(part for key in sorted(overlays) for part in (key, overlays[key].tobytes())))

    def work(job: Job) -> Picture | LeftOut:
        try:
            return _picture(job, output, extractor, described, overlays, store)
        except (ImageReadError, InvalidValueError) as error:
            logger.warning("%s", error)
            return LeftOut(job.shown, f"unreadable: {error}", "unreadable")

    pictures: list[Picture] = []
    left_out: list[LeftOut] = []
    with progress.stage("extract", len(jobs)) as step, thread_pool(extractor.most_side_by_side) as pool:
        for result in pool.map(work, jobs):
            (left_out if isinstance(result, LeftOut) else pictures).append(result)  # type: ignore[arg-type]
            step()
    pictures, twice = _without_duplicates(sorted(pictures, key=lambda picture: picture.name))
    return Gathered(tuple(pictures), (*left_out, *twice), tuple(warnings))


def _overlays(jobs: Sequence[Job], max_pixels: int, levels: Levels | None) -> dict[_Taken, np.ndarray]:
    """Overlays, (height, width) bool, of pictures of one size; of views those that look the same way."""
    taken: dict[str, list[Path]] = defaultdict(list)
    for job in jobs:
        taken[_camera(job)].append(job.source)
    return {
        (camera, size): overlay
        for camera, paths in taken.items()
        for size, overlay in find_overlays(paths, max_pixels, levels).items()
    }


def _camera(job: Job) -> str:
    return job.view_of.folder if job.view_of else ""


def _describe(extractor: Extractor) -> str:
    """Everything that the features of a picture depend on, but the picture."""
    return digest(
        version("lightmatch"),
        type(extractor).__qualname__,
        asdict(extractor.kind),
        repr(extractor.config),
        extractor.weights_digest(),
    )


def _picture(
    job: Job,
    output: Path,
    extractor: Extractor,
    described: str,
    overlays: Mapping[_Taken, np.ndarray],
    store: FeatureStore,
) -> Picture:
    source = _file_digest(job.source)
    if job.levels is not None:
        described = digest(described, job.levels)
    if job.flipped:
        described = digest(described, "flipped")
    key = store.key(source, described, None if job.mask is None else _file_digest(job.mask))
    found = store.read_with(key, _PhotoFacts)
    if found is None or not _is_copied(job, output, found.facts):
        image = load_image(job.source, job.max_pixels, job.levels)
        facts = read_facts(job.facts_from or job.source)
        mask = None if job.mask is None else read_mask(job.mask, image.size, facts.orientation)
        if job.flipped:
            image, mask = flip_image(image), None if mask is None else np.fliplr(mask)
        copy = output / "images" / job.name
        if job.source != copy:
            copy = write_working_copy(job.source, image, copy, is_changed=job.flipped)
        name = copy.relative_to(output / "images").as_posix()
        if mask is not None:
            write_mask(mask, mask_path(output / "masks", name))
        is_photo = job.view_of is None and facts.orientation == 1
        said = _PhotoFacts(
            suffix=name.removeprefix(job.name),
            copy=file_digest(copy),
            pixels=pixels_digest(image),
            quality=picture_quality(image),
            gps=facts.gps,
            gravity=facts.gimbal.down_in_camera() if is_photo and facts.gimbal and not job.flipped else None,
        )
        features = (
            extractor(image, _without(mask, overlays.get((_camera(job), image.size))))
            if found is None
            else found.features
        )
        store.write(key, features, said)
    else:
        features, said = found.features, found.facts
    return Picture(
        job.name + said.suffix,
        job.name,
        job.shown,
        key,
        features.image_size,
        len(features),
        said.pixels,
        said.quality,
        said.gps,
        said.gravity,
        job.video,
        job.time_s,
        job.view_of,
    )


def _without(mask: np.ndarray | None, overlay: np.ndarray | None) -> np.ndarray | None:
    """A mask, (h, w) bool, without the overlay."""
    if overlay is None:
        return mask
    return ~overlay if mask is None else mask & ~overlay


def _is_copied(job: Job, output: Path, said: _PhotoFacts) -> bool:
    """Whether the working copy, and the mask where there is one, are what an earlier run made of this file."""
    name = job.name + said.suffix
    copy = output / "images" / name
    if job.mask is not None and not mask_path(output / "masks", name).is_file():
        return False
    return copy.is_file() and file_digest(copy) == said.copy


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise ImageReadError(f"cannot read {path}: {error.strerror or error}; check the file") from error


def _without_duplicates(pictures: Sequence[Picture]) -> tuple[list[Picture], list[LeftOut]]:
    """The same pixels in two files are one picture: the first by name. Frames of videos and views are left alone."""
    first: dict[str, Picture] = {}
    kept, twice = [], []
    for picture in pictures:
        earlier = first.setdefault(picture.pixels, picture)
        if earlier is picture or picture.video is not None or picture.view_of is not None:
            kept.append(picture)
        else:
            twice.append(LeftOut(picture.shown, f"the same picture as {earlier.shown}", "duplicate"))
    return kept, twice
