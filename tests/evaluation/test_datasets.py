"""Each layout from files written here, in numbers worked out by hand; then the real sets."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.evaluation.datasets import (
    detect_layout,
    read_colmap,
    read_imc,
    read_megadepth,
    read_pairs,
    read_strecha_camera,
)
from lightmatch.evaluation.pairs import CorrespondenceTruth, EvaluationPair, HomographyTruth, PoseTruth
from lightmatch.geometry.homography import transfer, transfer_error

K = [100.0, 0, 50, 0, 110, 40, 0, 0, 1]
# Camera 1 stands at (1, 0, 0) and is turned a quarter about z: its x axis is the world's y.
R1, C1 = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.array([1.0, 0, 0])
T1 = -R1 @ C1


def words(*parts: object) -> str:
    return " ".join(str(number) for part in parts for number in np.ravel(np.asarray(part)))


def make_photos(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 10, 3), np.uint8))


def pose_of(pair: EvaluationPair) -> PoseTruth:
    assert isinstance(pair.truth, PoseTruth)
    return pair.truth


def assert_pose(pair: EvaluationPair, centre: tuple[float, float] = (50, 40)) -> None:
    """The pair of camera 0, in the world's frame, and camera 1; both with K, its principal point at `centre`."""
    truth = pose_of(pair)
    expected = torch.from_numpy(np.column_stack((R1, T1)))
    torch.testing.assert_close(truth.cam1_from_cam0, expected, rtol=0, atol=1e-12)
    for camera in (truth.camera0, truth.camera1):
        assert camera.K.tolist() == [[100, 0, centre[0]], [0, 110, centre[1]], [0, 0, 1]]
        assert camera.distortion == ()


def test_nested_scenes_have_different_names(tmp_path: Path) -> None:
    for scene in ("a/dense", "b/dense"):
        for number in (1, 2):
            make_photos(tmp_path / scene / f"{number}.png")
        (tmp_path / scene / "H_1_2").write_text("1 0 0\n0 1 0\n0 0 1\n")
    assert [pair.scene for pair in read_pairs(tmp_path)] == ["a/dense", "b/dense"]
    assert [pair.scene for pair in read_pairs(tmp_path / "a" / "dense")] == ["dense"]


@pytest.mark.parametrize(
    ("layout", "image", "matrix"), [("oxford", "img{}.png", "H1to{}p"), ("hpatches", "{}.jpg", "H_1_{}")]
)
def test_homography_sequences(tmp_path: Path, layout: str, image: str, matrix: str) -> None:
    for scene in ("wall", "boat"):
        for number in (1, 2, 3):
            make_photos(tmp_path / scene / image.format(number))
        (tmp_path / scene / matrix.format(2)).write_text("2 0 5\n0 2 7\n0 0 1\n")
        (tmp_path / scene / matrix.format(3)).write_text("-1 0 0\n0 -1 3\n0 0 -1\n")
    assert detect_layout(tmp_path / "wall") == layout
    assert detect_layout(tmp_path) is None
    pairs = read_pairs(tmp_path)
    assert [(pair.scene, Path(str(pair.image1)).name) for pair in pairs] == [
        (scene, image.format(number)) for scene in ("boat", "wall") for number in (2, 3)
    ]
    assert all(pair.image0 == tmp_path / pair.scene / image.format(1) for pair in pairs)
    point = torch.tensor([[1, 1]], dtype=torch.float64)
    moved = [transfer(pair.truth.H, point).tolist() for pair in pairs[:2] if isinstance(pair.truth, HomographyTruth)]
    # The second matrix stands in the file with the opposite sign: it is turned, so that pixels are seen.
    assert moved == [[[7, 9]], [[1, -2]]]


def test_damaged_homography(tmp_path: Path) -> None:
    (tmp_path / "H1to2p").write_text("1 0 0 0 1 0 0 0")
    with pytest.raises(InvalidValueError, match="expected the photos img1 and img2"):
        read_pairs(tmp_path)
    make_photos(tmp_path / "img1.png", tmp_path / "img2.png")
    with pytest.raises(InvalidValueError, match="expected 9 numbers, got 8"):
        read_pairs(tmp_path)


def test_marked_points(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    points0 = np.array([[1.0, 2], [10, 2], [10, 20], [1, 20]])
    points1 = points0 * 2 + [3, 4]
    ones = np.ones(4)
    rows = np.vstack([2 * points0.T, 2 * ones, points1.T, ones])  # homogeneous: any factor will do
    for name in ("flat", "deep"):
        make_photos(tmp_path / f"{name}A.png", tmp_path / f"{name}B.jpg")
        scipy_io.savemat(tmp_path / f"{name}_vpts.mat", {"validation": {"pts": rows, "imsize": [8, 10]}})
    (tmp_path / "flat_model.txt").write_text("0.5 0 -1.5\n0 0.5 -2\n0 0 1\n")  # B → A
    assert detect_layout(tmp_path) == "marked-points"
    deep, flat = (pair.truth for pair in read_pairs(tmp_path))
    assert isinstance(deep, CorrespondenceTruth)
    assert isinstance(flat, CorrespondenceTruth)
    assert (deep.kind, deep.H, flat.kind) == ("general", None, "planar")
    assert deep.points0.tolist() == points0.tolist()
    assert deep.points1.tolist() == points1.tolist()
    assert flat.H is not None
    torch.testing.assert_close(transfer(flat.H, flat.points0), flat.points1)


def test_damaged_marked_points(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    (tmp_path / "a_vpts.mat").write_bytes(b"MATLAB 5.0, or so" * 20)
    with pytest.raises(InvalidValueError, match="the photos aA and aB"):
        read_pairs(tmp_path)
    make_photos(tmp_path / "aA.png", tmp_path / "aB.png")
    with pytest.raises(InvalidValueError, match=r"a_vpts\.mat: expected a \.mat file"):
        read_pairs(tmp_path)


@pytest.mark.parametrize("folder", [".", "gt_dense_cameras"])
def test_strecha(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, R, C in (("0.jpg", np.eye(3), np.zeros(3)), ("1.jpg", R1, C1)):
        make_photos(tmp_path / "images" / name)
        # The file has camera-to-world: the transpose, and where the camera stands.
        (tmp_path / folder / f"{name}.camera").write_text(words(K, [0, 0, 0], R.T, C, [10, 8]))
    assert detect_layout(tmp_path) == "strecha"
    (pair,) = read_pairs(tmp_path)
    assert (pair.name, pair.scene, pair.image1) == ("0-1", tmp_path.name, tmp_path / "images" / "1.jpg")
    assert_pose(pair)


def test_damaged_camera(tmp_path: Path) -> None:
    (tmp_path / "0.jpg.camera").write_text(words(K))
    with pytest.raises(InvalidValueError, match="expected 26 numbers, got 9"):
        read_strecha_camera(tmp_path / "0.jpg.camera")


def test_camera_list(tmp_path: Path) -> None:
    lines = ["2", f"a.png {words(K, np.eye(3), np.zeros(3))}", f"b.png {words(K, R1, T1)}"]
    (tmp_path / "temple_par.txt").write_text("\n".join(lines))
    assert detect_layout(tmp_path) == "camera-list"
    (pair,) = read_pairs(tmp_path)
    assert pair.image1 == tmp_path / "b.png"
    assert_pose(pair)
    (tmp_path / "temple_par.txt").write_text("1\na.png 1 2 3")
    with pytest.raises(InvalidValueError, match="expected a name and 21 numbers"):
        read_pairs(tmp_path)


def test_imc(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "calibration").mkdir()
    (tmp_path / "new-vis-pairs").mkdir()
    for name, R, t in (("a_1", np.eye(3), np.zeros(3)), ("b_2", R1, T1)):
        with h5py.File(tmp_path / "calibration" / f"calibration_{name}.h5", "w") as file:
            file["K"], file["R"], file["T"] = np.reshape(K, (3, 3)), R, t
    for threshold, keys in (("0.1", ["a_1-b_2", "b_2-a_1"]), ("0.3", ["a_1-b_2"])):
        np.save(tmp_path / "new-vis-pairs" / f"keys-th-{threshold}.npy", np.array(keys))
    assert detect_layout(tmp_path) == "imc"
    pairs = read_pairs(tmp_path)
    assert [pair.name for pair in pairs] == ["a_1-b_2", "b_2-a_1"]
    # The challenge counts pixels as COLMAP does.
    assert_pose(pairs[0], centre=(49.5, 39.5))
    assert len(read_imc(tmp_path, min_covisibility=0.3)) == 1
    with pytest.raises(InvalidValueError, match=r"keys-th-0\.7\.npy: expected a list"):
        read_imc(tmp_path, min_covisibility=0.7)


def test_colmap(tmp_path: Path) -> None:
    """Photos a and b share two points, c sees none of theirs."""
    model = tmp_path / "sparse" / "0"
    model.mkdir(parents=True)
    make_photos(tmp_path / "images" / "a.jpg")
    (model / "cameras.txt").write_text("1 OPENCV 100 80 100 110 50 40 0 0 0 0\n")
    # The quaternion of R1: a quarter turn about z, backwards.
    half = np.sqrt(0.5)
    (model / "images.txt").write_text(
        f"1 {words([half, 0, 0, -half], T1)} 1 b.jpg\n1 1 7 2 2 8 3 3 -1\n"
        "2 1 0 0 0 0 0 0 1 a.jpg\n1 1 7 2 2 8\n"
        "3 1 0 0 0 0 0 0 1 c.jpg\n1 1 9\n"
    )
    (model / "points3D.txt").write_text("".join(f"{point} 0 0 1 0 0 0 0\n" for point in (7, 8, 9)))
    assert detect_layout(tmp_path) == "colmap"
    (pair,) = read_colmap(tmp_path, min_shared_points=2)
    assert pair.name == "a-b"
    assert_pose(pair, centre=(49.5, 39.5))
    assert len(read_colmap(tmp_path, min_shared_points=0)) == 3
    with pytest.raises(ImageReadError, match=r"b\.jpg: there is no such file"):
        pair.load()


def test_text_list(tmp_path: Path) -> None:
    pose = np.vstack([np.column_stack((R1, T1)), [0, 0, 0, 1]])
    lines = [
        f"scene1_00_frame-000015.jpg scene1_00_frame-000585.jpg 0 0 {words(K, K, pose)}",
        f"church/a.jpg church/b.jpg 0 1 {words(K, K, pose)}",
    ]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(lines) + "\n")
    assert detect_layout(path) == "text-list"
    frames, church = read_pairs(path, image_root=tmp_path / "photos")
    assert (frames.scene, church.scene) == ("scene1_00", "church")
    assert church.image0 == tmp_path / "photos" / "church" / "a.jpg"
    assert_pose(frames)
    with pytest.raises(ImageReadError, match="no such file"):
        frames.load()
    path.write_text(lines[0] + "\n" + lines[1][:-4])
    with pytest.raises(InvalidValueError, match="expected lines of 38 columns"):
        read_pairs(path)


def test_json_list(tmp_path: Path) -> None:
    entry = {
        "pair_names": ["x/a.jpg", "x/b.jpg"],
        "scene_id": "0015_0",
        "K0": np.reshape(K, (3, 3)).tolist(),
        "K1": np.reshape(K, (3, 3)).tolist(),
        "T_0to1": [*np.column_stack((R1, T1)).tolist(), [0, 0, 0, 1]],
    }
    path = tmp_path / "list.json"
    path.write_text(json.dumps([entry]))
    (pair,) = read_pairs(path)
    assert (pair.scene, pair.image0) == ("0015_0", tmp_path / "x" / "a.jpg")
    assert_pose(pair, centre=(49.5, 39.5))
    for damaged in ('[{"pair_names": ["a", "b"]}]', "{", "[1]"):
        path.write_text(damaged)
        with pytest.raises(InvalidValueError, match=r"list\.json: expected a list of pairs"):
            read_pairs(path)


def test_megadepth(tmp_path: Path) -> None:
    """Scene infos hold None for photos that were left out."""

    def objects(*values: object) -> np.ndarray:
        filled = np.empty(len(values), dtype=object)
        for place, value in enumerate(values):
            filled[place] = value
        return filled

    pose = np.vstack([np.column_stack((R1, T1)), [0, 0, 0, 1]])
    info = {
        "image_paths": objects("u/a.jpg", None, "u/b.jpg"),
        "depth_paths": objects("d/a.h5", None, "d/b.h5"),
        "intrinsics": objects(np.reshape(K, (3, 3)), None, np.reshape(K, (3, 3))),
        "poses": objects(np.eye(4), None, pose),
        "pair_infos": [(np.array([0, 2]), np.float64(0.4), np.zeros((2, 2)))],
    }
    folder = tmp_path / "scene_info"
    folder.mkdir()
    (folder / "0015_0.1_0.3.npz").write_bytes(pickle.dumps(info))
    assert detect_layout(folder) == "megadepth"
    (pair,) = read_pairs(folder, image_root="photos")
    assert (pair.scene, pair.image1) == ("0015_0.1_0.3", Path("photos/u/b.jpg"))
    assert_pose(pair, centre=(49.5, 39.5))
    # A list is read only where it is named, for its photos lie elsewhere.
    with pytest.raises(InvalidValueError, match="found none"):
        read_pairs(tmp_path)


class _Intruder:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("intruder"),)


def test_pickle_may_not_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.npz").write_bytes(pickle.dumps({"image_paths": _Intruder()}))
    with pytest.raises(InvalidValueError, match="asks for pathlib"):
        read_megadepth(tmp_path, tmp_path)
    assert not Path("intruder").exists()
    # Nor may it reach what NumPy has beside arrays.
    (tmp_path / "evil.npz").write_bytes(pickle.dumps(np.testing.assert_equal))
    with pytest.raises(InvalidValueError, match="asks for numpy"):
        read_megadepth(tmp_path, tmp_path)


def test_scannet(tmp_path: Path) -> None:
    names = np.array([[707, 1, 15, 585]], dtype=np.uint16)
    np.savez(tmp_path / "test.npz", name=names, rel_pose=np.column_stack((R1, T1)).reshape(1, 12))
    np.savez(tmp_path / "intrinsics.npz", scene0707_01=np.reshape(K, (3, 3)))
    assert detect_layout(tmp_path) == "scannet"
    (pair,) = read_pairs(tmp_path)
    assert (pair.scene, pair.name) == ("scene0707_01", "15-585")
    assert pair.image1 == tmp_path / "scene0707_01" / "color" / "585.jpg"
    assert_pose(pair)
    np.savez(tmp_path / "intrinsics.npz", scene0001_00=np.reshape(K, (3, 3)))
    with pytest.raises(InvalidValueError, match="could not read that"):
        read_pairs(tmp_path)


def test_no_layout(tmp_path: Path) -> None:
    make_photos(tmp_path / "images" / "a.jpg")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidValueError, match="expected a data set in one of the layouts oxford, hpatches"):
            read_pairs(path)


@pytest.mark.parametrize(
    ("name", "count", "wide"),
    [
        ("oxford_affine", 20, 20),
        ("homogr", 7, 7),
        ("fundamental", 6, 6),
        ("strecha", 55, 10),
        ("lund_door", 66, 0),
        ("middlebury_templeRing47", 1081, 127),
        ("imc_reichstag", 45, 0),
    ],
)
def test_real_sets(real_data: Path, name: str, count: int, wide: int) -> None:
    folder = real_data / "eval" / name
    pairs = read_pairs(folder)
    assert len(pairs) == count
    assert len({(pair.scene, pair.name) for pair in pairs}) == count
    assert all(Path(str(image)).is_file() for pair in pairs for image in (pair.image0, pair.image1))
    assert len(read_pairs(folder, min_angle_deg=50, max_angle_deg=70)) == wide


def test_real_homographies_fit_their_points(real_data: Path) -> None:
    for pair in read_pairs(real_data / "eval" / "homogr"):
        truth = pair.truth
        assert isinstance(truth, CorrespondenceTruth)
        assert truth.H is not None
        assert float(transfer_error(truth.H, truth.points0, truth.points1).max()) < 1e-3


def test_real_lists_agree(real_data: Path) -> None:
    """MegaDepth-1500 from two publishers: the same pairs, cameras and poses."""
    lists = real_data / "eval" / "pair_lists"
    loftr = read_pairs(lists / "loftr_megadepth_test_1500_scene_info")
    root = lists / "loftr_megadepth_test_1500_scene_info"
    xfeat = {(p.image0, p.image1): pose_of(p) for p in read_pairs(lists / "megadepth_1500.json", image_root=root)}
    assert len(loftr) == len(xfeat) == 1500
    for pair in loftr:
        truth, other = pose_of(pair), xfeat[pair.image0, pair.image1]
        torch.testing.assert_close(truth.cam1_from_cam0, other.cam1_from_cam0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(truth.camera0.K, other.camera0.K, rtol=1e-6, atol=1e-3)
    assert len(read_pairs(lists / "loftr_scannet_test_1500")) == 1500
