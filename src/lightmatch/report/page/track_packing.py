"""The page of a tracked camera → what its scripts read: the blocks of `packing.pack`, and one more of its frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from lightmatch.report.page.limits import MAX_FRAMES, evenly
from lightmatch.report.page.meta import origin_of
from lightmatch.report.page.packing import Block, json_block, pack, rounded
from lightmatch.report.page.track_data import STATUSES, TrackPageData, UntrackedFrames, untracked_frames


@dataclass(frozen=True)
class TrackMeta:
    """The JSON of the frames, as assets/js/track/frames.js reads it. Rows count the frames that are shown."""

    version: int = field(default=1, kw_only=True)
    num_frames: int  # more than are shown where those are a sample
    num_by_status: tuple[int, ...]  # of all frames, in the order of `statuses`
    statuses: tuple[str, ...]
    start_s: float  # what all times count from
    names: tuple[str, ...]
    reasons: tuple[str, ...]
    untracked: tuple[MetaUntracked, ...]
    loops: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MetaUntracked:
    """`UntrackedFrames` with the times of its first and last frame, which may not be shown."""

    row: int  # of the shown frame at or after its first
    first_s: float
    last_s: float
    num_frames: int
    reason: str


def pack_track(data: TrackPageData) -> Iterator[Block]:
    """The data blocks of the page, as of `pack`; the last, "track", is the JSON of the frames.

    Of very many frames an even sample is packed, with all keyframes.
    """
    shown = _shown(data)
    times = data.times_s
    reasons = {reason: number for number, reason in enumerate(dict.fromkeys(frame.reason for frame in data.frames))}
    yield from pack(data.page, _arrays(data, shown, times, reasons))
    statuses = [frame.status for frame in data.frames]
    yield json_block(
        "track",
        TrackMeta(
            num_frames=len(data.frames),
            num_by_status=tuple(statuses.count(status) for status in STATUSES),
            statuses=STATUSES,
            start_s=data.start_s,
            names=tuple(data.frames[row].name for row in shown),
            reasons=tuple(reasons),
            untracked=tuple(_untracked(group, shown, times) for group in untracked_frames(data.frames)),
            loops=data.loops,
        ),
    )


def _shown(data: TrackPageData) -> np.ndarray:
    """Rows of the frames to show, ascending."""
    return np.union1d(evenly(len(data.frames), MAX_FRAMES), data.keyframes).astype(np.int64)


def _untracked(group: UntrackedFrames, shown: np.ndarray, times: np.ndarray) -> MetaUntracked:
    row = min(int(np.searchsorted(shown, group.first)), len(shown) - 1)
    return MetaUntracked(row, float(times[group.first]), float(times[group.last]), group.num_frames, group.reason)


def _arrays(
    data: TrackPageData, shown: np.ndarray, times: np.ndarray, reasons: dict[str, int]
) -> dict[str, np.ndarray]:
    frames = [data.frames[row] for row in shown]
    kept = np.isin(data.measured, shown)
    poses = data.cam_from_world[kept]
    centers = -np.einsum("mji,mj->mi", poses[:, :, :3], poses[:, :, 3]) - origin_of(data.page.models[0])
    return {
        "frames.times": times[shown].astype(np.float32),
        "frames.statuses": np.array([STATUSES.index(frame.status) for frame in frames], np.uint8),
        "frames.reasons": np.array([reasons[frame.reason] for frame in frames], np.uint32),
        "frames.points": rounded(np.array([frame.num_tracked for frame in frames]), np.uint16),
        "frames.milliseconds": np.array([frame.milliseconds for frame in frames], np.float32),
        "measured.frames": np.searchsorted(shown, data.measured[kept]).astype(np.uint32),
        "measured.centers": centers.astype(np.float32),
        "measured.rotations": poses[:, :, :3].astype(np.float32),
        "keyframes.frames": np.searchsorted(shown, data.keyframes).astype(np.uint32),
    }
