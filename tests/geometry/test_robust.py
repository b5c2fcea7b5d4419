from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import invert_rigid, transform_points
from lightmatch.geometry.depth import project
from lightmatch.geometry.epipolar import epipolar_distance_px, essential_from_pose, pose_error, sampson_error_px
from lightmatch.geometry.homography import corner_error_px, transfer, transfer_error
from lightmatch.geometry.ransac import Estimator, SearchOptions
from lightmatch.geometry.robust import (
    estimate_essential,
    estimate_fundamental,
    estimate_homography,
    estimate_relative_pose,
)
from lightmatch.types import TwoViewGeometry

DOUBLE = torch.float64
K0 = torch.tensor([[800, 5, 410], [0, 820, 290], [0, 0, 1]], dtype=DOUBLE)
K1 = torch.tensor([[600, 0, 310], [0, 605, 255], [0, 0, 1]], dtype=DOUBLE)
H = torch.tensor([[1.1, 0.1, 20], [-0.05, 0.9, 10], [3e-4, -1e-4, 1]], dtype=DOUBLE)
POSE = torch.tensor([[0.96, 0, 0.28, -0.8], [0, 1, 0, 0.36], [-0.28, 0, 0.96, 0.48]], dtype=DOUBLE)


both = pytest.mark.parametrize("estimator", ["pycolmap", "opencv"])


def with_outliers(points: Tensor, share: float = 0.4, noise_px: float = 0.0, seed: int = 1) -> tuple[Tensor, Tensor]:
    """The points with noise, and a share of them anywhere in a photo of 700 by 500; True for those kept."""
    generator = torch.Generator().manual_seed(seed)
    anywhere = torch.rand(points.shape, generator=generator, dtype=DOUBLE) * torch.tensor([700, 500])
    kept = torch.rand(len(points), generator=generator) >= share
    noise = noise_px * torch.randn(points.shape, generator=generator, dtype=DOUBLE)
    return torch.where(kept[:, None], points + noise, anywhere), kept


def space(count: int = 200) -> Tensor:
    unit = torch.rand(count, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    return unit * torch.tensor([6, 5, 7]) + torch.tensor([-3, -2.5, 5])


def two_views(count: int = 200) -> tuple[Tensor, Tensor]:
    return project(space(count), K0)[0], project(transform_points(POSE, space(count)), K1)[0]


def test_the_pose_of_this_file_is_rigid() -> None:
    torch.testing.assert_close(POSE[:, :3] @ POSE[:, :3].mT, torch.eye(3, dtype=DOUBLE))
    assert float(POSE[:, 3].norm()) == pytest.approx(1)


@both
def test_homography_among_outliers(estimator: Estimator) -> None:
    points0 = two_views()[0]
    points1, kept = with_outliers(transfer(H, points0))
    found = estimate_homography(points0, points1, SearchOptions(threshold_px=2, estimator=estimator))
    assert found.model == "homography"
    assert float(corner_error_px(found.matrix, H, (800, 600))) < 0.01
    assert found.inliers[kept].all() and int(found.inliers[~kept].sum()) <= 2
    assert torch.equal(found.inliers, transfer_error(found.matrix, points0, points1) <= 2)
    back = estimate_homography(points1, points0, SearchOptions(threshold_px=2, estimator=estimator))
    assert float(corner_error_px(back.matrix, torch.linalg.inv(H), (800, 600))) < 0.01


@both
def test_homography_is_oriented_where_the_first_pixel_is_beyond_the_horizon(estimator: Estimator) -> None:
    # w = y / 100 - 1: rows above y = 100 are not seen.
    ground = torch.tensor([[1, 0, 0], [0, 1, -200], [0, 0.01, -1]], dtype=DOUBLE)
    points0 = two_views()[0].abs() + torch.tensor([0, 150])
    found = estimate_homography(points0, transfer(ground, points0), SearchOptions(threshold_px=1, estimator=estimator))
    assert found.num_inliers == 200 and found.matrix[2, 2] == -1


@both
def test_fundamental_among_outliers(estimator: Estimator) -> None:
    points0, points1 = two_views()
    moved1, kept = with_outliers(points1)
    found = estimate_fundamental(points0, moved1, SearchOptions(threshold_px=1, estimator=estimator))
    assert found.model == "fundamental"
    assert found.inliers[kept].all() and int(found.inliers[~kept].sum()) <= 8
    # A chance inlier may bend it a little; the true matches stay near their lines.
    assert float(epipolar_distance_px(found.matrix, points0, points1).median()) < 0.1
    assert torch.equal(found.inliers, sampson_error_px(found.matrix, points0, moved1) <= 1)


@both
@pytest.mark.parametrize("noise_px", [0.0, 0.5])
def test_relative_pose_among_outliers(estimator: Estimator, noise_px: float) -> None:
    points0, points1 = two_views()
    points1, kept = with_outliers(points1, noise_px=noise_px)
    found = estimate_relative_pose(points0, points1, K0, K1, SearchOptions(threshold_px=1.5, estimator=estimator))
    assert found.model == "essential" and found.cam1_from_cam0 is not None
    rotation_deg, translation_deg = pose_error(found.cam1_from_cam0, POSE, up_to_sign=False)
    limit_deg = 0.05 if noise_px == 0 else 0.5
    assert float(rotation_deg) < limit_deg and float(translation_deg) < 2 * limit_deg
    assert float(found.cam1_from_cam0[:, 3].norm()) == pytest.approx(1)
    torch.testing.assert_close(found.matrix, essential_from_pose(found.cam1_from_cam0))
    assert float(found.inliers[kept].double().mean()) > 0.98 and int(found.inliers[~kept].sum()) <= 8


@both
def test_pixels_are_counted_from_the_centre_of_the_first(estimator: Estimator) -> None:
    """Half a pixel in a short camera would turn it by a tenth of a degree: exact matches must show none."""
    points0, points1 = two_views()
    short = torch.tensor([[0.1, 0, 0], [0, 0.1, 0], [0, 0, 1]], dtype=DOUBLE)
    points0, points1 = points0 @ short[:2, :2], points1 @ short[:2, :2]
    options = SearchOptions(threshold_px=0.1, estimator=estimator)
    found = estimate_relative_pose(points0, points1, short @ K0, short @ K1, options)
    assert found.cam1_from_cam0 is not None
    torch.testing.assert_close(found.cam1_from_cam0, POSE, atol=1e-6, rtol=0)


@both
def test_swapped_images_give_the_inverse_pose(estimator: Estimator) -> None:
    points0, points1 = two_views()
    found = estimate_relative_pose(points1, points0, K1, K0, SearchOptions(threshold_px=1, estimator=estimator))
    assert found.cam1_from_cam0 is not None
    torch.testing.assert_close(found.cam1_from_cam0, invert_rigid(POSE), atol=1e-6, rtol=0)


@both
def test_essential_is_the_true_one_up_to_sign(estimator: Estimator) -> None:
    found = estimate_essential(*two_views(), K0, K1, SearchOptions(threshold_px=1, estimator=estimator))
    E = essential_from_pose(POSE)
    torch.testing.assert_close(found.matrix * (found.matrix * E).sum().sign(), E, atol=1e-5, rtol=0)
    assert found.num_inliers == 200 and found.cam1_from_cam0 is None


@both
def test_a_plane_still_has_inliers_of_f_and_a_pose(estimator: Estimator) -> None:
    wall = space()
    wall[:, 2] = 8 + 0.3 * wall[:, 0]
    points0, points1 = project(wall, K0)[0], project(transform_points(POSE, wall), K1)[0]
    assert estimate_fundamental(points0, points1, SearchOptions(threshold_px=1, estimator=estimator)).num_inliers == 200
    found = estimate_relative_pose(points0, points1, K0, K1, SearchOptions(threshold_px=1, estimator=estimator))
    assert found.num_inliers == 200


@both
def test_a_camera_that_only_turns_has_a_rotation(estimator: Estimator) -> None:
    turn = torch.cat([POSE[:, :3], torch.zeros(3, 1, dtype=DOUBLE)], dim=1)
    points0, points1 = project(space(), K0)[0], project(transform_points(turn, space()), K1)[0]
    found = estimate_relative_pose(points0, points1, K0, K1, SearchOptions(threshold_px=1, estimator=estimator))
    assert found.cam1_from_cam0 is not None
    assert float(pose_error(found.cam1_from_cam0, turn)[0]) < 0.01


@both
def test_one_seed_gives_the_same_bits_whatever_the_state_of_others(estimator: Estimator) -> None:
    points0, points1 = two_views()
    points1, _ = with_outliers(points1, share=0.5, noise_px=0.7)

    def everything(seed: int, state: int) -> list[Tensor]:
        cv2.setRNGSeed(state)
        pycolmap.set_random_seed(state)
        options = SearchOptions(threshold_px=1.5, seed=seed, estimator=estimator)
        views = [
            estimate_homography(points0, points1, options),
            estimate_fundamental(points0, points1, options),
            estimate_relative_pose(points0, points1, K0, K1, options),
        ]
        return [view.matrix for view in views] + [view.inliers for view in views]

    first = everything(seed=3, state=1)
    assert all(torch.equal(a, b) for a, b in zip(first, everything(seed=3, state=2), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, everything(seed=4, state=1), strict=True))


LINE = torch.stack([torch.arange(30.0), 2 * torch.arange(30.0)], dim=-1) * 10
DEGENERATE = {
    "no match": (torch.zeros(0, 2), torch.zeros(0, 2)),
    "three matches": (LINE[:3], LINE[:3].flip(-1)),
    "one place": (torch.full((30, 2), 7.0), torch.full((30, 2), 9.0)),
    "first pixel": (torch.zeros(30, 2), torch.zeros(30, 2)),
    "one line": (LINE, LINE + 3),
    "one noisy line": (LINE + torch.arange(60.0).reshape(30, 2).sin(), LINE),
    "one point in image 1": (two_views(30)[0], torch.full((30, 2), 9.0)),
}


@both
@pytest.mark.parametrize("case", DEGENERATE)
def test_matches_that_determine_nothing_give_none(estimator: Estimator, case: str) -> None:
    points0, points1 = DEGENERATE[case]
    points1 = points1.to(points0)
    options = SearchOptions(threshold_px=2, estimator=estimator)
    for found in (
        estimate_homography(points0, points1, options),
        estimate_fundamental(points0, points1, options),
        estimate_essential(points0, points1, K0, K1, options),
        estimate_relative_pose(points0, points1, K0, K1, options),
    ):
        assert found.model == "none" and found.inliers.shape == (len(points0),) and found.num_inliers == 0


@both
def test_a_line_and_one_point_do_not_make_a_homography(estimator: Estimator) -> None:
    points = LINE.clone()
    points[7] = torch.tensor([290.0, 3.0])
    assert estimate_homography(points, points + 3, SearchOptions(threshold_px=2, estimator=estimator)).model == "none"


@both
def test_wrong_matches_never_crash(estimator: Estimator) -> None:
    """Sizes around every minimal set, and nothing that agrees: some chance model, or none."""
    for count in (*range(10), 40):
        points = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(count)) * 600
        options = SearchOptions(threshold_px=1, estimator=estimator, max_iterations=200)
        views = [
            estimate_homography(points[0], points[1], options),
            estimate_fundamental(points[0], points[1], options),
            estimate_relative_pose(points[0], points[1], K0, K1, options),
        ]
        assert all(isinstance(view, TwoViewGeometry) and len(view.inliers) == count for view in views)


@both
def test_float32_and_gradients_come_in_and_float64_goes_out(estimator: Estimator) -> None:
    points0, points1 = (points.float().requires_grad_() for points in two_views())
    found = estimate_relative_pose(
        points0, points1, K0.float(), K1.float(), SearchOptions(threshold_px=1, estimator=estimator)
    )
    assert found.matrix.dtype == DOUBLE and not found.matrix.requires_grad
    assert found.device == points0.device and found.num_inliers == 200


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_results_lie_where_the_points_lie() -> None:
    points0, points1 = (points.cuda() for points in two_views())
    for found in (
        estimate_homography(points0, points1, SearchOptions(threshold_px=1)),
        estimate_fundamental(points0, points1, SearchOptions(threshold_px=1)),
        estimate_relative_pose(points0, points1, K0.cuda(), K1, SearchOptions(threshold_px=1)),
        estimate_fundamental(points0[:3], points1[:3], SearchOptions(threshold_px=1)),
    ):
        assert found.device.type == "cuda"


def test_bad_input_is_named() -> None:
    points = torch.rand(10, 2)
    with pytest.raises(InvalidValueError, match=r"shapes \(k, 2\) and \(k, 2\), got \(\(10, 2\), \(9, 2\)\)"):
        estimate_homography(points, points[:9], SearchOptions(threshold_px=1))
    for bad in (torch.nan, torch.inf):
        with pytest.raises(InvalidValueError, match="finite points"):
            estimate_fundamental(points, torch.full((10, 2), bad), SearchOptions(threshold_px=1))
    for K in (torch.eye(4), torch.zeros(3, 3), torch.full((3, 3), torch.nan), torch.ones(3, 3)):
        with pytest.raises(InvalidValueError, match="K1: expected a camera matrix"):
            estimate_relative_pose(points, points, K0, K, SearchOptions(threshold_px=1))
    with pytest.raises(InvalidValueError, match="got 'magic'"):
        SearchOptions(threshold_px=1, estimator="magic")  # type: ignore[arg-type]
    for threshold_px, seed, confidence in ((0, 0, 0.9), (1, -1, 0.9), (1, 0, 1)):
        with pytest.raises(InvalidValueError, match="robust estimation: expected"):
            SearchOptions(threshold_px=threshold_px, seed=seed, confidence=confidence)


@both
def test_a_real_planar_pair(estimator: Estimator, real_data: Path) -> None:
    folder = real_data / "eval" / "oxford_affine" / "leuven"
    sift = cv2.SIFT.create(1000)
    found = [
        sift.detectAndCompute(np.asarray(cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE)), np.array([]))
        for name in ("img1.png", "img4.png")
    ]
    pairs = cv2.BFMatcher(crossCheck=True).match(found[0][1], found[1][1])
    points0 = torch.tensor([found[0][0][pair.queryIdx].pt for pair in pairs])
    points1 = torch.tensor([found[1][0][pair.trainIdx].pt for pair in pairs])
    estimated = estimate_homography(points0, points1, SearchOptions(threshold_px=3, estimator=estimator))
    truth = torch.from_numpy(np.loadtxt(folder / "H1to4p"))
    assert float(corner_error_px(estimated.matrix, truth, (900, 600))) < 3
