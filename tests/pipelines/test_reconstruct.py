"""From photos to a model, end to end, on views of the procedural world."""

import json
import math
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo
from video_clips import encode_video, pan

from lightmatch.colmap.database_files import count_colmap_matches
from lightmatch.errors import InvalidValueError, LightmatchError, ReconstructionError
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, read_summary, reconstruct
from lightmatch.reconstruction import PureRotationError, model_arrays, read_model
from lightmatch.reconstruction.mapping import thinning
from lightmatch.reconstruction.mapping.model_selection import MappingResult
from lightmatch.reconstruction.mapping.shared_cameras import Remapper
from lightmatch.scenes import RenderedScene

WHOLE = ReconstructConfig(max_keypoints=512, guided_keypoints=2048, depth_maps=True, seed=0)
CONFIG = replace(WHOLE, guided_keypoints=0, splat=False, depth_maps=False)


def link(photos: Path, folder: Path, names: dict[str, str]) -> Path:
    """A folder with some of the photos, by new name."""
    for new, old in names.items():
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / old, folder / new)
    return folder


@pytest.fixture(scope="module")
def messy_folder(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Equal names in subfolders, spaces, other alphabets, a photo twice, a broken file, a blank one, and no photo."""
    folder = link(
        scene_photos,
        tmp_path_factory.mktemp("messy"),
        {
            "left/view.png": "view_0.png",
            "right/view.png": "view_1.png",
            "two words.png": "view_2.png",
            "фото/写真.png": "view_3.png",
            "view_4.png": "view_4.png",
            "z/again.png": "view_4.png",
        },
    )
    (folder / "broken.jpg").write_bytes((scene_photos / "view_5.png").read_bytes()[:5000])
    cv2.imwrite(str(folder / "blank.png"), np.full((360, 480, 3), 200, np.uint8))
    (folder / "notes.txt").write_text("not a photo")
    return folder


@pytest.fixture(scope="module")
def reconstructed(messy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "an output"
    reconstruct(messy_folder, output, WHOLE)
    return output


def test_poses_agree_with_the_truth(reconstructed: Path, scene: RenderedScene) -> None:
    found = model_arrays(read_model(reconstructed / "sparse" / "0"))
    views = {"left/view.png": 0, "right/view.png": 1, "two words.png": 2, "фото/写真.png": 3, "view_4.png": 4}
    assert set(found.names) == set(views)
    true_poses = scene.cam_from_world.double()[[views[name] for name in found.names]]
    true_centers = invert_rigid(true_poses)[:, :, 3]
    rotation_deg, position = aligned_pose_errors(
        torch.from_numpy(found.rotations), torch.from_numpy(found.centers), true_poses[:, :, :3], true_centers
    )
    assert float(rotation_deg.median()) < 0.5
    assert float(position.median()) < 0.02 * float((true_centers.amax(0) - true_centers.amin(0)).norm())


@pytest.fixture(scope="module")
def turning_photos(scene: RenderedScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of something far away from one place, 7° apart."""
    folder, rng = tmp_path_factory.mktemp("turning"), np.random.default_rng(0)
    noise = sum(cv2.resize(rng.standard_normal((900 // n, 1500 // n, 3)), (1500, 900)) for n in (1, 2, 4, 8, 16))
    far = np.clip(128 + 30 * noise, 0, 255).astype(np.uint8)
    K = scene.K[0].double().numpy()
    far_from_view = np.eye(3)
    far_from_view[:2, 2] = (200.0, 250.0)  # where the first photo lies in it
    for number in range(5):
        turn = cv2.Rodrigues(np.radians([0.0, 7.0 * number, 0.0]))[0]
        view_from_far = K @ turn @ np.linalg.inv(far_from_view @ K)
        cv2.imwrite(str(folder / f"turn_{number}.png"), cv2.warpPerspective(far, view_from_far, (480, 360)))
    return folder


def test_a_camera_that_only_turned_has_orientations_and_no_model(
    turning_photos: Path, scene: RenderedScene, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with pytest.raises(PureRotationError, match=r"of 5 photos only turned, by up to 28°.*no depth.*step aside"):
        reconstruct(turning_photos, output, CONFIG)
    assert not (output / "sparse").exists() and not (output / "report.html").exists()
    (camera,) = json.loads((output / "orientations.json").read_text(encoding="utf-8"))
    assert camera["largest_turn_deg"] == pytest.approx(28, abs=0.5)
    true_focal = float(scene.K[0, 0, 0])
    assert all(photo["focal_px"] == pytest.approx(true_focal, rel=0.03) for photo in camera["photos"].values())


def test_photos_that_turned_beside_others_are_left_out_of_their_model(
    turning_photos: Path, scene_photos: Path, tmp_path: Path
) -> None:
    """Which show something else."""
    photos = tmp_path / "photos"
    shutil.copytree(turning_photos, photos)
    link(scene_photos, photos, {f"walk_{number}.png": f"view_{number}.png" for number in range(4)})
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.num_registered == 4
    left_out = {photo.name: photo for photo in summary.not_registered}
    assert set(left_out) == {f"turn_{number}.png" for number in range(5)}
    assert all(photo.kind == "only rotated" and "step aside" in photo.advice for photo in left_out.values())
    assert any("only turned" in warning for warning in summary.warnings)


def test_text_over_all_photos_is_masked_and_told(scene_photos: Path, scene: RenderedScene, tmp_path: Path) -> None:
    photos, text = tmp_path / "photos", np.zeros((360, 480, 3), np.uint8)
    for x, y in np.ndindex(3, 5):
        cv2.putText(text, "PREVIEW", (10 + 160 * x, 50 + 70 * y), cv2.FONT_HERSHEY_SIMPLEX, 1, (1, 1, 1), 3)
    photos.mkdir()
    for path in scene_photos.iterdir():
        picture = cv2.imread(str(path))
        assert picture is not None
        covered = 0.4 * picture + 0.6 * np.where(text, 255, picture)
        cv2.imwrite(str(photos / path.name), covered.round().astype(np.uint8))
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.num_registered == 6
    assert any("text, a logo, a frame" in warning for warning in summary.warnings)
    found = model_arrays(read_model(tmp_path / "out" / "sparse" / "0"))
    true_poses = scene.cam_from_world.double()[[int(name[5]) for name in found.names]]
    true_centers = invert_rigid(true_poses)[:, :, 3]
    _, position = aligned_pose_errors(
        torch.from_numpy(found.rotations), torch.from_numpy(found.centers), true_poses[:, :, :3], true_centers
    )
    assert float(position.median()) < 0.02 * float((true_centers.amax(0) - true_centers.amin(0)).norm())


def test_photos_of_a_lens_that_zoomed_get_a_camera_each(
    scene_photos: Path, scene: RenderedScene, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        picture = cv2.imread(str(scene_photos / f"view_{number}.png"))
        assert picture is not None
        if number % 2:
            picture = cv2.resize(picture[60:300, 80:400], (480, 360), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(photos / f"view_{number}.png"), picture)
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.history.mapping is not None
    trial = summary.history.mapping.camera_per_photo
    assert trial is not None and trial.kept and "disagree about the focal length" in trial.why
    model = read_model(tmp_path / "out" / "sparse" / "0")
    images = [model.image(number) for number in model.reg_image_ids()]
    focal = {image.name: model.camera(image.camera_id).mean_focal_length() for image in images}
    true = float(scene.K[0, 0, 0])
    for name, found in focal.items():
        assert found == pytest.approx(true * (1.5 if int(name[5]) % 2 else 1.0), rel=0.05)


def test_the_summary_says_what_happened(reconstructed: Path) -> None:
    summary = read_summary(reconstructed)
    assert summary.num_images == 7 and summary.num_registered == 5
    reasons = {photo.name: photo.reason for photo in summary.not_registered}
    assert set(reasons) == {"broken.jpg", "blank.png", "z/again.png"}
    assert reasons["z/again.png"] == "the same file as view_4.png"
    assert reasons["broken.jpg"].startswith("unreadable: ")
    assert reasons["blank.png"].startswith("hardly any texture")
    assert summary.model.num_points > 300 and summary.model.mean_track_length > 2
    assert 0 < summary.model.mean_reprojection_error_px < 1
    assert set(summary.seconds) == {
        "extract",
        "match",
        "mirrored",
        "verify",
        "map",
        "refine",
        "write",
        "dense",
        "splat",
    }
    assert summary.config.seed == 0
    schema = json.loads((Path(__file__).parents[2] / "docs" / "summary.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads((reconstructed / "summary.json").read_text(encoding="utf-8")), schema)
    assert summary.photos.sources["left/view.png"] == "left/view.png" and len(summary.photos.sources) == 6


def test_the_model_comes_with_all_it_needs(reconstructed: Path) -> None:
    model = read_model(reconstructed / "sparse" / "0")
    for image_id in model.reg_image_ids():
        assert (reconstructed / "images" / model.image(image_id).name).is_file()
    header = (reconstructed / "points.ply").read_bytes()[:200].decode(errors="replace")
    assert f"element vertex {model.num_points3D()}" in header
    for name in ("overview.png", "report.html", "splat/init.ply", "splat/transforms.json", "splat/sparse/0/images.bin"):
        assert (reconstructed / name).stat().st_size > 1000
    maps = reconstructed / "splat" / "stereo" / "depth_maps"
    found = {path.relative_to(maps).as_posix() for path in maps.rglob("*.bin")}
    assert found == {f"{model.image(number).name}.geometric.bin" for number in model.reg_image_ids()}
    colors = model_arrays(model).colors
    assert colors.std() > 10  # sampled from the photos, not left black


def test_a_seed_repeats_to_the_bit(messy_folder: Path, reconstructed: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    reconstruct(messy_folder, again, WHOLE)
    for name in ("sparse/0/cameras.bin", "sparse/0/images.bin", "sparse/0/points3D.bin", "splat/init.ply"):
        assert (again / name).read_bytes() == (reconstructed / name).read_bytes()


def test_views_of_one_folder_share_a_camera_unless_told(scene_photos: Path, tmp_path: Path) -> None:
    photos = link(scene_photos, tmp_path / "photos", {f"{n}.png": f"view_{n}.png" for n in range(4)})
    shared = reconstruct(photos, tmp_path / "shared", CONFIG)
    own = reconstruct(photos, tmp_path / "own", replace(CONFIG, cameras="photo", pairs="sequential"))
    assert (shared.model.num_cameras, own.model.num_cameras) == (1, 4)


def four_photos(scene_photos: Path, tmp_path: Path) -> Path:
    return link(scene_photos, tmp_path / "photos", {f"{n}.png": f"view_{n}.png" for n in range(4)})


def test_results_of_an_earlier_run_are_replaced_only_when_told(scene_photos: Path, tmp_path: Path) -> None:
    photos, output = four_photos(scene_photos, tmp_path), tmp_path / "out"
    reconstruct(photos, output, CONFIG)
    (output / "mine.txt").write_text("keep me")
    (output / "sparse/7").mkdir()
    with pytest.raises(ReconstructionError, match="results of an earlier run"):
        reconstruct(photos, output, CONFIG)
    reconstruct(photos, output, CONFIG, overwrite=True)
    assert (output / "mine.txt").read_text() == "keep me"
    assert sorted(folder.name for folder in (output / "sparse").iterdir()) == ["0"]


def test_a_folder_of_the_users_is_never_cleared(scene_photos: Path, tmp_path: Path) -> None:
    photos, project = four_photos(scene_photos, tmp_path), tmp_path / "project"
    (project / "images").mkdir(parents=True)
    (project / "images/holiday.jpg").write_text("mine")
    with pytest.raises(ReconstructionError, match="it holds other files"):
        reconstruct(photos, project, CONFIG, overwrite=True)
    assert (project / "images/holiday.jpg").read_text() == "mine"


def test_an_unfinished_run_is_no_obstacle(scene_photos: Path, tmp_path: Path) -> None:
    single = link(scene_photos, tmp_path / "single", {"a.png": "view_0.png"})
    with pytest.raises(ReconstructionError, match="at least two readable photos, got 1"):
        reconstruct(single, tmp_path / "out", CONFIG)
    assert reconstruct(four_photos(scene_photos, tmp_path), tmp_path / "out", CONFIG).num_registered == 4


def test_two_photos_are_enough(scene_photos: Path, tmp_path: Path) -> None:
    photos = link(scene_photos, tmp_path / "photos", {"a.png": "view_0.png", "b.png": "view_1.png"})
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.num_registered == 2 and summary.model.num_points > 100


def test_names_that_meet_as_copies_are_kept_apart(scene_photos: Path, tmp_path: Path) -> None:
    from PIL import Image as PillowImage

    photos = link(
        scene_photos, tmp_path / "photos", {"a.webp.jpg": "view_0.png", "b.png": "view_1.png", "c.png": "view_2.png"}
    )
    PillowImage.open(scene_photos / "view_3.png").save(photos / "a.webp", lossless=True)
    PillowImage.open(scene_photos / "view_0.png").convert("RGB").save(photos / "a.webp.jpg", quality=95)
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert (summary.num_images, summary.num_registered) == (4, 4)


def test_a_name_that_is_not_text_is_left_out(scene_photos: Path, tmp_path: Path) -> None:
    photos = four_photos(scene_photos, tmp_path)
    try:
        shutil.copy(scene_photos / "view_4.png", photos / "bad\udcff.png")
    except OSError:
        pytest.skip("this disk takes only names in UTF-8")
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.num_registered == 4
    assert "expected a name in UTF-8" in summary.not_registered[0].reason


def test_an_output_among_the_photos_is_not_read_as_photos(scene_photos: Path, tmp_path: Path) -> None:
    photos = link(scene_photos, tmp_path / "photos", {f"{n}.png": f"view_{n}.png" for n in range(4)})
    for name in ("out", "out", "another"):
        assert reconstruct(photos, photos / name, CONFIG, overwrite=True).num_images == 4


@pytest.mark.parametrize("where", [".", ".."])
def test_an_output_that_holds_the_photos_is_refused(scene_photos: Path, tmp_path: Path, where: str) -> None:
    photos = link(scene_photos, tmp_path / "images", {"a.png": "view_0.png", "b.png": "view_1.png"})
    with pytest.raises(ReconstructionError, match="does not contain the photos"):
        reconstruct(photos, photos / where, CONFIG, overwrite=True)
    assert (photos / "a.png").is_file()


def test_too_little_to_work_with(scene_photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ReconstructionError, match="found none in it"):
        reconstruct(empty, tmp_path / "o1", CONFIG)
    with pytest.raises(ReconstructionError, match="expected a folder of photos, found nothing"):
        reconstruct(tmp_path / "absent", tmp_path / "o2", CONFIG)
    with pytest.raises(ReconstructionError, match="at least two readable photos, got 1"):
        reconstruct(scene_photos / "view_0.png", tmp_path / "o3", CONFIG)
    single = link(scene_photos, tmp_path / "single", {"a.png": "view_0.png"})
    (single / "b.jpg").write_bytes(b"")
    with pytest.raises(ReconstructionError, match=r"at least two readable photos, got 1 \(1 unreadable"):
        reconstruct(single, tmp_path / "o4", CONFIG)


def test_photos_of_nothing_in_common(tmp_path: Path) -> None:
    photos = tmp_path / "noise"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        coarse = rng.integers(0, 255, (45, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{number}.png"), cv2.resize(coarse, (480, 360), interpolation=cv2.INTER_CUBIC))
    with pytest.raises(ReconstructionError, match=r"nothing could be registered of 3 photos: no two photos share"):
        reconstruct(photos, tmp_path / "out", CONFIG)


def test_thermal_photos_are_seen(scene_photos: Path, tmp_path: Path) -> None:
    """16 bits, of which 900 values are used."""
    for path in sorted(scene_photos.glob("*.png"))[:4]:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        values = (29500 + 900 * (grey / 255)).astype(np.uint16)
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / path.name), values)
    summary = reconstruct(tmp_path / "photos", tmp_path / "out", CONFIG)
    assert summary.num_registered == 4
    assert any("are taken as black to white" in warning for warning in summary.warnings)
    assert summary.levels == pytest.approx((29500, 30400), abs=100)


def test_photos_over_the_limit_are_not_read_and_it_can_be_raised(scene_photos: Path, tmp_path: Path) -> None:
    folder = link(scene_photos, tmp_path / "photos", {f"{n}.png": f"view_{n}.png" for n in range(2)})
    with pytest.raises(ReconstructionError, match=r"expected at most 1,000 pixels.*--max-pixels"):
        reconstruct(folder, tmp_path / "out", replace(CONFIG, max_pixels=1000))
    with pytest.raises(InvalidValueError, match="max_pixels"):
        replace(CONFIG, max_pixels=0)


def test_a_disk_that_cannot_hold_the_frames_of_a_video_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_video(tmp_path / "clip.mp4", pan([0.0, 5.0]))
    monkeypatch.setattr("lightmatch.inputs.disk.free_bytes", lambda path: 1000)
    with pytest.raises(ReconstructionError, match=r"free on its disk \(copies .*, found 1.0 kB"):
        reconstruct(tmp_path / "clip.mp4", tmp_path / "out", CONFIG)


def test_a_video_of_a_resting_camera_is_called_so(tmp_path: Path) -> None:
    encode_video(tmp_path / "still.mp4", pan([0.0] * 12))
    with pytest.raises(ReconstructionError, match=r"expected a video in which the camera moves"):
        reconstruct(tmp_path / "still.mp4", tmp_path / "out", CONFIG)


def test_a_video_that_cannot_be_read_is_left_out(scene_photos: Path, tmp_path: Path) -> None:
    photos = four_photos(scene_photos, tmp_path)
    (photos / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.num_registered == 4
    (left_out,) = summary.photos.not_registered
    assert left_out.kind == "unreadable" and left_out.name == "broken.mp4"


def test_bad_settings(scene_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="pairs: expected one of auto"):
        ReconstructConfig(pairs="some")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="depth_maps: expected splat too"):
        ReconstructConfig(splat=False, depth_maps=True)
    with pytest.raises(InvalidValueError, match="seed: expected 0…"):
        ReconstructConfig(seed=-5)
    for name, value in (("features", "surf"), ("matcher", "guess"), ("camera_model", "PINHOLES")):
        bad: dict[str, Any] = {name: value}
        with pytest.raises(LightmatchError, match=r"expected (one of|FAMILY)"):
            reconstruct(scene_photos, tmp_path / "out", replace(CONFIG, **bad), overwrite=True)


def test_progress_counts_every_step(scene_photos: Path, tmp_path: Path) -> None:
    counted: dict[str, list[int]] = {}

    class Counting(Progress):
        @contextmanager
        def show(self, name: str, total: int) -> Generator[Callable[[], None]]:
            steps = counted[name] = [0, total]

            def step() -> None:
                steps[0] += 1

            yield step

    photos = link(scene_photos, tmp_path / "photos", {f"{n}.png": f"view_{n}.png" for n in range(4)})
    reconstruct(photos, tmp_path / "out", CONFIG, progress=Counting())
    assert counted["extract"] == [4, 4] and counted["match"] == [6, 6] and counted["map"] == [4, 4]
    assert all(done == total for done, total in counted.values())


def test_fountain_registers_all(real_data: Path, tmp_path: Path) -> None:
    summary = reconstruct(real_data / "eval/strecha/fountain-P11", tmp_path / "out", CONFIG)
    assert summary.num_registered == 11


def test_keypoints_added_along_epipolar_lines_make_the_model_denser(reconstructed: Path, tmp_path: Path) -> None:
    plain = reconstruct(reconstructed / "images", tmp_path / "plain", CONFIG)
    summary = read_summary(reconstructed)
    assert summary.model.num_points > 2 * plain.model.num_points
    assert summary.model.mean_reprojection_error_px < 1


def test_many_photos_are_mapped_from_few_tracks_and_have_all_points_in_the_end(
    scene_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reconstruct(scene_photos, tmp_path / "whole", CONFIG)
    monkeypatch.setattr(thinning, "FEW_PHOTOS", 5)
    monkeypatch.setattr(thinning, "WANTED", 40)
    monkeypatch.setattr(thinning, "FEWEST", 15)
    few = reconstruct(scene_photos, tmp_path / "few", CONFIG)
    assert few.history.mapping is not None and whole.history.mapping is not None
    first, first_of_whole = few.history.mapping.attempts[0], whole.history.mapping.attempts[0]
    assert first.num_points < 0.7 * first_of_whole.num_points
    assert few.num_registered == whole.num_registered == 6
    assert few.model.num_points > 0.9 * whole.model.num_points
    assert not list((tmp_path / "few").rglob("thinned.db*"))

    def with_own_cameras(
        _: MappingResult, database: Path, target: Path, remapper: Remapper
    ) -> tuple[MappingResult, Path]:
        remapper.give_cameras(database, target)
        return remapper.map(target), target

    monkeypatch.setattr("lightmatch.pipelines.reconstruct.mapping.try_camera_per_photo", with_own_cameras)
    for stage in ("mapped", "refined"):
        shutil.rmtree(next((tmp_path / "few/store/stages").glob(f"{stage}-*")))
    own = reconstruct(scene_photos, tmp_path / "few", CONFIG, overwrite=True)
    model = read_model(tmp_path / "few/sparse/0")
    assert own.num_registered == len(model.cameras) == 6 and model.num_points3D() > 0.9 * whole.model.num_points
    counts = [count_colmap_matches(tmp_path / name / "database.db", verified=True) for name in ("few", "whole")]
    assert sum(counts[0].values()) == sum(counts[1].values())


def test_the_mapper_is_the_one_asked_for(scene_photos: Path, tmp_path: Path) -> None:
    photos = four_photos(scene_photos, tmp_path)
    for mapper in ("incremental", "global"):
        summary = reconstruct(photos, tmp_path / mapper, replace(CONFIG, mapper=mapper))
        assert summary.history.mapping is not None
        attempts = [attempt.name for attempt in summary.history.mapping.attempts]
        assert attempts and all(name.startswith(mapper) for name in attempts)
        assert summary.num_registered == 4


def test_known_poses_are_kept_to_the_bit(scene: RenderedScene, scene_photos: Path, tmp_path: Path) -> None:
    photos = four_photos(scene_photos, tmp_path)
    first = tmp_path / "first"
    reconstruct(photos, first, CONFIG)
    given = model_arrays(read_model(first / "sparse/0"))
    reconstruct(photos, tmp_path / "known", replace(WHOLE, splat=False, depth_maps=False, known=first / "sparse/0"))
    kept = model_arrays(read_model(tmp_path / "known/sparse/0"))
    assert kept.names == given.names
    np.testing.assert_allclose(kept.centers, given.centers, atol=1e-9)
    np.testing.assert_allclose(kept.rotations, given.rotations, atol=1e-9)
    assert len(kept.points) > len(given.points)


def test_photos_without_a_given_pose_stay_out(scene_photos: Path, tmp_path: Path) -> None:
    """Though guided matching could place them."""
    photos = four_photos(scene_photos, tmp_path)
    first = tmp_path / "first"
    reconstruct(photos, first, CONFIG)
    known = read_model(first / "sparse/0")
    names = sorted(image.name for image in known.images.values())
    poses = {name: known.find_image_with_name(name).cam_from_world().inverse() for name in names[:3]}
    lines = [
        " ".join(map(str, (name, *pose.translation.tolist(), *pose.rotation.quat.tolist())))
        for name, pose in poses.items()
    ]
    (tmp_path / "poses.txt").write_text("\n".join(lines) + "\n")
    config = replace(WHOLE, splat=False, depth_maps=False, known=tmp_path / "poses.txt")
    summary = reconstruct(photos, tmp_path / "known", config)
    assert summary.num_registered == 3
    (left_out,) = summary.photos.not_registered
    assert left_out.kind == "no pose" and left_out.name == names[3]
    assert model_arrays(read_model(tmp_path / "known/sparse/0")).names == names[:3]


def test_up_is_what_a_drone_measured(scene: RenderedScene, scene_photos: Path, tmp_path: Path) -> None:
    """Angles of the gimbal as DJI writes them, from the true poses: the model stands as the world does, z up."""
    photos = tmp_path / "photos"
    photos.mkdir()
    true_ups = scene.cam_from_world[:4, :, 2].double().numpy()  # of the world, in each camera
    for number, (x, y, z) in enumerate(-true_ups):
        pitch, roll = math.degrees(math.asin(-z)), math.degrees(math.atan2(x, y))
        angles = f'drone-dji:GimbalPitchDegree="{pitch}" drone-dji:GimbalRollDegree="{roll}"'
        packet = PngInfo()
        packet.add_itxt("XML:com.adobe.xmp", f'<a {angles} drone-dji:GimbalYawDegree="0"/>')
        with PilImage.open(scene_photos / f"view_{number}.png") as picture:
            picture.save(photos / f"{number}.png", pnginfo=packet)
    summary = reconstruct(photos, tmp_path / "out", CONFIG)
    assert summary.frame.up_from == "gravity"
    found = model_arrays(read_model(tmp_path / "out/sparse/0"))
    np.testing.assert_allclose(found.rotations[:, :, 2], true_ups, atol=np.radians(0.5))


def test_cameras_of_a_rig_are_fixed_to_each_other(scene_photos: Path, tmp_path: Path) -> None:
    names = {f"left/{n}.png": f"view_{n}.png" for n in range(5)} | {
        f"right/{n}.png": f"view_{n + 1}.png" for n in range(5)
    }
    photos = tmp_path / "photos"
    for new, old in names.items():
        (photos / new).parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.imread(str(scene_photos / old))
        assert pixels is not None
        if new.startswith("right"):
            pixels = cv2.resize(pixels[4:, 4:], None, fx=0.97, fy=0.97)  # another picture, of another camera
        cv2.imwrite(str(photos / new), pixels)
    summary = reconstruct(photos, tmp_path / "out", replace(CONFIG, rig=True))
    model = read_model(tmp_path / "out/sparse/0")
    assert summary.model.num_cameras == 2
    assert summary.num_registered == 10
    relative = []
    by_name = {model.image(image_id).name: model.image(image_id) for image_id in model.reg_image_ids()}
    for number in range(5):
        left, right = (by_name[f"{side}/{number}.png"].cam_from_world() for side in ("left", "right"))
        relative.append((right * left.inverse()).matrix())
    np.testing.assert_allclose(relative, np.broadcast_to(relative[0], (5, 3, 4)), atol=1e-6)


def test_moments_of_a_rig_that_lack_a_photo_are_named(scene_photos: Path, tmp_path: Path) -> None:
    names = {f"left/{n}.png": f"view_{n}.png" for n in range(4)} | {"right/0.png": "view_1.png"}
    photos = tmp_path / "photos"
    for new, old in names.items():
        (photos / new).parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.imread(str(scene_photos / old))
        assert pixels is not None
        cv2.imwrite(str(photos / new), pixels if new.startswith("left") else pixels[2:])
    summary = reconstruct(photos, tmp_path / "out", replace(CONFIG, rig=True))
    (said,) = [warning for warning in summary.warnings if "frames of the rig" in warning]
    assert said == "3 of 4 frames of the rig are not whole; the first, 1, has no photo of right"


def test_two_sizes_of_one_camera_of_a_rig_are_refused_before_matching(scene_photos: Path, tmp_path: Path) -> None:
    names = {
        f"{side}/{n}.png": f"view_{n + shift}.png" for side, shift in (("left", 0), ("right", 3)) for n in range(3)
    }
    photos = link(scene_photos, tmp_path / "photos", names)
    with PilImage.open(scene_photos / "view_5.png") as picture:
        small = picture.resize((200, 150))
    (photos / "right" / "2.png").unlink()
    small.save(photos / "right" / "2.png")
    with pytest.raises(InvalidValueError, match=r"rig: expected photos of one size in right, got 200 x 150, "):
        reconstruct(photos, tmp_path / "out", replace(CONFIG, rig=True))


def test_photos_that_are_no_rig_are_refused_as_one(scene_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"rig: expected a folder for each camera .* got photos in 0 folders"):
        reconstruct(scene_photos, tmp_path / "out", replace(CONFIG, rig=True))
