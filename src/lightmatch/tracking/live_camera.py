"""Frames of a camera that is attached to this computer, as they come."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2

from lightmatch.errors import InvalidValueError
from lightmatch.tracking.sequences import FrameSequence, SequenceConfig, SequenceFrame
from lightmatch.types import Image

_NAME = re.compile(r"camera:(\d+)")


def is_live_camera(source: Path) -> bool:
    """Whether this names an attached camera, such as camera:0, and no file."""
    return _NAME.fullmatch(str(source)) is not None


class LiveCamera:
    """Frames until the camera gives none; their times are seconds since the first. Frames that nobody takes are lost.

    Raises InvalidValueError where there is no such camera.
    """

    num_frames = 0  # nobody knows

    def __init__(self, config: SequenceConfig) -> None:
        if config.depth is not None or config.right is not None or config.times is not None:
            raise InvalidValueError(
                "expected a folder of frames beside depth maps, right images or times, got a camera"
            )
        self.config = config
        found = _NAME.fullmatch(str(config.source))
        assert found is not None
        self._capture = cv2.VideoCapture(int(found[1]))
        is_there, frame = self._capture.read()
        if not is_there:
            raise InvalidValueError(
                f"{config.source}: expected a camera that gives images, found none; try another number"
            )
        self.image_size = frame.shape[1], frame.shape[0]

    def __iter__(self) -> Iterator[SequenceFrame]:
        begun = time.monotonic()
        try:
            for index in itertools.count():
                is_there, frame = self._capture.read()
                if not is_there:
                    return
                pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                yield SequenceFrame(f"{index:06d}", time.monotonic() - begun, Image(pixels))
        finally:
            self._capture.release()


def open_sequence(config: SequenceConfig, is_output: Callable[[Path], bool]) -> FrameSequence | LiveCamera:
    """The frames of a video, a folder, or an attached camera. is_output: as of `FrameSequence`. Raises as these do."""
    return LiveCamera(config) if is_live_camera(config.source) else FrameSequence(config, is_output)
