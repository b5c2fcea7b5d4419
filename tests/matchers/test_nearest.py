import resource

import pytest
import torch

from lightmatch.errors import FeatureMismatchError, InvalidValueError
from lightmatch.matchers import nearest
from lightmatch.matchers.nearest import NearestNeighbor
from lightmatch.types import FeatureKind, Features


def described(descriptors: torch.Tensor, name: str = "toy") -> Features:
    count, width = descriptors.shape
    return Features(
        torch.zeros(count, 2), torch.zeros(count), descriptors.float(), (640, 480), FeatureKind(name, width)
    )


def on_a_line(*places: float) -> Features:
    return described(torch.tensor(places)[:, None])


def test_mutual_nearest_by_hand() -> None:
    features0, features1 = on_a_line(0, 10, 11), on_a_line(0.5, 10.2)
    assert NearestNeighbor(ratio=None)(features0, features1).indices.tolist() == [[0, 0], [1, 1]]
    one_way = NearestNeighbor(ratio=None, mutual=False)(features0, features1)
    assert one_way.indices.tolist() == [[0, 0], [1, 1], [2, 1]]


def test_the_ratio_test_holds_in_both_directions() -> None:
    # 0 → 0 is clear (1 against 9), but seen from image 1 the point lies between two: 1 against 1.5.
    features0, features1 = on_a_line(0, 2.5), on_a_line(1, 9)
    assert NearestNeighbor(ratio=0.5, mutual=False)(features0, features1).indices.tolist() == [[0, 0], [1, 0]]
    assert len(NearestNeighbor(ratio=0.5)(features0, features1)) == 0
    matches = NearestNeighbor(ratio=0.7)(features0, features1)
    assert matches.indices.tolist() == [[0, 0]]
    torch.testing.assert_close(matches.scores, torch.tensor([1 - 1 / 1.5]))


def test_a_lone_candidate_is_kept_with_score_0() -> None:
    matches = NearestNeighbor()(on_a_line(0), on_a_line(3))
    assert matches.indices.tolist() == [[0, 0]] and matches.scores.tolist() == [0]
    # One point of image 1 must still be clear about its own two candidates.
    assert len(NearestNeighbor()(on_a_line(0, 6), on_a_line(3))) == 0


def test_twins_are_not_distinct() -> None:
    assert len(NearestNeighbor()(on_a_line(0, 0), on_a_line(0, 0))) == 0


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (3, 0)])
def test_no_keypoints(counts: tuple[int, int]) -> None:
    matches = NearestNeighbor()(*(described(torch.rand(count, 4)) for count in counts))
    assert matches.indices.shape == (0, 2)


def test_swapping_the_images_swaps_the_columns() -> None:
    torch.manual_seed(0)
    features0, features1 = described(torch.randn(300, 8)), described(torch.randn(200, 8))
    matcher = NearestNeighbor(ratio=0.95)
    forward, backward = matcher(features0, features1), matcher(features1, features0)
    assert len(forward) > 20
    assert {(i, j) for i, j in forward.indices.tolist()} == {(i, j) for j, i in backward.indices.tolist()}


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    features0, features1 = described(torch.randn(300, 8)), described(torch.randn(200, 8))
    whole = NearestNeighbor(ratio=0.95)(features0, features1)
    monkeypatch.setattr(nearest, "_BLOCK_ELEMENTS", 1000)
    parts = NearestNeighbor(ratio=0.95)(features0, features1)
    assert torch.equal(whole.indices, parts.indices)
    torch.testing.assert_close(whole.scores, parts.scores, atol=1e-5, rtol=0)


def test_20000_by_20000_points_need_no_gigabytes() -> None:
    """The full distance matrix would take 1.6 GB."""
    torch.manual_seed(0)
    descriptors = torch.nn.functional.normalize(torch.randn(20_000, 32), dim=1)
    features0, features1 = described(descriptors), described(descriptors.flip(0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    matches = NearestNeighbor(ratio=None)(features0, features1)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert torch.equal(matches.indices[:, 1], torch.arange(20_000).flip(0))
    assert grown_mib < 300


def test_kinds_must_agree() -> None:
    with pytest.raises(FeatureMismatchError, match="'a' and 'b'"):
        NearestNeighbor()(described(torch.rand(2, 4), "a"), described(torch.rand(2, 4), "b"))


@pytest.mark.parametrize("ratio", [0, 1.5, -1])
def test_bad_ratio(ratio: float) -> None:
    with pytest.raises(InvalidValueError, match="0 < ratio"):
        NearestNeighbor(ratio=ratio)
