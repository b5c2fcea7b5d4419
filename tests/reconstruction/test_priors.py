"""Known intrinsics and poses: read from every kind of file, entered, held, and triangulated from."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seen_points import Seen, see, verify, write_database

from lightmatch.colmap.model_files import write_colmap_model
from lightmatch.colmap.model_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.reconstruction import model_arrays
from lightmatch.reconstruction.priors.cameras import (
    CameraPriors,
    IntrinsicsPrior,
    enter_intrinsics,
    map_given_poses,
    read_camera_priors,
    split_by_intrinsics,
)
from lightmatch.reconstruction.priors.files import fit_names
from lightmatch.scenes import camera_ring, pinhole

SIZE = (320, 240)
K = pinhole(60.0, SIZE).double()
FOCAL = float(K[0, 0])
TRUE = IntrinsicsPrior("SIMPLE_PINHOLE", (FOCAL, SIZE[0] / 2, SIZE[1] / 2), SIZE)
NAMES = [f"left/{n}.png" for n in range(6)]
POSES = camera_ring((0, 0, 0), 6.0, 2.0, 6, 0.03, torch.Generator().manual_seed(0), arc_deg=100).double()
POINTS = 2 * torch.randn((400, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos of one camera whose focal length COLMAP does not know, verified."""
    folder = tmp_path_factory.mktemp("known")
    path = write_database(folder, see(NAMES, POSES, K, SIZE, POINTS), [NAMES])
    enter_intrinsics(path, CameraPriors("test", {"*": (TRUE,)}))
    verify(path)
    return path


def true_poses(names: list[str] = NAMES) -> dict[str, np.ndarray]:
    return {name: pose.numpy() for name, pose in zip(names, POSES, strict=True)}


def test_intrinsics_by_photo_folder_or_all() -> None:
    own, folder, everything = (IntrinsicsPrior("SIMPLE_PINHOLE", (f, 160, 120)) for f in (1.0, 2.0, 3.0))
    known = CameraPriors("x", {"left/a.jpg": (own,), "left": (folder,), "*": (everything,)})
    assert known.intrinsics_of("left/a.jpg", SIZE) == own
    assert known.intrinsics_of("left/b.jpg", SIZE) == known.intrinsics_of("left/deep/c.jpg", SIZE) == folder
    assert known.intrinsics_of("a.jpg", SIZE) == everything
    assert CameraPriors("x").intrinsics_of("a.jpg", SIZE) is None


def test_the_key_changes_with_the_last_bit() -> None:
    poses = true_poses()
    moved = {**poses, NAMES[3]: poses[NAMES[3]] + np.eye(3, 4) * 1e-12}
    finer = IntrinsicsPrior(TRUE.model, (math.nextafter(FOCAL, 1e9), *TRUE.params[1:]), SIZE)
    known = CameraPriors("x", {"*": (TRUE,)}, poses)
    assert known.key == CameraPriors("x", {"*": (TRUE,)}, true_poses()).key
    keys = {known.key, CameraPriors("x", {"*": (TRUE,)}, moved).key, CameraPriors("x", {"*": (finer,)}, poses).key}
    assert len(keys) == 3


def test_intrinsics_of_another_shape_are_refused_and_of_another_size_scaled(tmp_path: Path) -> None:
    import pycolmap

    known = CameraPriors("k.json", {"*": (IntrinsicsPrior("PINHOLE", (500, 510, 320, 240), (640, 480)),)})
    with pytest.raises(InvalidValueError, match=r"calibrated shape \(640×480\), got a.png of 320×200"):
        known.intrinsics_of("a.png", (320, 200))
    path = write_database(tmp_path, see(NAMES[:2], POSES[:2], K, SIZE, POINTS), [NAMES[:2]])
    entered = enter_intrinsics(path, known)
    assert not entered.unmatched_names
    with pycolmap.Database.open(path) as opened:
        camera = opened.read_camera(*entered.camera_ids)
    assert camera.model_name == "PINHOLE" and (camera.width, camera.height) == SIZE and camera.has_prior_focal_length
    np.testing.assert_allclose(camera.params, [250, 255, 160, 120])


def test_photos_that_share_a_camera_share_its_intrinsics(tmp_path: Path) -> None:
    import pycolmap

    other = IntrinsicsPrior("SIMPLE_PINHOLE", (99.0, 160, 120), SIZE)
    known = CameraPriors("k.json", {"left": (TRUE,), NAMES[1]: (other,), "gone.jpg": (other,)})
    seen = see(NAMES[:3], POSES[:3], K, SIZE, POINTS)
    with pytest.raises(InvalidValueError, match=r"share a camera, got different ones for left/0\.png and"):
        enter_intrinsics(write_database(tmp_path / "a", seen, [NAMES[:3]]), known)
    groups = split_by_intrinsics([NAMES[:3]], known, dict.fromkeys(NAMES[:3], SIZE))
    assert groups == [[NAMES[0], NAMES[2]], [NAMES[1]]]
    path = write_database(tmp_path / "b", seen, groups)
    entered = enter_intrinsics(path, known)
    assert entered.unmatched_names == ("gone.jpg",) and len(entered.camera_ids) == 2
    with pycolmap.Database.open(path) as opened:
        focals = {i.name: opened.read_camera(i.camera_id).params[0] for i in opened.read_all_images()}
    assert focals == pytest.approx({NAMES[0]: FOCAL, NAMES[1]: 99.0, NAMES[2]: FOCAL})
    with pytest.raises(InvalidValueError, match="expected intrinsics of the photos here, got those of else"):
        enter_intrinsics(path, CameraPriors("k.json", {"else.jpg": (other,)}))


def test_names_are_found_by_their_ends() -> None:
    photos = ["left/a.jpg", "right/a.jpg", "b.png", "c.x.jpg"]
    known = ["./images/left/a.jpg", "a", "train/b", "c.x", "d.jpg", "b.png"]
    meant, unmatched_names = fit_names(dict.fromkeys(known), photos)
    assert meant == {"./images/left/a.jpg": "left/a.jpg", "b.png": "b.png", "c.x": "c.x.jpg"}
    assert unmatched_names == ["a", "train/b", "d.jpg"]  # two photos are called a; b.png has its own name
    meant, _ = fit_names(dict.fromkeys(["IMG_1", "IMG_2.HEIC"]), ["IMG_1.HEIC.jpg", "IMG_2.HEIC.jpg"])
    assert meant == {"IMG_1": "IMG_1.HEIC.jpg", "IMG_2.HEIC": "IMG_2.HEIC.jpg"}


def test_names_of_photos_that_got_valid_ones_are_found() -> None:
    known = ["day:1/10:30.jpg", "images/a?"]
    meant, _ = fit_names(dict.fromkeys(known), ["day_1/10_30.jpg", "a_.png"])
    assert meant == {"day:1/10:30.jpg": "day_1/10_30.jpg", "images/a?": "a_.png"}


def test_a_name_of_a_missing_photo_does_not_take_another_camera_s() -> None:
    known = ["left/1.jpg", "left/2.jpg", "right/1.jpg", "right/2.jpg"]
    meant, unmatched_names = fit_names(dict.fromkeys(known), ["left/1.jpg", "right/1.jpg", "right/2.jpg"])
    assert meant == {name: name for name in ("left/1.jpg", "right/1.jpg", "right/2.jpg")}
    assert unmatched_names == ["left/2.jpg"]
    meant, unmatched_names = fit_names(dict.fromkeys(known), ["1.jpg", "2.jpg"])  # of the left camera, or the right?
    assert not meant and unmatched_names == known


def test_points_are_triangulated_from_true_poses(database: Path) -> None:
    known = CameraPriors("truth", {"*": (TRUE,)}, true_poses())
    model = map_given_poses(database, database.parent / "images", known, seed=0)
    found = model_arrays(model)
    assert found.names == NAMES
    np.testing.assert_allclose(found.rotations, POSES[:, :, :3], atol=1e-6)
    distances = torch.cdist(torch.from_numpy(found.points), POINTS).min(1).values
    assert len(found.points) > 200 and float(distances.median()) < 0.03
    again = model_arrays(map_given_poses(database, database.parent / "images", known, seed=0))
    assert (again.points == found.points).all()


def test_poses_that_only_pairs_overlap_with_are_not_refused(tmp_path: Path) -> None:
    """Each point is seen by two photos: what COLMAP leaves out of three photos or more."""
    seen = see(NAMES[:3], POSES[:3], K, SIZE, POINTS)
    first = (NAMES[0], NAMES[1])
    path = write_database(tmp_path, Seen(seen.features, {first: seen.matches[first]}), [NAMES[:3]])
    verify(path)
    known = CameraPriors("known", {"*": (TRUE,)}, dict(zip(NAMES[:3], POSES[:3].numpy(), strict=True)))
    enter_intrinsics(path, known)
    assert map_given_poses(path, tmp_path / "images", known, seed=0).num_points3D() > 50


def test_poses_far_from_the_origin_are_told_of(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in UTM."""
    moved = {name: pose.copy() for name, pose in true_poses().items()}
    for pose in moved.values():
        pose[:, 3] -= pose[:, :3] @ (500_000.0, 5_000_000.0, 0.0)
    known = CameraPriors("utm.txt", {"*": (TRUE,)}, moved)
    model = map_given_poses(database, database.parent / "images", known, seed=0)
    assert "points in PLY files are rounded to 0.6 units" in caplog.text and model.num_points3D() > 50


def test_photos_without_a_pose_are_left_out_and_unmatched_names_reported(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poses = true_poses()
    some = {name: poses[name] for name in NAMES[:4]} | {"gone.png": poses[NAMES[4]]}
    model = map_given_poses(database, database.parent / "images", CameraPriors("some", {}, some), seed=0)
    assert model_arrays(model).names == NAMES[:4] and model.num_points3D() > 200
    assert "some: gone.png is not among the photos" in caplog.text
    with pytest.raises(ReconstructionError, match=r"at least two photos, got 1 \(and gone.png, which are not"):
        few = {NAMES[0]: poses[NAMES[0]], "gone.png": poses[NAMES[4]]}
        map_given_poses(database, database.parent / "images", CameraPriors("few", {}, few))
    inverted = {name: np.concatenate([p[:, :3].T, -p[:, :3].T @ p[:, 3:]], 1) for name, p in poses.items()}
    with pytest.raises(ReconstructionError, match="agree with the matches, got poses that explain"):
        map_given_poses(database, database.parent / "images", CameraPriors("inverted", {}, inverted), seed=0)


# --- files ---


def test_a_colmap_model_gives_both(tmp_path: Path) -> None:
    camera = ColmapCamera(7, "SIMPLE_PINHOLE", *SIZE, TRUE.params)
    nothing = torch.zeros(0, dtype=torch.int64)
    image = ColmapImage(3, "a.jpg", 7, POSES[0], torch.zeros(0, 2, dtype=torch.float64), nothing, nothing)
    no_points = ColmapPoints(
        nothing, torch.zeros(0, 3).double(), torch.zeros(0, 3, dtype=torch.uint8), torch.zeros(0).double()
    )
    write_colmap_model(ColmapModel({7: camera}, {3: image}, no_points), tmp_path)
    known = read_camera_priors(tmp_path)
    assert known.intrinsics == {"a.jpg": (TRUE,)}
    np.testing.assert_allclose(known.poses["a.jpg"], POSES[0], atol=1e-6)
    alone = read_camera_priors(tmp_path / "cameras.txt")
    assert alone.intrinsics_of("any/where.jpg", SIZE) == TRUE and not alone.poses
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 4 3 9 9 2 1.5\n2 PINHOLE 4 3 8 8 2 1.5\n")
    with pytest.raises(InvalidValueError, match="expected cameras of different sizes"):
        read_camera_priors(tmp_path / "cameras.txt")
    with pytest.raises(InvalidValueError, match="expected a COLMAP model"):
        read_camera_priors(tmp_path.parent)


def test_json_of_this_package(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_text(
        json.dumps(
            {
                "left/": {"model": "pinhole", "params": [9, 9, 2, 1.5], "size": [4, 3]},
                "*": {"model": "SIMPLE_PINHOLE", "params": [8, 2, 1.5]},
            }
        )
    )
    known = read_camera_priors(path)
    assert known.intrinsics["left"] == (IntrinsicsPrior("PINHOLE", (9, 9, 2, 1.5), (4, 3)),)
    assert known.intrinsics_of("b.jpg", (1, 1)) == IntrinsicsPrior("SIMPLE_PINHOLE", (8, 2, 1.5))
    path.write_text('{"frames": {"model": "PINHOLE", "params": [9, 9, 2, 1.5], "size": [4.0, 3.0]}}')  # a folder
    (prior,) = read_camera_priors(path).intrinsics["frames"]
    assert prior.size == (4, 3) and prior.camera((4, 3)).width == 4


def test_transforms_of_nerf(tmp_path: Path) -> None:
    pose = POSES[0].numpy()
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3], world_from_cam[:3, 3] = pose[:, :3].T, -pose[:, :3].T @ pose[:, 3]
    matrix = (world_from_cam @ np.diag([1, -1, -1, 1])).tolist()
    content = {
        "camera_model": "OPENCV", "fl_x": 300.0, "fl_y": 301.0, "cx": 160.0, "cy": 120.0, "w": 320, "h": 240,
        "k1": 0.1, "p2": 0.01,
        "frames": [{"file_path": "./images/a.jpg", "transform_matrix": matrix}],
    }  # fmt: skip
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps(content))
    known = read_camera_priors(path)
    np.testing.assert_allclose(known.poses["images/a.jpg"], pose, atol=1e-6)
    bent = IntrinsicsPrior("OPENCV", (300, 301, 160, 120, 0.1, 0, 0, 0.01), (320, 240))
    assert known.intrinsics["images/a.jpg"] == (bent,)

    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "p2"):
        content.pop(key)
    path.write_text(json.dumps(content))
    assert read_camera_priors(path).intrinsics == {}
    path.write_text(json.dumps({**content, "camera_angle_x": math.radians(90)}))
    with pytest.raises(InvalidValueError, match="expected w and h beside camera_angle_x"):
        read_camera_priors(path)
    write_database(tmp_path, see(["a.jpg"], POSES[:1], K, SIZE, POINTS), [["a.jpg"]])  # now the photo lies there
    (seen,) = read_camera_priors(path).intrinsics["images/a.jpg"]
    assert seen.size == SIZE and seen.params == pytest.approx((160, 160, 160, 120))


@pytest.mark.parametrize(
    ("more", "model", "params"),
    [
        ({"is_fisheye": True, "k1": 0.1, "k4": 0.02}, "OPENCV_FISHEYE", (0.1, 0, 0, 0.02)),
        ({"camera_model": "OPENCV_FISHEYE", "k2": 0.3}, "OPENCV_FISHEYE", (0, 0.3, 0, 0)),
        ({"camera_model": "PINHOLE"}, "PINHOLE", ()),
    ],
)
def test_lenses_of_transforms(more: dict[str, Any], model: str, params: tuple[float, ...], tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    frame = {"file_path": "a.jpg", "transform_matrix": np.eye(4).tolist()}
    size = {"fl_x": 300.0, "cx": 160.0, "cy": 120.0, "w": 320, "h": 240}
    path.write_text(json.dumps({**size, **more, "frames": [frame]}))
    (found,) = read_camera_priors(path).intrinsics["a.jpg"]
    assert found.model == model and found.params == (300, 300, 160, 120, *params)


def test_what_a_file_of_cameras_cannot_mean_is_told(tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    frame = {"file_path": "a.jpg", "transform_matrix": np.eye(4).tolist()}
    around = {"camera_model": "EQUIRECTANGULAR", "fl_x": 1.0, "cx": 2.0, "cy": 1.0, "w": 4, "h": 2, "frames": [frame]}
    path.write_text(json.dumps(around))
    with pytest.raises(InvalidValueError, match=r"expected a camera_model of .* for a\.jpg, got EQUIRECT"):
        read_camera_priors(path)
    moved = np.eye(4)
    moved[0, 3] = 1
    path.write_text(json.dumps({"frames": [frame, {**frame, "transform_matrix": moved.tolist()}]}))
    with pytest.raises(InvalidValueError, match=r"expected one pose of each photo, got two of a\.jpg"):
        read_camera_priors(path)
    (tmp_path / "poses.txt").write_text("a.jpg 0 0 0 0 0 0 1\nb.jpg 0 0 0 0 0 0 1\na.jpg 0 0 1 0 0 0 1\n")
    with pytest.raises(InvalidValueError, match=r"got two of a\.jpg"):
        read_camera_priors(tmp_path / "poses.txt")


def test_a_list_of_poses_as_tum_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    half = math.sqrt(0.5)
    path.write_text(f"# name tx ty tz qx qy qz qw\na photo.jpg 1 2 3 0 0 {half} {half}\n\nb.jpg 0 0 0 0 0 0 1\n")
    poses = read_camera_priors(path).poses
    assert set(poses) == {"a photo.jpg", "b.jpg"}
    # World from camera turns x to y, so camera from world turns y to x.
    np.testing.assert_allclose(poses["a photo.jpg"], [[0, 1, 0, -2], [-1, 0, 0, 1], [0, 0, 1, -3]], atol=1e-12)
    path.write_text("a.jpg 1 2 3 1 1 1 1\n")
    with pytest.raises(InvalidValueError, match=r"expected a unit quaternion qx qy qz qw for a\.jpg, got length 2"):
        read_camera_priors(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "hello\n", "got something else"),
        ("a.txt", "", "got something else"),
        ("a.json", "{", "expected cameras, got something else"),
        ("a.json", "[1]", "expected cameras, got something else"),
        ("a.json", '{"*": {"model": "PINHOLE", "params": [1, 1, 1]}}', r"expected 4 numbers \(fx fy cx cy\)"),
        ("a.json", '{"*": {"model": "PINHOLES", "params": [1]}}', "expected a model out of"),
        ("a.json", '{"*": {"model": "PINHOLE", "params": [-1, 1, 1, 1]}}', "expected a positive focal length"),
        ("a.json", '{"*": {"model": "PINHOLE", "parameters": []}}', "expected model, params and perhaps size"),
        ("a.json", '{"frames": [{"file_path": "a"}]}', "expected cameras"),
        ("a.json", '{"frames": [{"file_path": "a", "transform_matrix": [[2,0,0,0],[0,1,0,0],[0,0,1,0]]}]}', "rotation"),
        ("a.json", '{"frames": [{"file_path": "a", "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,-1,0]]}]}', "mirror"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_cameras_is_told(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidValueError, match=message):
        read_camera_priors(tmp_path / name)
    with pytest.raises(InvalidValueError, match="expected a readable text file"):
        read_camera_priors(tmp_path / "absent.txt")
