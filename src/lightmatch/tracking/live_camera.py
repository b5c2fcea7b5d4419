"""Frames of a camera that is attached to this computer, as they come."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition, Thread

import cv2
import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.tracking.sequences import FrameSequence, SequenceConfig, SequenceFrame
from lightmatch.types import Image

_NAME = re.compile(r"camera:(\d+)")
_WAIT_S = 1.0  # for a frame, before it is waited for again: some systems hold Ctrl-C back meanwhile
_LAST_READ_S = 2.0  # for the read that goes on when no more frames are wanted


def is_live_camera(source: Path) -> bool:
    """Whether this names an attached camera, such as camera:0, and no file."""
    return _NAME.fullmatch(str(source)) is not None


class LiveCamera:
    """Frames until the camera gives none; each is the newest when it is asked for, and the others are lost.

    Their times are seconds from the start to when they came. Raises InvalidValueError where there is no such camera.
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
        reader = _Reader(self._capture)
        try:
            for index in itertools.count():
                found = reader.newest()
                if found is None:
                    return
                came, frame = found
                yield SequenceFrame(f"{index:06d}", came - begun, Image(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
        finally:
            reader.close()


class _Reader:
    """Reads a camera all the time: left alone, it would give frames that waited while others were worked on."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._changed = Condition()
        self._newest: tuple[float, np.ndarray] | None = None  # when it came, BGR; None: taken already
        self._error: Exception | None = None
        self._has_ended = self._is_closed = False
        self._thread = Thread(target=self._read, name="live camera", daemon=True)
        self._thread.start()

    def newest(self) -> tuple[float, np.ndarray] | None:
        """The last frame that came and was not taken, or the next, with its time of `time.monotonic`; None: no more.

        Raises what reading the camera raised.
        """
        with self._changed:
            while self._newest is None and not self._has_ended:
                self._changed.wait(_WAIT_S)
            found, self._newest = self._newest, None
        if found is None and self._error is not None:
            raise self._error
        return found

    def close(self) -> None:
        """Release the camera, unless it never comes back from reading: then the end of the process does."""
        self._is_closed = True
        self._thread.join(_LAST_READ_S)
        if not self._thread.is_alive():
            self._capture.release()

    def _read(self) -> None:
        while not (self._is_closed or self._has_ended):
            found = None
            try:
                is_there, frame = self._capture.read()
                found = (time.monotonic(), frame) if is_there else None
            except Exception as error:  # raised where the frame is asked for
                self._error = error
            with self._changed:
                self._newest, self._has_ended = found or self._newest, found is None
                self._changed.notify()


def open_sequence(config: SequenceConfig, is_output: Callable[[Path], bool]) -> FrameSequence | LiveCamera:
    """The frames of a video, a folder, or an attached camera. is_output: as of `FrameSequence`. Raises as these do."""
    return LiveCamera(config) if is_live_camera(config.source) else FrameSequence(config, is_output)
