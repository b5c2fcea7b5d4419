"""A live view of tracking in Rerun: the camera, what it sees, and the map as it grows."""

from __future__ import annotations

import os
import sysconfig
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightmatch.errors import InvalidValueError, LightmatchError, import_optional
from lightmatch.geometry.poses import center_of
from lightmatch.images import resize_to_fit
from lightmatch.tracking.camera import TrackedCamera, in_colmap
from lightmatch.tracking.map import NO_POINT, Keyframe, Map
from lightmatch.tracking.tracker import Tracker
from lightmatch.tracking.values import Status, TrackedFrame
from lightmatch.types import Image

SUFFIX = ".rrd"

_LONGEST_PX, _JPEG_QUALITY = 960, 75  # of the images
_POINTS, _KEYFRAMES, _POSES = 2048, 128, 512  # that are logged together
_RECENT = 300  # poses since the path was logged that are shown, at most
_UNIX_S = 1e8  # times from here on are seconds since 1970
_CAMERA, _KEYFRAME = 0.3, 0.1  # lengths of frustums, of the median depth of the first keyframe
_GREY = (150, 150, 150)  # points whose image is not there any more
_COLORS: dict[Status, tuple[int, int, int]] = {
    "starting": (120, 160, 255),
    "tracking": (60, 200, 90),
    "coasting": (255, 190, 40),
    "lost": (240, 60, 60),
}
_LEVELS: dict[Status, str] = {"starting": "INFO", "tracking": "INFO", "coasting": "WARN", "lost": "ERROR"}
_PATH_COLOR, _KEYFRAME_COLOR, _LOOP_COLOR = (60, 200, 90), (110, 140, 220), (240, 60, 200)


class TrackView:
    """Shows what a tracker does in Rerun's viewer, or writes it to a file that the viewer opens.

    path: of the file, which ends in .rrd; None opens the viewer. Raises MissingDependencyError without Rerun,
    InvalidValueError for another ending. `close` completes the file; a `with` block does.

    The map, its keyframes and the path are logged when a keyframe was added or a loop closed, in blocks, and of these
    only those that changed: what a long map costs is what is new in it.
    """

    def __init__(self, camera: TrackedCamera, path: Path | None = None) -> None:
        if path is not None and path.suffix != SUFFIX:
            raise InvalidValueError(f"{path}: expected a file name that ends in {SUFFIX}, which Rerun's viewer opens")
        self._rr: Any = import_optional("rerun", "view")
        self._camera = camera
        longest = max(*camera.image_size, _LONGEST_PX)
        self._size = tuple(max(1, round(side * _LONGEST_PX / longest)) for side in camera.image_size)
        self._scale = np.array(self._size) / camera.image_size
        self._time_s = -np.inf
        self._timeline = ""  # kind of its values
        self._status = ("", "")  # that was logged last, and its reason
        self._shown = (-1, 0)  # the latest keyframe, and the number of loops, that were logged
        self._recent: deque[np.ndarray] = deque(maxlen=_RECENT)  # centres since then
        self._images: dict[float, Image] = {}  # by time: of frames that become keyframes
        self._last_colored = -1  # keyframe that has given its points a colour
        self._colors = np.zeros((0, 3), np.uint8)  # of points, by number
        self._depth: float | None = None  # median of the first keyframe
        self._logged: dict[str, Sequence[np.ndarray]] = {}  # by entity
        self._stream: Any = self._rr.RecordingStream("lightmatch track")
        if path is None:
            _open_viewer(self._stream)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream.save(path, default_blueprint=_blueprint())
        self._log("world", self._rr.ViewCoordinates.RDF, static=True)
        self._log_camera()
        for name, title in (("num_tracked", "tracked points"), ("milliseconds", "milliseconds")):
            self._log(f"plots/{name}", self._rr.SeriesLines(names=[title]), static=True)

    def __enter__(self) -> TrackView:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left, and let go of the viewer, which stays open, or the file."""
        self._stream.disconnect()

    def show(self, image: Image | None, frame: TrackedFrame, tracker: Tracker) -> None:
        """What became of a frame; to be called after each. image: None where it could not be read."""
        rr = self._rr
        self._go_to(frame.timestamp)
        if image is not None:
            pixels = resize_to_fit(image, _LONGEST_PX).pixels
            self._log("world/camera/image", rr.Image(pixels).compress(jpeg_quality=_JPEG_QUALITY))
            if frame.is_keyframe:
                self._images[frame.timestamp] = image
        if frame.cam_from_world is not None:
            pose = frame.cam_from_world
            self._log("world/camera", rr.Transform3D(translation=frame.center, mat3x3=pose[:, :3].T))
        if frame.status == "tracking" and frame.center is not None:
            self._recent.append(frame.center)
        places = tracker.tracked_places if frame.status == "tracking" else np.zeros((0, 2))
        tracked = rr.Points2D(in_colmap(places) * self._scale, colors=[_COLORS["tracking"]], radii=[2.0])
        self._log("world/camera/image/tracked", tracked)
        self._log_status(frame)
        self._log("plots/num_tracked", rr.Scalars(frame.num_tracked))
        self._log("plots/milliseconds", rr.Scalars(1000 * frame.seconds))
        if (max(tracker.keyframes, default=-1), len(tracker.loops)) != self._shown:
            self.show_map(tracker)
        if self._recent:
            self._log_lines("path/recent", np.stack(self._recent)[None].astype(np.float32), _PATH_COLOR, 1.5)

    def show_map(self, tracker: Tracker) -> None:
        """The map, its keyframes, loops and the path as they are now, at the time of the latest frame.

        `show` calls it when they have changed; call it once more after `tracker.close`, which may have completed a
        keyframe.
        """
        keyframes = tracker.keyframes
        self._shown = max(keyframes, default=-1), len(tracker.loops)
        if not keyframes:
            return
        self._log_points(tracker.map, keyframes)
        for block, some in _blocks(self._shown[0] + 1, _KEYFRAMES):
            own = [keyframes[number] for number in range(some.start, some.stop) if number in keyframes]
            self._log_lines(f"keyframes/{block}", self._frustums(own), _KEYFRAME_COLOR, 0.7)
        path = _centers([pose for _, pose in tracker.trajectory()])
        for block, some in _blocks(len(path), _POSES):
            with_next = path[some.start : some.stop + 1]  # so that there is no gap
            self._log_lines(f"path/{block}", with_next[None], _PATH_COLOR, 1.5)
        self._recent = deque(path[-1:], _RECENT)
        loops = [loop for loop in tracker.loops if keyframes.keys() >= set(loop)]
        if loops:
            ends = np.stack([_centers([keyframes[number].cam_from_world for number in loop]) for loop in loops])
            self._log_lines("loops", ends, _LOOP_COLOR, 1.2)

    def _log_points(self, mapped: Map, keyframes: Mapping[int, Keyframe]) -> None:
        numbers = np.array(mapped.points, int)  # before their places: a thread may be adding some
        xyz = mapped.xyz
        first = next(iter(keyframes))
        if self._depth is None and len(own := mapped.points_of(first)):
            self._depth = float(np.median(self._camera.project(xyz[own], keyframes[first].cam_from_world)[1]))
            self._log_camera()
        self._color(keyframes, len(xyz))
        for block, some in _blocks(len(xyz), _POINTS):
            own = numbers[slice(*np.searchsorted(numbers, (some.start, some.stop)))]
            places, colors = xyz[own].astype(np.float32), self._colors[own]
            if self._has_changed(entity := f"world/points/{block}", places, colors):
                radii = self._rr.Radius.ui_points(1.5)
                self._log(entity, self._rr.Points3D(places, colors=colors, radii=radii))

    def _go_to(self, timestamp: float) -> None:
        """Log at this time from now on; a frame whose time is wrong is shown at that of the one before."""
        if not timestamp > self._time_s or np.isinf(timestamp):
            return
        self._time_s = timestamp
        self._timeline = self._timeline or ("timestamp" if timestamp > _UNIX_S else "duration")
        self._stream.set_time("time", **{self._timeline: timestamp})

    def _log(self, entity: str, value: Any, *, static: bool = False) -> None:
        self._stream.log(entity, value, static=static)

    def _has_changed(self, entity: str, *values: np.ndarray) -> bool:
        """Whether these are other values than the last ones of the entity, in whose place they come."""
        before = self._logged.get(entity, ())
        self._logged[entity] = values
        return len(before) != len(values) or not all(map(np.array_equal, before, values))

    def _log_lines(self, name: str, strips: np.ndarray, color: tuple[int, int, int], width: float) -> None:
        """strips: (k, n, 3). width: in points of the screen."""
        if self._has_changed(entity := f"world/{name}", strips):
            radii = self._rr.Radius.ui_points(width)
            self._log(entity, self._rr.LineStrips3D(strips, colors=[color], radii=radii))

    def _log_camera(self) -> None:
        """The intrinsics, of the images that are shown; without the distortion."""
        K = np.diag([*self._scale, 1.0]) @ self._camera.colmap.calibration_matrix()
        distance = None if self._depth is None else _CAMERA * self._depth
        camera = self._rr.Pinhole(
            image_from_camera=K,
            resolution=list(self._size),
            camera_xyz=self._rr.ViewCoordinates.RDF,
            image_plane_distance=distance,
        )
        self._log("world/camera/image", camera, static=True)

    def _log_status(self, frame: TrackedFrame) -> None:
        """Where it, or the reason, has changed: as text, and at the camera."""
        if (frame.status, frame.reason) == self._status:
            return
        self._status = frame.status, frame.reason
        text = f"{frame.status}: {frame.reason}" if frame.reason else frame.status
        self._log("status", self._rr.TextLog(text, level=_LEVELS[frame.status]))
        label = {"labels": [frame.status], "colors": [_COLORS[frame.status]], "radii": self._rr.Radius.ui_points(5)}
        self._log("world/camera/status", self._rr.Points3D([[0.0, 0.0, 0.0]], **label))

    def _color(self, keyframes: Mapping[int, Keyframe], count: int) -> None:
        """Give points of new keyframes the colours of their pixels. count: numbers of points that are given out."""
        new = np.tile(np.array(_GREY, np.uint8), (count - len(self._colors), 1))
        self._colors = np.concatenate((self._colors, new))
        for keyframe in [keyframe for number, keyframe in keyframes.items() if number > self._last_colored]:
            image = self._images.pop(keyframe.timestamp, None)
            if image is not None:
                points = keyframe.points.copy()
                seen = (points != NO_POINT) & (points < count)  # a thread may be adding some
                pixels = np.rint(keyframe.features.keypoints.numpy()[seen]).astype(int)
                column, row = np.clip(pixels, 0, np.array(image.size) - 1).T
                self._colors[points[seen]] = image.pixels[row, column]
        self._last_colored = max(keyframes)

    def _frustums(self, keyframes: Sequence[Keyframe]) -> np.ndarray:
        """(k, 10, 3): of each keyframe a line along all edges of its view."""
        width, height = self._camera.image_size
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64) - 0.5
        length = _KEYFRAME * (1.0 if self._depth is None else self._depth)
        edge = self._camera.unproject(corners, np.full(4, length), np.eye(3, 4))
        line = np.vstack((edge, np.zeros(3)))[[0, 1, 2, 3, 0, 4, 1, 2, 4, 3]]
        poses = np.array([keyframe.cam_from_world for keyframe in keyframes]).reshape(-1, 3, 4)
        return ((line - poses[:, None, :, 3]) @ poses[:, :, :3]).astype(np.float32)


def _blocks(count: int, size: int) -> Iterator[tuple[int, slice]]:
    """The number and the rows of each block of `size` rows or, the last one, fewer."""
    for number in range(-(-count // size)):
        yield number, slice(number * size, min((number + 1) * size, count))


def _centers(poses: Sequence[np.ndarray]) -> np.ndarray:
    """(n, 3) of cameras cam_from_world (3, 4) each."""
    return np.stack([center_of(pose) for pose in poses]).astype(np.float32)


def _open_viewer(stream: Any) -> None:
    """The viewer's program lies beside this Python's, which need not be in the PATH."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), before))
    try:
        stream.spawn(default_blueprint=_blueprint())
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise LightmatchError(f"cannot open Rerun's viewer: {reason}; write a file ({SUFFIX}) instead") from error
    finally:
        os.environ["PATH"] = before


def _blueprint() -> Any:
    """The map beside the image and the statuses; below, two numbers over time."""
    rrb: Any = import_optional("rerun.blueprint", "view")
    scene = rrb.Spatial3DView(origin="world", name="map", contents=["+ $origin/**", "- /world/camera/image/tracked"])
    beside = rrb.Vertical(
        rrb.Spatial2DView(origin="world/camera/image", name="image"),
        rrb.TextLogView(origin="status", name="status"),
        row_shares=[2, 1],
    )
    plots = rrb.Horizontal(
        rrb.TimeSeriesView(origin="plots/num_tracked", name="tracked points"),
        rrb.TimeSeriesView(origin="plots/milliseconds", name="milliseconds"),
    )
    layout = rrb.Vertical(rrb.Horizontal(scene, beside, column_shares=[2, 1]), plots, row_shares=[3, 1])
    return rrb.Blueprint(layout, collapse_panels=True)
