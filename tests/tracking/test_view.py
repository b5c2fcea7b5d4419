"""The view in Rerun: what is in a recording, at which times, and what is not written again."""

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from passed_wall import DEPTH, SIZE, STEP_M, K, wall_camera, wall_frames

from lightmatch.errors import InvalidValueError, LightmatchError, MissingDependencyError
from lightmatch.geometry.poses import center_of
from lightmatch.tracking import VIRTUAL_BASELINE, TrackedCamera, TrackedFrame, Tracker, TrackerConfig, view
from lightmatch.tracking.view import TrackView
from lightmatch.types import Image

rr = pytest.importorskip("rerun")
chunk = pytest.importorskip("rerun.chunk")
pa = pytest.importorskip("pyarrow")

CONFIG = TrackerConfig(max_keypoints=256, coast_frames=1)
BLACK = Image(np.zeros((*SIZE[::-1], 3), np.uint8))
Rows = dict[str, list[tuple[float, dict[str, Any]]]]  # by entity: time in s, NaN where it is always so; values by name


def read(path: Path) -> Rows:
    rows: Rows = {}
    for each in chunk.RrdReader(path).stream():
        batch = each.to_record_batch()
        times = np.full(each.num_rows, np.nan)
        if "time" in each.timeline_names:
            times = batch.column("time").cast(pa.int64()).to_numpy() / 1e9
        names = [name for name in batch.schema.names if ":" in name]
        values = batch.select(names).to_pylist()
        rows.setdefault(each.entity_path, []).extend(zip(times.tolist(), values, strict=True))
    return {entity: sorted(some, key=lambda row: row[0]) for entity, some in rows.items()}


def times_of(rows: Rows, entity: str) -> list[float]:
    return [time for time, _ in rows[entity] if np.isfinite(time)]


def values_of(rows: Rows, entity: str, name: str) -> list[np.ndarray]:
    return [np.array(values[name]) for _, values in rows[entity] if values.get(name) is not None]


def points_of(rows: Rows, name: str) -> np.ndarray:
    """Of all blocks, as they were logged last."""
    blocks = sorted(entity for entity in rows if entity.startswith("/world/points/"))
    return np.concatenate([values_of(rows, entity, f"Points3D:{name}")[-1] for entity in blocks])


@dataclass(frozen=True, eq=False)
class Passed:
    """Ten frames along a wall, one that cannot be read, and three black ones."""

    images: list[Image]
    frames: list[TrackedFrame]
    places: list[np.ndarray]  # tracked, of the first ten
    tracker: Tracker
    rows: Rows

    @property
    def keyframes(self) -> list[float]:
        return [frame.timestamp for frame in self.frames if frame.is_keyframe]


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Passed:
    path = tmp_path_factory.mktemp("view") / "new" / "wall.rrd"
    tracker, images = Tracker(wall_camera(VIRTUAL_BASELINE), CONFIG), wall_frames(10)
    frames, places = [], []
    with TrackView(tracker.camera, path) as shown:
        for number, image in enumerate(images):
            frames.append(tracker.step(image, 0.1 * number, depth=DEPTH))
            places.append(tracker.tracked_places)
            shown.show(image, frames[-1], tracker)
        frames.append(tracker.skip(1.0, "the file is damaged"))
        shown.show(None, frames[-1], tracker)
        for number in range(3):
            frames.append(tracker.step(BLACK, 1.1 + 0.1 * number, depth=DEPTH))
            shown.show(BLACK, frames[-1], tracker)
    return Passed(images, frames, places, tracker, read(path))


def test_the_camera_is_where_the_frames_say(passed: Passed) -> None:
    assert [frame.status for frame in passed.frames] == ["tracking"] * 10 + ["coasting"] + ["lost"] * 3
    posed = [frame for frame in passed.frames if frame.cam_from_world is not None]
    assert np.allclose(times_of(passed.rows, "/world/camera"), [frame.timestamp for frame in posed])
    centers = values_of(passed.rows, "/world/camera", "Transform3D:translation")
    turns = values_of(passed.rows, "/world/camera", "Transform3D:mat3x3")
    for frame, center, turn in zip(posed, centers, turns, strict=True):
        assert frame.cam_from_world is not None
        assert np.allclose(center[0], center_of(frame.cam_from_world), atol=1e-6)
        assert np.allclose(turn.reshape(3, 3), frame.cam_from_world[:, :3], atol=1e-6)  # columns of world_from_cam
    assert np.allclose(centers[9][0], [9 * STEP_M, 0, 0], atol=0.02)
    directions = values_of(passed.rows, "/world", "ViewCoordinates:xyz")[0][0]
    assert directions.tolist() == [3, 2, 5]  # right, down, forward


def test_images_and_tracked_points_are_where_rerun_has_its_pixels(passed: Passed) -> None:
    """The corner of the first pixel is (0, 0) there."""
    shown = values_of(passed.rows, "/world/camera/image", "EncodedImage:blob")
    assert len(shown) == 13
    decoded = cv2.imdecode(np.asarray(shown[4], np.uint8).ravel(), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.abs(decoded[..., ::-1].astype(int) - passed.images[4].pixels).mean() < 12
    camera = values_of(passed.rows, "/world/camera/image", "Pinhole:image_from_camera")[0].reshape(3, 3).T
    assert np.allclose(camera, K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
    tracked = values_of(passed.rows, "/world/camera/image/tracked", "Points2D:positions")
    assert [len(points) for points in tracked] == [len(places) for places in passed.places] + [0] * 4
    assert len(tracked[1]) == passed.frames[1].num_tracked > 200
    assert np.allclose(tracked[4], passed.places[4] + 0.5, atol=1e-4)


def test_the_status_is_logged_where_it_changes_and_the_numbers_at_each_frame(passed: Passed) -> None:
    said = [(round(time, 3), values["TextLog:text"][0]) for time, values in passed.rows["/status"]]
    assert said == [
        (0.0, "tracking"),
        (1.0, "coasting: the file is damaged"),
        (1.1, "lost: the frame is blank"),
    ]
    assert [values["TextLog:level"][0] for _, values in passed.rows["/status"]] == ["INFO", "WARN", "ERROR"]
    for name, wanted in (
        ("num_tracked", [frame.num_tracked for frame in passed.frames]),
        ("milliseconds", [1000 * frame.seconds for frame in passed.frames]),
    ):
        found = values_of(passed.rows, f"/plots/{name}", "Scalars:scalars")
        assert np.allclose(np.ravel(found), wanted)
        assert np.allclose(times_of(passed.rows, f"/plots/{name}"), [frame.timestamp for frame in passed.frames])


def test_the_map_and_the_path_are_logged_at_keyframes_alone(passed: Passed) -> None:
    rows, mapped = passed.rows, passed.tracker.map
    assert 2 <= len(passed.keyframes) == len(mapped.keyframes) < len(passed.frames) / 2
    for entity in ("/world/points/0", "/world/keyframes/0", "/world/path/0"):
        assert np.allclose(times_of(rows, entity), passed.keyframes)
    assert np.allclose(points_of(rows, "positions"), mapped.xyz[mapped.points], atol=1e-5)
    path = values_of(rows, "/world/path/0", "LineStrips3D:strips")[-1][0]
    last = [time for time, _ in passed.tracker.trajectory()].index(passed.keyframes[-1])
    assert np.allclose(path, [center_of(pose) for _, pose in passed.tracker.trajectory()[: last + 1]], atol=1e-5)
    frustums = values_of(rows, "/world/keyframes/0", "LineStrips3D:strips")[-1]
    assert np.allclose(
        frustums[:, 5], [center_of(each.cam_from_world) for each in mapped.keyframes.values()], atol=1e-5
    )
    recent = values_of(rows, "/world/path/recent", "LineStrips3D:strips")[-1][0]  # from there to the last frame
    assert len(recent) == 10 - last
    assert np.allclose(recent[-1], center_of(passed.tracker.trajectory()[-1][1]), atol=1e-5)


def test_points_have_the_colours_of_the_wall(passed: Passed) -> None:
    mapped = passed.tracker.map
    rgba = points_of(passed.rows, "colors").astype(np.uint32)
    colors = np.stack([(rgba >> shift) & 255 for shift in (24, 16, 8)], 1).astype(int)
    errors = []
    for point, color in zip(mapped.points, colors, strict=True):
        keyframe, keypoint = min(mapped.observers(point).items())
        x, y = mapped.keyframes[keyframe].features.keypoints[keypoint].round().int().tolist()
        errors.append(
            np.abs(color - passed.images[round(10 * mapped.keyframes[keyframe].timestamp)].pixels[y, x]).max()
        )
    assert np.median(errors) <= 8  # others see the same keypoint a pixel beside


def test_only_blocks_that_changed_are_logged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "_POINTS", 32)
    tracker = Tracker(wall_camera(VIRTUAL_BASELINE), CONFIG)
    frame = tracker.step(wall_frames(1)[0], 0.0, depth=DEPTH)
    with TrackView(tracker.camera, tmp_path / "wall.rrd") as shown:
        shown.show(None, frame, tracker)
        shown.show_map(tracker)
        tracker.map.xyz[40] += 0.1
        tracker.map.drop(70)
        shown.show_map(tracker)
    rows = read(tmp_path / "wall.rrd")
    counts = [len(rows[f"/world/points/{block}"]) for block in range(4)]
    assert counts == [1, 2, 2, 1]
    sizes = [len(points) for points in values_of(rows, "/world/points/2", "Points3D:positions")]
    assert sizes == [32, 31]
    assert len(rows["/world/path/0"]) == len(rows["/world/keyframes/0"]) == 1


def test_a_map_that_is_made_in_the_background_is_shown_when_it_is_done(tmp_path: Path) -> None:
    config = TrackerConfig(max_keypoints=256, background=True)
    with (
        Tracker(wall_camera(VIRTUAL_BASELINE), config) as tracker,
        TrackView(tracker.camera, tmp_path / "wall.rrd") as shown,
    ):
        for number, image in enumerate(wall_frames(10)):
            shown.show(image, tracker.step(image, 0.1 * number, depth=DEPTH), tracker)
        tracker.close()
        shown.show_map(tracker)
    rows, mapped = read(tmp_path / "wall.rrd"), tracker.map
    assert len(mapped.keyframes) >= 2
    assert np.allclose(points_of(rows, "positions"), mapped.xyz[mapped.points], atol=1e-5)
    assert len(values_of(rows, "/world/keyframes/0", "LineStrips3D:strips")[-1]) == len(mapped.keyframes)
    assert (points_of(rows, "colors") != 0x969696FF).mean() > 0.95  # grey: a point without an image


def test_large_images_are_shown_smaller(tmp_path: Path) -> None:
    camera = TrackedCamera.pinhole(np.array([[1000, 0, 959.5], [0, 1000, 719.5], [0, 0, 1]]), (1920, 1440))
    image = Image(np.full((1440, 1920, 3), 90, np.uint8))
    frame = TrackedFrame(0.0, "starting", None, None, 0, False, "the first frame", 0.01)
    with TrackView(camera, tmp_path / "large.rrd") as shown:
        shown.show(image, frame, Tracker(camera, CONFIG))
    rows = read(tmp_path / "large.rrd")
    blob = values_of(rows, "/world/camera/image", "EncodedImage:blob")[0]
    decoded = cv2.imdecode(np.asarray(blob, np.uint8).ravel(), cv2.IMREAD_COLOR)
    assert decoded is not None and decoded.shape == (720, 960, 3)
    pinhole = values_of(rows, "/world/camera/image", "Pinhole:image_from_camera")[0].reshape(3, 3).T
    assert np.allclose(pinhole, [[500, 0, 480], [0, 500, 360], [0, 0, 1]])
    assert values_of(rows, "/world/camera/image", "Pinhole:resolution")[0].tolist() == [[960, 720]]
    assert "/world/points/0" not in rows and "/world/camera" not in rows


def test_times_since_1970_are_dates_and_wrong_ones_do_not_count(tmp_path: Path) -> None:
    tracker, begin = Tracker(wall_camera(), CONFIG), 1_700_000_000.25
    with TrackView(tracker.camera, tmp_path / "dates.rrd") as shown:
        for when in (begin, float("nan"), begin - 1, begin + 0.5):
            shown.show(None, tracker.skip(when, f"at {when}"), tracker)
    kinds = {str(each.to_record_batch().schema.field("time").type) for each in temporal(tmp_path / "dates.rrd")}
    assert kinds == {"timestamp[ns]"}
    assert np.allclose(times_of(read(tmp_path / "dates.rrd"), "/status"), [begin] * 3 + [begin + 0.5])


def temporal(path: Path) -> list[Any]:
    return [each for each in chunk.RrdReader(path).stream() if "time" in each.timeline_names]


def test_without_rerun_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependencyError, match=r"the library rerun.*pip install '\.\[view\]'"):
        TrackView(wall_camera(), tmp_path / "wall.rrd")


def test_a_file_that_no_viewer_opens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"wall\.txt: expected a file name that ends in \.rrd"):
        TrackView(wall_camera(), tmp_path / "wall.txt")


def test_the_viewer_is_found_beside_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to activate the virtual environment."""
    paths = []

    def spawn(stream: object, **options: object) -> None:
        paths.append(os.environ["PATH"].split(os.pathsep)[0])
        raise RuntimeError("\nno program named rerun\n\nlong advice")

    monkeypatch.setattr(rr.RecordingStream, "spawn", spawn)
    before = os.environ["PATH"]
    with pytest.raises(LightmatchError, match=r"^cannot open Rerun's viewer: no program named rerun; write a file"):
        TrackView(wall_camera())
    assert paths == [sysconfig.get_path("scripts")] and os.environ["PATH"] == before
