"""COLMAP's files: by hand, there and back, and beside pycolmap."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lightmatch.colmap.model_files import is_colmap_model, read_colmap_model, write_colmap_model
from lightmatch.colmap.model_types import CAMERA_PARAMS, ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from lightmatch.errors import InvalidValueError
from lightmatch.scenes import look_at

CAMERAS = "# a comment\n1 SIMPLE_RADIAL 640 480 500 320 240 -0.1\n7 PINHOLE 100 80 90 91 50 40\n"
# A quarter turn about z: x → y. The first photo has three keypoints, the second has none: its second line is empty.
IMAGES = """# a comment
3 0.7071067811865476 0 0 0.7071067811865476 1 2 3 1 day one/a.jpg
10.5 20.5 42 0.5 0.5 -1 30 40 5

4 1 0 0 0 0 0 0 7 b.jpg

"""
POINTS = "42 1 2 3 255 0 7 0.25 3 0\n5 -1 -2 -3 1 2 3 -1 3 2\n"


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    for name, content in [("cameras", CAMERAS), ("images", IMAGES), ("points3D", POINTS), ("rigs", "1 1 CAMERA 1\n")]:
        (tmp_path / f"{name}.txt").write_text(content)
    return tmp_path


def some_model() -> ColmapModel:
    """Two photos with poses out of the ordinary; point 9 is seen by both, and twice in the second."""
    generator = torch.Generator().manual_seed(0)
    eyes = torch.randn((2, 3), generator=generator, dtype=torch.float64) * 5
    poses = look_at(eyes, torch.zeros(3, dtype=torch.float64))
    keypoints = [torch.rand((n, 2), generator=generator, dtype=torch.float64) * 400 for n in (4, 5)]
    seen = [([1, 3], [0, 2]), ([0, 2, 4], [1, 2, 2])]
    images = {
        number: ColmapImage(number, name, 1, pose, points, torch.tensor(observing), torch.tensor(observed))
        for number, name, pose, points, (observing, observed) in zip(
            (2, 11), ("a.jpg", "sub/ß.jpg"), poses, keypoints, seen, strict=True
        )
    }
    points = ColmapPoints(
        torch.tensor([4, 6, 9]),
        torch.randn((3, 3), generator=generator, dtype=torch.float64),
        torch.tensor([[0, 128, 255], [1, 2, 3], [9, 8, 7]], dtype=torch.uint8),
        torch.tensor([0.5, torch.nan, 1 / 3], dtype=torch.float64),
    )
    camera = ColmapCamera(1, "OPENCV", 640, 480, (500.1, 501.2, 319.5, 240.25, 0.1, -0.02, 1e-3, -2e-3))
    return ColmapModel({1: camera}, images, points)


def assert_same(model: ColmapModel, other: ColmapModel, tolerance: float = 0.0) -> None:
    def close(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, equal_nan=True)

    assert model.cameras == other.cameras
    assert list(model.images) == list(other.images)
    for image, copied in zip(model.images.values(), other.images.values(), strict=True):
        assert (image.image_id, image.name, image.camera_id) == (
            copied.image_id,
            copied.name,
            copied.camera_id,
        )
        torch.testing.assert_close(image.cam_from_world, copied.cam_from_world, rtol=0, atol=1e-14)
        close(image.keypoints, copied.keypoints)
        assert torch.equal(image.observing, copied.observing)
        assert torch.equal(image.observed, copied.observed)
    for name in ("ids", "xyz", "rgb", "error_px"):
        close(getattr(model.points, name), getattr(other.points, name))


def test_text_by_hand(text_model: Path) -> None:
    model = read_colmap_model(text_model)
    image = model.images[3]
    assert image.name == "day one/a.jpg"
    torch.testing.assert_close(
        image.cam_from_world,
        torch.tensor([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]], dtype=torch.float64),
    )
    # COLMAP's (0.5, 0.5) is our (0, 0).
    assert image.keypoints.tolist() == [[10, 20], [0, 0], [29.5, 39.5]]
    # Points are sorted by id, 5 before 42; the second keypoint sees nothing.
    assert model.points.ids.tolist() == [5, 42]
    assert image.observing.tolist() == [0, 2]
    assert image.observed.tolist() == [1, 0]
    assert model.points.rgb.tolist() == [[1, 2, 3], [255, 0, 7]]
    assert model.points.error_px.isnan().tolist() == [True, False]
    assert model.track(1) == [(3, 0)]
    assert model.images[4].keypoints.shape == (0, 2)


def test_camera_matrix_is_in_our_pixels(text_model: Path) -> None:
    cameras = read_colmap_model(text_model).cameras
    assert cameras[1].K().tolist() == [[500, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]
    assert cameras[7].K().tolist() == [[90, 0, 49.5], [0, 91, 39.5], [0, 0, 1]]
    assert cameras[1].distortion() == (-0.1, 0, 0, 0)
    assert cameras[7].distortion() == ()


def test_distortion_in_opencv_order() -> None:
    full = ColmapCamera(1, "FULL_OPENCV", 9, 9, (1, 1, 4, 4, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
    assert full.distortion() == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    assert ColmapCamera(1, "RADIAL", 9, 9, (1, 4, 4, 0.1, 0.2)).distortion() == (0.1, 0.2, 0, 0)
    with pytest.raises(InvalidValueError, match="FOV; undistort"):
        ColmapCamera(1, "FOV", 9, 9, (1, 1, 4, 4, 0.1)).distortion()


@pytest.mark.parametrize("binary", [False, True])
def test_there_and_back(tmp_path: Path, binary: bool) -> None:
    model = some_model()
    write_colmap_model(model, tmp_path / "new" / "folder", binary=binary)
    # The half pixel added and taken away again may cost the last bit.
    assert_same(read_colmap_model(tmp_path / "new" / "folder"), model, tolerance=1e-12)


def test_text_with_rare_characters_in_names_and_a_byte_order_mark(tmp_path: Path) -> None:
    model = some_model()
    first = min(model.images)
    images = {**model.images, first: replace(model.images[first], name="a\x85 \u2028b.jpg")}
    write_colmap_model(replace(model, images=images), tmp_path, binary=False)
    for name in ("cameras.txt", "images.txt", "points3D.txt"):
        content = (tmp_path / name).read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    found = read_colmap_model(tmp_path)
    assert found.images[first].name == "a\x85 \u2028b.jpg" and len(found.images) == len(model.images)


def test_empty_model(tmp_path: Path) -> None:
    none = torch.empty((0, 3), dtype=torch.float64)
    points = ColmapPoints(torch.empty(0, dtype=torch.int64), none, none.to(torch.uint8), none[:, 0])
    for binary in (False, True):
        write_colmap_model(ColmapModel({}, {}, points), tmp_path, binary=binary)
        assert_same(read_colmap_model(tmp_path), ColmapModel({}, {}, points))


@pytest.mark.parametrize("binary", [False, True])
def test_pycolmap_reads_what_we_write(tmp_path: Path, binary: bool) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    model = some_model()
    write_colmap_model(model, tmp_path, binary=binary)
    theirs = pycolmap.Reconstruction(str(tmp_path))
    assert sorted(theirs.images) == [2, 11]
    for number, image in model.images.items():
        copied = theirs.images[number]
        assert copied.name == image.name
        np.testing.assert_allclose(copied.cam_from_world().matrix(), image.cam_from_world, atol=1e-12)
        keypoints = np.array([point.xy for point in copied.points2D])
        np.testing.assert_allclose(keypoints, image.keypoints + 0.5, atol=1e-12)
    tracks = {
        number: {(element.image_id, element.point2D_idx) for element in point.track.elements}
        for number, point in theirs.points3D.items()
    }
    assert tracks == {int(number): set(model.track(row)) for row, number in enumerate(model.points.ids)}
    np.testing.assert_allclose(theirs.cameras[1].params, model.cameras[1].params)


@pytest.mark.parametrize("binary", [False, True])
def test_we_read_what_pycolmap_writes(tmp_path: Path, binary: bool) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    model = some_model()
    write_colmap_model(model, tmp_path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    reconstruction = pycolmap.Reconstruction(str(tmp_path))
    (reconstruction.write_binary if binary else reconstruction.write_text)(str(theirs))
    again = read_colmap_model(theirs)
    images = dict(sorted(again.images.items()))
    assert_same(ColmapModel(again.cameras, images, again.points), model, tolerance=1e-12)


def test_camera_models_are_pycolmaps() -> None:
    pycolmap = pytest.importorskip("pycolmap")
    numbers = {name: int(value) for name, value in pycolmap.CameraModelId.__members__.items() if name != "INVALID"}
    assert numbers == {name: number for number, name in enumerate(CAMERA_PARAMS)}
    for name, value in pycolmap.CameraModelId.__members__.items():
        if name != "INVALID":
            params = pycolmap.Camera.create_from_model_id(1, value, 100.0, 200, 100).params
            assert len(params) == len(CAMERA_PARAMS[name].split()), name


def test_rotations_of_any_angle_survive(tmp_path: Path) -> None:
    """Half turns too, whose quaternions have w = 0."""
    turns = [np.diag(signs) for signs in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])]
    none = torch.empty(0, dtype=torch.int64)
    images = {
        number: ColmapImage(
            number,
            f"{number}.jpg",
            1,
            torch.cat((torch.tensor(turn, dtype=torch.float64), torch.ones((3, 1), dtype=torch.float64)), 1),
            torch.empty((0, 2), dtype=torch.float64),
            none,
            none,
        )
        for number, turn in enumerate(turns)
    }
    model = ColmapModel(some_model().cameras, images, some_model().points)
    write_colmap_model(model, tmp_path)
    assert_same(read_colmap_model(tmp_path), model)


def test_missing_model(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text(CAMERAS)
    (tmp_path / "images.bin").write_bytes(b"")
    assert not is_colmap_model(tmp_path)
    with pytest.raises(InvalidValueError, match="expected a COLMAP model"):
        read_colmap_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cameras", "1 SIMPLE_RADIAL 640 480 500 320 240\n"),
        ("cameras", "1 CAMERA_OBSCURA 640 480 500\n"),
        ("images", "3 1 0 0 0 1 2 3 1\n\n"),
        ("images", "3 1 0 0 0 1 2 3 1 a.jpg\n1 2 3 4\n"),
        ("images", "3 0 0 0 0 1 2 3 1 a.jpg\n\n"),
        ("points3D", "42 1 2 3 255 0 7\n"),
        ("points3D", "42 1 2 3 one 0 7 0.25\n"),
    ],
)
def test_damaged_text(text_model: Path, name: str, content: str) -> None:
    (text_model / f"{name}.txt").write_text(content)
    with pytest.raises(InvalidValueError, match=f"{name}.txt: expected a whole COLMAP file"):
        read_colmap_model(text_model)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_truncated_binary(tmp_path: Path, name: str) -> None:
    write_colmap_model(some_model(), tmp_path, binary=True)
    path = tmp_path / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InvalidValueError, match=f"{name}.bin: expected a whole COLMAP file"):
        read_colmap_model(tmp_path)


def test_photo_of_a_point_that_is_not_there(text_model: Path) -> None:
    (text_model / "points3D.txt").write_text(POINTS.splitlines()[0] + "\n")
    with pytest.raises(InvalidValueError, match=r"day one/a\.jpg names others"):
        read_colmap_model(text_model)


def test_real_model(real_data: Path) -> None:
    """Every observation of the Lund door reprojects to its 3D point within a few pixels."""
    from lightmatch.evaluation.pairs import Camera
    from lightmatch.geometry.coordinates import transform_points
    from lightmatch.geometry.depth import project

    model = read_colmap_model(real_data / "eval" / "lund_door" / "colmap_ground_truth")
    assert (len(model.images), len(model.points)) == (12, 11384)
    errors = []
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        expected, _ = project(transform_points(image.cam_from_world, model.points.xyz[image.observed]), camera.K())
        seen = Camera(camera.K(), camera.distortion()).undistort(image.keypoints[image.observing])
        errors.append((seen - expected).norm(dim=-1))
    assert torch.cat(errors).median() < 0.5
