"""A video, or a folder of frames, with times, and with depth maps or right images beside them."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.images import is_image_file, load_image
from lightmatch.images.walk import by_numbers, list_files
from lightmatch.types import Image
from lightmatch.video.reading import is_video_file, read_facts, read_frames

_NEAR_S = 0.03  # between a frame and its depth map, where their names are times


@dataclass(frozen=True, eq=False)
class SequenceFrame:
    """What the tracker is given at one moment."""

    name: str
    timestamp: float  # s
    image: Image | None  # None where it cannot be read
    problem: str = ""  # why it, or what measures its depth, cannot be read
    depth: np.ndarray | None = None  # (h, w) float32 m, 0 where unknown
    right: Image | None = None


@dataclass(frozen=True)
class SequenceConfig:
    """Where frames lie. In TUM's data sets names are times, by which depth maps are found."""

    source: Path  # a video, or a folder of frames in the order of their names and of the numbers in these
    depth: Path | None = None  # folder of depth maps, 16-bit PNG, named as the frames or by their times
    depth_scale: float = 1000.0  # of its values to a metre
    right: Path | None = None  # folder of the right images of a rectified pair, named as the frames
    times: Path | None = None  # a time in seconds on each line, one for each frame
    fps: float = 30.0  # of a folder whose names are no times, without `times`

    def __post_init__(self) -> None:
        if self.depth is not None and self.right is not None:
            raise InvalidValueError("expected depth maps or right images, got both; leave one out")
        for name in ("depth_scale", "fps"):
            if not getattr(self, name) > 0:
                raise InvalidValueError(f"{name}: expected more than 0, got {getattr(self, name)}")


class FrameSequence:
    """Frames in the order of time. Raises InvalidValueError, or ImageReadError, where there are none."""

    def __init__(self, config: SequenceConfig, is_output: Callable[[Path], bool] = lambda _: False) -> None:
        """is_output: whether a folder among the frames is of an earlier run, whose images are none of them."""
        self.config = config
        self._is_video = config.source.is_file()
        if self._is_video:
            if not is_video_file(config.source):
                raise InvalidValueError(f"{config.source}: expected a video or a folder of frames, got another file")
            if config.depth is not None or config.right is not None or config.times is not None:
                raise InvalidValueError(
                    "expected a folder of frames beside depth maps, right images or times, got a video"
                )
            self._paths: list[Path] = []
            self._times: list[float] = []
            facts = read_facts(config.source)
            self.image_size = facts.width, facts.height
            self.num_frames = facts.num_frames or 0
            return
        self._paths = _images(config.source, is_output)
        if not self._paths:
            raise InvalidValueError(f"{config.source}: expected a video or a folder of frames, found no image there")
        self.num_frames = len(self._paths)
        self._times = self._read_times()
        self.image_size = _first_size(self._paths)
        self._depths = {} if config.depth is None else {path.stem: path for path in _images(config.depth)}
        self._rights = {} if config.right is None else {path.stem: path for path in _images(config.right)}
        self._depth_times = _by_time(self._depths)
        stems = {path.stem for path in self._paths}
        named = [(name, found) for name, found in (("depth", self._depths), ("right", self._rights)) if found]
        for name, found in named:
            if stems.isdisjoint(found) and not (name == "depth" and self._depth_times):
                raise InvalidValueError(
                    f"--{name}: expected files named as the frames, such as {self._paths[0].stem}, found"
                    f" {next(iter(found))}; rename them"
                )
        for name, folder, found in (("depth", config.depth, self._depths), ("right", config.right, self._rights)):
            if folder is not None and not found:
                raise InvalidValueError(f"--{name}: expected a folder of images, found none in {folder}")

    def __iter__(self) -> Iterator[SequenceFrame]:
        if self._is_video:
            for frame in read_frames(self.config.source):
                yield SequenceFrame(f"{frame.index:06d}", frame.time_s, Image(frame.pixels))
            return
        for path, timestamp in zip(self._paths, self._times, strict=True):
            image, problem, depth, right = None, "", None, None
            try:
                image = load_image(path)
                depth = self._depth_of(path, timestamp)
                right = load_image(self._rights[path.stem]) if path.stem in self._rights else None
            except ImageReadError as error:  # an image is tracked without its depths
                problem = str(error)
            yield SequenceFrame(path.stem, timestamp, image, problem, depth, right)

    def _read_times(self) -> list[float]:
        config = self.config
        if config.times is None:
            times = {path: _number(path.stem) for path in self._paths}
            if all(time is not None and "." in path.stem for path, time in times.items()):
                self._paths.sort(key=lambda path: float(path.stem))  # 9.5 comes before 10.0
                return [float(path.stem) for path in self._paths]
            return [number / config.fps for number in range(len(self._paths))]
        try:
            lines = config.times.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValueError(f"{config.times}: expected a readable text file of times ({error})") from error
        found = [_number(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]
        if len(found) != len(self._paths) or None in found:
            raise InvalidValueError(
                f"{config.times}: expected {len(self._paths)} lines with a time in seconds each, one for each frame,"
                f" got {len(found)}"
            )
        return [time for time in found if time is not None]

    def _depth_of(self, path: Path, timestamp: float) -> np.ndarray | None:
        found = self._depths.get(path.stem)
        if found is None and self._depth_times:
            place = bisect.bisect(self._depth_times, (timestamp, ""))
            near = min(self._depth_times[max(place - 1, 0) : place + 1], key=lambda one: abs(one[0] - timestamp))
            found = self._depths[near[1]] if abs(near[0] - timestamp) <= _NEAR_S else None
        if found is None:
            return None
        values = cv2.imread(str(found), cv2.IMREAD_UNCHANGED)
        if values is None or values.ndim != 2:
            raise ImageReadError(f"{found}: expected a depth map of one channel, could not read it")
        depth = values.astype(np.float32) / self.config.depth_scale
        if values.dtype == np.uint16:
            depth[values == np.iinfo(np.uint16).max] = 0  # 7-Scenes' unknown
        return depth


def _images(folder: Path, skip: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    """Sorted by name, and by the numbers in it."""
    images = (path for path in list_files(folder, skip) if is_image_file(path))
    return sorted(images, key=lambda path: by_numbers(path.relative_to(folder).as_posix()))


def _first_size(paths: Iterable[Path]) -> tuple[int, int]:
    """(width, height) of the first image that can be read. Raises the ImageReadError of the first where none can."""
    errors: list[ImageReadError] = []
    for path in paths:
        try:
            return load_image(path).size
        except ImageReadError as error:
            errors.append(error)
    raise errors[0]


def _by_time(stems: Iterable[str]) -> list[tuple[float, str]]:
    """Those that are times, sorted."""
    times = [(_number(stem), stem) for stem in stems]
    return sorted((time, stem) for time, stem in times if time is not None and "." in stem)


def _number(text: str) -> float | None:
    """As far as it is finite."""
    try:
        return number if math.isfinite(number := float(text)) else None
    except ValueError:
        return None
