"""Features, pairs and matches for COLMAP and hloc, written and read back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import cv2
import h5py
import numpy as np
import pycolmap
import pytest
import torch
from command import run
from PIL import Image as PilImage
from synthetic_mapping import names_of

from lightmatch.errors import InvalidValueError, LightmatchError, ReconstructionError
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.interchange import (
    count_hloc_keypoints,
    read_colmap_cameras,
    read_colmap_features,
    read_colmap_matches,
    read_colmap_verified,
    read_hloc_matches,
)
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.pipelines.stages import StageConfig, match_all, write_features, write_pairs
from lightmatch.scenes import RenderedScene
from lightmatch.types import FeatureKind

SIFT = FeatureKind("sift", 128, True)


def turned(folder: Path, source: Path, orientation: int) -> Path:
    """A copy of a photo whose pixels are stored turned, with the EXIF orientation that makes it upright again."""
    stored = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_CLOCKWISE}[orientation]
    pixels = cv2.rotate(np.asarray(cv2.imread(str(source))), stored)
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    target = folder / source.name
    PilImage.fromarray(np.ascontiguousarray(pixels[..., ::-1])).save(target, exif=exif)
    return target


def largest_position_error(model: pycolmap.Reconstruction, scene: RenderedScene) -> float:
    """Of the five camera centres after a similarity, as a part of their extent."""
    names = sorted(names_of(model), key=lambda name: Path(name).name)
    images = {model.image(i).name: model.image(i) for i in model.reg_image_ids()}
    centers = torch.tensor(np.array([images[name].projection_center() for name in names]))
    truth = scene.cam_from_world[:5].double()
    rotations = truth[:, :, :3]
    true_centers = -(rotations.transpose(1, 2) @ truth[:, :, 3:])[..., 0]
    _, errors = aligned_pose_errors(rotations, centers, rotations, true_centers)
    return float(errors.max() / (true_centers.amax(0) - true_centers.amin(0)).norm())


@pytest.fixture(scope="module")
def photos(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of the scene, two of them stored turned, one in a folder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for number in range(5):
        source = scene_photos / f"view_{number}.png"
        if number in (1, 3):
            turned(folder, source, 6 if number == 1 else 3)
        else:
            (folder / ("more" if number == 4 else "") / source.name).symlink_to(source)
    return folder


@pytest.fixture(scope="module")
def database(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `match-all` wrote of them."""
    path = tmp_path_factory.mktemp("colmap") / "database.db"
    match_all(photos, path)
    return path


def test_colmap_maps_the_database_with_the_users_own_photos(
    database: Path, photos: Path, scene: RenderedScene, tmp_path: Path
) -> None:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.min_model_size = 1, 0, 3
    models = pycolmap.incremental_mapping(database, photos, tmp_path, options=options)
    model = models[0]
    names = sorted(names_of(model), key=lambda name: Path(name).name)
    assert names == ["view_0.png", "view_1.png", "view_2.png", "view_3.png", "more/view_4.png"]
    assert largest_position_error(model, scene) < 0.01


def test_keypoints_lie_in_the_pixels_that_colmap_reads(database: Path, photos: Path) -> None:
    features = read_colmap_features(database, SIFT)
    for name in ("view_0.png", "view_1.png", "view_3.png"):
        bitmap = pycolmap.Bitmap.read(photos / name, as_rgb=True)
        assert bitmap is not None
        assert features[name].image_size == (bitmap.width, bitmap.height)
    assert features["view_1.png"].image_size == features["view_0.png"].image_size[::-1]


def test_pairs_are_matched_and_verified(database: Path) -> None:
    verified, matches = read_colmap_verified(database), read_colmap_matches(database)
    assert {frozenset(pair) for pair in verified} == {frozenset(pair) for pair in matches}
    assert verified["view_0.png", "view_1.png"].geometry.num_inliers > 50


def test_without_verification_colmap_verifies(photos: Path, tmp_path: Path) -> None:
    path, pairs = tmp_path / "database.db", tmp_path / "pairs.txt"
    pairs.write_text("# the neighbours\nview_0.png view_1.png\nview_1.png view_2.png\n\nview_1.png view_0.png\n")
    result = match_all(photos, path, StageConfig(verify=False, pairs=pairs))
    assert (result.num_pairs, result.num_verified_pairs) == (2, None)
    assert not read_colmap_verified(path)
    pycolmap.verify_matches(path, pairs)
    assert read_colmap_verified(path)["view_0.png", "view_1.png"].geometry.num_inliers > 50


def test_hloc_files_in_the_folder_one_is_in(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hloc").mkdir()
    monkeypatch.chdir(tmp_path / "hloc")
    match_all([photos / "view_0.png", photos / "view_2.png"], ".", StageConfig(max_keypoints=64))
    assert sorted(path.name for path in Path().iterdir()) == ["features.h5", "matches.h5", "pairs.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["hloc"]


def test_hloc_reads_its_layout(photos: Path, tmp_path: Path) -> None:
    # As hloc's own readers do: utils/io.py, get_keypoints, find_pair, get_matches; utils/parsers.py, parse_retrieval.
    match_all(photos, tmp_path / "hloc")
    pairs = [line.split() for line in (tmp_path / "hloc" / "pairs.txt").read_text().splitlines()]
    assert len(pairs) == 10
    name0, name1 = next(pair for pair in pairs if "more/view_4.png" in pair and "view_3.png" in pair)
    with h5py.File(tmp_path / "hloc" / "features.h5", "r") as file:
        group = file[name0]
        assert isinstance(group, h5py.Group)
        keypoints = np.asarray(group["keypoints"])
        assert keypoints.shape[1] == 2 and group["keypoints"].attrs.get("uncertainty") == 1.0
        assert group["descriptors"].shape == (128, len(keypoints)) and group["scores"].shape == (len(keypoints),)  # type: ignore[union-attr]
        assert (keypoints < np.asarray(group["image_size"])).all()
    with h5py.File(tmp_path / "hloc" / "matches.h5", "r") as file:
        pair = "/".join(name.replace("/", "-") for name in (name0, name1))
        assert pair in file
        matches = np.asarray(file[pair]["matches0"])  # type: ignore[index]
        scores = np.asarray(file[pair]["matching_scores0"])  # type: ignore[index]
    assert matches.shape == scores.shape == (len(keypoints),)
    assert (matches > -1).sum() > 50 and (scores[matches > -1] > 0).all()


def test_hlocs_matches_are_verified_where_asked_for(photos: Path, tmp_path: Path) -> None:
    match_all(photos, tmp_path / "all", StageConfig(work=tmp_path / "work"))
    match_all(photos, tmp_path / "verified", StageConfig(verify=True, work=tmp_path / "work"))
    counts = count_hloc_keypoints(tmp_path / "all" / "features.h5")
    every = read_hloc_matches(tmp_path / "all" / "matches.h5", counts)["view_0.png", "view_1.png"]
    kept = read_hloc_matches(tmp_path / "verified" / "matches.h5", counts)["view_0.png", "view_1.png"]
    score = {tuple(row): value for row, value in zip(every.indices.tolist(), every.scores.tolist(), strict=True)}
    assert 0 < len(kept) < len(every)
    assert kept.scores.tolist() == [score[tuple(row)] for row in kept.indices.tolist()]


def test_features_alone(photos: Path, tmp_path: Path) -> None:
    config = StageConfig(features="lightpoint", max_keypoints=100, work=tmp_path / "work")
    write_features(photos, tmp_path / "features.h5", config)
    assert set(count_hloc_keypoints(tmp_path / "features.h5").values()) == {100}
    write_features(photos, tmp_path / "database.db", config)
    found = read_colmap_features(tmp_path / "database.db", FeatureKind("lightpoint", 128))
    assert {len(value) for value in found.values()} == {100}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database.db", "features.h5", "work"]


def test_photos_are_a_sequence_by_the_numbers_in_their_names(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(1, 31):
        pixels = cv2.resize(noise.integers(0, 256, (12, 16, 3), np.uint8), (160, 120))
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), pixels)
    write_pairs(tmp_path / "photos", tmp_path / "pairs.txt", StageConfig(pairs="sequential", max_keypoints=64))
    lines = (tmp_path / "pairs.txt").read_text().splitlines()
    found = {tuple(sorted(int(Path(name).stem) for name in line.split())) for line in lines}
    assert {(number, number + step) for number in range(1, 21) for step in range(1, 11)} <= found


def test_a_list_of_pairs(photos: Path, tmp_path: Path) -> None:
    result = write_pairs(photos, tmp_path / "pairs.txt")
    lines = (tmp_path / "pairs.txt").read_text().splitlines()
    assert len(lines) == result.num_pairs == 10
    assert "view_0.png view_1.png" in lines


def test_copies_stand_for_what_colmap_cannot_read(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in (0, 1, 2):
        picture = PilImage.open(photos / f"view_{number}.png").convert("RGB")
        picture.save(folder / (f"view_{number}.webp" if number == 1 else f"view_{number}.jpg"))
    with pytest.raises(InvalidValueError, match=r"view_1\.webp: expected a format that COLMAP reads .* --images"):
        match_all(folder, tmp_path / "database.db")
    result = match_all(folder, tmp_path / "database.db", StageConfig(images=tmp_path / "copies"))
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == [
        "view_0.jpg",
        "view_1.webp.jpg",
        "view_2.jpg",
    ]
    assert result.images == tmp_path / "copies"
    assert set(read_colmap_features(tmp_path / "database.db", SIFT)) == {"view_0.jpg", "view_1.webp.jpg", "view_2.jpg"}


def test_one_camera_for_photos_of_one_lens(photos: Path, tmp_path: Path) -> None:
    write_features(photos, tmp_path / "database.db", StageConfig(cameras="photo", camera_model="OPENCV"))
    assert read_colmap_cameras(tmp_path / "database.db") == {}  # guesses all
    with pycolmap.Database.open(tmp_path / "database.db") as opened:
        cameras = opened.read_all_cameras()
    assert [camera.model_name for camera in cameras] == ["OPENCV"] * 5


def test_photos_that_are_stored_mirrored_are_refused(scene_photos: Path, tmp_path: Path) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = 2
    PilImage.open(scene_photos / "view_0.png").save(tmp_path / "a.png", exif=exif)
    with pytest.raises(InvalidValueError, match=r"a\.png: expected a photo that is not stored mirrored"):
        write_features(tmp_path, tmp_path / "features.h5")


@pytest.mark.parametrize(
    ("target", "config", "sentence"),
    [
        ("out.txt", {}, r"out\.txt: expected database\.db \(COLMAP\) or a folder \(hloc\)"),
        ("there.db", {}, r"there\.db: expected a new file, .* --overwrite"),
        ("out.db", {"matcher": "none"}, "matcher: expected FAMILY"),
        ("out.db", {"images": Path(__file__).parent}, "expected an empty folder for copies"),
    ],
)
def test_bad_input(photos: Path, tmp_path: Path, target: str, config: dict, sentence: str) -> None:
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(LightmatchError, match=sentence):
        match_all(photos, tmp_path / target, StageConfig(**config))
    assert (tmp_path / "there.db").read_text() == "mine"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("view_0.png", r":1: expected the names of two photos, got 'view_0\.png'"),
        ("view_0.png view_9.png", r":1: expected names of photos .* got 'view_9\.png'"),
        ("# nothing", "expected at least one pair"),
    ],
)
def test_bad_lists_of_pairs(photos: Path, tmp_path: Path, lines: str, sentence: str) -> None:
    (tmp_path / "pairs.txt").write_text(lines)
    with pytest.raises(InvalidValueError, match=sentence):
        match_all(photos, tmp_path / "out.db", StageConfig(pairs=tmp_path / "pairs.txt", max_keypoints=64))


def test_a_list_of_pairs_that_is_not_there_is_told_before_any_work() -> None:
    with pytest.raises(
        InvalidValueError, match=r"retreival: expected a text file of pairs, or one of auto, .*retrieval"
    ):
        StageConfig(pairs=Path("retreival"))


@pytest.mark.parametrize("wrong", [{"pairs": "none"}, {"camera_model": "none"}, {"cameras": "none"}, {"seed": -1}])
def test_bad_options(wrong: dict) -> None:
    with pytest.raises(InvalidValueError, match="expected"):
        StageConfig(**wrong)


def test_the_verbs(photos: Path, tmp_path: Path) -> None:
    database = tmp_path / "a database.db"
    done = run("match-all", photos, "-o", database, "--max-keypoints", 512)
    assert "5 photos, 7 pairs" in done.stdout  # three hardly overlap
    assert f"mkdir -p sparse; colmap mapper --database_path '{database}' --image_path {photos} " in done.stdout
    said = run("match-all", photos, "-o", database, code=1).stderr
    assert "--overwrite" in said
    run("features", photos, "-o", tmp_path / "features.h5", "--max-keypoints", 512)
    run("pairs", photos, "-o", tmp_path / "pairs.txt", "--pairs", "exhaustive", "--max-keypoints", 64)
    assert len((tmp_path / "pairs.txt").read_text().splitlines()) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a database.db", "features.h5", "pairs.txt"]


@pytest.mark.parametrize("verified", [True, False])
def test_reconstruct_goes_on_with_a_database(
    database: Path, photos: Path, scene: RenderedScene, tmp_path: Path, verified: bool
) -> None:
    source = tmp_path / "database.db"
    source.write_bytes(database.read_bytes())
    if not verified:
        with pycolmap.Database.open(source) as opened:
            opened.clear_two_view_geometries()
    before = source.read_bytes()
    summary = reconstruct(photos, tmp_path / "out", ReconstructConfig(imported=source, splat=False, seed=0))
    assert summary.num_registered == 5
    assert source.read_bytes() == before
    largest = largest_position_error(pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0"), scene)
    assert largest < 0.01
    said = run("localize", tmp_path / "out", photos / "view_0.png", code=1).stderr
    assert "--from" in said


def test_reconstruct_goes_on_with_hlocs_files(photos: Path, scene: RenderedScene, tmp_path: Path) -> None:
    match_all(photos, tmp_path / "hloc")
    config = ReconstructConfig(imported=tmp_path / "hloc", splat=False, seed=0)
    assert reconstruct(photos, tmp_path / "out", config).num_registered == 5
    assert largest_position_error(pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0"), scene) < 0.01


def test_masks_hold_for_imported_matches(database: Path, photos: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    (masks / "more").mkdir(parents=True)
    for name in ("view_0.png", "view_1.png", "view_2.png", "view_3.png", "more/view_4.png"):
        PilImage.new("L", PilImage.open(photos / name).size, 0).save(masks / f"{name}.png")
    with pytest.raises(ReconstructionError, match="nothing could be registered"):
        reconstruct(photos, tmp_path / "out", ReconstructConfig(imported=database, masks=masks, splat=False, seed=0))


def test_files_of_another_folder_are_refused(database: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"expected the names of photos in .*more, such as view_4\.png"):
        reconstruct(photos / "more", tmp_path / "out", ReconstructConfig(imported=database))
    with pytest.raises(InvalidValueError, match="found nothing there"):
        reconstruct(photos, tmp_path / "out", ReconstructConfig(imported=tmp_path / "none.db"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidValueError, match="found 0 files of features and 0 of matches"):
        reconstruct(photos, tmp_path / "out", ReconstructConfig(imported=tmp_path / "empty"))
    (tmp_path / "damaged.db").write_text("mine")
    with pytest.raises(InvalidValueError, match=r"damaged\.db: expected a COLMAP database"):
        reconstruct(photos, tmp_path / "out", ReconstructConfig(imported=tmp_path / "damaged.db"))


def test_a_run_that_was_stopped_goes_on(photos: Path, tmp_path: Path) -> None:
    class Stopped(Progress):
        @contextmanager
        def show(self, name: str, total: int) -> Generator[Callable[[], None]]:
            if name == "match":
                raise KeyboardInterrupt
            yield lambda: None

    target, config = tmp_path / "database.db", StageConfig(images=tmp_path / "copies", max_keypoints=256)
    with pytest.raises(KeyboardInterrupt):
        match_all(photos, target, config, progress=Stopped())
    assert [path.name for path in tmp_path.iterdir()] == ["database.db.work"]
    match_all(photos, target, config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copies", "database.db"]
