import math

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


def test_equal_points_are_matched_once() -> None:
    probability = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    indices, scores = mutual_matches(probability.log(), 0.1)
    assert indices.tolist() == [[0, 0], [2, 1]]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8]))
