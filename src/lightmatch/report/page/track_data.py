"""The content of the page of a tracked camera: its frames over time, their path and loops, and the map as a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, get_args

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.report.page.data import PageData, require_array, require_rows

FrameStatus = Literal["tracking", "starting", "coasting", "lost"]
STATUSES: tuple[FrameStatus, ...] = get_args(FrameStatus)

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class PageFrame:
    """What became of one frame."""

    name: str
    time_s: float
    status: FrameStatus
    num_tracked: int  # points of the map that agree with the pose
    milliseconds: float  # that it took
    reason: str = ""  # why its pose was not measured


@dataclass(frozen=True)
class UntrackedFrames:
    """Frames of one stretch of time that were not tracked for one reason."""

    first: int  # row of the first
    last: int  # row of the last; frames between may have another reason
    num_frames: int
    reason: str  # a number that differs from frame to frame is a range


@dataclass(frozen=True, eq=False)
class TrackPageData:
    """Everything the page shows; n frames in their order, m of them with a measured pose, k keyframes."""

    page: PageData  # photos: the keyframes; models: one, of keyframes and points; figures: what stands at the top
    frames: tuple[PageFrame, ...]
    measured: np.ndarray  # (m,) rows in `frames`, ascending
    cam_from_world: np.ndarray  # (m, 3, 4) as the map knows them at the end
    keyframes: np.ndarray  # (k,) rows in `frames` of the first k of `page.photos`; others are of an earlier map
    loops: tuple[tuple[int, int], ...] = ()  # the older and the newer keyframe of each loop

    def __post_init__(self) -> None:
        require_array("TrackPageData.cam_from_world", self.cam_from_world, (len(self.measured), 3, 4))
        most = len(self.page.photos)
        if len(self.keyframes) > most:
            raise InvalidValueError(
                f"TrackPageData.keyframes: expected {most} rows, one a photo, or fewer, got {len(self.keyframes)}"
            )
        for name in ("measured", "keyframes"):
            require_rows(f"TrackPageData.{name}", getattr(self, name), len(self.frames))
        require_rows("TrackPageData.loops", np.array(self.loops, np.int64), len(self.keyframes))
        if (np.diff(self.measured) <= 0).any():
            raise InvalidValueError("TrackPageData.measured: expected ascending rows")

    @property
    def times_s(self) -> np.ndarray:
        """(n,) seconds from the first frame, never falling, also where a clock was set back.

        A frame of a wrong time, out of order between two that are in order, has that of the one before.
        """
        times = np.array([frame.time_s for frame in self.frames], np.float64)
        known = np.flatnonzero(np.isfinite(times))
        before, own, after = times[known[:-2]], times[known[1:-1]], times[known[2:]]
        is_wrong = (before <= after) & ((own < before) | (own > after))
        known = np.setdiff1d(known, known[1:-1][is_wrong])
        steps = np.zeros(len(times))
        steps[known[1:]] = np.maximum(np.diff(times[known]), 0)
        return steps.cumsum()

    @property
    def start_s(self) -> float:
        """The time of the first frame that has one."""
        return next((frame.time_s for frame in self.frames if np.isfinite(frame.time_s)), 0.0)


def untracked_frames(frames: Sequence[PageFrame]) -> Iterator[UntrackedFrames]:
    """Frames that were not tracked: each stretch of them, in time, by reasons that differ in numbers at most."""
    rows = enumerate(frames)
    for is_tracked, stretch in groupby(rows, lambda item: item[1].status == "tracking"):
        if not is_tracked:
            yield from _by_reason(stretch)


def _by_reason(stretch: Iterable[tuple[int, PageFrame]]) -> Iterator[UntrackedFrames]:
    found: dict[str, UntrackedFrames] = {}
    reasons: dict[str, list[str]] = {}
    for row, frame in stretch:
        kind = _NUMBER.sub("#", frame.reason)
        before = found.get(kind, UntrackedFrames(row, row, 0, frame.reason))
        found[kind] = replace(before, last=row, num_frames=before.num_frames + 1)
        reasons.setdefault(kind, []).append(frame.reason)
    for kind, group in found.items():
        yield replace(group, reason=_joined(reasons[kind]))


def _joined(reasons: Iterable[str]) -> str:
    """One reason for those that differ in numbers: "parallax of 0.2–0.9°"."""
    different = list(dict.fromkeys(reasons))
    if len(different) == 1:
        return different[0]
    columns: Iterable[tuple[str, ...]] = zip(*map(_NUMBER.findall, different), strict=True)
    ranges = [sorted(set(column), key=float) for column in columns]
    texts = iter(each[0] if len(each) == 1 else f"{each[0]}–{each[-1]}" for each in ranges)
    return _NUMBER.sub(lambda _: next(texts), different[0])
