from itertools import pairwise

import numpy as np
import pytest
from pairing.made_features import describe_all, photo, place, walk

from lightmatch.errors import InvalidValueError
from lightmatch.pairing import (
    choose_pairs,
    exhaustive,
    loop_candidates,
    nearest_pairs,
    needs_descriptors,
    sequential,
    spatial,
)


@pytest.fixture(scope="module")
def round_trip() -> np.ndarray:
    """A walk of 40 photos whose last 4 see what the first 4 saw."""
    photos = walk(36)
    return describe_all([*photos, *(photo(photos[i].descriptors, 500 + i) for i in range(4))])


def test_loops_are_found(round_trip: np.ndarray) -> None:
    pairs = loop_candidates(round_trip, range(40), 5, num_loops=1)
    assert {(0, 36), (1, 37), (2, 38), (3, 39)} <= set(pairs)
    assert pairs == sorted(set(pairs))
    assert len(pairs) <= 40


def test_loop_candidates_are_apart(round_trip: np.ndarray) -> None:
    """Photos 36 and 37 both show what photo 0 sees in part: one of them is enough."""
    for i, j in loop_candidates(round_trip, range(40), apart=5):
        assert j - i > 5
    of_first = [j for i, j in loop_candidates(round_trip, range(40), 5, num_loops=3, every=40) if i == 0]
    assert 36 in of_first and 37 not in of_first
    assert len(of_first) == 3 and all(b - a > 5 for a, b in pairwise(of_first))


def test_every_so_many_photos_ask_for_loops(round_trip: np.ndarray) -> None:
    assert len(loop_candidates(round_trip, range(40), 5, num_loops=1, every=10)) <= 4
    assert loop_candidates(round_trip, range(40), 5, num_loops=0) == []


def test_bad_loops(round_trip: np.ndarray) -> None:
    for options in ({"num_loops": -1}, {"every": 0}):
        with pytest.raises(InvalidValueError, match="loops: expected"):
            loop_candidates(round_trip, range(40), 5, **options)
    with pytest.raises(InvalidValueError, match="each of 40 photos"):
        loop_candidates(round_trip, range(39), 5)


def test_auto_takes_all_pairs_of_few_photos_and_alike_ones_of_many(round_trip: np.ndarray) -> None:
    assert choose_pairs("auto", 60) == exhaustive(60)
    assert not needs_descriptors("auto", 60) and needs_descriptors("auto", 61) and needs_descriptors("retrieval", 2)
    many = np.concatenate((round_trip, round_trip))
    assert choose_pairs("auto", 80, descriptors=many, num_neighbors=4) == nearest_pairs(many, 4)
    with pytest.raises(InvalidValueError, match="expected descriptors of the 61 photos"):
        choose_pairs("auto", 61)


def test_videos_are_paired_in_order_whatever_the_pairing(round_trip: np.ndarray) -> None:
    """Photos 0…19 backwards are one video, the others a set."""
    video = list(range(19, -1, -1))
    in_order = {(i, j) for i in range(20) for j in range(i + 1, min(i + 11, 20))}
    for pairing in ("retrieval", "spatial"):
        pairs = choose_pairs(
            pairing,
            40,
            descriptors=round_trip,
            positions=[None] * 39 + [(0.0, 0.0, None)],
            sequences=[video],
            num_neighbors=1,
        )
        assert in_order <= set(pairs)
        assert len(pairs) < len(in_order) + 40
        assert pairs == sorted(set(pairs))


def test_sequential_connects_videos_by_looks() -> None:
    """Two videos of one place, in one list: without descriptors nothing joins them."""
    first = walk(14)
    second = [photo(f.descriptors, 700 + i) for i, f in enumerate(first)]
    descriptors, sequences = describe_all([*first, *second]), [range(14), range(14, 28)]
    alone = choose_pairs("sequential", 28, sequences=sequences)
    assert all((i < 14) == (j < 14) for i, j in alone)
    joined = choose_pairs("sequential", 28, sequences=sequences, descriptors=descriptors)
    assert {(i, i + 14) for i in range(14)} <= set(joined)
    assert choose_pairs("sequential", 28) == sorted(sequential(28))


def test_spatial_is_for_photos_with_positions() -> None:
    positions = [(0.0, i / 1e5, None) for i in range(30)]
    assert choose_pairs("spatial", 30, positions=positions, num_neighbors=3) == spatial(positions, 3)
    with pytest.raises(InvalidValueError, match="found none"):
        choose_pairs("spatial", 30, positions=[None] * 30)


def test_few_photos_have_few_pairs() -> None:
    place_of_one = describe_all([photo(place(0), 0)])
    for pairing in ("auto", "exhaustive", "sequential", "retrieval"):
        assert choose_pairs(pairing, 1, descriptors=place_of_one) == []
    assert choose_pairs("sequential", 0) == []


def test_bad_choices() -> None:
    with pytest.raises(InvalidValueError, match="expected one of auto, exhaustive"):
        choose_pairs("random", 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="in at most one place"):
        choose_pairs("sequential", 3, sequences=[[0, 1], [1, 2]])
    with pytest.raises(InvalidValueError, match="in at most one place"):
        choose_pairs("sequential", 3, sequences=[[3]])
    with pytest.raises(InvalidValueError, match="each of 3 photos"):
        choose_pairs("spatial", 3, positions=[None])
