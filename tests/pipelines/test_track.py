"""`lightmatch track` on a rendered walk: its files, a video, and wrong input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import av
import command
import cv2
import numpy as np
import pycolmap
import pytest
from moving_camera import SIZE, MovingCamera, moving_camera
from passed_wall import DEPTH, wall_camera, wall_frames
from typer.testing import CliRunner
from whole_runs import first_photos

from lightmatch.cli.app import app
from lightmatch.errors import LightmatchError
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.pipelines.track import TrackConfig, track
from lightmatch.pipelines.track import camera as intrinsics
from lightmatch.pipelines.track.earlier_map import read_map
from lightmatch.pipelines.track.keyframes import KeyframeFiles, MapFacts
from lightmatch.reconstruction import read_model
from lightmatch.tracking import VIRTUAL_BASELINE, Tracker, TrackerConfig
from lightmatch.tracking.sequences import SequenceConfig, SequenceFrame


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[MovingCamera, Path]:
    """Twelve frames, and a folder of their files, of which the depth map of frame 7 is damaged."""
    camera, folder = moving_camera(12), tmp_path_factory.mktemp("walk")
    for name in ("rgb", "depth", "right"):
        (folder / name).mkdir()
    for number, (rgb, depth, right) in enumerate(zip(camera.rgb, camera.depth, camera.right, strict=True)):
        cv2.imwrite(str(folder / "rgb" / f"{number:04d}.png"), rgb[..., ::-1])
        cv2.imwrite(str(folder / "right" / f"{number:04d}.png"), right[..., ::-1])
        cv2.imwrite(str(folder / "depth" / f"{number:04d}.png"), np.rint(1000 * depth).astype(np.uint16))
    (folder / "depth" / "0007.png").write_bytes(b"nothing")
    fx, cx, fy, cy = camera.K[0, 0], camera.K[0, 2] + 0.5, camera.K[1, 1], camera.K[1, 2] + 0.5
    (folder / "cameras.txt").write_text(f"1 PINHOLE {SIZE[0]} {SIZE[1]} {fx} {fy} {cx} {cy}\n")
    return camera, folder


def lines_of(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "frames.jsonl").read_text().splitlines()]


def test_depths_give_a_metric_trajectory_and_a_model(walk: tuple[MovingCamera, Path], tmp_path: Path) -> None:
    camera, folder = walk
    done = command.run(
        *("track", folder / "rgb", "--known", folder / "cameras.txt", "--depth", folder / "depth", "--fps", 10),
        *("-o", tmp_path / "out", "--max-keypoints", 512),
    )
    assert "12 of 12" in done.stdout and "report.html" in done.stdout
    assert "Path length" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    rows = np.loadtxt(tmp_path / "out" / "trajectory.txt")
    assert rows.shape == (12, 8) and np.allclose(rows[:, 0], np.arange(12) / 10)
    walked = np.linalg.norm(camera.centers - camera.centers[0], axis=1)
    assert np.abs(np.linalg.norm(rows[:, 1:4], axis=1) - walked).max() < 0.03
    matrices = np.loadtxt(tmp_path / "out" / "trajectory_kitti.txt").reshape(-1, 3, 4)
    assert np.allclose(matrices[:, :, 3], rows[:, 1:4], atol=1e-6)
    assert np.allclose(matrices[:, :, :3] @ matrices[:, :, :3].mT, np.eye(3), atol=1e-6)
    lines = lines_of(tmp_path / "out")
    assert [line["status"] for line in lines] == ["tracking"] * 12 and lines[0]["name"] == "0000"
    assert "0007.png: expected a depth map" in str(lines[7]["reason"]) and not lines[8]["reason"]
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "sparse" / "0"))
    keyframes = sum(bool(line["is_keyframe"]) for line in lines)
    assert model.num_reg_images() == keyframes == len(list((tmp_path / "out" / "images").iterdir()))
    assert model.compute_mean_reprojection_error() < 1.0
    assert {image.name for image in model.images.values()} == {f"{n:06d}.jpg" for n in range(keyframes)}
    again = command.run(
        *("track", folder / "rgb", "--known", tmp_path / "out" / "sparse" / "0", "--right", folder / "right"),
        *("--baseline", 0.2, "-o", tmp_path / "stereo", "--stream"),
    )
    poses = [json.loads(line) for line in again.stdout.splitlines()]
    assert len(poses) == 12 and {pose["status"] for pose in poses} == {"tracking"}


def test_a_video_of_an_unknown_camera_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intrinsics, "_FRAMES", 9)  # a short clip, and a quick answer
    long = moving_camera(30, stereo=False)
    with av.open(str(tmp_path / "clip.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, "yuv420p", 4_000_000
        for pixels in long.rgb:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        file.mux(stream.encode())
    config = TrackConfig(SequenceConfig(tmp_path / "clip.mp4"), tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out")
    statuses = [line["status"] for line in lines_of(tmp_path / "out")]
    assert len(statuses) == 30 and statuses[0] == "starting" and statuses[-1] == "tracking"
    assert summary.focal_from == "the frames" and summary.focal_px == pytest.approx(long.K[0, 0], rel=0.05)
    (found,) = pycolmap.Reconstruction(str(tmp_path / "out" / "sparse" / "0")).cameras.values()
    assert found.mean_focal_length() == pytest.approx(summary.focal_px, abs=0.1)


def test_a_second_run_goes_on_with_the_map_of_the_first(walk: tuple[MovingCamera, Path], tmp_path: Path) -> None:
    camera, folder = walk
    depths = ("--depth", folder / "depth", "--fps", 10, "-q")
    command.run("track", folder / "rgb", "--known", folder / "cameras.txt", *depths, "-o", tmp_path / "first")
    later = tmp_path / "later"
    later.mkdir()
    for number in range(8, 4, -1):  # backwards
        shutil.copy(folder / "rgb" / f"{number:04d}.png", later / f"{8 - number}.png")
    options = ("--map", tmp_path / "first", "--fps", 10)
    done = command.run("track", later, *options, "--record", tmp_path / "later.rrd", "-o", tmp_path / "second")
    assert "4 of 4" in done.stdout and (tmp_path / "later.rrd").stat().st_size > 10_000
    rows = np.loadtxt(tmp_path / "second" / "trajectory.txt")
    walked = np.linalg.norm(camera.centers - camera.centers[0], axis=1)[[8, 7, 6, 5]]
    assert np.abs(np.linalg.norm(rows[:, 1:4], axis=1) - walked).max() < 0.04  # in metres, from the first run's start
    models = [pycolmap.Reconstruction(str(tmp_path / name / "sparse" / "0")) for name in ("first", "second")]
    names = [{image.name for image in model.images.values()} for model in models]
    assert names[0] <= names[1] == {path.name for path in (tmp_path / "second" / "images").iterdir()}
    command.run("track", later, *options, "--no-mapping", "-q", "-o", tmp_path / "third")
    assert not any(line["is_keyframe"] for line in lines_of(tmp_path / "third"))
    same = command.run("track", later, *options, "--overwrite", "-o", tmp_path / "first", code=1)
    assert "expected another folder than that of --map" in same.stderr.replace("\n", " ")
    assert (tmp_path / "first" / "map.json").is_file()
    refused = command.run("track", later, "--map", folder, "-o", tmp_path / "fourth", code=1)
    assert "found no sparse/0 in it" in refused.stderr.replace("\n", " ")


def test_a_map_that_was_given_up_leaves_no_files(walk: tuple[MovingCamera, Path], tmp_path: Path) -> None:
    first, folder = walk
    other = moving_camera(6, seed=5, stereo=False)
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    for row in range(42):
        source, number = (first, row) if row < 2 else (other, min(row % 12, 11 - row % 12))  # there and back
        cv2.imwrite(str(tmp_path / "rgb" / f"{row:04d}.png"), source.rgb[number][..., ::-1])
        cv2.imwrite(str(tmp_path / "depth" / f"{row:04d}.png"), np.rint(1000 * source.depth[number]).astype(np.uint16))
    sequence = SequenceConfig(tmp_path / "rgb", depth=tmp_path / "depth")
    config = TrackConfig(sequence, folder / "cameras.txt", tracker=TrackerConfig(max_keypoints=512))
    summary = track(config, tmp_path / "out")
    lines = lines_of(tmp_path / "out")
    (begins,) = (row for row, line in enumerate(lines) if "another begins here" in str(line["reason"]))
    assert begins == 32 and {line["status"] for line in lines[begins:]} == {"tracking"}
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) == 42 - begins
    model = read_model(tmp_path / "out" / "sparse" / "0")
    names = {image.name for image in model.images.values()}
    assert names == {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert len(names) == summary.num_keyframes and "another begins" in (tmp_path / "out" / "report.html").read_text()


def test_ctrl_c_while_the_map_is_saved_leaves_the_trajectory(
    walk: tuple[MovingCamera, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(KeyframeFiles, "save", interrupted)
    _, folder = walk
    sequence = SequenceConfig(folder / "rgb", depth=folder / "depth")
    config = TrackConfig(sequence, folder / "cameras.txt", tracker=TrackerConfig(max_keypoints=256))
    with pytest.raises(KeyboardInterrupt):
        track(config, tmp_path / "out")
    assert len(np.loadtxt(tmp_path / "out" / "trajectory.txt")) == len(lines_of(tmp_path / "out"))


def test_depths_written_by_a_shift_that_came_and_went_are_written_again(tmp_path: Path) -> None:
    camera = wall_camera(VIRTUAL_BASELINE)
    tracker = Tracker(camera, TrackerConfig(max_keypoints=256))
    files = KeyframeFiles(tmp_path, tracker, MapFacts("lightpoint", "lightglue", is_metric=True))
    image = wall_frames(1)[0]
    files.offer(SequenceFrame("first", 0.0, image))
    tracker.step(image, 0.0, depth=DEPTH)
    tracker._mapper.camera = replace(camera, shift_px=1.5)
    files.write(tracker)
    tracker._mapper.camera = camera
    files.write(tracker)
    files.save(tracker, colors=False)
    (theirs,) = read_map(tmp_path, camera, 256).map.keyframes.values()
    (mine,) = tracker.map.keyframes.values()
    assert np.allclose(mine.right_x, theirs.right_x, equal_nan=True) and np.isfinite(mine.right_x).sum() > 100


def test_depths_of_an_earlier_map_are_read_back_as_they_were(tmp_path: Path) -> None:
    """Also where the yaw of a stereo pair was learned."""
    camera = wall_camera(VIRTUAL_BASELINE)
    tracker = Tracker(replace(camera, shift_px=1.5), TrackerConfig(max_keypoints=256))
    files = KeyframeFiles(tmp_path, tracker, MapFacts("lightpoint", "lightglue", is_metric=True))
    image = wall_frames(1)[0]
    files.offer(SequenceFrame("first", 0.0, image))
    tracker.step(image, 0.0, depth=DEPTH)
    files.write(tracker)
    files.save(tracker, colors=False)
    earlier = read_map(tmp_path, camera, 256)
    (mine,), (theirs,) = tracker.map.keyframes.values(), earlier.map.keyframes.values()
    assert np.allclose(mine.right_x, theirs.right_x, equal_nan=True) and np.isfinite(mine.right_x).sum() > 100
    assert np.allclose(tracker.map.xyz[mine.points[mine.seen]], earlier.map.xyz[theirs.points[theirs.seen]], atol=1e-4)


def test_frames_of_one_time_are_not_all_kept(tmp_path: Path) -> None:
    tracker = Tracker(wall_camera(VIRTUAL_BASELINE), TrackerConfig(max_keypoints=256))
    files = KeyframeFiles(tmp_path, tracker, MapFacts("lightpoint", "lightglue", is_metric=True))
    frames = [SequenceFrame(str(number), 0.0, image) for number, image in enumerate(wall_frames(3))]
    alive = weakref.WeakSet(frames)
    while frames:
        given = frames.pop(0)
        files.offer(given)
        assert given.image is not None
        tracker.step(given.image, given.timestamp, depth=DEPTH)
        files.write(tracker)
        del given
    assert [frame.name for frame in alive] == ["0"]  # the keyframe, which may be asked for until there is a later one


def test_the_camera_is_found_in_a_reconstruction(scene_photos: Path, tmp_path: Path) -> None:
    photos = first_photos(5, scene_photos, tmp_path / "photos")
    reconstruct(photos, tmp_path / "model", ReconstructConfig(splat=False, seed=0))
    options = ("--map", tmp_path / "model", "--no-mapping", "--fps", 1, "-q", "-o", tmp_path / "out")
    command.run("track", photos, *options)
    assert [line["status"] for line in lines_of(tmp_path / "out")] == ["tracking"] * 5
    model = pycolmap.Reconstruction(str(tmp_path / "model" / "sparse" / "0"))
    names = [f"view_{number}.png" for number in range(5)]
    centers = {image.name: image.projection_center() for image in model.images.values()}
    rows = np.loadtxt(tmp_path / "out" / "trajectory.txt")
    extent = np.ptp([centers[name] for name in names], axis=0).max()
    for row, name in zip(rows, names, strict=True):
        assert np.linalg.norm(row[1:4] - centers[name]) < 0.01 * extent


def test_a_run_that_is_killed_leaves_its_poses_and_its_map(walk: tuple[MovingCamera, Path], tmp_path: Path) -> None:
    _, folder = walk
    options = ("--known", folder / "cameras.txt", "--depth", folder / "depth", "-o", tmp_path / "out", "--stream")
    saves_always = "from lightmatch.pipelines.track import run; run._SAVED_EVERY_S = 0.0"
    program = f"{saves_always}; from lightmatch.cli import main; main()"
    started = [sys.executable, "-c", program, "track", *map(str, (folder / "rgb", *options))]
    process = subprocess.Popen(started, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    assert len(lines_of(tmp_path / "out")) >= 4
    maps = ("--map", tmp_path / "out", "--depth", folder / "depth", "--no-mapping", "-q", "-o", tmp_path / "placed")
    command.run("track", folder / "rgb", *maps)
    assert {line["status"] for line in lines_of(tmp_path / "placed")} == {"tracking"}
    done = command.run(
        *("track", folder / "rgb", "--known", folder / "cameras.txt", "--depth", folder / "depth"),
        *("-o", tmp_path / "out", "-q"),
    )
    assert done.stdout == "" and len(lines_of(tmp_path / "out")) == 12


def test_wrong_input_ends_with_a_sentence(walk: tuple[MovingCamera, Path], tmp_path: Path) -> None:
    _, folder = walk
    frames, known, output = folder / "rgb", folder / "cameras.txt", tmp_path / "out"
    (folder / "square.txt").write_text("1 PINHOLE 300 300 250 250 150 150\n")
    earlier = tmp_path / "frames" / "out"  # of an earlier run, whose images are no frames
    earlier.mkdir(parents=True)
    (earlier / ".lightmatch").write_text("finished\n")
    shutil.copy(frames / "0000.png", earlier)
    for arguments, said in (
        ((earlier.parent, "--known", known), "found no image there"),
        ((frames, "--known", tmp_path / "none.txt"), "none.txt"),
        ((frames, "--known", known, "--right", folder / "right"), "expected the baseline of the pair"),
        ((frames, "--known", known, "--baseline", "0.2"), "expected the folder of the right images"),
        ((frames, "--known", known, "--features", "nonsense"), "nonsense"),
        ((frames, "--known", folder / "square.txt"), "got those of 300 x 300 px, another shape"),
        ((frames, "--known", known, "--no-mapping"), "expected an earlier map too"),
        ((frames, "--known", known, "--record", tmp_path / "film.mp4"), "ends in .rrd"),
    ):
        done = CliRunner().invoke(app, ["track", *map(str, arguments), "-o", str(output)])
        assert isinstance(done.exception, LightmatchError) and said in str(done.exception)
    assert not output.exists() or not any(output.iterdir())


def test_frames_without_motion_make_no_map_and_say_so(walk: tuple[MovingCamera, Path], tmp_path: Path) -> None:
    camera, folder = walk
    still = tmp_path / "still"
    still.mkdir()
    for number in range(5):
        cv2.imwrite(str(still / f"{number}.png"), camera.rgb[0][..., ::-1])
    done = command.run("track", still, "--known", folder / "cameras.txt", "-o", tmp_path / "out", code=1)
    assert "no frame could be tracked" in done.stderr and "has not moved enough" in done.stderr.replace("\n", " ")
