"""What other programs read: each file is opened by a reader that is not ours, and held against the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from evo.tools import file_interface
from PIL import Image as PillowImage
from plyfile import PlyData

from lightmatch.colmap.model_files import read_colmap_model
from lightmatch.colmap.models import registered_images
from lightmatch.errors import InvalidValueError
from lightmatch.inputs.masks import working_mask
from lightmatch.reconstruction.outputs.clouds import DensePoints, sparse_points, write_ply
from lightmatch.reconstruction.outputs.exports import write_splat_folder, write_text_model
from lightmatch.sfm.trajectories import write_trajectory
from lightmatch.sfm.undistortion import Undistorter

NAMES = {"left/a.jpg": 1, "left/b.JPG": 1, "right/a.png": 2, "c.png": 3, "lost.png": 1}  # and their cameras
CAMERAS = {
    1: ("SIMPLE_RADIAL", (160, 120), [150.0, 80.0, 60.0, 0.12]),
    2: ("OPENCV", (140, 100), [130.0, 132.0, 72.0, 47.0, -0.2, 0.05, 0.002, -0.001]),
    3: ("PINHOLE", (128, 96), [120.0, 121.0, 64.0, 48.0]),
}


def seen_by(camera: pycolmap.Camera, points: np.ndarray) -> np.ndarray:
    """COLMAP's pixels (n, 2) of points (n, 3), or of rays (n, 2) at depth 1."""
    if points.shape[1] == 2:
        points = np.column_stack((points, np.ones(len(points))))
    return np.asarray(camera.img_from_cam(points))


def origin_of_pixels(flat: pycolmap.Camera, original: pycolmap.Camera) -> np.ndarray:
    """Where in the photo each pixel of the picture without distortion was, (h, w, 2), our pixels."""
    y, x = np.mgrid[: flat.height, : flat.width]
    rays = np.asarray(flat.cam_from_img(np.stack((x, y), -1).reshape(-1, 2) + 0.5))
    return (seen_by(original, rays) - 0.5).reshape(flat.height, flat.width, 2)


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture whose value at any place, between pixels too, is known."""
    waves = [np.sin(2 * np.pi * x / 37), np.sin(2 * np.pi * y / 31), np.sin(2 * np.pi * (x + y) / 43)]
    return np.stack([127 + 100 * wave for wave in waves], -1)


def make_model() -> pycolmap.Reconstruction:
    """Four photos around 60 points, and one that has no pose."""
    model = pycolmap.Reconstruction()
    for number, (kind, (width, height), params) in CAMERAS.items():
        camera = pycolmap.Camera(model=kind, width=width, height=height, params=params, camera_id=number)
        model.add_camera_with_trivial_rig(camera)
    random = np.random.default_rng(0)
    world = random.uniform(-1, 1, (60, 3)) + np.array([0, 0, 6])
    for point in world:
        model.add_point3D(point, pycolmap.Track(), random.integers(0, 256, 3).astype(np.uint8))
    ids = sorted(model.points3D)
    for number, (name, camera_id) in enumerate(NAMES.items(), start=1):
        turn = pycolmap.Rotation3d(np.array([0.02 * number, -0.03 * number, 0.3 * (number - 2)]))
        pose = pycolmap.Rigid3d(turn, np.array([0.3 - 0.2 * number, 0.1 * number, 0.2]))
        image = pycolmap.Image(name=name, camera_id=camera_id, image_id=number)
        if name == "lost.png":
            continue
        pixels = seen_by(model.camera(camera_id), world @ pose.rotation.matrix().T + pose.translation)
        width, height = CAMERAS[camera_id][1]
        inside = ((pixels > 0) & (pixels < (width, height))).all(1)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in [*pixels[inside], (3.0, 4.0)]])
        model.add_image_with_trivial_frame(image, pose)
        for place, row in enumerate(np.flatnonzero(inside)):
            model.add_observation(ids[row], pycolmap.TrackElement(number, place))
    model.update_point_3d_errors()
    return model


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"quality": 98, "subsampling": "4:4:4"} if path.suffix.lower() == ".jpg" else {}
    PillowImage.fromarray(pixels.round().astype(np.uint8)).save(path, **options)


class Exported:
    """The model and its photos, and the folder written of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.images, self.masks, self.target = root, root / "images", root / "masks", root / "splat"
        self.model = make_model()
        for name, camera_id in NAMES.items():
            width, height = CAMERAS[camera_id][1]
            y, x = np.mgrid[:height, :width].astype(float)
            save(self.images / name, pattern(x, y))
        width, height = CAMERAS[1][1]
        mask = np.full((height, width), 255)
        mask[:, :50] = 0
        save(self.masks / "left" / "a.jpg.png", mask)
        self.cloud = sparse_points(self.model).select(np.arange(7))
        self.written = 0

    def write(self, target: Path | None = None, masks: Path | None = None) -> None:
        def count() -> None:
            self.written += 1

        masks = self.masks if masks is None else masks
        write_splat_folder(self.model, self.images, masks, target or self.target, cloud=self.cloud, on_image=count)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    made = Exported(tmp_path_factory.mktemp("exported"))
    made.write()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_what_the_model_has(exported: Exported) -> None:
    names = [name for name in NAMES if name != "lost.png"]
    assert sorted(contents(exported.target)) == sorted(
        [f"images/{name}" for name in names]
        + [f"masks/{name}.png" for name in names]
        + [f"sparse/0/{part}.bin" for part in ("cameras", "images", "points3D")]
        + ["init.ply", "transforms.json"]
    )
    assert exported.written == 4


def test_pictures_show_what_a_pinhole_camera_sees(exported: Exported) -> None:
    """Each pixel, by its ray, from the photo's own camera: the pattern there must be what the picture shows."""
    flat = pycolmap.Reconstruction(exported.target / "sparse" / "0")
    for image in flat.images.values():
        camera, original = flat.camera(image.camera_id), exported.model.camera(image.camera_id)
        assert camera.model_name == "PINHOLE"
        picture = np.asarray(PillowImage.open(exported.target / "images" / image.name), float)
        assert picture.shape == (camera.height, camera.width, 3)
        error = np.abs(picture - pattern(*np.moveaxis(origin_of_pixels(camera, original), 2, 0)))
        # A shift of a tenth of a pixel would show as 1 of 255 in the mean; JPEG costs as much.
        assert error.mean() < (0.6 if image.name.endswith("png") else 1.6), image.name


def test_a_camera_without_distortion_keeps_its_files(exported: Exported) -> None:
    assert (exported.target / "images" / "c.png").read_bytes() == (exported.images / "c.png").read_bytes()


@pytest.mark.parametrize("reader", ["pycolmap", "our own"])
def test_the_undistorted_model_projects_to_its_observations(exported: Exported, reader: str) -> None:
    folder, count = exported.target / "sparse" / "0", 0
    if reader == "pycolmap":
        flat = pycolmap.Reconstruction(folder)
        assert flat.num_reg_images() == 4 and flat.num_points3D() == 60 and flat.num_cameras() == 3
        for image in flat.images.values():
            for seen in image.points2D:
                projected = image.project_point(flat.point3D(seen.point3D_id).xyz)
                assert projected is not None and math.dist(projected, seen.xy) < 1e-4
                count += 1
        assert {p.color.tobytes() for p in flat.points3D.values()} == {
            p.color.tobytes() for p in exported.model.points3D.values()
        }
    else:
        ours = read_colmap_model(folder)
        assert [image.name for image in ours.images.values()] == [name for name in NAMES if name != "lost.png"]
        for image in ours.images.values():
            K = ours.cameras[image.camera_id].K()
            points = ours.points.xyz[image.observed]
            projected = (points @ image.cam_from_world[:, :3].T + image.cam_from_world[:, 3]) @ K.T
            error = projected[:, :2] / projected[:, 2:] - image.keypoints[image.observing]
            assert error.abs().max() < 1e-4
            count += len(error)
    assert count == exported.model.compute_num_observations() > 150


def pixels_by_transforms(content: dict[str, Any], frame: dict[str, Any], points: np.ndarray) -> np.ndarray:
    """As nerfstudio has it: camera to world, OpenGL axes, a pixel's centre at + ½."""
    settings = content | frame
    matrix = np.array(frame["transform_matrix"])
    local = (points - matrix[:3, 3]) @ matrix[:3, :3]  # x right, y up, z back
    x, y = local[:, 0] / -local[:, 2], -local[:, 1] / -local[:, 2]
    return np.column_stack((settings["fl_x"] * x + settings["cx"], settings["fl_y"] * y + settings["cy"]))


def test_transforms_json_projects_to_the_observations(exported: Exported) -> None:
    content = json.loads((exported.target / "transforms.json").read_text())
    assert content["camera_model"] == "OPENCV" and content["applied_transform"] == np.eye(4)[:3].tolist()
    assert (exported.target / content["ply_file_path"]).is_file()
    assert [frame["file_path"] for frame in content["frames"]] == [
        f"images/{name}" for name in sorted(NAMES) if name != "lost.png"
    ]
    flat = pycolmap.Reconstruction(exported.target / "sparse" / "0")
    for frame in content["frames"]:
        picture = PillowImage.open(exported.target / frame["file_path"])
        mask = PillowImage.open(exported.target / frame["mask_path"])
        assert picture.size == mask.size == (frame["w"], frame["h"])
        image = flat.find_image_with_name(frame["file_path"].removeprefix("images/"))
        seen = image.get_observation_points2D()
        points = np.array([flat.point3D(point.point3D_id).xyz for point in seen])
        error = pixels_by_transforms(content, frame, points) - [point.xy for point in seen]
        assert np.abs(error).max() < 1e-3
        assert {frame[key] for key in ("k1", "k2", "p1", "p2")} == {0.0}


def test_one_camera_stands_at_the_top_of_transforms_json(exported: Exported, tmp_path: Path) -> None:
    model = make_model()
    for name in ("right/a.png", "c.png"):
        model.deregister_frame(model.find_image_with_name(name).frame_id)
    write_splat_folder(model, exported.images, None, tmp_path / "splat")
    content = json.loads((tmp_path / "splat" / "transforms.json").read_text())
    flat = pycolmap.Reconstruction(tmp_path / "splat" / "sparse" / "0")
    camera = flat.camera(1)
    assert (content["w"], content["h"]) == (camera.width, camera.height) and content["fl_x"] == camera.focal_length_x
    assert all("fl_x" not in frame and "mask_path" not in frame for frame in content["frames"])
    assert not (tmp_path / "splat" / "masks").exists() and flat.num_cameras() == 1
    assert len(PlyData.read(tmp_path / "splat" / "init.ply")["vertex"]) == 60  # the model's own points


def test_masks_are_undistorted_with_their_pictures(exported: Exported) -> None:
    """The photo's left 50 columns are masked: a pixel counts where its ray comes from beyond them."""
    flat = pycolmap.Reconstruction(exported.target / "sparse" / "0")
    camera, original = flat.camera(1), exported.model.camera(1)
    mask = np.asarray(PillowImage.open(exported.target / "masks" / "left" / "a.jpg.png"))
    column = origin_of_pixels(camera, original)[..., 0]
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[column < 50 - 0.1] == 0).all() and (mask[column > 50 + 0.1] == 255).all()
    others = [PillowImage.open(exported.target / "masks" / f"{name}.png") for name in ("left/b.JPG", "c.png")]
    assert all(np.asarray(other).min() == 255 for other in others)


def test_the_same_bytes_again_over_an_older_folder(exported: Exported, tmp_path: Path) -> None:
    target = tmp_path / "splat"
    target.mkdir()
    (target / "old").write_text("of an earlier run")
    exported.write(target)
    assert contents(target) == contents(exported.target)
    assert [path.name for path in tmp_path.iterdir()] == ["splat"]


def test_a_failure_leaves_the_folder_as_it_was(exported: Exported, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    save(masks / "c.png.png", np.zeros((5, 5)))
    target = tmp_path / "splat"
    target.mkdir()
    (target / "old").write_text("of an earlier run")
    with pytest.raises(InvalidValueError, match="camera 3: expected a picture of 128 x 96 px, got 5 x 5"):
        exported.write(target, masks)
    assert contents(target) == {"old": b"of an earlier run"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "splat"]


def test_a_photo_of_another_size_is_refused(exported: Exported, tmp_path: Path) -> None:
    for name, camera_id in NAMES.items():
        width, height = CAMERAS[camera_id][1]
        save(tmp_path / name, np.zeros((height + (name == "c.png"), width, 3)))
    with pytest.raises(InvalidValueError, match="expected a picture of 128 x 96"):
        write_splat_folder(exported.model, tmp_path, None, tmp_path / "splat")


def test_a_panorama_is_refused() -> None:
    camera = pycolmap.Camera.create_from_model_name(7, "EQUIRECTANGULAR", 1.0, 200, 100)
    with pytest.raises(InvalidValueError, match="camera 7: expected a camera with a lens"):
        Undistorter(camera)


def lost_px(undistorter: Undistorter, pinhole: pycolmap.Camera) -> tuple[int, int]:
    return pinhole.width - undistorter.size[0], pinhole.height - undistorter.size[1]


@pytest.mark.parametrize("kind", ["PINHOLE", "OPENCV", "SIMPLE_RADIAL"])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (-3.3, 4.2), (0.25, -12.0)])
def test_the_centre_of_view_is_the_middle_of_the_picture(kind: str, offset: tuple[float, float]) -> None:
    """Readers that ignore the principal point, as the first splat trainer's does, are right then."""
    camera = pycolmap.Camera.create_from_model_name(1, kind, 110.0, 140, 100)
    params = np.array(camera.params)
    params[list(camera.principal_point_idxs())] += offset
    params[list(camera.extra_params_idxs())] = 0.02
    camera.params = params.tolist()
    undistorter = Undistorter(camera)
    cx, cy = undistorter.camera.params[2:]
    assert (cx, cy) == (undistorter.size[0] / 2, undistorter.size[1] / 2)
    centre = np.asarray(camera.img_from_cam(np.array([[0.0, 0.0, 1.0]])))
    np.testing.assert_allclose(undistorter.points(centre), [(cx, cy)], atol=1e-9)
    assert undistorter.is_identity is (kind == "PINHOLE" and offset == (0.0, 0.0))


@pytest.mark.parametrize("centre", [(-5.0, 50.0), (12.0, 50.0), (70.0, 140.0)])
def test_a_picture_cut_out_of_a_larger_one_keeps_its_size(centre: tuple[float, float]) -> None:
    """With the centre of view in the middle hardly anything would be left of it."""
    camera = pycolmap.Camera.create_from_model_name(1, "OPENCV", 110.0, 140, 100)
    params = np.array(camera.params)
    params[list(camera.principal_point_idxs())] = centre
    camera.params = params.tolist()
    undistorter = Undistorter(camera)
    assert undistorter.size[0] > 130 and undistorter.size[1] > 90
    pixels = np.array([[30.0, 40.0], [100.0, 20.0]])
    rays = np.column_stack((np.asarray(camera.cam_from_img(pixels)), np.ones(2)))
    fx, fy, cx, cy = undistorter.camera.params
    np.testing.assert_allclose(undistorter.points(pixels), rays[:, :2] * (fx, fy) + (cx, cy), atol=1e-9)
    picture = np.arange(100 * 140, dtype=np.float64).reshape(100, 140) % 251
    assert undistorter.picture(np.dstack([picture] * 3).astype(np.uint8)).shape[1::-1] == undistorter.size


def test_undistorted_points_are_where_colmap_puts_them(exported: Exported) -> None:
    camera = exported.model.camera(2)
    undistorter = Undistorter(camera)
    pixels = np.array([[1.0, 2.0], [139.0, 3.0], [70.0, 60.0]])
    pinhole = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
    cut = (np.array(undistorter.size) / 2) - np.array(pinhole.params[2:])  # so that the centre is the middle
    expected = seen_by(pinhole, np.asarray(camera.cam_from_img(pixels))) + cut
    np.testing.assert_allclose(undistorter.points(pixels), expected, atol=1e-9)
    off = np.abs(np.array([pinhole.width, pinhole.height]) - 2 * np.array(pinhole.params[2:]))
    assert all(0 <= lost <= most + 1 for lost, most in zip(lost_px(undistorter, pinhole), off, strict=True))
    assert undistorter.points(np.zeros((0, 2))).shape == (0, 2)


def test_text_is_the_same_model(exported: Exported, tmp_path: Path) -> None:
    write_text_model(exported.model, tmp_path / "text" / "0")
    read = pycolmap.Reconstruction()
    read.read_text(tmp_path / "text" / "0")
    assert read.num_reg_images() == 4 and read.num_points3D() == 60
    for image in read.images.values():
        original = exported.model.image(image.image_id)
        np.testing.assert_allclose(image.cam_from_world().matrix(), original.cam_from_world().matrix(), atol=1e-12)
        np.testing.assert_allclose([p.xy for p in image.points2D], [p.xy for p in original.points2D])
    ours = read_colmap_model(tmp_path / "text" / "0")
    assert [camera.model for camera in ours.cameras.values()] == [kind for kind, _, _ in CAMERAS.values()]
    before = contents(tmp_path / "text")
    write_text_model(exported.model, tmp_path / "text" / "0")
    assert contents(tmp_path / "text") == before


def test_a_trajectory_is_read_by_evo(exported: Exported, tmp_path: Path) -> None:
    times = {"c.png": 0.125, "left/b.JPG": 0.5, "left/a.jpg": 1.25, "lost.png": 3.0, "never.png": 4.0}
    assert write_trajectory(exported.model, times, tmp_path / "t" / "clip.txt") == 3
    read = file_interface.read_tum_trajectory_file(str(tmp_path / "t" / "clip.txt"))
    assert read.timestamps.tolist() == [0.125, 0.5, 1.25]
    for name, pose in zip(("c.png", "left/b.JPG", "left/a.jpg"), read.poses_se3, strict=True):
        image = exported.model.find_image_with_name(name)
        np.testing.assert_allclose(pose[:3], image.cam_from_world().inverse().matrix(), atol=1e-7)
        np.testing.assert_allclose(pose[:3, 3], image.projection_center(), atol=1e-8)


def test_a_trajectory_needs_frames(exported: Exported, tmp_path: Path) -> None:
    assert write_trajectory(exported.model, {"lost.png": 1.0}, tmp_path / "clip.txt") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("times", "kept"), [((1.0, 1.0, 2.0), [1.0, 2.0]), ((0.5, 1.5, 1.0), [0.5, 1.5]), ((2.0, 0.0, 1.0), [2.0])]
)
def test_frames_whose_time_stamps_repeat_or_go_back_are_left_out_of_a_trajectory(
    exported: Exported,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    times: tuple[float, ...],
    kept: list[float],
) -> None:
    of: dict[str, float] = dict(zip(("left/a.jpg", "left/b.JPG", "c.png"), times, strict=True))
    assert write_trajectory(exported.model, of, tmp_path / "clip.txt") == len(kept)
    assert file_interface.read_tum_trajectory_file(str(tmp_path / "clip.txt")).timestamps.tolist() == kept
    assert f"{3 - len(kept)} of 3 frames are left out of this file" in caplog.text


def test_a_ply_is_read_by_plyfile(exported: Exported, tmp_path: Path) -> None:
    points = np.array([[1.5, -2, 3e-3], [4, 5, 6]], np.float32)
    colors, normals = np.array([[0, 128, 255], [1, 2, 3]], np.uint8), np.array([[0, 0, 1], [0, -1, 0]], np.float32)
    write_ply(tmp_path / "a.ply", points, colors, normals)
    read = PlyData.read(tmp_path / "a.ply")
    assert not read.text and read.byte_order == "<"
    vertex = read["vertex"]
    for names, expected in (("x y z", points), ("red green blue", colors), ("nx ny nz", normals)):
        np.testing.assert_array_equal(np.stack([vertex[name] for name in names.split()], 1), expected)
    write_ply(tmp_path / "b.ply", points[:0], colors[:0])
    plain = PlyData.read(tmp_path / "b.ply")["vertex"]
    assert len(plain) == 0 and [p.name for p in plain.properties] == ["x", "y", "z", "red", "green", "blue"]
    init = PlyData.read(exported.target / "init.ply")["vertex"]
    np.testing.assert_array_equal(np.stack([init[name] for name in "xyz"], 1), exported.cloud.points)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda path: write_ply(path, np.zeros((2, 3)), np.zeros((1, 3), np.uint8)), r"colors: expected .* \(2, 3\)"),
        (lambda path: write_ply(path, np.zeros((2, 3)), np.zeros((2, 3))), "uint8"),
        (lambda path: write_ply(path, np.full((1, 3), np.nan), np.zeros((1, 3), np.uint8)), "finite"),
        (
            lambda path: DensePoints(*(np.zeros((2, 3), kind) for kind in (float, np.uint8, np.float32)), np.zeros(2)),  # type: ignore[arg-type]
            "DensePoints.points",
        ),
    ],
)  # fmt: skip
def test_bad_clouds(call: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=words):
        call(tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []


def test_a_photo_without_a_mask_has_none(exported: Exported) -> None:
    assert working_mask(exported.masks, "c.png") is None
    mask = working_mask(exported.masks, "left/a.jpg")
    assert mask is not None and mask[:, :50].sum() == 0 and mask[:, 50:].all()
    assert registered_images(exported.model)[0].name == "c.png"
