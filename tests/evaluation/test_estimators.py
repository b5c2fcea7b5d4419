"""Every estimator finds a model that is there, and says so where there is none."""

import pytest
import torch

from lightmatch.evaluation.estimators import (
    EstimatorName,
    ModelSearch,
    find_fundamental,
    find_homography,
    find_relative_pose,
    is_installed,
)
from lightmatch.evaluation.metrics import correct_by_epipolar_line, pose_error_deg
from lightmatch.geometry.depth import project
from lightmatch.geometry.homography import corner_error_px, transfer

ROBUST: tuple[EstimatorName, ...] = ("opencv", "pycolmap", "poselib")
K0 = torch.tensor([[500, 3, 320], [0, 510, 240], [0, 0, 1]], dtype=torch.float64)
K1 = torch.tensor([[450, 0, 300], [0, 450, 250], [0, 0, 1]], dtype=torch.float64)
POSE = torch.tensor([[0.8, 0, 0.6, -0.8], [0, 1, 0, 0], [-0.6, 0, 0.8, 0.6]], dtype=torch.float64)
H = torch.tensor([[0.9, 0.2, 30], [-0.1, 1.1, 5], [2e-4, -1e-4, 1]], dtype=torch.float64)


@pytest.fixture(params=ROBUST)
def search(request: pytest.FixtureRequest) -> ModelSearch:
    if not is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return ModelSearch(request.param, threshold_px=1.0, seed=3)


def with_outliers(points0: torch.Tensor, points1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first third of the matches torn apart."""
    return points0.float(), torch.cat((points1[: len(points1) // 3].flip(0), points1[len(points1) // 3 :])).float()


def in_space() -> tuple[torch.Tensor, torch.Tensor]:
    points = torch.rand((90, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = (points - 0.5) * 4 + torch.tensor([0.0, 0.0, 6.0])
    moved = points @ POSE[:, :3].mT + POSE[:, 3]
    return with_outliers(project(points, K0)[0], project(moved, K1)[0])


def on_a_plane() -> tuple[torch.Tensor, torch.Tensor]:
    points = torch.rand((60, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 500
    return with_outliers(points, transfer(H, points))


def test_homography_among_outliers(search: ModelSearch) -> None:
    points0, points1 = on_a_plane()
    found = find_homography(points0, points1, search)
    assert float(corner_error_px(found, H, (640, 480))) < 0.01
    assert torch.equal(found, find_homography(points0, points1, search))


def test_fundamental_among_outliers(search: ModelSearch) -> None:
    points0, points1 = in_space()
    found = find_fundamental(points0, points1, search)
    assert correct_by_epipolar_line(found, points0[30:], points1[30:], 0.1).all()
    assert torch.equal(found, find_fundamental(points0, points1, search))


def test_pose_among_outliers(search: ModelSearch) -> None:
    points0, points1 = in_space()
    found = find_relative_pose(points0, points1, K0, K1, search)
    assert pose_error_deg(found, POSE) < 0.01
    assert torch.equal(found, find_relative_pose(points0, points1, K0, K1, search))


def test_dlt_is_not_robust() -> None:
    points0, points1 = on_a_plane()
    search = ModelSearch("dlt")
    assert float(corner_error_px(find_homography(points0[20:], points1[20:], search), H, (640, 480))) < 0.01
    assert float(corner_error_px(find_homography(points0, points1, search), H, (640, 480))) > 5


def test_too_few_matches_give_nothing(search: ModelSearch) -> None:
    points0, points1 = in_space()
    assert find_homography(points0[:3], points1[:3], search).isnan().all()
    assert find_fundamental(points0[:7], points1[:7], search).isnan().all()
    assert find_relative_pose(points0[:4], points1[:4], K0, K1, search).isnan().all()
    assert find_homography(points0[:0], points1[:0], ModelSearch("dlt")).isnan().all()


def test_names_in_tables() -> None:
    assert (ModelSearch("opencv", 0.5).name, ModelSearch("dlt", 0.5).name) == ("opencv 0.5 px", "dlt")
