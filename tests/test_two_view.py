"""Two photos to matches and geometry, against the truth of the procedural world."""

import json
from pathlib import Path

import pytest
import torch

import lightmatch as lm
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.epipolar import (
    epipolar_distance_px,
    essential_from_pose,
    fundamental_from_essential,
    pose_error,
)
from lightmatch.images.rotation import rotate_features, rotate_image
from lightmatch.scenes import RenderedScene


def test_matches_agree_with_the_truth(scene: RenderedScene, scene_photos: Path) -> None:
    result = lm.match(scene_photos / "view_0.png", scene_photos / "view_1.png")
    cam1_from_cam0 = compose_rigid(scene.cam_from_world[1].double(), invert_rigid(scene.cam_from_world[0].double()))
    K0, K1 = scene.K[0].double(), scene.K[1].double()
    F = fundamental_from_essential(essential_from_pose(cam1_from_cam0), K0, K1)
    points0, points1 = result.matches.points(result.features0, result.features1)
    error_px = epipolar_distance_px(F, points0.double(), points1.double())
    assert len(result.matches) > 100
    assert float((error_px[result.geometry.inliers] < 2).double().mean()) > 0.95
    assert result.geometry.model == "fundamental"


def test_intrinsics_give_the_relative_pose(scene: RenderedScene, scene_photos: Path) -> None:
    K0, K1 = scene.K[0].double(), scene.K[1].double()
    result = lm.match(scene_photos / "view_0.png", scene_photos / "view_1.png", K0=K0, K1=K1)
    truth = compose_rigid(scene.cam_from_world[1].double(), invert_rigid(scene.cam_from_world[0].double()))
    assert result.geometry.model == "essential" and result.geometry.cam1_from_cam0 is not None
    rotation_deg, translation_deg = pose_error(result.geometry.cam1_from_cam0, truth)
    assert float(rotation_deg) < 0.5 and float(translation_deg) < 2


def test_an_extractor_and_a_matcher_can_be_given(scene_photos: Path) -> None:
    extractor = lm.create_extractor("sift", max_keypoints=900)
    matcher = lm.NearestNeighbor(ratio=0.7)
    image = lm.load_image(scene_photos / "view_0.png")
    result = lm.match(image, scene_photos / "view_1.png", extractor, matcher, geometry="homography")
    assert len(result.features0) <= 900 and len(result.matches) > 10


def test_rotations_find_the_turn(scene: RenderedScene, scene_photos: Path) -> None:
    """Upright SIFT knows no turned photos; the keypoints are those of the turned photo, not of the one that matched."""
    extractor = lm.create_extractor("sift", max_keypoints=900, upright=True)
    photo = lm.load_image(scene_photos / "view_0.png")
    lying = rotate_image(lm.load_image(scene_photos / "view_1.png"), 1)
    alone, helped = (
        lm.match(photo, lying, extractor, lm.NearestNeighbor(0.8), rotations=rotations) for rotations in (False, True)
    )
    assert helped.features1.image_size == lying.size
    assert helped.geometry.num_inliers > 3 * alone.geometry.num_inliers
    truth = compose_rigid(scene.cam_from_world[1].double(), invert_rigid(scene.cam_from_world[0].double()))
    K0, K1 = scene.K[0].double(), scene.K[1].double()
    F = fundamental_from_essential(essential_from_pose(truth), K0, K1)
    points0, _ = helped.matches.points(helped.features0, helped.features1)
    _, points1 = helped.matches.points(helped.features0, rotate_features(helped.features1, -1))
    error_px = epipolar_distance_px(F, points0.double(), points1.double())
    assert float((error_px[helped.geometry.inliers] < 2).double().mean()) > 0.95


def test_json_has_every_documented_field(scene_photos: Path) -> None:
    result = lm.match(scene_photos / "view_0.png", scene_photos / "view_1.png", max_keypoints=300)
    read = json.loads(json.dumps(result.to_json()))
    page = (Path(__file__).parents[1] / "docs" / "match-json.md").read_text()
    for name in [*read, *read["geometry"], *read["matches"][0]]:
        assert f"`{name}`" in page or f"`geometry.{name}`" in page, f"{name} is not documented"
    assert len(read["matches"]) == read["num_matches"]
    first = read["matches"][0]
    assert first["point0"] == result.features0.keypoints[first["index0"]].tolist()
    assert sum(match["inlier"] for match in read["matches"]) == read["num_inliers"]


def test_no_geometry_is_null_in_json(scene_photos: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "blank.png"), np.zeros((50, 50, 3), np.uint8))
    result = lm.match(scene_photos / "view_0.png", tmp_path / "blank.png")
    read = json.loads(json.dumps(result.to_json()))
    assert read["geometry"] == {"model": "none", "matrix": None, "cam1_from_cam0": None}
    assert read["matches"] == []


def test_bad_requests(scene_photos: Path) -> None:
    photo = scene_photos / "view_0.png"
    with pytest.raises(lm.LightmatchError, match="K0 and K1, or neither"):
        lm.match(photo, photo, K0=torch.eye(3))
    with pytest.raises(lm.LightmatchError, match="'fundamental' or 'homography'"):
        lm.match(photo, photo, geometry="affine")  # type: ignore[arg-type]
    with pytest.raises(lm.LightmatchError, match="leave the intrinsics out"):
        lm.match(photo, photo, geometry="homography", K0=torch.eye(3), K1=torch.eye(3))
    with pytest.raises(lm.LightmatchError, match="device: expected auto or one of cpu"):
        lm.match(photo, photo, device="nonsense")
    with pytest.raises(lm.LightmatchError, match=r"expected superglue:FILE.*got no FILE"):
        lm.match(photo, photo, matcher="superglue")


def test_photos_of_different_places_have_no_overlap(scene_photos: Path, tmp_path: Path) -> None:
    noise = torch.nn.functional.interpolate(
        torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1)), size=(360, 480), mode="bicubic"
    )
    elsewhere = lm.Image((noise[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy())
    same = lm.match(scene_photos / "view_0.png", scene_photos / "view_1.png")
    other = lm.match(scene_photos / "view_0.png", elsewhere)
    assert same.overlap_probability is not None and other.overlap_probability is not None
    assert same.overlap and same.overlap_probability > 0.9 and same.log10_false_alarms < -50
    assert not other.overlap and other.overlap_probability < 0.3
    assert other.to_json()["overlap"] is False


def test_chance_is_asked_with_the_geometry_that_was_found(scene_photos: Path) -> None:
    """A plane's model says more of a match than an epipolar line: as many inliers are less likely by chance."""
    line, plane = (
        lm.match(scene_photos / "view_0.png", scene_photos / "view_1.png", geometry=geometry)
        for geometry in ("fundamental", "homography")
    )
    per_inlier = [result.log10_false_alarms / result.geometry.num_inliers for result in (line, plane)]
    assert per_inlier[1] < per_inlier[0] < 0
