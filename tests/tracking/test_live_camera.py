"""An attached camera, played by a stand-in: it is tracked until it gives nothing more, or Ctrl-C."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from moving_camera import SIZE, MovingCamera

from lightmatch.errors import InvalidValueError
from lightmatch.pipelines.track import TrackConfig, track
from lightmatch.reconstruction import read_model
from lightmatch.tracking import TrackerConfig
from lightmatch.tracking.live_camera import LiveCamera, is_live_camera
from lightmatch.tracking.map import Map
from lightmatch.tracking.sequences import SequenceConfig
from lightmatch.video.reading import Frame
from lightmatch.video.writing import write_jpeg

CAMERA = SequenceConfig(Path("camera:3"))


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[np.ndarray]], list[int]]:
    """Attach a camera that gives these frames (RGB), and then none; the numbers of the cameras that are open."""

    def attached(frames: Iterator[np.ndarray]) -> list[int]:
        opened = []

        class Capture:
            def __init__(self, number: int) -> None:
                opened.append(number)

            def read(self) -> tuple[bool, np.ndarray | None]:
                frame = next(frames, None)
                return (False, None) if frame is None else (True, np.ascontiguousarray(frame[..., ::-1]))

            def release(self) -> None:
                opened.clear()

        monkeypatch.setattr(cv2, "VideoCapture", Capture)
        return opened

    return attached


def cameras_file(walk: MovingCamera, folder: Path) -> Path:
    (fx, _, cx), (_, fy, cy), _ = walk.K
    path = folder / "cameras.txt"
    path.write_text(f"1 PINHOLE {SIZE[0]} {SIZE[1]} {fx} {fy} {cx + 0.5} {cy + 0.5}\n")
    return path


def test_its_frames_come_with_their_times(attach: Callable[..., list[int]], walk: MovingCamera) -> None:
    opened = attach(iter(walk.rgb[:4]))
    camera = LiveCamera(CAMERA)
    assert opened == [3]
    frames = list(camera)
    assert not opened and camera.image_size == SIZE and len(frames) == 3
    for number, frame in enumerate(frames, 1):
        assert frame.image is not None and np.array_equal(frame.image.pixels, walk.rgb[number])
    assert 0 <= frames[0].timestamp < frames[1].timestamp < frames[2].timestamp


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_it_is_tracked_to_its_end(
    attach: Callable[..., list[int]], walk: MovingCamera, tmp_path: Path, is_interrupted: bool
) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from walk.rgb
        if is_interrupted:
            raise KeyboardInterrupt

    opened = attach(frames())
    config = TrackConfig(CAMERA, cameras_file(walk, tmp_path), tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out")
    assert not opened and summary.num_frames == len(walk.rgb) - 1 and summary.statuses["tracking"] > 10
    assert (tmp_path / "out" / "report.html").is_file()
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) >= summary.num_tracked


def test_ctrl_c_while_a_keyframe_is_made_loses_nothing(
    attach: Callable[..., list[int]], walk: MovingCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyframes = 0

    def interrupted(mapped: Map, *arguments: object) -> None:
        nonlocal keyframes
        keyframes = len(mapped.keyframes)
        if keyframes == 4:  # the fourth is in the map, and its frame has no answer yet
            raise KeyboardInterrupt

    monkeypatch.setattr("lightmatch.tracking.tracker.has_moved_away", lambda *_: True)
    monkeypatch.setattr("lightmatch.tracking.mapping.find_loop", interrupted)
    attach(iter(walk.rgb))
    config = TrackConfig(CAMERA, cameras_file(walk, tmp_path), tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out")
    assert keyframes == summary.num_keyframes == 4
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    assert len(read_model(tmp_path / "out" / "sparse" / "0").images) == 4
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) >= summary.num_tracked > 0


def test_ctrl_c_while_a_keyframe_is_written_loses_nothing(
    attach: Callable[..., list[int]], walk: MovingCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    attach(iter(walk.rgb))
    config = TrackConfig(CAMERA, cameras_file(walk, tmp_path), tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out")
    images = read_model(tmp_path / "out" / "sparse" / "0").images.values()
    assert written == 4 and summary.num_keyframes == len(images) == 3
    assert {image.name for image in images} == {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) > summary.num_tracked > 0


def test_what_is_no_camera_is_refused_with_a_sentence(
    attach: Callable[..., list[int]], walk: MovingCamera, tmp_path: Path
) -> None:
    assert is_live_camera(Path("camera:0")) and not is_live_camera(Path("camera:front"))
    attach(iter(()))
    with pytest.raises(InvalidValueError, match="camera:3: expected a camera that gives images, found none"):
        track(TrackConfig(CAMERA), tmp_path / "out")
    attach(iter(walk.rgb))
    with pytest.raises(InvalidValueError, match="expected the intrinsics of a live camera"):
        track(TrackConfig(CAMERA), tmp_path / "out")
    with pytest.raises(InvalidValueError, match="got a camera"):
        LiveCamera(SequenceConfig(Path("camera:0"), times=tmp_path / "times.txt"))
    assert not (tmp_path / "out").exists()
