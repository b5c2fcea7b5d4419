import math

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import (
    colmap_from_pixels,
    compose_rigid,
    from_homogeneous,
    invert_rigid,
    normalize_pixels,
    pixels_from_colmap,
    pixels_from_normalized,
    rotation_angle_deg,
    scale_intrinsics,
    to_homogeneous,
    transform_points,
)


def turn(angle_deg: float, axis: tuple[float, float, float] = (1, 2, -2)) -> torch.Tensor:
    """The rotation about `axis`, by the matrix exponential."""
    x, y, z = (a / math.hypot(*axis) * math.radians(angle_deg) for a in axis)
    return torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))


def motion(angle_deg: float, t: tuple[float, float, float]) -> torch.Tensor:
    return torch.cat([turn(angle_deg), torch.tensor(t, dtype=torch.float64)[:, None]], dim=1)


K = torch.tensor([[800, 2, 320], [0, 780, 240], [0, 0, 1]], dtype=torch.float64)


def test_homogeneous_round_trip() -> None:
    points = torch.tensor([[3.0, 4.0], [0.0, -1.0]])
    assert to_homogeneous(points).tolist() == [[3, 4, 1], [0, -1, 1]]
    assert torch.equal(from_homogeneous(2 * to_homogeneous(points)), points)
    assert from_homogeneous(torch.tensor([1.0, 0.0])).isinf().all()


def test_a_quarter_turn_about_z_then_a_step() -> None:
    transform = torch.tensor([[0.0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7]])
    assert transform_points(transform, torch.tensor([[1.0, 2, 3]])).tolist() == [[3, 7, 10]]
    square = torch.cat([transform, torch.tensor([[0.0, 0, 0, 1]])])
    assert transform_points(square, torch.tensor([[1.0, 2, 3]])).tolist() == [[3, 7, 10]]


def test_rigid_motions_form_a_group() -> None:
    b_from_a, c_from_b = motion(30, (1, 2, 3)), motion(-100, (0, 5, -1))
    points = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = transform_points(compose_rigid(c_from_b, b_from_a), points)
    torch.testing.assert_close(both, transform_points(c_from_b, transform_points(b_from_a, points)))
    identity = compose_rigid(invert_rigid(b_from_a), b_from_a)
    torch.testing.assert_close(identity, torch.eye(3, 4, dtype=torch.float64))


@pytest.mark.parametrize("angle_deg", [0.0, 1e-7, 1e-4, 1.0, 90.0, 179.9999, 180.0])
def test_rotation_angles_are_exact_at_both_ends(angle_deg: float) -> None:
    R0 = turn(77, (3, -1, 2))
    assert float(rotation_angle_deg(R0, R0 @ turn(angle_deg))) == pytest.approx(angle_deg, abs=1e-12, rel=1e-6)


def test_rotation_angle_keeps_batch_and_dtype() -> None:
    angle = rotation_angle_deg(torch.eye(3).expand(4, 1, 3, 3), turn(20).float().expand(5, 3, 3))
    assert angle.shape == (4, 5) and angle.dtype == torch.float32
    torch.testing.assert_close(angle, torch.full((4, 5), 20.0))


def test_normalised_coordinates_are_those_of_the_inverse_of_k() -> None:
    points = torch.tensor([[320, 240], [1120, 240], [10, 700]], dtype=torch.float64)
    normalized = normalize_pixels(points, K)
    assert normalized[:2].tolist() == [[0, 0], [1, 0]]
    torch.testing.assert_close(normalized, from_homogeneous(to_homogeneous(points) @ torch.linalg.inv(K).mT))
    torch.testing.assert_close(pixels_from_normalized(normalized, K), points)


def test_each_camera_of_a_batch_is_its_own() -> None:
    cameras = torch.stack([K, 2 * K])
    cameras[..., 2, 2] = 1
    points = torch.rand(2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batched = normalize_pixels(points, cameras)
    torch.testing.assert_close(batched[1], normalize_pixels(points[1], cameras[1]))
    torch.testing.assert_close(pixels_from_normalized(batched, cameras), points)


def test_the_first_pixel_of_colmap_has_its_centre_at_one_half() -> None:
    assert colmap_from_pixels(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    points = torch.tensor([[1.5, -2.25]])
    assert torch.equal(pixels_from_colmap(colmap_from_pixels(points)), points)


def test_resizing_keeps_the_rays_of_the_image_corners() -> None:
    half = scale_intrinsics(K, (640, 480), (320, 120))
    corners = torch.tensor([[-0.5, -0.5], [639.5, 479.5]], dtype=torch.float64)
    corners_resized = torch.tensor([[-0.5, -0.5], [319.5, 119.5]], dtype=torch.float64)
    torch.testing.assert_close(normalize_pixels(corners_resized, half), normalize_pixels(corners, K))
    torch.testing.assert_close(scale_intrinsics(half, (320, 120), (640, 480)), K)


def test_device_follows() -> None:
    pose, points, K = (torch.ones(shape, device="meta") for shape in ((3, 4), (6, 2), (3, 3)))
    assert transform_points(pose, to_homogeneous(points)).is_meta and compose_rigid(pose, invert_rigid(pose)).is_meta
    assert normalize_pixels(points, K).is_meta and pixels_from_normalized(points, K).is_meta
    assert scale_intrinsics(K, (4, 4), (8, 2)).is_meta and rotation_angle_deg(K, K).is_meta


def test_bad_input_is_named() -> None:
    with pytest.raises(InvalidValueError, match=r"points: expected .* \(…, any, 3\), got shape \(5, 2\)"):
        transform_points(torch.eye(3, 4), torch.zeros(5, 2))
    with pytest.raises(InvalidValueError, match="transform: expected"):
        transform_points(torch.eye(3), torch.zeros(5, 3))
    with pytest.raises(InvalidValueError, match=r"K: expected a floating-point .* got shape \(3, 3\) and torch.int64"):
        normalize_pixels(torch.zeros(5, 2), torch.eye(3, dtype=torch.int64))
    with pytest.raises(InvalidValueError, match="positive sizes"):
        scale_intrinsics(K, (0, 10), (5, 5))
