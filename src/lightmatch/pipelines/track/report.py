"""A tracked camera → its page, OUT/report.html: frames, trajectory, map and loops as the page's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from lightmatch.colmap.model_files import read_colmap_model
from lightmatch.geometry.poses import center_of
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.report_models import page_models
from lightmatch.report.page import (
    PageData,
    PageFigure,
    PageFrame,
    PagePhoto,
    TrackPageData,
    encode_thumbnail,
    write_track_page,
)
from lightmatch.report.page.limits import picture_bytes
from lightmatch.runtime.threads import thread_pool
from lightmatch.tracking import TrackedFrame, Tracker

_MAX_THUMBNAIL_BYTES = 24_000
_NO_SCALE = "one camera alone does not measure scale: the map has a unit of its own"


@dataclass(frozen=True, eq=False)
class TrackedSequence:
    """All that is known of a sequence when its last frame is done; n frames, k keyframes."""

    names: Sequence[str]  # (n,) of the frames
    frames: Sequence[TrackedFrame]  # (n,)
    trajectory: Sequence[tuple[float, np.ndarray]]  # time and cam_from_world (3, 4), as `Tracker.trajectory` gives them
    keyframe_times: Sequence[float]  # (k,) s, of those that were made of these frames
    keyframe_images: Sequence[str]  # (k,) their names in images/ and in the model
    loops: Sequence[tuple[int, int]]  # rows of the older and the newer keyframe of each, where the map has both still
    num_loops: int  # that were closed
    num_points: int  # of the map, those that one keyframe sees too
    is_metric: bool  # whether lengths are in metres
    earlier_images: Sequence[str] = ()  # of the keyframes of an earlier map that was gone on with

    @classmethod
    def of(
        cls,
        tracker: Tracker,
        names: Sequence[str],
        frames: Sequence[TrackedFrame],
        images: Mapping[int, str],
        is_metric: bool,
    ) -> TrackedSequence:
        """As a tracker knows it. images: the names of the keyframes' images."""
        keyframes = tracker.map.keyframes
        # Keyframes of an earlier map, and what was made of a frame in which the run was interrupted, have none here.
        times = {frame.timestamp for frame in frames}
        own = [number for number, keyframe in keyframes.items() if keyframe.timestamp in times]
        rows = {number: row for row, number in enumerate(own)}
        return cls(
            names,
            frames,
            [(when, pose) for when, pose in tracker.trajectory() if when in times],
            [keyframes[number].timestamp for number in own],
            [images[number] for number in own],
            [(rows[old], rows[new]) for old, new in tracker.loops if old in rows and new in rows],
            len(tracker.loops),
            len(tracker.map),
            is_metric,
            [images[number] for number in keyframes if number not in rows],
        )


def write_track_report(output: Path, found: TrackedSequence) -> Path:
    """Write the page of a tracked camera to OUT/report.html; returns its path.

    Reads the map in OUT/sparse/0 and the keyframes in OUT/images, and changes neither.
    """
    return write_track_page(Layout(output).report, track_page_data(output, found))


def track_page_data(output: Path, found: TrackedSequence) -> TrackPageData:
    """What the page shows."""
    layout = Layout(output)
    rows = _rows_by_time(found.frames)
    keyframes = np.array([rows[time] for time in found.keyframe_times], np.int64)
    poses = dict(sorted(((rows[time], pose) for time, pose in found.trajectory), key=itemgetter(0)))
    frames = tuple(map(_frame, found.names, found.frames))
    images = [*found.keyframe_images, *found.earlier_images]
    shown = [*(frames[row].name for row in keyframes), *found.earlier_images]
    return TrackPageData(
        page=PageData(
            title=output.resolve().name,
            photos=_photos(layout.images, images, shown),
            models=tuple(
                page_models(
                    [layout.best_model],
                    [read_colmap_model(layout.best_model)],
                    {name: row for row, name in enumerate(images)},
                )
            ),
            figures=tuple(_figures(found, np.stack([center_of(pose) for pose in poses.values()]))),
            unit="m" if found.is_metric else "",
            advice=() if found.is_metric else (_NO_SCALE,),
        ),
        frames=frames,
        measured=np.array(list(poses), np.int64),
        cam_from_world=np.stack(list(poses.values())),
        keyframes=keyframes,
        loops=tuple(found.loops),
    )


def _rows_by_time(frames: Sequence[TrackedFrame]) -> Mapping[float, int]:
    """The row of each time; of frames of one time all but the first were passed over."""
    return {frame.timestamp: row for row, frame in reversed(list(enumerate(frames)))}


def _frame(name: str, frame: TrackedFrame) -> PageFrame:
    return PageFrame(name, frame.timestamp, frame.status, frame.num_tracked, 1000 * frame.seconds, frame.reason)


def _photos(folder: Path, images: Sequence[str], names: Sequence[str]) -> tuple[PagePhoto, ...]:
    max_bytes = min(picture_bytes(len(images)), _MAX_THUMBNAIL_BYTES)
    with thread_pool() as pool:
        encoded = list(pool.map(lambda image: encode_thumbnail(folder / image, max_bytes), images))
    return tuple(
        PagePhoto(name, size=size, thumbnail=thumbnail)
        for name, (thumbnail, size) in zip(names, (each or (b"", None) for each in encoded), strict=True)
    )


def _figures(found: TrackedSequence, centers: np.ndarray) -> Iterator[PageFigure]:
    """What stands at the top of the page. centers: (m, 3) of the path."""
    num_frames, num_tracked = len(found.frames), sum(frame.status == "tracking" for frame in found.frames)
    seconds = np.array([frame.seconds for frame in found.frames])
    length = float(np.linalg.norm(np.diff(centers, axis=0), axis=1).sum())
    share = 100 * num_tracked / num_frames
    yield PageFigure("Frames", f"{num_frames:,}")
    yield PageFigure("Tracked", f"{share:.0f}" if share in (0, 100) else f"{share:.1f}", "%")
    yield PageFigure("Keyframes", f"{len(found.keyframe_images) + len(found.earlier_images):,}")
    yield PageFigure("Points", f"{found.num_points:,}")
    yield PageFigure("Loops closed", f"{found.num_loops:,}")
    unit = "" if found.is_metric else ", in units of the map"
    yield PageFigure(
        f"Path length{unit}", f"{length:,.3g}" if length < 100 else f"{length:,.0f}", "m" if found.is_metric else ""
    )
    yield PageFigure("Time of a frame, median", f"{1000 * np.median(seconds):,.1f}", "ms")
    yield PageFigure("Time of a frame, 95th percentile", f"{1000 * np.percentile(seconds, 95):,.0f}", "ms")
    yield PageFigure("Frames a second", f"{num_frames / max(seconds.sum(), 1e-9):,.1f}")
