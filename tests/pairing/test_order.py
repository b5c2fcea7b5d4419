import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.pairing import exhaustive, sequential


def test_exhaustive() -> None:
    assert exhaustive(3) == [(0, 1), (0, 2), (1, 2)]
    assert exhaustive(0) == exhaustive(1) == []


def test_sequential_takes_neighbours_and_doubling_steps() -> None:
    pairs = sequential(20, overlap=2)
    assert [j for i, j in pairs if i == 0] == [1, 2, 4, 8, 16]
    assert len(pairs) == len(set(pairs))
    assert all(0 <= i < j < 20 for i, j in pairs)


def test_sequential_grows_slower_than_exhaustive() -> None:
    assert len(sequential(1000)) < 1000 * (10 + 8)


def test_few_photos_are_all_paired_either_way() -> None:
    assert sorted(sequential(8)) == exhaustive(8)


def test_bad_overlap() -> None:
    with pytest.raises(InvalidValueError, match="at least 1"):
        sequential(5, overlap=0)
