"""The verb `localize`: a photo of the procedural world against a model of five other views."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import ExifTags, Image
from summary_example import SUMMARY

from lightmatch.errors import ImageReadError, InvalidValueError, ReconstructionError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.coordinates import rotation_angle_deg
from lightmatch.images import load_image
from lightmatch.matchers import create_matcher
from lightmatch.pipelines.localize import LocalizeConfig, LocalizeResult, camera_of_photo, localize
from lightmatch.pipelines.reconstruct import ReconstructConfig
from lightmatch.pipelines.reconstruct.summary import Summary
from lightmatch.pipelines.track.earlier_map import read_map
from lightmatch.pipelines.track.keyframes import MapFacts
from lightmatch.reconstruction import FrameSummary, MatchDatabase, read_model
from lightmatch.reconstruction.priors.cameras import CameraPriors, IntrinsicsPrior, enter_intrinsics, map_given_poses
from lightmatch.runtime import codec
from lightmatch.runtime.cache import Cache
from lightmatch.scenes import RenderedScene, WorldConfig, build_world, camera_ring, pinhole, render
from lightmatch.tracking import TrackedCamera, Tracker, TrackerConfig
from lightmatch.types import Features

SIZE = (480, 360)
LEFT_OUT = 2  # of six views
KEYPOINTS = 1024


def exif(focal_mm: float, focal_35mm: int, digital_zoom: float | None = None) -> Image.Exif:
    block = Image.Exif()
    block[ExifTags.Base.Make], block[ExifTags.Base.Model] = "Maker", "One"
    block[ExifTags.IFD.Exif] = {
        ExifTags.Base.FocalLength: focal_mm,
        ExifTags.Base.FocalLengthIn35mmFilm: focal_35mm,
        **({} if digital_zoom is None else {ExifTags.Base.DigitalZoomRatio: digital_zoom}),
    }
    return block


def focal_px(scene: RenderedScene) -> float:
    return float(scene.K[0, 0, 0])


@pytest.fixture(scope="module")
def features(scene: RenderedScene, scene_photos: Path) -> dict[str, Features]:
    """More keypoints than the matcher gets, as `reconstruct` keeps them."""
    extractor = create_extractor("sift", max_keypoints=2 * KEYPOINTS)
    return {f"view_{n}.jpg": extractor(load_image(scene_photos / f"view_{n}.png")) for n in range(6) if n != LEFT_OUT}


@pytest.fixture(scope="module")
def output(
    scene: RenderedScene,
    scene_photos: Path,
    features: dict[str, Features],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What `reconstruct` leaves of five views; their poses are the true ones."""
    folder = tmp_path_factory.mktemp("out")
    (folder / "images").mkdir()
    for name in features:
        picture = Image.open(scene_photos / name.replace("jpg", "png"))
        picture.save(folder / "images" / name, quality=95, exif=exif(5.0, 27))
    strongest = {name: value.select(torch.arange(KEYPOINTS)) for name, value in features.items()}
    names = list(features)
    pairs = [(first, second) for i, first in enumerate(names) for second in names[i + 1 : i + 4]]
    matcher = create_matcher("lightglue", features[names[0]].kind)
    found = matcher.match_batch([(strongest[first], strongest[second]) for first, second in pairs])
    database = MatchDatabase(folder / "database.db", folder / "images", [names], "SIMPLE_PINHOLE")
    database.write(features, zip(pairs, found, strict=True))
    true = IntrinsicsPrior("SIMPLE_PINHOLE", (focal_px(scene), SIZE[0] / 2, SIZE[1] / 2), SIZE)
    poses = {name: scene.cam_from_world[int(name[5])].double().numpy() for name in names}
    known = CameraPriors("truth", {"*": (true,)}, poses)
    enter_intrinsics(database.path, known)
    database.verify(seed=0)
    model = map_given_poses(database.path, folder / "images", known, seed=0)
    (folder / "sparse" / "0").mkdir(parents=True)
    model.write_binary(folder / "sparse" / "0")
    store = Cache(folder / "store").features
    for name, value in features.items():
        store.write(store.key(name, "sift"), value)
    keys = {name: store.key(name, "sift") for name in names}
    codec.write(folder / "store" / "pictures.json", keys)
    set_config(folder)
    (folder / ".lightmatch").write_text("finished\n")
    return folder


def set_config(folder: Path, matcher: str = "lightglue") -> None:
    config = ReconstructConfig(features="sift", matcher=matcher, max_keypoints=KEYPOINTS)
    codec.write(folder / "summary.json", replace(SUMMARY, frame=FrameSummary(metric=True, unit="m"), config=config))


@pytest.fixture(scope="module")
def photo(scene_photos: Path) -> Path:
    return scene_photos / f"view_{LEFT_OUT}.png"


@pytest.fixture(scope="module")
def by_guess(output: Path, photo: Path) -> LocalizeResult:
    """Nothing is known of the camera: the guess of 1.2 times the longer side is half as long again as the truth."""
    return localize(output, photo)


def errors(result: LocalizeResult, scene: RenderedScene) -> np.ndarray:
    """(6,) turn in rad and offset of the centre in m, ordered and meant as the covariance has it."""
    truth = scene.cam_from_world[LEFT_OUT].double().numpy()
    turn = cv2.Rodrigues(result.placed.cam_from_world[:, :3] @ truth[:, :3].T)[0].ravel()
    return np.concatenate((turn, result.placed.center + truth[:, :3].T @ truth[:, 3]))


def check(result: LocalizeResult, scene: RenderedScene) -> None:
    """Less than 0.5 % of the scene's extent, less than 0.5°, and within four standard deviations."""
    error = errors(result, scene)
    centers = [-(pose[:, :3].T @ pose[:, 3]).double().numpy() for pose in scene.cam_from_world]
    extent = max(np.linalg.norm(a - b) for a in centers for b in centers)
    assert np.linalg.norm(error[3:]) < 0.005 * extent
    assert np.degrees(np.linalg.norm(error[:3])) < 0.5
    assert (np.abs(error) < 4 * np.sqrt(np.diag(result.placed.covariance))).all()


def test_a_photo_without_any_facts(by_guess: LocalizeResult, scene: RenderedScene) -> None:
    check(by_guess, scene)
    assert by_guess.camera_from == "guess"
    assert by_guess.placed.num_inliers > 100
    assert abs(by_guess.placed.camera.mean_focal_length() - focal_px(scene)) < 0.01 * focal_px(scene)
    assert by_guess.metric and by_guess.unit == "m"
    assert set(by_guess.seconds) == {"extract", "match"}


def test_json(by_guess: LocalizeResult, scene: RenderedScene) -> None:
    written = json.loads(json.dumps(by_guess.to_json()))
    pose = np.array(written["cam_from_world"])
    truth = scene.cam_from_world[LEFT_OUT]
    assert float(rotation_angle_deg(torch.tensor(pose[:, :3]), truth[:, :3].double())) < 0.5
    np.testing.assert_allclose(-pose[:, :3].T @ pose[:, 3], written["center"])
    values = np.array(written["covariance"]["values"])
    assert written["position_std"] == pytest.approx(np.sqrt(np.trace(values[3:, 3:])))
    assert written["rotation_std_deg"] == pytest.approx(np.degrees(np.sqrt(np.trace(values[:3, :3]))))
    assert written["num_inliers"] == len(written["inliers"]) > 100
    assert written["camera"]["from"] == "guess" and written["camera"]["focal_std_px"] > 0
    assert max(written["inliers_by_photo"], key=written["inliers_by_photo"].get) in ("view_1.jpg", "view_3.jpg")


def test_the_camera_of_the_model_and_that_of_exif(
    output: Path, photo: Path, scene: RenderedScene, by_guess: LocalizeResult, tmp_path: Path
) -> None:
    same, zoomed = tmp_path / "same.jpg", tmp_path / "zoomed.jpg"
    Image.open(photo).save(same, quality=95, exif=exif(5.0, 27))
    Image.open(photo).save(zoomed, quality=95, exif=exif(6.0, 33))
    result = localize(output, same)
    check(result, scene)
    assert result.camera_from == "model"
    assert result.placed.focal_std_px is None and result.placed.camera.mean_focal_length() == focal_px(scene)
    assert result.placed.position_std < by_guess.placed.position_std
    other = localize(output, zoomed)
    check(other, scene)
    assert other.camera_from == "exif" and other.placed.focal_std_px is not None


@pytest.mark.parametrize(("digital_zoom", "is_known"), [(None, True), (0.0, True), (1.0, True), (2.0, False)])
def test_a_digital_zoom_is_another_camera(
    output: Path, photo: Path, tmp_path: Path, digital_zoom: float | None, is_known: bool
) -> None:
    Image.open(photo).save(tmp_path / "a.jpg", exif=exif(5.0, 27, digital_zoom))
    model = read_model(output / "sparse" / "0")
    _, origin = camera_of_photo(tmp_path / "a.jpg", load_image(tmp_path / "a.jpg"), model, output / "images")
    assert origin == ("model" if is_known else "exif")


def test_a_camera_that_is_not_that_of_the_model_is_not_said_to_be(output: Path, photo: Path, tmp_path: Path) -> None:
    with Image.open(photo) as whole:
        stretched = whole.crop((60, 0, 420, 360)).resize(SIZE)
    stretched.save(tmp_path / "stretched.jpg", quality=95, exif=exif(5.0, 27))
    result = localize(output, tmp_path / "stretched.jpg")
    assert result.placed.shape is not None and result.placed.focal_std_px is not None
    assert result.camera_from == result.to_json()["camera"]["from"] == "guess"


def test_a_photo_of_16_bits_that_uses_few_of_them(
    output: Path, photo: Path, scene: RenderedScene, tmp_path: Path
) -> None:
    with Image.open(photo) as picture:
        grey = np.asarray(picture.convert("L")).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / "thermal.png"), 28_000 + 12 * grey)
    check(localize(output, tmp_path / "thermal.png"), scene)


def test_a_photo_of_16_bits_is_read_as_those_of_the_model(
    output: Path, photo: Path, scene: RenderedScene, tmp_path: Path
) -> None:
    """By itself it has no levels: a few hot pixels make it seem to use its bits."""
    copy = shutil.copytree(output, tmp_path / "out")
    summary = codec.read(Summary, copy / "summary.json")
    codec.write(copy / "summary.json", replace(summary, levels=(28_000.0, 31_060.0)))
    with Image.open(photo) as picture:
        values = 28_000 + 12 * np.asarray(picture.convert("L")).astype(np.uint16)
    values[:12] = 65_000
    assert cv2.imwrite(str(tmp_path / "thermal.png"), values)
    check(localize(copy, tmp_path / "thermal.png"), scene)


def test_a_cropped_photo_is_placed_and_said_to_be(
    output: Path, photo: Path, scene: RenderedScene, tmp_path: Path
) -> None:
    with Image.open(photo) as whole:
        whole.crop((120, 10, 470, 270)).save(tmp_path / "cropped.png")
    result = localize(output, tmp_path / "cropped.png")
    error = errors(result, scene)
    assert np.degrees(np.linalg.norm(error[:3])) < 1
    assert (np.abs(error) < 4 * np.sqrt(np.diag(result.placed.covariance))).all()
    assert result.placed.shape is not None and result.placed.shape.startswith("cropped: ")
    assert result.to_json()["camera"]["shape"] == result.placed.shape


def test_a_mirrored_photo_is_refused_in_one_sentence(output: Path, photo: Path, tmp_path: Path) -> None:
    with Image.open(photo) as whole:
        whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    with pytest.raises(
        ReconstructionError, match=r"mirrored\.png: expected a photo as it was taken, got a mirrored one"
    ):
        localize(output, tmp_path / "mirrored.png")


def test_a_photo_without_facts_starts_from_the_camera_of_its_like(tmp_path: Path) -> None:
    """Of the size of model photos without facts: their camera, with its principal point; of another size: 1.2 sides."""
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=80, height=60, params=[70, 43, 28, 0.01], camera_id=1)
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    model.add_image_with_trivial_frame(pycolmap.Image("old.png", camera_id=1, image_id=1), pycolmap.Rigid3d())
    for name, size in (("old.png", (80, 60)), ("new.png", (80, 60)), ("other.png", (100, 60))):
        Image.new("RGB", size).save(tmp_path / name)
    cameras = {
        name: camera_of_photo(tmp_path / name, load_image(tmp_path / name), model, tmp_path)
        for name in ("new.png", "other.png")
    }
    assert [origin for _, origin in cameras.values()] == ["guess", "guess"]
    assert list(cameras["new.png"][0].params) == [70, 43, 28, 0.01]
    assert list(cameras["other.png"][0].params) == [120, 50, 30, 0]


def test_same_seed_same_bits(output: Path, photo: Path, by_guess: LocalizeResult) -> None:
    again = localize(output, photo, LocalizeConfig(seed=0))
    assert again.placed.cam_from_world.tobytes() == by_guess.placed.cam_from_world.tobytes()
    assert again.placed.covariance.tobytes() == by_guess.placed.covariance.tobytes()


def test_the_most_alike_photos_are_compared_where_there_are_many(
    output: Path, photo: Path, scene: RenderedScene
) -> None:
    result = localize(output, photo, LocalizeConfig(num_candidates=2))
    assert set(result.placed.inliers_by_candidate) == {"view_1.jpg", "view_3.jpg"}  # the neighbours in the ring
    assert "compare" in result.seconds
    assert np.linalg.norm(errors(result, scene)[3:]) < 0.05


def test_noise_and_other_worlds_are_refused(output: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise, other = tmp_path / "noise.png", tmp_path / "other.png"
    cv2.imwrite(str(noise), rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8))
    world = build_world(torch.Generator().manual_seed(1), WorldConfig(num_textures=3, texture_size=512))
    pose = camera_ring((0, 0, 0.5), 6.4, 2.8, 1, 0.03, torch.Generator().manual_seed(1))
    cv2.imwrite(str(other), render(world, pinhole(65.0, SIZE)[None], pose, SIZE).rgb[0].numpy()[..., ::-1])
    for path in (noise, other):
        with pytest.raises(ReconstructionError, match=rf"{path.name}: expected .*got \d+.*compared with 5 photos"):
            localize(output, path)


def test_black_photo_is_refused(output: Path, tmp_path: Path) -> None:
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(ReconstructionError, match="at least 12 matches with points of the model, got 0"):
        localize(output, black)


def test_bad_input(output: Path, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(ReconstructionError, match="finished reconstruction, found no such folder; run"):
        localize(tmp_path / "gone", photo)
    with pytest.raises(ReconstructionError, match="finished reconstruction, found none; run"):
        localize(tmp_path, photo)
    with pytest.raises(ReconstructionError, match="expected a reconstruction's folder, got one in it; name"):
        localize(output / "sparse" / "0", photo)
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(ImageReadError, match=r"text\.jpg"):
        localize(output, tmp_path / "text.jpg")
    with pytest.raises(InvalidValueError, match="num_candidates: expected at least 1, got 0"):
        LocalizeConfig(num_candidates=0)
    with pytest.raises(InvalidValueError, match="seed"):
        LocalizeConfig(seed=-1)
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    (copy / ".lightmatch").write_text("unfinished\n")
    with pytest.raises(ReconstructionError, match="found an unfinished run"):
        localize(copy, photo)
    (copy / ".lightmatch").write_text("finished\n")
    record = next((copy / "store" / "features").glob("*/*.safetensors"))
    record.write_bytes(record.read_bytes()[:1000])
    with pytest.raises(ReconstructionError, match=r"view_\d.jpg: expected its features in .*none or damaged"):
        localize(copy, photo)
    (copy / "store" / "pictures.json").unlink()
    with pytest.raises(ReconstructionError, match=r"expected store/pictures.json as reconstruct writes it"):
        localize(copy, photo)


def test_command_line(output: Path, photo: Path, tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from lightmatch.cli.localize import localize as verb

    app = typer.Typer()
    app.command()(verb)
    target = tmp_path / "pose.json"
    done = CliRunner().invoke(app, [str(output), str(photo), "--json", str(target), "--quiet", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    written = json.loads(target.read_text())
    assert "centre" in done.output and "±" in done.output and "m (one standard deviation)" in done.output
    assert f"{written['num_inliers']} of {written['num_correspondences']}" in done.output
    assert f"{written['center'][0]:.4f}" in done.output
    refused = CliRunner().invoke(app, [str(output), str(photo), "--json", str(tmp_path / "gone" / "x.json")])
    assert isinstance(refused.exception, InvalidValueError)
    own = tmp_path / "own.png"
    shutil.copy(photo, own)
    refused = CliRunner().invoke(app, [str(output), str(own), "--json", str(own)])
    assert isinstance(refused.exception, InvalidValueError) and own.read_bytes() == photo.read_bytes()


def test_the_same_output_is_a_map_to_track_in(output: Path, photo: Path, scene: RenderedScene) -> None:
    camera = TrackedCamera.pinhole(scene.K[LEFT_OUT].double().numpy(), SIZE)
    earlier = read_map(output, camera, most=KEYPOINTS // 2)
    assert earlier.facts == MapFacts("sift", "lightglue", is_metric=True)
    assert sorted(earlier.names.values()) == [f"view_{n}.jpg" for n in range(6) if n != LEFT_OUT]
    assert {len(keyframe.features) for keyframe in earlier.map.keyframes.values()} == {KEYPOINTS // 2}
    tracker = Tracker(camera, TrackerConfig(features="sift", mapping=False, max_keypoints=KEYPOINTS), earlier.map)
    frame = tracker.step(load_image(photo), 0.0)
    assert frame.status == "tracking" and frame.center is not None
    true = scene.cam_from_world[LEFT_OUT].double().numpy()
    assert np.linalg.norm(frame.center + true[:, :3].T @ true[:, 3]) < 0.05
