import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.alignment import align_points, aligned_pose_errors


def random_rotations(count: int) -> torch.Tensor:
    q = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))[0]
    return q * torch.linalg.det(q)[:, None, None]


def test_a_known_similarity_is_found() -> None:
    torch.manual_seed(0)
    source = torch.randn(7, 3, dtype=torch.float64)
    rotation, translation = random_rotations(1)[0], torch.tensor([1.0, -2.0, 3.0]).double()
    found = align_points(source, 2.5 * source @ rotation.mT + translation)
    torch.testing.assert_close(found.scale, torch.tensor(2.5).double())
    torch.testing.assert_close(found.rotation, rotation)
    torch.testing.assert_close(found.translation, translation)


def test_a_mirror_image_is_not_taken_for_a_rotation() -> None:
    torch.manual_seed(0)
    source = torch.randn(7, 3, dtype=torch.float64)
    found = align_points(source, source * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.linalg.det(found.rotation) > 0.99


def test_errors_are_those_put_in() -> None:
    torch.manual_seed(0)
    true_rotations, true_centers = random_rotations(6), torch.randn(6, 3, dtype=torch.float64)
    world, scale = random_rotations(1)[0], 0.2
    centers = scale * true_centers @ world.mT + 4.0
    rotations = true_rotations @ world.mT
    rotation_deg, position = aligned_pose_errors(rotations, centers, true_rotations, true_centers)
    assert float(rotation_deg.max()) < 1e-6 and float(position.max()) < 1e-9

    angle = torch.tensor(0.01).deg2rad().double()
    turn = torch.eye(3, dtype=torch.float64)
    turn[:2, :2] = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
    rotation_deg, _ = aligned_pose_errors(turn @ rotations, centers, true_rotations, true_centers)
    torch.testing.assert_close(rotation_deg, torch.full((6,), 0.01, dtype=torch.float64), atol=1e-7, rtol=0)


def test_two_points_are_too_few() -> None:
    with pytest.raises(InvalidValueError, match="n ≥ 3"):
        align_points(torch.zeros(2, 3), torch.zeros(2, 3))
