"""Sequences: frames in order, their times, and what lies beside them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.tracking.sequences import FrameSequence, SequenceConfig


def write(folder: Path, names: list[str], value: np.ndarray | None = None) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        pixels = np.full((48, 64, 3), 10 * number, np.uint8) if value is None else value
        cv2.imwrite(str(folder / name), pixels)
    return folder


def test_frames_without_times_come_by_the_rate(tmp_path: Path) -> None:
    frames = write(tmp_path / "rgb", ["000010.png", "000002.png"])
    sequence = FrameSequence(SequenceConfig(frames, fps=10))
    assert sequence.image_size == (64, 48) and sequence.num_frames == 2
    assert [(frame.name, frame.timestamp) for frame in sequence] == [("000002", 0.0), ("000010", 0.1)]


def test_names_that_are_times_are_the_times_and_depths_are_found_by_them(tmp_path: Path) -> None:
    frames = write(tmp_path / "rgb", ["1341847980.722988.png", "1341847980.754743.png", "1341847981.5.png"])
    values = np.array([[5000, 65535], [0, 2500]], np.uint16).repeat(24, 0).repeat(32, 1)
    depth = write(tmp_path / "depth", ["1341847980.723020.png"], values)
    found = list(FrameSequence(SequenceConfig(frames, depth=depth, depth_scale=5000)))
    assert found[0].timestamp == pytest.approx(1341847980.722988)
    assert found[0].depth is not None and found[0].depth[::24, ::32].tolist() == [[1.0, 0.0], [0.0, 0.5]]
    assert found[2].depth is None


def test_names_that_are_times_come_in_the_order_of_time(tmp_path: Path) -> None:
    frames = write(tmp_path / "rgb", ["10.0.png", "11.5.png", "8.25.png", "9.0.png"])
    assert [frame.name for frame in FrameSequence(SequenceConfig(frames))] == ["8.25", "9.0", "10.0", "11.5"]
    assert [frame.timestamp for frame in FrameSequence(SequenceConfig(frames))] == [8.25, 9.0, 10.0, 11.5]


def test_times_may_be_given(tmp_path: Path) -> None:
    frames = write(tmp_path / "rgb", ["a.png", "b.png"])
    times = tmp_path / "times.txt"
    times.write_text("# seconds\n0.5\n0.75\n")
    assert [frame.timestamp for frame in FrameSequence(SequenceConfig(frames, times=times))] == [0.5, 0.75]
    for wrong in ("0.5\n", "0.5\nnan\n"):
        times.write_text(wrong)
        with pytest.raises(InvalidValueError, match="expected 2 lines with a time in seconds each"):
            FrameSequence(SequenceConfig(frames, times=times))


def test_a_frame_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    frames = write(tmp_path / "rgb", ["a.png", "b.png"])
    (frames / "b.png").write_bytes(b"nothing")
    good, bad = FrameSequence(SequenceConfig(frames))
    assert good.image is not None and bad.image is None and "b.png" in bad.problem


def test_an_image_is_tracked_without_a_depth_map_that_cannot_be_read(tmp_path: Path) -> None:
    frames, depths = (write(tmp_path / name, ["a.png", "b.png"]) for name in ("rgb", "depth"))
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(depths / name), np.full((4, 4), 1000, np.uint16))
    (depths / "b.png").write_bytes(b"nothing")
    good, bad = FrameSequence(SequenceConfig(frames, depth=depths))
    assert good.depth is not None and not good.problem
    assert bad.image is not None and bad.depth is None and "b.png: expected a depth map" in bad.problem


def test_right_images_are_found_by_name(tmp_path: Path) -> None:
    frames, right = (write(tmp_path / name, ["a.png", "b.png"]) for name in ("left", "right"))
    assert all(frame.right is not None for frame in FrameSequence(SequenceConfig(frames, right=right)))
    other = write(tmp_path / "other", ["x.png"])
    with pytest.raises(InvalidValueError, match="--right: expected files named as the frames, such as a, found x"):
        FrameSequence(SequenceConfig(frames, right=other))


def test_what_is_no_sequence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no video")
    with pytest.raises(InvalidValueError, match="found no image there"):
        FrameSequence(SequenceConfig(tmp_path / "empty"))
    with pytest.raises(InvalidValueError, match="expected a video or a folder of frames"):
        FrameSequence(SequenceConfig(tmp_path / "text.txt"))
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InvalidValueError, match="beside depth maps, right images or times, got a video"):
        FrameSequence(SequenceConfig(tmp_path / "clip.mp4", times=tmp_path / "text.txt"))
    with pytest.raises(InvalidValueError, match="leave one out"):
        SequenceConfig(tmp_path, depth=tmp_path, right=tmp_path)


def test_frames_come_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    frames = write(tmp_path / "rgb", [f"frame{number}.png" for number in (1, 10, 2, 11, 3)])
    assert [frame.name for frame in FrameSequence(SequenceConfig(frames))] == [f"frame{n}" for n in (1, 2, 3, 10, 11)]


def test_a_first_frame_that_cannot_be_read_is_passed_over_like_any_other(tmp_path: Path) -> None:
    frames = write(tmp_path / "rgb", ["a.png", "b.png"])
    (frames / "a.png").write_bytes(b"nothing")
    sequence = FrameSequence(SequenceConfig(frames))
    assert sequence.image_size == (64, 48) and [frame.image is None for frame in sequence] == [True, False]
    (frames / "b.png").write_bytes(b"nothing")
    with pytest.raises(ImageReadError, match=r"a\.png"):
        FrameSequence(SequenceConfig(frames))
