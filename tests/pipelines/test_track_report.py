"""What a tracker found → its page: keyframes by their frames, the path at the end, and numbers at the top."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightmatch.colmap.model_files import write_colmap_model
from lightmatch.colmap.model_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from lightmatch.pipelines.track.report import TrackedSequence, track_page_data, write_track_report
from lightmatch.tracking import TrackedFrame
from lightmatch.tracking.values import Status

SIZE = (64, 48)
SEEN = 12  # points, all of them by both keyframes
# The second frame is passed over: its time is the first one's. Keyframes: the first frame and the fifth.
TIMES = (1.0, 1.0, 1.1, 1.2, 1.3, 1.4)
STATUSES: tuple[Status, ...] = ("starting", "starting", "tracking", "coasting", "tracking", "tracking")
KEYFRAME_TIMES = (1.0, 1.3)


def pose_at(time: float) -> np.ndarray:
    """A camera that moves to the right, 1 a second."""
    return np.column_stack((np.eye(3), (-(time - 1.0), 0, 0)))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The map of a finished run, and the images of its keyframes."""
    xyz = torch.from_numpy(np.random.default_rng(0).uniform((-1, -1, 4), (1, 1, 6), (SEEN, 3)))
    rows = torch.arange(SEEN)
    images = {}
    for number, time in enumerate(KEYFRAME_TIMES):
        pose = torch.from_numpy(pose_at(time))
        seen = xyz @ pose[:, :3].T + pose[:, 3]
        keypoints = 60 * seen[:, :2] / seen[:, 2:] + torch.tensor([31.5, 23.5])
        name = f"{number:06d}.jpg"
        images[number + 1] = ColmapImage(number + 1, name, 1, pose, keypoints, rows, rows)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.full((48, 64, 3), 90 * number, np.uint8)).save(tmp_path / "images" / name)
    points = ColmapPoints(rows + 1, xyz, torch.full((SEEN, 3), 7, dtype=torch.uint8), torch.zeros(SEEN).double())
    camera = ColmapCamera(1, "PINHOLE", *SIZE, (60.0, 60.0, 32.0, 24.0))
    (tmp_path / "sparse").mkdir()
    write_colmap_model(ColmapModel({1: camera}, images, points), tmp_path / "sparse" / "0", binary=True)
    return tmp_path


def sequence() -> TrackedSequence:
    frames = [
        TrackedFrame(time, status, None, None, 50 * (status == "tracking"), False, "why" * (status != "tracking"), 0.02)
        for time, status in zip(TIMES, STATUSES, strict=True)
    ]
    return TrackedSequence(
        names=[f"f{number}" for number in range(len(frames))],
        frames=frames,
        # As a tracker of one camera has it: both keyframes of the first map first.
        trajectory=[(time, pose_at(time)) for time in (1.0, 1.3, 1.1, 1.4)],
        keyframe_times=KEYFRAME_TIMES,
        keyframe_images=("000000.jpg", "000001.jpg"),
        loops=((0, 1),),
        num_loops=1,
        num_points=20,
        is_metric=False,
    )


def test_frames_keyframes_and_path_belong_together(output: Path) -> None:
    data = track_page_data(output, sequence())
    assert data.keyframes.tolist() == [0, 4] and data.measured.tolist() == [0, 2, 4, 5]
    np.testing.assert_allclose(data.cam_from_world, [pose_at(TIMES[row]) for row in data.measured])
    assert [photo.name for photo in data.page.photos] == ["f0", "f4"] and data.page.photos[0].size == SIZE
    assert all(photo.thumbnail for photo in data.page.photos) and data.loops == ((0, 1),)
    (model,) = data.page.models
    assert model.track_lengths.tolist() == [2] * SEEN and (model.colors == 7).all()
    assert np.abs(model.residuals_px).max() < 1e-3
    assert [frame.status for frame in data.frames] == list(STATUSES) and data.frames[3].reason == "why"


def test_lengths_have_the_unit_that_is_known(output: Path) -> None:
    figures = {figure.label: figure for figure in track_page_data(output, sequence()).page.figures}
    assert figures["Path length, in units of the map"].value == "0.4" and figures["Tracked"].value == "50.0"
    assert (figures["Points"].value, figures["Keyframes"].value, figures["Loops closed"].value) == ("20", "2", "1")
    assert figures["Time of a frame, median"].value == "20.0" and figures["Frames a second"].value == "50.0"
    metric = track_page_data(output, replace(sequence(), is_metric=True)).page
    figure = next(figure for figure in metric.figures if figure.label == "Path length")
    assert (figure.value, figure.note, metric.unit, metric.advice) == ("0.4", "m", "m", ())
    assert "does not measure scale" in track_page_data(output, sequence()).page.advice[0]


def test_the_page_repeats_to_the_byte_and_a_lost_image_is_no_harm(output: Path) -> None:
    first = write_track_report(output, sequence()).read_bytes()
    assert write_track_report(output, sequence()).read_bytes() == first
    (output / "images" / "000001.jpg").unlink()
    assert track_page_data(output, sequence()).page.photos[1].thumbnail == b""
