import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch
from random_values import PLAIN, SIFT, random_features, random_matches

from lightmatch.colmap.database import copy_database, open_database, replacing_database
from lightmatch.colmap.model_types import ColmapCamera
from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.extractors.sift import Sift, SiftConfig
from lightmatch.geometry.epipolar import essential_from_pose, sampson_error_px
from lightmatch.images import load_image
from lightmatch.interchange import (
    read_colmap_cameras,
    read_colmap_features,
    read_colmap_keypoints,
    read_colmap_matches,
    read_colmap_verified,
    write_colmap_database,
)
from lightmatch.matchers import NearestNeighbor
from lightmatch.types import FeatureKind, Features

ALIKED = FeatureKind("aliked_n16rot", 128, False)
PINHOLE = ColmapCamera(1, "PINHOLE", 640, 480, (500.0, 510.0, 320.0, 240.0))


@pytest.fixture(scope="module")
def colmaps_own(scene_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that COLMAP made alone: its SIFT, its matching, its verification."""
    path = tmp_path_factory.mktemp("colmap") / "database.db"
    reader = pycolmap.ImageReaderOptions(camera_model="SIMPLE_RADIAL")
    extraction = pycolmap.FeatureExtractionOptions(num_threads=1)
    extraction.sift.max_num_features = 1500
    pycolmap.extract_features(
        path,
        scene_photos,
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reader,
        extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )
    pycolmap.match_exhaustive(path, device=pycolmap.Device.cpu)
    return path


@pytest.fixture(scope="module")
def scene_features(scene_photos: Path) -> dict[str, Features]:
    """SIFT of ours in the same photos."""
    extractor = Sift(SiftConfig(max_keypoints=1500))
    return {photo.name: extractor(load_image(photo)) for photo in sorted(scene_photos.iterdir())}


def image_of(database: pycolmap.Database, name: str) -> pycolmap.Image:
    image = database.read_image_with_name(name)
    assert image is not None
    return image


@pytest.mark.parametrize("kind", [SIFT, PLAIN, ALIKED], ids=lambda kind: kind.name)
def test_features_come_back(kind: FeatureKind, tmp_path: Path) -> None:
    names = ["a.jpg", "left/b 1.jpg", "ü.jpg"]
    features = {name: random_features(20 * n, kind, seed=n) for n, name in enumerate(names)}
    write_colmap_database(tmp_path / "d.db", features, {})
    got = read_colmap_features(tmp_path / "d.db", kind)
    assert list(got) == names
    for name, expected in features.items():
        torch.testing.assert_close(got[name].keypoints, expected.keypoints, atol=1e-4, rtol=0)
        assert got[name].image_size == expected.image_size and got[name].kind == kind
        assert not got[name].scores.any()  # COLMAP has none
        if kind.has_scale_orientation:
            torch.testing.assert_close(got[name].scales, expected.scales)
            torch.testing.assert_close(got[name].orientations, expected.orientations)
            cosine = (got[name].descriptors * expected.descriptors).sum(1)  # 8 bits are left
            assert (cosine > 0.999).all()
        else:
            assert torch.equal(got[name].descriptors, expected.descriptors)


def test_colmap_reads_what_was_written(tmp_path: Path) -> None:
    features = {name: random_features(30, seed=seed) for seed, name in enumerate(("a.jpg", "b.jpg"))}
    write_colmap_database(tmp_path / "d.db", features, {("b.jpg", "a.jpg"): random_matches(30, 30, 12)})
    first = features["a.jpg"]
    assert first.scales is not None and first.orientations is not None
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        a, b = (image_of(database, name) for name in ("a.jpg", "b.jpg"))
        keypoints = database.read_keypoints(a.image_id)
        np.testing.assert_allclose(keypoints[:, :2], first.keypoints.numpy() + 0.5, rtol=1e-6)
        np.testing.assert_allclose(keypoints[:, 2], first.scales.numpy() / 2, rtol=1e-6)
        np.testing.assert_allclose(keypoints[:, 3], first.orientations.numpy(), rtol=1e-6)
        descriptors = database.read_descriptors(a.image_id)
        assert descriptors.type == pycolmap.FeatureExtractorType.SIFT
        np.testing.assert_array_equal(
            np.asarray(descriptors.data), (first.descriptors.numpy() * 512).round().clip(0, 255)
        )
        matches = database.read_matches(b.image_id, a.image_id)
        assert matches.tolist() == random_matches(30, 30, 12).indices.tolist()
        camera = database.read_camera(a.camera_id)
        assert (camera.model.name, camera.width, camera.height) == ("SIMPLE_RADIAL", 640, 480)
        assert camera.params.tolist() == [1.2 * 640, 320, 240, 0] and not camera.has_prior_focal_length
        assert a.camera_id != b.camera_id


def test_colmap_verifies_and_maps_what_was_written(scene_features: Mapping[str, Features], tmp_path: Path) -> None:
    """The whole way through COLMAP: matches of ours in, a model out."""
    names = list(scene_features)
    matcher = NearestNeighbor()
    matches = {
        (one, other): matcher(scene_features[one], scene_features[other])
        for n, one in enumerate(names)
        for other in names[n + 1 :]
    }
    path = tmp_path / "d.db"
    write_colmap_database(path, scene_features, matches)
    (tmp_path / "pairs.txt").write_text("".join(f"{one} {other}\n" for one, other in matches))
    pycolmap.verify_matches(path, tmp_path / "pairs.txt")
    verified = read_colmap_verified(path)
    assert len(verified) == len(matches)
    (tmp_path / "model").mkdir()
    models = pycolmap.incremental_mapping(path, tmp_path, tmp_path / "model")
    assert models and models[0].num_reg_images() == len(names)


def test_cameras_are_shared_where_equal_and_come_back(tmp_path: Path) -> None:
    features = {name: random_features(3, seed=seed) for seed, name in enumerate("abc")}
    write_colmap_database(tmp_path / "d.db", features, {}, {"a": PINHOLE, "c": PINHOLE})
    cameras = read_colmap_cameras(tmp_path / "d.db")
    assert cameras["a"] == cameras["c"] and cameras["a"].model == "PINHOLE"
    assert cameras["a"].params == PINHOLE.params
    assert "b" not in cameras  # a guess
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        assert database.num_cameras() == 2
        assert database.read_camera(cameras["a"].camera_id).has_prior_focal_length


def test_descriptors_of_any_layout_are_written(tmp_path: Path) -> None:
    plain = random_features(7, ALIKED)
    turned = plain.descriptors.T.contiguous().T.requires_grad_()
    write_colmap_database(tmp_path / "d.db", {"a": replace(plain, descriptors=turned)}, {})
    assert torch.equal(read_colmap_features(tmp_path / "d.db", ALIKED)["a"].descriptors, plain.descriptors)


def test_matches_come_back_in_either_order(tmp_path: Path) -> None:
    features = {name: random_features(30 + n, seed=n) for n, name in enumerate("abc")}
    one, none = random_matches(31, 30, 12), random_matches(30, 32, 0)
    write_colmap_database(tmp_path / "d.db", features, {("b", "a"): one, ("a", "c"): none})
    got = read_colmap_matches(tmp_path / "d.db")
    assert set(got) == {("a", "b"), ("a", "c")}  # COLMAP keeps the lower number first
    assert got["b", "a"].indices.tolist() == one.indices.tolist() and got["b", "a"].scores.tolist() == [1] * 12
    assert sorted(got["a", "b"].indices.flip(1).tolist()) == one.indices.tolist()
    assert len(got["a", "c"]) == len(got["c", "a"]) == 0 and ("b", "c") not in got


def test_colmaps_own_database_is_read(colmaps_own: Path, scene_photos: Path) -> None:
    got = read_colmap_features(colmaps_own, SIFT)
    assert sorted(got) == sorted(photo.name for photo in scene_photos.iterdir())
    with pycolmap.Database.open(colmaps_own) as database:
        for name, features in got.items():
            keypoints = database.read_keypoints(image_of(database, name).image_id)
            assert len(features) == len(keypoints) > 500 and keypoints.shape[1] == 6
            fields = ("x", "y", "a11", "a12", "a21", "a22")
            own = [pycolmap.FeatureKeypoint(**dict(zip(fields, row, strict=True))) for row in keypoints[:50].tolist()]
            assert features.scales is not None and features.orientations is not None
            np.testing.assert_allclose(features.scales[:50], [2 * k.compute_scale() for k in own], rtol=1e-5)
            np.testing.assert_allclose(features.orientations[:50], [k.compute_orientation() for k in own], atol=1e-5)
            np.testing.assert_allclose(features.keypoints.numpy(), keypoints[:, :2] - 0.5, rtol=1e-6)
            torch.testing.assert_close(features.descriptors.norm(dim=1), torch.ones(len(features)))
        matches = read_colmap_matches(colmaps_own)
        a, b = (image_of(database, f"view_{n}.png").image_id for n in (0, 1))
        expected = database.read_matches(a, b)
    assert sorted(matches["view_0.png", "view_1.png"].indices.tolist()) == sorted(expected.tolist())


def test_verified_pairs_agree_with_their_geometry_in_our_pixels(colmaps_own: Path) -> None:
    features, verified = read_colmap_features(colmaps_own, SIFT), read_colmap_verified(colmaps_own)
    models = set()
    for name0, name1 in verified:
        for pair in ((name0, name1), (name1, name0)):
            found = verified[pair]
            models.add(found.geometry.model)
            assert found.geometry.num_inliers == len(found.matches) > 15
            points0, points1 = found.matches.points(features[pair[0]], features[pair[1]])
            if found.geometry.model == "fundamental":
                matrix, points = found.geometry.matrix, (points0.double(), points1.double())
                here = sampson_error_px(matrix, *points)
                assert here.max() < 4.5
                with pycolmap.Database.open(colmaps_own) as database:
                    ids = (image_of(database, name).image_id for name in pair)
                    colmaps: Any = database.read_two_view_geometry(*ids).F
                there = sampson_error_px(torch.tensor(colmaps), *(p + 0.5 for p in points))
                torch.testing.assert_close(here, there, atol=1e-6, rtol=1e-6)
    assert "fundamental" in models and models <= {"fundamental", "essential", "homography"}


@pytest.mark.parametrize("model", ["fundamental", "homography", "essential"])
def test_geometries_are_moved_to_our_pixels(model: str, tmp_path: Path) -> None:
    """Points with a known relation, in COLMAP's pixels there and in ours here."""
    rng = np.random.default_rng(3)
    world = rng.uniform([-1, -1, 3], [1, 1, 6], (40, 3))
    if model == "homography":
        world[:, 2] = 4 + 0.2 * world[:, 0]
    rotation = pycolmap.Rotation3d(np.array([0.05, 0.1, 0.02, 1.0]) / np.linalg.norm([0.05, 0.1, 0.02, 1.0])).matrix()
    translation = np.array([0.6, 0.1, 0.2])
    camera = np.array([[500, 0, 320], [0, 500, 240], [0, 0, 1.0]])

    def project(points: np.ndarray) -> np.ndarray:
        homogeneous = points @ camera.T
        return homogeneous[:, :2] / homogeneous[:, 2:]

    colmap0, colmap1 = project(world), project(world @ rotation.T + translation)
    skew = np.cross(np.eye(3), translation) * -1
    essential = skew @ rotation
    inverse = np.linalg.inv(camera)
    normal = np.array([-0.2, 0, 1]) / 4  # n · X = 1 on the plane
    matrices = {
        "essential": essential,
        "fundamental": inverse.T @ essential @ inverse,
        "homography": camera @ (rotation + np.outer(translation, normal)) @ inverse,
    }
    configs = {"essential": "CALIBRATED", "fundamental": "UNCALIBRATED", "homography": "PLANAR"}
    features = {}
    for name, points in (("a", colmap0), ("b", colmap1)):
        features[name] = random_features(40, size=(2000, 2000))
        features[name] = Features(torch.from_numpy(points - 0.5).float(), *list(vars(features[name]).values())[1:])
    path = tmp_path / "d.db"
    write_colmap_database(path, features, {})
    geometry = pycolmap.TwoViewGeometry(
        config=getattr(pycolmap.TwoViewGeometryConfiguration, configs[model]),
        inlier_matches=np.stack((np.arange(40), np.arange(40)), 1).astype(np.uint32),
        cam2_from_cam1=pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), translation),
        **{model[0].upper(): matrices[model]},
    )
    with pycolmap.Database.open(path) as database:
        database.write_two_view_geometry(1, 2, geometry)
    found = read_colmap_verified(path)
    for pair, (one, other) in {("a", "b"): (colmap0, colmap1), ("b", "a"): (colmap1, colmap0)}.items():
        value = found[pair].geometry
        assert value.model == model and value.num_inliers == 40
        points0, points1 = (np.c_[points - 0.5, np.ones(40)] for points in (one, other))
        if model == "homography":
            there = points0 @ value.matrix.numpy().T
            np.testing.assert_allclose(there / there[:, 2:], points1, atol=1e-6)
        else:
            if model == "essential":
                points0, points1 = (np.c_[points, np.ones(40)] @ inverse.T for points in (one, other))
            residual = np.einsum("ni,ij,nj->n", points1, value.matrix.numpy(), points0)
            assert np.abs(residual).max() < 1e-13 * np.abs(value.matrix.numpy()).max() * np.abs(points0).max() ** 2
        pose = value.cam1_from_cam0
        assert pose is not None
        expected = np.c_[rotation, translation / np.linalg.norm(translation)]
        if pair == ("b", "a"):
            expected = np.c_[rotation.T, -rotation.T @ expected[:, 3]]
        np.testing.assert_allclose(pose, expected, atol=1e-9)


@pytest.mark.parametrize("pair", [("a", "b"), ("b", "a")])
def test_pairs_of_known_pose_come_back_with_it(pair: tuple[str, str], tmp_path: Path) -> None:
    features = {name: random_features(20, seed=n) for n, name in enumerate("ab")}
    write_colmap_database(tmp_path / "d.db", features, {})
    rotation = torch.from_numpy(pycolmap.Rotation3d(np.array([0.05, 0.1, 0.02])).matrix())
    cam1_from_cam0 = torch.cat((rotation, torch.tensor([[0.0], [3.0], [4.0]], dtype=torch.float64)), 1)
    inliers = np.array([[1, 2], [3, 4]], np.uint32)
    with open_database(tmp_path / "d.db", write=True) as opened:
        opened.replace_verified(pair, inliers, cam1_from_cam0)
    found = read_colmap_verified(tmp_path / "d.db")[pair]
    assert found.is_valid and found.matches.indices.tolist() == inliers.tolist()
    assert found.geometry.model == "essential" and found.geometry.num_inliers == 2
    expected = torch.cat((rotation, torch.tensor([[0.0], [0.6], [0.8]], dtype=torch.float64)), 1)
    assert found.geometry.cam1_from_cam0 is not None
    torch.testing.assert_close(found.geometry.cam1_from_cam0, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.geometry.matrix, essential_from_pose(expected), atol=1e-12, rtol=0)


def test_pairs_without_one_geometry_say_so(tmp_path: Path) -> None:
    features = {name: random_features(20, seed=n) for n, name in enumerate("ab")}
    write_colmap_database(tmp_path / "d.db", features, {})
    geometry = pycolmap.TwoViewGeometry(
        config=pycolmap.TwoViewGeometryConfiguration.MULTIPLE,
        inlier_matches=np.array([[1, 2], [3, 4]], np.uint32),
    )
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        database.write_two_view_geometry(1, 2, geometry)
    for pair in (("a", "b"), ("b", "a")):
        found = read_colmap_verified(tmp_path / "d.db")[pair]
        assert found.geometry.model == "none" and found.geometry.num_inliers == 0 and len(found.matches) == 2


def test_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    write_colmap_database(tmp_path / "d.db", {"a": random_features(5, ALIKED)}, {})
    with pytest.raises(InvalidValueError, match=r"a: expected descriptors of kind sift .* got 512 bytes of aliked"):
        read_colmap_features(tmp_path / "d.db", SIFT)["a"]
    write_colmap_database(tmp_path / "plain.db", {"a": random_features(5, PLAIN)}, {})
    with pytest.raises(InvalidValueError, match="expected descriptors of kind disk"):
        read_colmap_features(tmp_path / "plain.db", FeatureKind("disk", 128, False))["a"]


def test_keypoints_without_scale_are_refused_for_sift(tmp_path: Path) -> None:
    write_colmap_database(tmp_path / "d.db", {"a": random_features(5)}, {})
    with closing(sqlite3.connect(tmp_path / "d.db")) as database, database:
        database.execute("UPDATE keypoints SET cols = 2, data = substr(data, 1, 40)")
    with pytest.raises(InvalidValueError, match=r"expected keypoints of 4 or 6 numbers, .* got 2"):
        read_colmap_features(tmp_path / "d.db", SIFT)["a"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    features = {name: random_features(5, seed=n) for n, name in enumerate("ab")}
    five = random_matches(5, 5, 5)
    small = ColmapCamera(1, "PINHOLE", 320, 240, PINHOLE.params)
    for matches, cameras, words in (
        ({("a", "b"): five, ("b", "a"): five}, {}, "every pair once"),
        ({("a", "c"): five}, {}, "keypoints are known, got c"),
        ({("a", "b"): random_matches(6, 6, 6)}, {}, "expected indices below 5 and 5"),
        ({}, {"x": PINHOLE}, "cameras: expected names of images with features, got 'x'"),
        ({}, {"b": small}, "b: expected a camera for 640 × 480 px, got one for 320 × 240"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            write_colmap_database(tmp_path / "d.db", features, matches, cameras)
        assert not list(tmp_path.iterdir())


def test_a_database_that_is_there_is_left_alone(tmp_path: Path) -> None:
    write_colmap_database(tmp_path / "d.db", {"a": random_features(5)}, {})
    before = (tmp_path / "d.db").read_bytes()
    with pytest.raises(InvalidValueError, match="expected a new file"):
        write_colmap_database(tmp_path / "d.db", {}, {})
    assert (tmp_path / "d.db").read_bytes() == before


def test_the_journal_of_an_older_database_is_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    path, new = tmp_path / "d.db", tmp_path / "new.db"
    write_colmap_database(path, {"old": random_features(5)}, {})
    write_colmap_database(new, {"new": random_features(5)}, {})
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("UPDATE images SET name = 'older'")
        opened.commit()
        journal = (tmp_path / "d.db-wal").read_bytes()
    (tmp_path / "d.db-wal").write_bytes(journal)  # as a program that was killed leaves it
    with replacing_database(path) as partial:
        copy_database(new, partial)
    assert list(read_colmap_keypoints(path)) == ["new"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d.db", "new.db"]


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ReconstructionError, match="expected a COLMAP database, found none"):
        copy_database(tmp_path / "none.db", tmp_path / "copy.db")
    assert not list(tmp_path.iterdir())


def test_keypoints_are_appended_where_there_were_none(tmp_path: Path) -> None:
    write_colmap_database(tmp_path / "d.db", {"a": random_features(5)}, {})
    with closing(sqlite3.connect(tmp_path / "d.db")) as opened:
        opened.execute("DELETE FROM keypoints")
        opened.commit()
    with open_database(tmp_path / "d.db", write=True) as database:
        assert database.append_keypoints("a", np.ones((3, 2))).shape == (3, 2)
    with open_database(tmp_path / "d.db") as database:
        assert database.keypoints("a").shape == (3, 2)


def test_damaged_and_foreign_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    write_colmap_database(tmp_path / "whole.db", {"a": random_features(400)}, {})
    whole = (tmp_path / "whole.db").read_bytes()
    (tmp_path / "text.db").write_text("this is no database, but long enough to be looked at" * 20)
    (tmp_path / "cut.db").write_bytes(whole[: len(whole) // 2])
    with closing(sqlite3.connect(tmp_path / "other.db")) as database, database:
        database.execute("CREATE TABLE images (image_id INTEGER, name TEXT)")
    for name in ("text.db", "cut.db", "other.db", "missing.db"):
        with pytest.raises(InvalidValueError, match=f"{name}: expected a COLMAP database"):
            read_colmap_features(tmp_path / name, SIFT)["a"]
    with closing(sqlite3.connect(tmp_path / "whole.db")) as database, database:
        database.execute("UPDATE descriptors SET data = substr(data, 1, 100)")
    with pytest.raises(InvalidValueError, match=r"whole\.db: expected 400 × 128 values of uint8, got 100 bytes"):
        read_colmap_features(tmp_path / "whole.db", SIFT)["a"]


def test_reading_changes_nothing_and_needs_no_right_to_write(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    write_colmap_database(folder / "d.db", {"a": random_features(5)}, {})
    before = (folder / "d.db").read_bytes()
    (folder / "d.db").chmod(0o444)
    assert len(read_colmap_features(folder / "d.db", SIFT)["a"]) == 5
    assert (folder / "d.db").read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["d.db"]
