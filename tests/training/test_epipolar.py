"""The loss of geometry falls where matches are right, its gradient trusts them, and planes are passed over."""

import pytest
import torch

from lightmatch.geometry.coordinates import transform_points
from lightmatch.geometry.depth import project
from lightmatch.training.epipolar import epipolar_loss

SIZES = ((640, 480), (640, 480))
K = torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]], dtype=torch.float64)
MOTION = torch.tensor([[1.0, 0, 0, 0.6], [0, 1, 0, 0.1], [0, 0, 1, 0.05]], dtype=torch.float64)


def places(count: int, flat: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in front of two cameras, (n, 2) px in both."""
    random = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)).double()
    depth = torch.full((count,), 4.0).double() if flat else 3 + 4 * random[:, 2]
    points = torch.column_stack(((random[:, :2] - 0.5) * 3, depth))
    there = transform_points(MOTION, points)
    return project(points, K)[0].float(), project(there, K)[0].float()


def assignment(count: int, wrong: int = 0) -> torch.Tensor:
    """Log-probabilities: sure of the true partners but for the first `wrong`, whose partners are mixed up."""
    partner = torch.arange(count)
    partner[:wrong] = partner[:wrong].roll(1)
    log_p = torch.full((count, count), -8.0)
    log_p[torch.arange(count), partner] = -0.1
    return log_p.requires_grad_()


def loss_of(log_p: torch.Tensor, flat: bool = False) -> torch.Tensor | None:
    points0, points1 = places(len(log_p), flat)
    return epipolar_loss(log_p, points0, points1, torch.arange(len(log_p)).repeat(2, 1).mT, SIZES)


def test_right_matches_cost_nothing_and_wrong_ones_do() -> None:
    right, wrong = loss_of(assignment(40)), loss_of(assignment(40, wrong=8))
    assert right is not None and wrong is not None
    assert float(right.detach()) < 0.01 < 0.2 < float(wrong.detach()) < 1


def test_the_gradient_lowers_the_weight_of_wrong_matches() -> None:
    log_p = assignment(40, wrong=6)
    loss = loss_of(log_p)
    assert loss is not None
    loss.backward()
    assert log_p.grad is not None and torch.isfinite(log_p.grad).all()
    wrong = torch.arange(6).roll(1)
    on_wrong, on_right = log_p.grad[torch.arange(6), wrong].mean(), log_p.grad.diagonal()[6:].mean()
    assert float(on_wrong) > 0 > float(on_right)  # descent takes from the wrong and gives to the right


@pytest.mark.parametrize("count", [5, 11])
def test_too_few_matches_fix_nothing(count: int) -> None:
    assert loss_of(assignment(count)) is None


def test_a_plane_fixes_no_epipolar_geometry() -> None:
    assert loss_of(assignment(40), flat=True) is None
    assert epipolar_loss(assignment(40), *places(40), torch.zeros(0, 2).long(), SIZES) is None
