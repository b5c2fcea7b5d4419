"""A photo → its working copy in OUT/images, and its features in the cache: a job of an executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.extractors import Extractor
from lightmatch.images import load_image
from lightmatch.images.rotation import flip_image
from lightmatch.images.working_copies import write_working_copy
from lightmatch.inputs import GeoPosition, mask_path, pixels_digest, read_facts, read_mask, write_mask
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.reconstruct.jobs import Job, ViewOf
from lightmatch.pipelines.reconstruct.models import ModelSource
from lightmatch.reconstruction import LeftOut, PictureQuality, picture_quality
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.files import file_digest
from lightmatch.runtime.store import digest

CameraAndSize = tuple[str, tuple[int, int]]  # `camera_of` a job, and the size of its picture, (width, height) px


@dataclass(frozen=True)
class Picture:
    """A photo or a video's frame with its working copy and its features in the store."""

    name: str  # of the working copy, relative to OUT/images
    requested_name: str  # the same without the .jpg that is added to a copy of another format
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
class _PhotoFacts:
    """What was found out of a picture when its features were extracted."""

    suffix: str  # that its working copy adds to its name
    copy: str  # digest of the working copy
    mask: str | None  # digest of the mask beside it; None: there is none
    pixels: str  # digest
    quality: PictureQuality
    gps: GeoPosition | None
    gravity: tuple[float, float, float] | None


@dataclass(frozen=True, eq=False)
class Extraction:
    """What the jobs of all photos share."""

    layout: Layout
    cache: Cache
    extractor: ModelSource[Extractor]
    described: str  # digest of everything that features depend on, but the photo
    overlays: Mapping[CameraAndSize, np.ndarray]  # (height, width) bool: True where something covers all pictures


def extract_picture(setup: Extraction, job: Job) -> Picture | LeftOut:
    """Make what the folder and the cache do not hold yet; a photo that cannot be read is left out."""
    try:
        return _extracted(setup, job)
    except (ImageReadError, InvalidValueError) as error:
        return LeftOut.unreadable(job.shown, str(error))


def camera_of(job: Job) -> str:
    """The folder of views, relative to OUT/images; "" of pictures that are no view."""
    return job.view_of.folder if job.view_of else ""


def _extracted(setup: Extraction, job: Job) -> Picture:
    layout, store, described = setup.layout, setup.cache.features, setup.described
    source = _file_digest(job.source)
    if job.levels is not None:
        described = digest(described, job.levels)
    if job.flipped:
        described = digest(described, "flipped")
    if job.facts_from is not None:
        described = digest(described, _file_digest(job.facts_from))
    key = store.key(source, described, None if job.mask is None else _file_digest(job.mask))
    found = store.read_with(key, _PhotoFacts)
    if found is None or not _is_copied(job, layout, found.facts):
        image = load_image(job.source, job.max_pixels, job.levels)
        facts = read_facts(job.facts_from or job.source)
        mask = None if job.mask is None else read_mask(job.mask, image.size, facts.orientation)
        if job.flipped:
            image, mask = flip_image(image), None if mask is None else np.fliplr(mask)
        copy = layout.images / job.name
        if job.source != copy:
            copy = write_working_copy(job.source, image, copy, is_changed=job.flipped)
        name = copy.relative_to(layout.images).as_posix()
        written = mask_path(layout.masks, name)
        if mask is None:
            written.unlink(missing_ok=True)  # of an earlier run
        else:
            write_mask(mask, written)
        is_photo = job.view_of is None and facts.orientation == 1
        said = _PhotoFacts(
            suffix=name.removeprefix(job.name),
            copy=file_digest(copy),
            mask=None if mask is None else file_digest(written),
            pixels=pixels_digest(image),
            quality=picture_quality(image),
            gps=facts.gps,
            gravity=facts.gimbal.down_in_camera() if is_photo and facts.gimbal and not job.flipped else None,
        )
        features = (
            setup.extractor.load()(image, _without(mask, setup.overlays.get((camera_of(job), image.size))))
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


def _is_copied(job: Job, layout: Layout, said: _PhotoFacts) -> bool:
    """Whether the working copy, and the mask where there is one, are what an earlier run made of this file."""
    name = job.name + said.suffix
    return _is(layout.images / name, said.copy) and _is(mask_path(layout.masks, name), said.mask)


def _is(path: Path, wanted: str | None) -> bool:
    """Whether a file has this digest; None: there is none."""
    return file_digest(path) == wanted if path.is_file() else wanted is None


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise ImageReadError(f"cannot read {path}: {error.strerror or error}; check the file") from error
