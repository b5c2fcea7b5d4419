"""Inputs of a reconstruction as plain values: photos, videos, and files that are not used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

IgnoredKind = Literal["raw", "format", "name", "link", "live photo", "masks", "other"]


@dataclass(frozen=True)
class PhotoInput:
    """One photo."""

    path: Path
    name: (
        str  # of its working copy, relative to OUT/images with '/': free on every kind of disk, also with ".jpg" behind
    )
    shown: str  # its name in messages; printable
    mask: Path | None = None  # a PNG, black where the photo is to be ignored


@dataclass(frozen=True)
class VideoInput:
    """One video, of which frames are to be chosen."""

    path: Path
    folder: str  # of its frames, relative to OUT/images with '/': no photo and no other video's frame lies in it
    shown: str
    masks: Path | None = None  # one PNG for all frames, or a folder with one for each: see `frame_mask`
    max_frames: int | None = None  # its share, where the number of images is limited


@dataclass(frozen=True)
class Duplicate:
    """A file with the same bytes as another, and not used."""

    shown: str
    first: str  # `shown` of the one that is used


@dataclass(frozen=True)
class Ignored:
    """A file that was found and is not used."""

    shown: str
    kind: IgnoredKind
    reason: str  # one sentence: what it is, and what to do where a picture is lost
    lost: bool  # a picture that the user probably wanted to use


@dataclass(frozen=True)
class Inputs:
    """All inputs, sorted: photos by name, videos by folder."""

    photos: tuple[PhotoInput, ...]
    videos: tuple[VideoInput, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    not_chosen: tuple[str, ...] = ()  # `shown` of photos beyond the number wanted
