import numpy as np
import pytest
import torch
from pairing.made_features import PLAIN, describe_all, photo, place, walk

from lightmatch.errors import FeatureMismatchError, InvalidValueError
from lightmatch.pairing import (
    describe,
    learn_vocabulary,
    nearest_pairs,
    retrieval,
    sample_descriptors,
    sample_size,
    similarities,
)
from lightmatch.types import FeatureKind


def all_similarities(descriptors: np.ndarray) -> torch.Tensor:
    return torch.cat([block for _, block in similarities(descriptors)])


@pytest.mark.parametrize(
    "kind", [PLAIN, FeatureKind("sift", 128, True), FeatureKind("xfeat", 64), FeatureKind("narrow", 8)]
)
def test_photos_of_one_place_find_each_other(kind: FeatureKind) -> None:
    photos = [
        photo(place(p, kind=kind)[(torch.arange(400) + 60 * i) % 400 < 250], 10 * p + i, kind)
        for p in range(5)
        for i in range(3)
    ]
    pairs = nearest_pairs(describe_all(photos), 2)
    assert pairs == [(3 * p + i, 3 * p + j) for p in range(5) for i, j in [(0, 1), (0, 2), (1, 2)]]


def test_similarity_is_that_of_the_definition() -> None:
    """Word by word: cosine of the signs, negative as nothing, to the third power; 1 for a photo and itself."""
    descriptors = describe_all(walk(6))
    codes = descriptors.reshape(6, -1, 9)
    signs = (2.0 * np.unpackbits(codes[:, :, :8], axis=2) - 1) * codes[:, :, 8:]
    per_word = np.einsum("iwb,jwb->ijw", signs, signs) / 64
    raw = (np.maximum(per_word, 0) ** 3).sum(2)
    expected = raw / np.sqrt(np.outer(raw.diagonal(), raw.diagonal()))
    got = all_similarities(descriptors)
    assert np.allclose(got, expected, atol=1e-5)
    assert np.allclose(got.diagonal(), 1, atol=1e-6)
    assert bool((got >= 0).all()) and torch.equal(got, got.T)


def test_nearer_on_the_way_is_more_alike() -> None:
    alike = all_similarities(describe_all(walk(12)))
    beside = torch.stack([alike[i, i + 1] for i in range(11)])
    apart = torch.stack([alike[i, i + 3] for i in range(9)])
    assert beside.min() > 3 * apart.max()


def test_a_texture_seen_often_weighs_no_more_than_one_seen_once() -> None:
    points = place(0, 60)
    vocabulary = learn_vocabulary(points.repeat(8, 1), 60)
    once, often = (photo(rows, 0, noise=0) for rows in (points, torch.cat((points, points[:1].repeat(500, 1)))))
    alike = all_similarities(np.stack([describe(f, vocabulary) for f in (once, often)]))
    assert alike[0, 1] > 0.9


def test_the_same_seed_gives_the_same_bits() -> None:
    photos = walk(8)
    assert np.array_equal(describe_all(photos), describe_all(photos))
    assert not np.array_equal(describe_all(photos), describe_all(photos, seed=1))
    assert torch.equal(sample_descriptors(photos[0], 7, 3), sample_descriptors(photos[0], 7, 3))
    assert not torch.equal(sample_descriptors(photos[0], 7, 3), sample_descriptors(photos[0], 7, 4))


def test_the_order_of_keypoints_does_not_matter() -> None:
    photos = walk(8)
    vocabulary = learn_vocabulary([f.descriptors for f in photos], 50)
    turned = photos[0].select(torch.arange(100).flip(0))
    assert (describe(photos[0], vocabulary) != describe(turned, vocabulary)).mean() < 0.01


def test_photos_without_keypoints_have_no_pairs() -> None:
    photos = walk(5)
    blank = photo(torch.empty(0, 128), 0)
    descriptors = describe_all([*photos, blank, blank])
    assert not descriptors[5:].any()
    assert {place for pair in nearest_pairs(descriptors, 6) for place in pair} == set(range(5))
    assert nearest_pairs(describe_all([blank, blank]), 3) == []


def test_fewer_samples_than_words() -> None:
    photos = [photo(place(i, 3), i) for i in range(4)]
    vocabulary = learn_vocabulary([f.descriptors for f in photos], 2048)
    assert 1 <= len(vocabulary) <= 12
    assert describe(photos[0], vocabulary).shape == (9 * len(vocabulary),)


def test_duplicates_are_each_others_nearest() -> None:
    photos = walk(6)
    pairs = nearest_pairs(describe_all([*photos, photos[2]]), 1)
    assert (2, 6) in pairs
    assert len(learn_vocabulary(torch.ones(100, 128), 10)) == 10  # all samples equal


def test_equal_ones_come_in_the_order_of_the_list() -> None:
    one = walk(1)[0]
    assert nearest_pairs(describe_all([one] * 4), 1) == [(0, 1), (0, 2), (0, 3)]


def test_the_most_alike_come_first_and_each_photo_gets_its_number() -> None:
    descriptors = describe_all(walk(20))
    alike = all_similarities(descriptors).fill_diagonal_(-1)
    pairs = nearest_pairs(descriptors, 3)
    expected = {(min(i, j), max(i, j)) for i in range(20) for j in alike[i].topk(3).indices.tolist() if alike[i, j] > 0}
    assert pairs == sorted(expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = describe_all(walk(15))
    whole, pairs = all_similarities(descriptors), nearest_pairs(descriptors, 2)
    monkeypatch.setattr(retrieval, "_ROW_ELEMENTS", 4 * 15)
    monkeypatch.setattr(retrieval, "_WORD_ELEMENTS", 200)
    assert torch.allclose(all_similarities(descriptors), whole, atol=1e-6)
    assert nearest_pairs(descriptors, 2) == pairs
    assert len(list(similarities(descriptors))) == 4


def test_queries_alone_are_asked() -> None:
    pairs = nearest_pairs(describe_all(walk(10)), 2, queries=[4])
    assert pairs == [(3, 4), (4, 5)]


def test_no_queries_need_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "INDEX_ABOVE", 2)
    monkeypatch.setattr(retrieval, "candidates", None)
    assert nearest_pairs(describe_all(walk(4)), 2, queries=[]) == []


def test_samples_of_a_collection_are_bounded() -> None:
    assert sample_size(100) * 100 == retrieval.SAMPLE_SIZE
    assert sample_size(10**7) == 1 and sample_size(0) > 0
    assert len(sample_descriptors(walk(1)[0], 10**6)) == 100


def test_bad_input() -> None:
    with pytest.raises(InvalidValueError, match="at least 1, got 0"):
        learn_vocabulary(torch.rand(10, 4), 0)
    with pytest.raises(InvalidValueError, match="shape"):
        learn_vocabulary([])
    with pytest.raises(FeatureMismatchError, match="128 wide"):
        describe(walk(1)[0], learn_vocabulary(torch.rand(100, 64)))
    with pytest.raises(InvalidValueError, match="uint8"):
        nearest_pairs(np.zeros((3, 18)), 1)
    with pytest.raises(InvalidValueError, match="at least 1"):
        nearest_pairs(np.zeros((3, 18), np.uint8), 0)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even few photos are looked for by the index."""
    monkeypatch.setattr(retrieval, "INDEX_ABOVE", 10)
    monkeypatch.setattr(retrieval, "NUM_CANDIDATES", 30)


def test_the_index_finds_what_all_comparisons_find(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = describe_all(walk(120))
    every = nearest_pairs(descriptors, 2)
    for name, value in (("INDEX_ABOVE", 10), ("NUM_CANDIDATES", 30)):
        monkeypatch.setattr(retrieval, name, value)
    neighbours = {(i, i + 1) for i in range(119)}
    assert neighbours < set(every)
    assert neighbours <= set(nearest_pairs(descriptors, 2))
    assert len(set(every) - set(nearest_pairs(descriptors, 2))) <= 2, "of those that only chance makes alike"


@pytest.mark.usefixtures("indexed")
def test_candidates_of_the_index_are_as_alike_as_all_comparisons_say() -> None:
    descriptors = describe_all(walk(40))
    exact = all_similarities(descriptors)
    for photo_number, others, values in retrieval.most_alike(descriptors, [3, 17]):
        assert 2 <= len(others) < 30 and photo_number not in others
        torch.testing.assert_close(torch.from_numpy(values), exact[photo_number][others.tolist()])
        assert (np.diff(values) <= 0).all()


@pytest.mark.usefixtures("indexed")
def test_the_index_gives_the_same_pairs_each_time_and_none_to_photos_without_keypoints() -> None:
    descriptors = describe_all([*walk(40), photo(place(0)[:0], 0)])
    pairs = nearest_pairs(descriptors, 3)
    assert pairs == nearest_pairs(descriptors, 3)
    assert all(40 not in pair for pair in pairs)
