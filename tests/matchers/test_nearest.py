import subprocess
import sys

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


def test_equal_descriptors_are_not_distinct() -> None:
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


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read the Unix way")
def test_20000_by_20000_points_need_no_gigabytes() -> None:
    """The full distance matrix would take 1.6 GB. In a process of its own, whose peak is its own."""
    code = """
import resource, sys, torch
from lightmatch import FeatureKind
from lightmatch import Features
from lightmatch import NearestNeighbor
def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
def toy(d):
    return Features(torch.zeros(len(d), 2), torch.zeros(len(d)), d, (9, 9), FeatureKind("toy", 32))
d = torch.nn.functional.normalize(torch.randn(20_000, 32, generator=torch.Generator().manual_seed(0)), dim=1)
f0, f1 = toy(d), toy(d.flip(0))
before = peak_mib()
matches = NearestNeighbor(ratio=None)(f0, f1)
assert torch.equal(matches.indices[:, 1], torch.arange(20_000).flip(0))
print(peak_mib() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300


def test_descriptors_in_training_can_be_matched() -> None:
    features = described(torch.eye(4, requires_grad=True) * 2)
    assert len(NearestNeighbor()(features, features)) == 4


def test_kinds_must_agree() -> None:
    with pytest.raises(FeatureMismatchError, match=r"name='a'.*name='b'"):
        NearestNeighbor()(described(torch.rand(2, 4), "a"), described(torch.rand(2, 4), "b"))


@pytest.mark.parametrize("ratio", [0, 1.5, -1])
def test_bad_ratio(ratio: float) -> None:
    with pytest.raises(InvalidValueError, match="0 < ratio"):
        NearestNeighbor(ratio=ratio)
