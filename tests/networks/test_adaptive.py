import pytest
import torch

from lightmatch.networks.adaptive import (
    PreparedImage,
    TokenConfidence,
    Tokens,
    confidence_threshold,
    pair_exits,
    points_kept,
    unsettled,
)


def test_thresholds_of_section_3_3() -> None:
    assert confidence_threshold(0, 9) == 0.9
    assert abs(confidence_threshold(9, 9) - 0.8018) < 1e-4
    assert confidence_threshold(3, 9) > confidence_threshold(4, 9)


def test_pruned_points_count_as_settled() -> None:
    # 100 points at the start; 5 unsettled are too many for "more than 95 %", 4 are not, however many were pruned.
    exits = pair_exits(torch.tensor([5, 4]), torch.tensor([100, 100]), 0.95)
    assert exits.tolist() == [False, True]


def test_two_rules_for_what_is_settled() -> None:
    # Nine points of ten keep their match, and all heads know it: every point is above a threshold of 0.85.
    confidence = torch.full((1, 10), 0.9)
    settled, expected = (unsettled(confidence, 0.85, rule).sum(1) for rule in ("settled", "expected"))
    assert settled.tolist() == [0] and expected.tolist() == pytest.approx([1])
    total = torch.tensor([10])
    assert pair_exits(settled, total, 0.95).tolist() == [True]
    assert pair_exits(expected, total, 0.95).tolist() == [False]


def test_a_point_goes_when_hopeless_and_sure_of_it() -> None:
    matchable = torch.tensor([[0.005, 0.005, 0.5]])
    confidence = torch.tensor([[0.99, 0.3, 0.99]])
    assert points_kept(matchable, confidence, 0.9, 0.99).tolist() == [[False, True, True]]
    assert points_kept(matchable, None, 0.9, 0.99).tolist() == [[False, False, True]]


def test_confidence_does_not_bend_the_descriptors() -> None:
    x = torch.randn(1, 3, 8, requires_grad=True)
    TokenConfidence(8)(x).sum().backward()
    assert x.grad is None


def make_tokens(counts: list[int]) -> Tokens:
    size, length = len(counts), max(counts)
    states = torch.arange(size * length * 1.0).reshape(size, length, 1)
    return Tokens.start([PreparedImage(x[:n], x[:n], -x[:n]) for x, n in zip(states, counts, strict=True)])


def test_tokens_leave_and_are_packed() -> None:
    tokens = make_tokens([4, 2]).after_layer(make_tokens([4, 2]).states, layer=1)
    assert tokens.valid is not None and tokens.valid.tolist() == [[True] * 4, [True, True, False, False]]
    kept = tokens.keep(torch.tensor([[False, True, False, True], [True, True, True, True]]))
    assert kept.counts == [2, 2] and kept.totals == [4, 2]
    assert kept.valid is None  # both rows are full now
    assert kept.index.tolist() == [[1, 3], [0, 1]]
    assert kept.states[..., 0].tolist() == [[1, 3], [4, 5]]
    assert torch.equal(kept.rotary[1], -kept.states)
    later = kept.after_layer(kept.states, layer=2)
    assert later.layers[:, :4].tolist() == [[1, 2, 1, 2], [2, 2, 0, 0]]


def test_pairs_leave_and_the_rest_is_cut_to_its_longest() -> None:
    tokens = make_tokens([4, 2, 3]).rows([1, 2])
    assert tokens.counts == [2, 3] and tokens.states.shape == (2, 3, 1)
    assert tokens.valid is not None and tokens.valid.tolist() == [[True, True, False], [True, True, True]]


def test_sums_ignore_padding() -> None:
    assert make_tokens([4, 2]).sum(torch.full((2, 4), 0.5)).tolist() == [2, 1]
