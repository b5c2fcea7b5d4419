import math

import pytest
import torch

from lightmatch.networks.assignment import AssignmentHead, log_assignment, mutual_matches


def test_equation_8_by_hand() -> None:
    similarity = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0]]])
    matchability0, matchability1 = torch.tensor([[0.0, 100.0]]), torch.tensor([[100.0, 100.0]])
    probability = log_assignment(similarity, matchability0, matchability1).exp()[0]
    # Row softmax ¾ ¼ / ½ ½, column softmax ¾ ½ / ¼ ½; the first point of image 0 is matchable by ½.
    expected = torch.tensor([[0.5 * 0.75 * 0.75, 0.5 * 0.25 * 0.5], [0.5 * 0.25, 0.5 * 0.5]])
    torch.testing.assert_close(probability, expected)


def test_swapping_the_images_transposes() -> None:
    torch.manual_seed(0)
    similarity, z0, z1 = torch.randn(2, 5, 3), torch.randn(2, 5), torch.randn(2, 3)
    torch.testing.assert_close(log_assignment(similarity, z0, z1), log_assignment(similarity.mT, z1, z0).mT)


def test_no_points_give_an_empty_assignment() -> None:
    assert log_assignment(torch.zeros(1, 0, 4), torch.zeros(1, 0), torch.zeros(1, 4)).shape == (1, 0, 4)
    indices, scores = mutual_matches(torch.zeros(0, 4), 0.1)
    assert indices.shape == (0, 2) and scores.shape == (0,)


def test_a_match_is_mutual_and_above_the_threshold() -> None:
    probability = torch.tensor([[0.9, 0.6, 0.0], [0.8, 0.1, 0.0], [0.0, 0.0, 0.05]])
    indices, scores = mutual_matches(probability.log(), threshold=0.1)
    assert indices.tolist() == [[0, 0]]  # 1 prefers 0, which prefers 0; 2–2 is mutual but too weak
    torch.testing.assert_close(scores, torch.tensor([0.9]))


def test_padding_takes_no_part() -> None:
    torch.manual_seed(0)
    head = AssignmentHead(8)
    x0, x1 = torch.randn(1, 4, 8), torch.randn(1, 3, 8)
    alone = head(x0, x1)
    padded0 = torch.cat((x0, torch.randn(1, 2, 8)), 1)
    padded1 = torch.cat((x1, torch.randn(1, 5, 8)), 1)
    padded = head(padded0, padded1, torch.arange(6)[None] < 4, torch.arange(8)[None] < 3)
    torch.testing.assert_close(padded[:, :4, :3], alone)
    assert bool(torch.isfinite(padded).all())


@pytest.mark.parametrize("gain", [1.0, 4.0, 30.0])  # with the last, exponentials of some rows vanish beside others
@pytest.mark.parametrize(("m", "n"), [(40, 25), (1, 1), (0, 3), (3, 0)])
@torch.no_grad()
def test_matches_of_a_head_are_those_of_its_assignment(m: int, n: int, gain: float) -> None:
    torch.manual_seed(0)
    head = AssignmentHead(16)
    head.final_proj.weight.copy_(torch.eye(16) * 2)
    x0, x1 = torch.randn(m, 16), torch.randn(n, 16)
    x1[: min(m, n) // 2] = x0[: min(m, n) // 2]
    x0 *= gain * torch.linspace(0.1, 1, m)[:, None]
    expected, probabilities = mutual_matches(head(x0[None], x1[None])[0], 0.1)
    indices, scores = head.matches(x0, x1, 0.1)
    assert torch.equal(indices, expected) and (len(indices) > 5 or m < 40)
    torch.testing.assert_close(scores, probabilities, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_rounding_lifts_no_probability_above_one() -> None:
    torch.manual_seed(0)
    head = AssignmentHead(64)
    head.final_proj.weight.copy_(torch.eye(64) * 2)
    head.matchability.bias.fill_(30.0)
    x = torch.randn(40, 64)
    scores = head.matches(x, x, 0.1)[1]
    assert len(scores) == 40 and float(scores.min()) > 0.999 and float(scores.max()) <= 1
    assert mutual_matches(torch.full((1, 1), 1e-6), 0.1)[1].tolist() == [1.0]


def test_equal_points_are_matched_once() -> None:
    probability = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    indices, scores = mutual_matches(probability.log(), 0.1)
    assert indices.tolist() == [[0, 0], [2, 1]]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8]))
