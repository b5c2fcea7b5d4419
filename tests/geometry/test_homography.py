import math

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.homography import (
    corner_error_px,
    dlt_homography,
    symmetric_transfer_error_px,
    transfer,
    transfer_error,
)

H = torch.tensor([[1.2, 0.1, 30], [-0.05, 0.9, 12], [4e-4, -2e-4, 1]], dtype=torch.float64)


def some_points(*shape: int, seed: int = 0) -> torch.Tensor:
    return 500 * torch.rand(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_transfer_divides_by_the_third_coordinate() -> None:
    zoom = torch.diag(torch.tensor([1.0, 1.0, 0.5]))
    assert transfer(zoom, torch.tensor([[3.0, 4.0]])).tolist() == [[6, 8]]


def test_points_at_and_beyond_the_line_at_infinity_go_to_infinity() -> None:
    # w = 1 - x / 100: the line at infinity is x = 100; division alone would wrap x = 300 to -150.
    tilt = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    seen, on_line, beyond = transfer(tilt, torch.tensor([[50.0, 10.0], [100.0, 0.0], [300.0, 5.0]]))
    assert seen.tolist() == [100, 20]
    assert on_line.isinf().all() and beyond.isinf().all()
    assert transfer_error(tilt, torch.tensor([[300.0, 5.0]]), torch.tensor([[-150.0, -2.5]])).isinf().all()


def test_transfer_has_finite_gradients_beyond_the_line() -> None:
    tilt = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]], requires_grad=True)
    moved = transfer(tilt, torch.tensor([[50.0, 10.0], [100.0, 0.0], [300.0, 5.0]]))
    moved[0].sum().backward()
    assert tilt.grad is not None and tilt.grad.isfinite().all()


def test_inverse_and_product_stay_oriented() -> None:
    points = some_points(20)
    torch.testing.assert_close(transfer(torch.linalg.inv(H), transfer(H, points)), points)
    torch.testing.assert_close(transfer(H @ H, points), transfer(H, transfer(H, points)))


def test_errors_of_a_doubling() -> None:
    double = torch.diag(torch.tensor([2.0, 2.0, 1.0]))
    points0, points1 = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 6.0]])
    assert transfer_error(double, points0, points1).tolist() == [4]
    # 4 px in image 1 are 2 px in image 0.
    torch.testing.assert_close(
        symmetric_transfer_error_px(double, points0, points1), torch.tensor([math.sqrt((16 + 4) / 2)])
    )


def test_symmetric_error_is_symmetric_and_infinite_without_inverse() -> None:
    points0, points1 = some_points(8), some_points(8, seed=1)
    torch.testing.assert_close(
        symmetric_transfer_error_px(H, points0, points1),
        symmetric_transfer_error_px(torch.linalg.inv(H), points1, points0),
    )
    flat = torch.diag(torch.tensor([1.0, 0, 1], dtype=torch.float64))
    assert symmetric_transfer_error_px(flat, points0, points1).isinf().all()


def test_corner_error() -> None:
    eye = torch.eye(3)
    shift = torch.tensor([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert float(corner_error_px(shift, eye, (640, 480))) == 5
    # The corners are centres of pixels: a doubling moves (w - 1, h - 1) by its own length.
    assert float(corner_error_px(torch.diag(torch.tensor([2.0, 2, 1])), eye, (4, 5))) == (0 + 3 + 5 + 4) / 4
    errors = corner_error_px(torch.stack([eye, shift, torch.full((3, 3), torch.nan)]), eye, (640, 480))
    assert errors.tolist() == [0, 5, math.inf]


@pytest.mark.parametrize("count", [4, 5, 100])
def test_dlt_recovers_an_exact_homography(count: int) -> None:
    points0 = some_points(3, count)
    found = dlt_homography(points0, transfer(H, points0), torch.ones(count, dtype=torch.float64))
    assert found.shape == (3, 3, 3)
    torch.testing.assert_close(found[1], dlt_homography(points0[1], transfer(H, points0[1])))
    assert float(corner_error_px(found, H, (500, 500)).max()) < 1e-7


def test_dlt_keeps_float32_to_a_hundredth_of_a_pixel() -> None:
    points0 = some_points(50)
    found = dlt_homography(points0.float(), transfer(H, points0).float())
    assert found.dtype == torch.float32
    assert float(corner_error_px(found.double(), H, (500, 500))) < 0.01


def test_dlt_is_oriented_where_the_first_pixel_is_beyond_the_horizon() -> None:
    # w = y / 100 - 1: only rows below y = 100 are seen, and H[2, 2] is negative.
    ground = torch.tensor([[1, 0, 0], [0, 0.5, 7], [0, 0.01, -1]], dtype=torch.float64)
    points0 = some_points(30) + torch.tensor([0, 120])
    found = dlt_homography(points0, transfer(ground, points0))
    assert found[2, 2] < 0
    torch.testing.assert_close(transfer(found, points0), transfer(ground, points0))


def test_weight_zero_leaves_a_match_out() -> None:
    points0 = some_points(20)
    points1 = transfer(H, points0)
    points1[3] += 100
    weights = torch.ones(20, dtype=torch.float64)
    assert float(corner_error_px(dlt_homography(points0, points1, weights), H, (500, 500))) > 1
    weights[3] = 0
    assert float(corner_error_px(dlt_homography(points0, points1, weights), H, (500, 500))) < 1e-7


def test_dlt_does_not_guess() -> None:
    line = torch.stack([torch.arange(9.0), 2 * torch.arange(9.0)], dim=-1)
    assert dlt_homography(line, line + 1).isnan().all()
    one_off = line.clone()
    one_off[4] = torch.tensor([30.0, -7.0])
    assert dlt_homography(one_off, one_off + 1).isnan().all()
    assert dlt_homography(torch.ones(5, 2), torch.ones(5, 2)).isnan().all()
    with pytest.raises(InvalidValueError, match="at least four matches, got 3"):
        dlt_homography(line[:3], line[:3])
    with pytest.raises(InvalidValueError, match=r"weights: expected .* \(…, 9\)"):
        dlt_homography(line, line, torch.ones(8))


@pytest.mark.parametrize("count", [4, 6])
def test_dlt_gradients(count: int) -> None:
    points0 = (some_points(count) / 500).requires_grad_()
    points1 = (transfer(H, some_points(count)) / 500).requires_grad_()
    weights = (0.5 + some_points(count)[:, 0] / 500).requires_grad_()
    assert torch.autograd.gradcheck(dlt_homography, (points0, points1, weights))


def test_device_follows() -> None:
    eye, points = torch.eye(3, device="meta"), torch.ones(6, 2, device="meta")
    assert transfer(eye, points).is_meta and dlt_homography(points, points).is_meta
    assert symmetric_transfer_error_px(eye, points, points).is_meta and corner_error_px(eye, eye, (3, 4)).is_meta
