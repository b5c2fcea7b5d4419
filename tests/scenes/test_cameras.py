import math

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes import camera_path, camera_ring, look_at, pinhole


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centres(poses: torch.Tensor) -> torch.Tensor:
    return -(poses[..., :3].mT @ poses[..., 3:]).squeeze(-1)


def test_pinhole_sees_the_field_of_view_between_its_outermost_pixel_edges() -> None:
    K = pinhole(90.0, (640, 480))
    assert K.tolist() == [[pytest.approx(320), 0, 319.5], [0, pytest.approx(320), 239.5], [0, 0, 1]]


def test_a_camera_that_looks_along_x_has_y_to_its_left() -> None:
    pose = look_at(torch.tensor([1.0, 2, 3]), torch.tensor([5.0, 2, 3]))
    expected = torch.tensor([[0.0, -1, 0, 2], [0, 0, -1, 3], [1, 0, 0, -1]])
    torch.testing.assert_close(pose, expected)


def test_look_at_is_rigid_and_puts_the_target_on_the_axis() -> None:
    eye, target = torch.randn((2, 5, 7, 3), generator=seeded(), dtype=torch.float64)
    pose = look_at(eye, target)
    rotation = pose[..., :3]
    assert pose.shape == (5, 7, 3, 4)
    assert pose.dtype == torch.float64
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand_as(rotation))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(5, 7).double())
    seen = (rotation @ target[..., None]).squeeze(-1) + pose[..., 3]
    torch.testing.assert_close(seen[..., :2], torch.zeros(5, 7, 2).double())
    torch.testing.assert_close(seen[..., 2], (target - eye).norm(dim=-1))
    assert bool((rotation[..., 1, 2] <= 0).all()), "y points down"


@pytest.mark.parametrize("target", [(0.0, 0.0, 0.0), (0.0, 0.0, 4.0)])
def test_look_at_refuses_an_open_roll(target: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidValueError, match="up vector"):
        look_at(torch.zeros(3), torch.tensor(target))


def test_an_even_ring_is_a_regular_polygon_that_looks_at_its_centre() -> None:
    poses = camera_ring((1.0, 2.0, 0.5), radius=3.0, height=1.0, num=6, jitter=0.0, generator=seeded())
    eyes = centres(poses)
    torch.testing.assert_close(eyes[:, 2], torch.full((6,), 1.5))
    torch.testing.assert_close((eyes - eyes.roll(1, 0)).norm(dim=1), torch.full((6,), 3.0))
    seen = poses[..., :3] @ torch.tensor([1.0, 2.0, 0.5]) + poses[..., 3]
    torch.testing.assert_close(seen, torch.tensor([0, 0, math.sqrt(10)]).expand(6, 3), atol=1e-5, rtol=0)


def test_an_arc_holds_both_its_ends() -> None:
    eyes = centres(camera_ring((0, 0, 0), 2.0, 0.0, 3, 0.0, seeded(), arc_deg=90.0))
    torch.testing.assert_close(eyes[[0, 2]], torch.tensor([[2.0, 0, 0], [0, 2, 0]]), atol=1e-5, rtol=0)


def test_a_path_passes_through_its_knots() -> None:
    eyes = torch.tensor([[0.0, 0, 1], [2, 1, 1], [3, 4, 2]])
    targets = eyes + torch.tensor([0.0, 5, 0])
    poses = camera_path(eyes, targets, 9)
    torch.testing.assert_close(centres(poses)[[0, 4, 8]], eyes, atol=1e-5, rtol=1e-5)
    steps = centres(poses).diff(dim=0).norm(dim=1)
    assert float(steps.max()) < 2 * float(steps.min()), "no jumps"


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="field of view"):
        pinhole(180.0, (640, 480))
    with pytest.raises(InvalidValueError, match="num"):
        camera_ring((0, 0, 0), 1.0, 1.0, 0, 0.0, seeded())
    with pytest.raises(InvalidValueError, match="one shape"):
        camera_path(torch.zeros(3, 3), torch.zeros(2, 3), 5)
