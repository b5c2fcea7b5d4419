"""Chosen frames as files: whole or absent, to the bit the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from video_clips import encode_video, pan

from lightmatch.errors import ImageReadError
from lightmatch.images import load_image
from lightmatch.video import Frame, choose_frames, frame_name, read_frames, write_frames
from lightmatch.video import writing as writing_module


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode_video(tmp_path_factory.mktemp("clip") / "clip.mp4", pan([3.2 * index for index in range(30)]))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_frames_are_written_by_their_index(clip: Path, tmp_path: Path) -> None:
    parts: list[float] = []
    written = write_frames(clip, tmp_path / "new" / "clip", choose_frames(clip).frames, parts.append)
    assert [Path(name).name for name, _ in written] == ["000000.jpg", "000010.jpg", "000020.jpg", "000029.jpg"]
    assert [time_s for _, time_s in written] == pytest.approx([0, 1 / 3, 2 / 3, 29 / 30], abs=1e-3)
    assert sorted(contents(tmp_path / "new" / "clip")) == [Path(name).name for name, _ in written]
    assert json.loads(json.dumps(written)) == [list(pair) for pair in written]
    assert parts == sorted(parts)
    assert parts[-1] == 1
    (frame,) = read_frames(clip, [20])
    stored = load_image(written[2][0]).pixels
    assert np.abs(stored.astype(int) - frame.pixels).mean() < 2
    with PilImage.open(written[2][0]) as picture:
        layers = getattr(picture, "layer", [])
        assert {layer[1:3] for layer in layers} == {(1, 1)}  # every channel in full resolution
        assert len(picture.getexif()) == 0


def test_two_runs_give_the_same_bytes(clip: Path, tmp_path: Path) -> None:
    write_frames(clip, tmp_path / "a", choose_frames(clip).frames)
    write_frames(clip, tmp_path / "b", choose_frames(clip).frames)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_stopped_run_goes_on(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose_frames(clip).frames
    write_frames(clip, tmp_path / "whole", chosen)
    write = writing_module.write_jpeg

    def stop_at_the_third(frame: Frame, path: Path) -> None:
        if path.name.startswith(frame_name(chosen[2].index)):
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        write(frame, path)

    monkeypatch.setattr(writing_module, "write_jpeg", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_frames(clip, tmp_path / "stopped", chosen)
    assert sorted(contents(tmp_path / "stopped")) == [frame_name(frame.index) for frame in chosen[:2]]
    monkeypatch.undo()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "stopped").iterdir()}
    write_frames(clip, tmp_path / "stopped", chosen)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert all((tmp_path / "stopped" / name).stat().st_mtime_ns == time for name, time in before.items())


def test_finished_work_is_not_even_decoded(clip: Path, tmp_path: Path) -> None:
    chosen = choose_frames(clip).frames
    first = write_frames(clip, tmp_path / "clip", chosen)
    assert write_frames(tmp_path / "gone.mp4", tmp_path / "clip", chosen) == first


def test_another_video_is_noticed(clip: Path, tmp_path: Path) -> None:
    chosen = choose_frames(clip).frames
    short = encode_video(tmp_path / "short.mp4", pan(range(5)))
    with pytest.raises(ImageReadError, match="choose again"):
        write_frames(short, tmp_path / "clip", chosen)
