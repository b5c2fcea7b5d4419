"""An attached camera, played by a stand-in: it is tracked until it gives nothing more, or Ctrl-C."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Semaphore

import cv2
import numpy as np
import pytest
from moving_camera import SIZE, MovingCamera

from lightmatch.errors import InvalidValueError
from lightmatch.pipelines.track import TrackConfig, track
from lightmatch.reconstruction import read_model
from lightmatch.tracking import TrackedFrame, TrackerConfig
from lightmatch.tracking.live_camera import LiveCamera, is_live_camera
from lightmatch.tracking.map import Map
from lightmatch.tracking.sequences import SequenceConfig
from lightmatch.video.reading import Frame
from lightmatch.video.writing import write_jpeg

CAMERA = SequenceConfig(Path("camera:3"))


class AttachedCamera:
    """Gives a frame (RGB) each time it is told to, and at their end none."""

    def __init__(self, frames: Iterable[np.ndarray]) -> None:
        self.frames = iter(frames)
        self.open: list[int] = []  # numbers
        self.num_waits = 0  # reads that were begun
        self._told = Semaphore(2)  # the first frame says its size

    def __call__(self, number: int) -> "AttachedCamera":
        self.open.append(number)
        return self

    def give(self, *_: object) -> None:
        """Let one more frame come."""
        self._told.release()

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.num_waits += 1
        self._told.acquire()
        frame = next(self.frames, None)
        return (False, None) if frame is None else (True, np.ascontiguousarray(frame[..., ::-1]))

    def release(self) -> None:
        self.open.clear()


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[np.ndarray]], AttachedCamera]:
    """Attach a camera that gives these frames."""

    def attached(frames: Iterable[np.ndarray]) -> AttachedCamera:
        camera = AttachedCamera(frames)
        monkeypatch.setattr(cv2, "VideoCapture", camera)
        return camera

    return attached


def cameras_file(walk: MovingCamera, folder: Path) -> Path:
    (fx, _, cx), (_, fy, cy), _ = walk.K
    path = folder / "cameras.txt"
    path.write_text(f"1 PINHOLE {SIZE[0]} {SIZE[1]} {fx} {fy} {cx + 0.5} {cy + 0.5}\n")
    return path


def test_its_frames_come_with_their_times(attach: Callable[..., AttachedCamera], walk: MovingCamera) -> None:
    attached = attach(walk.rgb[:4])
    camera = LiveCamera(CAMERA)
    assert attached.open == [3]
    frames = []
    for frame in camera:
        frames.append(frame)
        attached.give()
    assert not attached.open and camera.image_size == SIZE and len(frames) == 3
    for number, frame in enumerate(frames, 1):
        assert frame.image is not None and np.array_equal(frame.image.pixels, walk.rgb[number])
    assert 0 <= frames[0].timestamp < frames[1].timestamp < frames[2].timestamp


def test_who_takes_long_gets_the_newest_frame_and_when_it_came(
    attach: Callable[..., AttachedCamera], walk: MovingCamera
) -> None:
    attached = attach(walk.rgb[:6])
    frames = iter(LiveCamera(CAMERA))
    first = next(frames)
    assert first.image is not None and np.array_equal(first.image.pixels, walk.rgb[1])
    begun = time.monotonic()
    for _ in range(3):
        attached.give()
    while attached.num_waits < 6:  # the size, the first, these three, and one to come
        time.sleep(0.01)
    took = time.monotonic() - begun
    time.sleep(0.3)
    newest = next(frames)
    assert newest.image is not None and np.array_equal(newest.image.pixels, walk.rgb[4])
    assert newest.name == "000001" and newest.timestamp < first.timestamp + took + 0.3
    attached.give()
    attached.give()
    assert [frame.name for frame in frames] == ["000002"] and not attached.open


def test_an_error_of_the_camera_comes_through(attach: Callable[..., AttachedCamera], walk: MovingCamera) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from walk.rgb[:2]
        raise cv2.error("unplugged")

    attached = attach(frames())
    camera = iter(LiveCamera(CAMERA))
    next(camera)
    attached.give()
    with pytest.raises(cv2.error, match="unplugged"):
        next(camera)
    assert not attached.open


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_it_is_tracked_to_its_end(
    attach: Callable[..., AttachedCamera], walk: MovingCamera, tmp_path: Path, is_interrupted: bool
) -> None:
    attached = attach(walk.rgb)
    last = len(walk.rgb) - 1
    seen = 0

    def on_frame(_: TrackedFrame) -> None:
        nonlocal seen
        seen += 1
        attached.give()
        if is_interrupted and seen == last:
            raise KeyboardInterrupt

    config = TrackConfig(CAMERA, cameras_file(walk, tmp_path), tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out", on_frame=on_frame)
    assert not attached.open and summary.num_frames == last and summary.statuses["tracking"] > 10
    assert (tmp_path / "out" / "report.html").is_file()
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) >= summary.num_tracked


def test_ctrl_c_while_a_keyframe_is_made_loses_nothing(
    attach: Callable[..., AttachedCamera], walk: MovingCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyframes = 0

    def interrupted(mapped: Map, *arguments: object) -> None:
        nonlocal keyframes
        keyframes = len(mapped.keyframes)
        if keyframes == 4:  # the fourth is in the map, and its frame has no answer yet
            raise KeyboardInterrupt

    monkeypatch.setattr("lightmatch.tracking.tracker.has_moved_away", lambda *_: True)
    monkeypatch.setattr("lightmatch.tracking.mapping.find_loop", interrupted)
    attached = attach(walk.rgb)
    config = TrackConfig(CAMERA, cameras_file(walk, tmp_path), tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out", on_frame=attached.give)
    assert keyframes == summary.num_keyframes == 4
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    assert len(read_model(tmp_path / "out" / "sparse" / "0").images) == 4
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) >= summary.num_tracked > 0


def test_ctrl_c_while_a_keyframe_is_written_loses_nothing(
    attach: Callable[..., AttachedCamera], walk: MovingCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def interrupted(frame: Frame, path: Path) -> None:
        nonlocal written
        written += 1
        if written == 3:  # its frame is tracked, and has no line yet
            raise KeyboardInterrupt
        write_jpeg(frame, path)

    monkeypatch.setattr("lightmatch.tracking.tracker.has_moved_away", lambda *_: True)
    monkeypatch.setattr("lightmatch.pipelines.track.keyframes.write_jpeg", interrupted)
    attached = attach(walk.rgb)
    config = TrackConfig(CAMERA, cameras_file(walk, tmp_path), tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out", on_frame=attached.give)
    images = read_model(tmp_path / "out" / "sparse" / "0").images.values()
    assert written == 4 and summary.num_keyframes == len(images) == 3
    assert {image.name for image in images} == {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) > summary.num_tracked > 0


def test_what_is_no_camera_is_refused_with_a_sentence(
    attach: Callable[..., AttachedCamera], walk: MovingCamera, tmp_path: Path
) -> None:
    assert is_live_camera(Path("camera:0")) and not is_live_camera(Path("camera:front"))
    attach(())
    with pytest.raises(InvalidValueError, match="camera:3: expected a camera that gives images, found none"):
        track(TrackConfig(CAMERA), tmp_path / "out")
    attach(walk.rgb)
    with pytest.raises(InvalidValueError, match="expected the intrinsics of a live camera"):
        track(TrackConfig(CAMERA), tmp_path / "out")
    with pytest.raises(InvalidValueError, match="got a camera"):
        LiveCamera(SequenceConfig(Path("camera:0"), times=tmp_path / "times.txt"))
    assert not (tmp_path / "out").exists()
