import math

import pytest
import torch
from torch import Tensor

from lightmatch.networks.sinkhorn import _log_scales_by_products, _masses, log_optimal_transport

DUSTBIN = torch.tensor(0.7)


def random_similarity(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_one_point_each_by_hand() -> None:
    # Every row and column of the 2 × 2 assignment sums to 1, so it is [[p, 1 − p], [1 − p, p]]. Scaling rows and
    # columns keeps the odds ratio: p² / (1 − p)² = exp(s) exp(d) / exp(d)², thus p = σ((s − d) / 2).
    s, d = 2.0, -1.0
    p = 1 / (1 + math.exp(-(s - d) / 2))
    found = log_optimal_transport(torch.tensor([[[s]]]), torch.tensor(d)).exp()
    torch.testing.assert_close(found, torch.tensor([[[p, 1 - p], [1 - p, p]]]))


def test_every_point_is_spent_once() -> None:
    found = log_optimal_transport(random_similarity(2, 5, 8), DUSTBIN).exp()
    torch.testing.assert_close(found.sum(2), torch.tensor([[1.0] * 5 + [8.0]] * 2))
    torch.testing.assert_close(found.sum(1), torch.tensor([[1.0] * 8 + [5.0]] * 2))


def test_only_rows_and_columns_are_scaled() -> None:
    """Which leaves the odds ratio of any two rows and two columns as it was."""

    def odds(x: Tensor) -> Tensor:
        return x[:, 1:, 1:] + x[:, :-1, :-1] - x[:, 1:, :-1] - x[:, :-1, 1:]

    similarity = random_similarity(1, 4, 6)
    found = log_optimal_transport(similarity, DUSTBIN)[:, :4, :6]
    torch.testing.assert_close(odds(found), odds(similarity), atol=1e-4, rtol=0)


def test_few_iterations_fit_the_columns_alone() -> None:
    found = log_optimal_transport(random_similarity(1, 5, 8), DUSTBIN, num_iterations=1).exp()
    torch.testing.assert_close(found.sum(1), torch.tensor([[1.0] * 8 + [5.0]]))
    assert float((found.sum(2)[0, :5] - 1).abs().max()) > 0.1


def test_swapping_the_images_transposes() -> None:
    similarity = random_similarity(2, 5, 8)
    there, back = log_optimal_transport(similarity, DUSTBIN), log_optimal_transport(similarity.mT, DUSTBIN)
    torch.testing.assert_close(there, back.mT, atol=1e-5, rtol=0)


def test_large_scores_do_not_overflow() -> None:
    similarity = 500 * torch.eye(4)[None]
    found = log_optimal_transport(similarity, DUSTBIN).exp()
    # A dustbin empties slowly, by 1 / (2 · iterations): a certain match has 0.995.
    torch.testing.assert_close(found[0, :4, :4], 0.995 * torch.eye(4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_iterations", [3, 100])
def test_padding_takes_no_part(num_iterations: int) -> None:
    counts = [(5, 8), (1, 3), (6, 2)]
    similarity = random_similarity(3, 6, 8)
    valid0 = torch.arange(6) < torch.tensor([[m] for m, _ in counts])
    valid1 = torch.arange(8) < torch.tensor([[n] for _, n in counts])
    padded = log_optimal_transport(similarity, DUSTBIN, valid0, valid1, num_iterations=num_iterations)
    for row, (m, n) in enumerate(counts):
        alone = log_optimal_transport(similarity[row : row + 1, :m, :n], DUSTBIN, num_iterations=num_iterations)[0]
        rows, columns = [*range(m), 6], [*range(n), 8]
        torch.testing.assert_close(padded[row][rows][:, columns], alone)
    probability = padded.exp()
    assert not probability[:, :6][~valid0].any() and not probability.mT[:, :8][~valid1].any()


@pytest.mark.parametrize("spread", [1.0, 10.0])
@pytest.mark.parametrize("num_iterations", [3, 100])
def test_without_gradients_the_assignment_is_the_same(spread: float, num_iterations: int) -> None:
    similarity = spread * random_similarity(3, 40, 50)
    valid0, valid1 = (torch.arange(n) < torch.tensor([[n], [7], [n - 3]]) for n in (40, 50))
    expected = log_optimal_transport(similarity, DUSTBIN, valid0, valid1, num_iterations=num_iterations)
    with torch.no_grad():
        found = log_optimal_transport(similarity, DUSTBIN, valid0, valid1, num_iterations=num_iterations)
    torch.testing.assert_close(found.exp(), expected.exp(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_without_gradients_large_scores_do_not_overflow() -> None:
    """Three points that fit one alone, and nothing else by far: their scales grow beyond float32."""
    similarity = torch.full((1, 3, 1), 500.0)
    ones = torch.ones(1, 3), torch.ones(1, 1)
    with torch.no_grad():
        found = log_optimal_transport(similarity, DUSTBIN)
        scores = torch.nn.functional.pad(similarity, (0, 1, 0, 1), value=float(DUSTBIN))
        assert _log_scales_by_products(scores, _masses(*ones), _masses(*ones[::-1]), 100) is None
    assert torch.equal(found, log_optimal_transport(similarity, DUSTBIN))


def gradients(log_p: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of a loss as in training: some matches, some points in a dustbin."""
    return torch.autograd.grad(-(log_p[0, 0, 1] + log_p[0, 2, 0] + log_p[0, 3, -1] + log_p[0, -1, 2]), inputs)


def test_transformers_agrees_in_values_and_gradients() -> None:
    peer = pytest.importorskip("transformers.models.superglue.modeling_superglue")
    similarity, dustbin = random_similarity(1, 5, 8).requires_grad_(), DUSTBIN.clone().requires_grad_()
    for num_iterations in (1, 20):
        ours = log_optimal_transport(similarity, dustbin, num_iterations=num_iterations)
        theirs = peer.log_optimal_transport(similarity, dustbin, num_iterations)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        for mine, other in zip(
            gradients(ours, similarity, dustbin), gradients(theirs, similarity, dustbin), strict=True
        ):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def test_gradients_do_not_see_padding() -> None:
    similarity = random_similarity(1, 6, 9).requires_grad_()
    valid0, valid1 = torch.arange(6)[None] < 4, torch.arange(9)[None] < 3
    padded = gradients(log_optimal_transport(similarity, DUSTBIN, valid0, valid1), similarity)[0]
    alone = gradients(log_optimal_transport(similarity[:, :4, :3], DUSTBIN), similarity)[0]
    torch.testing.assert_close(padded, alone)
    assert float(alone.abs().max()) > 0.1


def test_the_work_is_done_in_float32() -> None:
    similarity = random_similarity(1, 5, 8)
    expected = log_optimal_transport(similarity, DUSTBIN)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(log_optimal_transport(similarity, DUSTBIN), expected)
    rounded = log_optimal_transport(similarity.bfloat16(), DUSTBIN.bfloat16())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.exp().sum(1), expected.exp().sum(1))
