"""360° panoramas: found, cut into views, and reconstructed with one pose each."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from rendered_panoramas import render_panorama
from video_clips import encode_video, texture

from lightmatch import create_extractor
from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.inputs import Panoramas, VideoInput
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Extraction, Picture, extract_picture
from lightmatch.pipelines.reconstruct.jobs import Job
from lightmatch.pipelines.reconstruct.models import SharedModel
from lightmatch.pipelines.reconstruct.panoramas import PanoramaCutter
from lightmatch.reconstruction import read_model
from lightmatch.scenes import WorldConfig, build_world
from lightmatch.video import ChosenFrame

NUM, WIDTH = 3, 1024


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    """(n, 3, 4) camera from world: along an arc, each turned otherwise."""
    found = []
    for number in range(NUM):
        angle, yaw = 0.35 * number, 2.5 * number
        center = np.array([3 * math.cos(angle), 3 * math.sin(angle), 1.6 + 0.2 * (number % 2)])
        forward, down = np.array([math.cos(yaw), math.sin(yaw), 0]), np.array([0, 0, -1.0])
        rotation = cv2.Rodrigues(np.array([0.05, 0.02, -0.03]))[0] @ np.stack([np.cross(down, forward), down, forward])
        found.append(np.column_stack([rotation, -rotation @ center]))
    return torch.tensor(np.array(found))


@pytest.fixture(scope="module")
def panoramas(poses: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panoramas")
    world = build_world(torch.Generator().manual_seed(1), WorldConfig(texel_size=0.02))
    for number, pose in enumerate(poses):
        Image.fromarray(render_panorama(world, pose, WIDTH)).save(folder / f"{number}.jpg", quality=92)
    return folder


def test_each_panorama_gets_one_pose(panoramas: Path, poses: torch.Tensor, tmp_path: Path) -> None:
    config = ReconstructConfig(max_keypoints=512, guided_keypoints=0, splat=False, seed=0)
    summary = reconstruct(panoramas, tmp_path / "out", config)
    placed = json.loads((tmp_path / "out" / "panoramas.json").read_text())["world_from_panorama"]
    assert sorted(placed) == [f"{number}.jpg" for number in range(NUM)]
    found = invert_rigid(torch.tensor([placed[name] for name in sorted(placed)], dtype=torch.float64))
    centers, true_centers = invert_rigid(found)[:, :, 3], invert_rigid(poses)[:, :, 3]
    rotation_deg, position = aligned_pose_errors(found[:, :, :3], centers, poses[:, :, :3], true_centers)
    assert float(rotation_deg.max()) < 0.1
    assert float(position.max()) < 0.003 * float((true_centers[0] - true_centers[-1]).norm())

    model = read_model(tmp_path / "out" / "sparse" / "0")
    frames: dict[int, list[np.ndarray]] = {}
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        frames.setdefault(image.frame_id, []).append(image.projection_center())
        assert list(model.camera(image.camera_id).params) == [163, 163, 163, 163]  # exactly 90°
    assert len(frames) == NUM
    for there in frames.values():
        assert len(there) >= 5 and np.ptp(np.array(there), axis=0).max() < 1e-9
    assert not any(Path(pair.name0).name == Path(pair.name1).name for pair in summary.pairs)
    assert f"{NUM} of the pictures are 360° panoramas, {NUM} of which have a pose" in summary.warnings[0]


def cut(
    folder: Path, output: Path, which: Panoramas = "auto", elevations: tuple[float, float] = (-90, 90)
) -> list[Job]:
    low, high = elevations
    run = Run.of(output, ReconstructConfig(panorama=which, ignore_below_deg=low, ignore_above_deg=high))
    jobs = [Job(path, path.name, path.name, masks(path)) for path in sorted(folder.glob("*.*"))]
    return PanoramaCutter(run).cut(jobs)


def masks(path: Path) -> Path | None:
    mask = path.parent / "masks" / f"{path.name}.png"
    return mask if mask.is_file() else None


def test_views_and_their_masks(panoramas: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "photos", tmp_path / "out"
    (folder / "masks").mkdir(parents=True)
    for name in ("0.jpg", "1.jpg"):
        (folder / name).write_bytes((panoramas / name).read_bytes())
    right = np.full((WIDTH // 2, WIDTH), 255, np.uint8)
    right[:, WIDTH // 2 :] = 0
    cv2.imwrite(str(folder / "masks" / "0.jpg.png"), right)
    jobs = cut(folder, output, elevations=(-30, 90))
    # Half of the first is masked, so no view to the right is left; straight down nothing is left of either.
    views = {"0.jpg": {"front", "back", "left", "up"}, "1.jpg": {"front", "right", "back", "left", "up"}}
    for name, there in views.items():
        assert {job.name for job in jobs if job.name.endswith(name)} == {f"panoramas_326/{v}/{name}" for v in there}
    for job in jobs:
        assert job.source == output / "images" / job.name and job.facts_from == folder / Path(job.name).name
        assert job.view_of is not None and job.shown == f"{job.view_of.panorama}, {job.view_of.view}"
    kept = {job.name: None if job.mask is None else np.asarray(Image.open(job.mask)) > 0 for job in jobs}
    front = kept["panoramas_326/front/0.jpg"]
    assert front is not None and front[:200, :160].all() and not front[:, 166:].any() and not front[300:].any()
    assert kept["panoramas_326/up/1.jpg"] is None

    before = {job.name: job.source.stat().st_mtime_ns for job in jobs}
    (output / "images" / "panoramas_326" / "up" / "1.jpg").unlink()
    again = cut(folder, output, elevations=(-30, 90))
    assert again == jobs
    assert before["panoramas_326/front/0.jpg"] == (output / "images/panoramas_326/front/0.jpg").stat().st_mtime_ns
    assert (output / "images" / "panoramas_326" / "up" / "1.jpg").is_file()


def test_views_have_the_place_of_their_panorama_as_it_is_now(tmp_path: Path) -> None:
    run = Run.of(tmp_path / "out", ReconstructConfig())
    extractor = SharedModel.of("this test", create_extractor, "sift", max_keypoints=64)
    setup = Extraction(run.layout, run.cache, extractor, "described", {})
    whole = tmp_path / "whole.jpg"
    run.layout.images.mkdir(parents=True)
    Image.fromarray(texture(320, 320)).save(run.layout.images / "view.jpg")
    job = Job(run.layout.images / "view.jpg", "view.jpg", "whole.jpg, front", None, facts_from=whole)
    latitudes = []
    for degrees in (48.0, 47.0):
        exif, gps = Image.Exif(), ExifTags.GPS
        place = {gps.GPSLatitude: (degrees, 0.0, 0.0), gps.GPSLongitude: (11.0, 0.0, 0.0)}
        exif[ExifTags.IFD.GPSInfo] = {gps.GPSLatitudeRef: "N", gps.GPSLongitudeRef: "E", **place}
        Image.fromarray(texture(64, 32)).save(whole, exif=exif)
        picture = extract_picture(setup, job)
        assert isinstance(picture, Picture) and picture.gps is not None
        latitudes.append(picture.gps.latitude_deg)
    assert latitudes == [48.0, 47.0]


def test_which_pictures_are_taken_for_panoramas(panoramas: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "0.jpg").write_bytes((panoramas / "0.jpg").read_bytes())
    Image.fromarray(texture(640, 320)).save(folder / "wide.png")
    Image.fromarray(texture(640, 480)).save(folder / "usual.png")

    def taken(which: Panoramas) -> set[str]:
        jobs = cut(folder, tmp_path / which, which)
        return {job.view_of.panorama for job in jobs if job.view_of is not None}

    assert taken("auto") == {"0.jpg"}
    assert taken("yes") == {"0.jpg", "wide.png"}
    assert taken("no") == set()
    for name in ("0.jpg", "wide.png"):
        (folder / name).unlink()
    assert not cut(folder, tmp_path / "none")[0].view_of
    with pytest.raises(ReconstructionError, match="twice as wide as high, got none"):
        cut(folder, tmp_path / "none", "yes")


def test_panoramic_videos_are_kept_apart_until_they_are_cut(panoramas: Path, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(panoramas / "0.jpg"))
    turning = encode_video(tmp_path / "turning.mp4", [np.roll(pixels, 8 * n, axis=1) for n in range(6)])
    wide = encode_video(tmp_path / "wide.mp4", [texture(640, 320, n) for n in range(6)])
    cutter = PanoramaCutter(Run.of(tmp_path / "out", ReconstructConfig()))
    frames = [ChosenFrame(n, n / 30, 1.0, 0.0, "start") for n in range(6)]
    for path, expected in ((turning, "store/panoramas/clip"), (wide, "images/clip")):
        assert cutter.folder_for(VideoInput(path, "clip", path.name), frames) == tmp_path / "out" / expected
    whole = tmp_path / "out" / "store" / "panoramas" / "clip" / "000001.jpg"
    whole.parent.mkdir(parents=True)
    Image.fromarray(pixels).save(whole)
    jobs = cutter.cut([Job(whole, "clip/000001.jpg", "a", None, "clip", 0.5)])
    assert [job.name for job in jobs[:2]] == ["clip/front/000001.jpg", "clip/right/000001.jpg"]
    assert all(job.video == "clip" and job.time_s == 0.5 for job in jobs)


@pytest.mark.parametrize("limits", [(-91.0, 90.0), (10.0, 10.0), (0.0, 100.0)])
def test_elevations_that_cannot_be(limits: tuple[float, float]) -> None:
    with pytest.raises(InvalidValueError, match="below < above"):
        ReconstructConfig(ignore_below_deg=limits[0], ignore_above_deg=limits[1])
