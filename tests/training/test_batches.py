"""Groups, pairs and batches: small cases with known truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from still_views import KIND, SIZE, StillSource, still_group, toy_features

from lightmatch.errors import TrainingError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.correspondence import Correspondence
from lightmatch.training.batches import (
    GroupStore,
    PairBatch,
    PairBatches,
    PairSampling,
    Window,
    resize_features,
    rotate_inside,
)
from lightmatch.training.views import ViewGroup


@pytest.fixture
def store(tmp_path: Path) -> GroupStore:
    source = StillSource([40, 40, 40])
    return GroupStore(tmp_path, [("still", source, 5)], create_extractor("sift"))


PLAIN = PairSampling(points_per_step=64, num_points=(16,), pairs_per_group=2).without_augmentation()


def test_a_group_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    group = still_group([7, 0, 3])
    group.save(tmp_path / "group.safetensors")
    back = ViewGroup.load(tmp_path / "group.safetensors")
    assert [len(f) for f in back.features] == [7, 0, 3]
    assert back.features[0].kind == KIND and back.features[0].image_size == SIZE
    assert torch.equal(back.features[0].keypoints, group.features[0].keypoints)
    assert torch.equal(back.projections, group.projections) and torch.equal(back.visibility, group.visibility)
    torch.testing.assert_close(back.features[2].descriptors, group.features[2].descriptors, atol=5e-4, rtol=0)


def test_a_pair_keeps_the_truth_of_the_keypoints_kept() -> None:
    group = still_group([20, 20, 20])
    keep0, keep1 = torch.tensor([5, 2, 9]), torch.tensor([9, 5, 11, 12])
    features0, features1, truth = group.pair(2, 1, keep0, keep1)
    assert torch.equal(features0.keypoints, group.features[2].keypoints[keep0])
    labels = truth.label(features0, features1, 0.5, 0.5)
    assert labels.matches.tolist() == [[0, 1], [2, 0]]


def test_groups_are_made_once(store: GroupStore) -> None:
    first, again = store[3], store[3]
    assert store.sources[0][1].made == 1  # type: ignore[attr-defined]
    assert torch.equal(first.features[0].descriptors, again.features[0].descriptors)
    assert store.path(3).exists() and len(store) == 5


def test_a_batch_depends_on_seed_and_step_alone(store: GroupStore) -> None:
    batches = PairBatches(store, PLAIN, seed=1)
    later, now = batches[7], batches[7]
    assert torch.equal(later.features0.keypoints, now.features0.keypoints) and later.names == now.names
    assert not torch.equal(batches[8].features0.keypoints, now.features0.keypoints)
    assert not torch.equal(replace(batches, seed=2)[7].features0.keypoints, now.features0.keypoints)


def test_a_batch_has_the_number_of_points_of_the_config(store: GroupStore) -> None:
    batch = PairBatches(store, PLAIN, seed=1)[0]
    assert len(batch) == 4 and batch.features0.keypoints.shape == (4, 16, 2)
    assert bool(batch.features0.valid.all())
    assert torch.bincount(batch.matches[:, 0]).tolist() == [16, 16, 16, 16]


def test_windows_show_the_same_place_and_keep_the_strongest(store: GroupStore) -> None:
    batches = PairBatches(store, replace(PLAIN, cropped_share=1.0), seed=1)
    for step in range(20):
        batch = batches[step]
        assert bool(batch.features0.valid.all()) and batch.features0.keypoints.shape == (4, 16, 2)
        shared = torch.bincount(batch.matches[:, 0], minlength=4)
        assert int(shared.min()) >= 1  # the place in the middle at least; the views are all alike
        for features in (batch.features0, batch.features1):
            sizes = features.image_sizes[:, None]
            assert bool((features.keypoints >= 0).all()) and bool((features.keypoints < sizes).all())


def test_a_window_holds_its_keypoints_and_no_more() -> None:
    features = still_group([40]).features[0]
    rng = np.random.default_rng(0)
    sizes = set()
    for number in range(30):
        window = Window.around(features, features.keypoints[number], 10, rng)
        cropped = window.crop(features.select(window.keep))
        assert len(cropped) == 10 and bool((window.keep.diff() > 0).all())
        inside = (features.keypoints >= window.corner).all(1)
        inside &= (features.keypoints < window.corner + torch.tensor(window.size)).all(1)
        # The strongest of those inside, but for keypoints on the rim, where the window is rounded up.
        assert set(window.keep.tolist()) <= set(inside.nonzero()[:12, 0].tolist())
        sizes.add(window.size)
    assert len(sizes) > 10


def test_every_group_is_seen_once_an_epoch(store: GroupStore) -> None:
    sampling = replace(PLAIN, points_per_step=32)  # one visit a step
    batches = PairBatches(store, sampling, seed=3)
    epochs = [[batches[step].names[0] for step in range(first, first + 5)] for first in (0, 5)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [f"still/{n}" for n in range(5)]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_group_is_seen_once_an_epoch_by_batches_of_all_sizes(store: GroupStore, world_size: int) -> None:
    # Batches of 4, 2 and 1 groups: 7 visits in three steps after 2 in the first; 6 or 12 epochs of 5 groups.
    sampling = replace(PLAIN, num_points=(8, 16, 32), early_points=(16,), early_steps=1, min_matches=4)
    ranks = [PairBatches(store, sampling, 3, rank, world_size) for rank in range(world_size)]
    batches = [batches[step] for step in range(13) for batches in ranks]
    assert {batch.features0.keypoints.shape[1] for batch in batches} == {8, 16, 32}
    names = [name for batch in batches for name in batch.names[::2]]
    assert len(names) == 30 * world_size
    for first in range(0, len(names), 5):
        assert len(set(names[first : first + 5])) == 5


def test_several_processes_share_the_steps_between_them(store: GroupStore) -> None:
    alone = PairBatches(store, PLAIN, seed=1)
    both = [PairBatches(store, PLAIN, seed=1, rank=rank, world_size=2) for rank in (0, 1)]
    for rank in (0, 1):
        assert torch.equal(both[rank][3].features0.keypoints, alone[6 + rank].features0.keypoints)


def test_views_with_too_few_keypoints_are_passed_over_while_others_are_there(tmp_path: Path) -> None:
    store = GroupStore(tmp_path, [("still", StillSource([40, 5, 40]), 3)], create_extractor("sift"))
    assert bool(PairBatches(store, PLAIN, seed=0)[0].features0.valid.all())
    poor = GroupStore(tmp_path / "poor", [("still", StillSource([5, 6, 7]), 3)], create_extractor("sift"))
    batch = PairBatches(poor, PLAIN, seed=0)[0]  # better few points than no batch
    assert len(batch) == 4 and int(batch.features0.valid.sum(1).max()) <= 7


def test_blank_views_end_the_search(tmp_path: Path) -> None:
    store = GroupStore(tmp_path, [("still", StillSource([0, 0, 0]), 3)], create_extractor("sift"))
    with pytest.raises(TrainingError, match=r"got 0 pairs of 4 from all 3; add photos that are not blank"):
        PairBatches(store, PLAIN, seed=0)[0]


def test_collate_pads_and_numbers_the_matches() -> None:
    truth = Correspondence(torch.tensor([[0, 1]]), torch.tensor([False, True]), torch.tensor([True, False, False]))
    small = Correspondence(torch.empty((0, 2), dtype=torch.int64), torch.tensor([True]), torch.tensor([True]))
    batch = PairBatch.collate(
        [(toy_features(1, 0), toy_features(1, 1), small), (toy_features(2, 2), toy_features(3, 3), truth)], ["a", "b"]
    )
    assert batch.matches.tolist() == [[1, 0, 1]]
    assert batch.unmatchable0.tolist() == [[True, False], [False, True]]  # padding is not unmatchable
    assert batch.unmatchable1.tolist() == [[True, False, False], [True, False, False]]


def test_collate_stays_on_the_device_of_its_pairs() -> None:
    truth = Correspondence(torch.tensor([[0, 1]]), torch.tensor([False, True]), torch.tensor([True, False, False]))
    features0, features1 = toy_features(2, 2), toy_features(3, 3)
    with torch.device("meta"):  # where tensors are made that name no device
        batch = PairBatch.collate([(features0, features1, truth)], ["a"])
    assert batch.matches.device == batch.unmatchable0.device == truth.matches.device


def test_a_quarter_turn_takes_right_to_down() -> None:
    middle_right = replace(toy_features(1, 0), keypoints=torch.tensor([[99.0, 39.5]]), orientations=torch.zeros(1))
    turned = rotate_inside(middle_right, np.pi / 2)
    torch.testing.assert_close(turned.keypoints, torch.tensor([[49.5, 89.0]]))  # clockwise on screen
    torch.testing.assert_close(turned.orientations, torch.tensor([np.pi / 2], dtype=torch.float32))


def test_resized_features_lie_within_the_larger_picture() -> None:
    some = toy_features(50, 0)
    grown = resize_features(some, 2.0, np.random.default_rng(0))
    assert grown.image_size == (200, 160)
    offset = grown.keypoints - some.keypoints
    torch.testing.assert_close(offset, offset[:1].expand(50, 2))
    assert bool((offset >= 0).all()) and bool((offset <= torch.tensor(SIZE)).all())
    shrunk = resize_features(some, 0.5, np.random.default_rng(0))
    assert shrunk.image_size == SIZE and torch.equal(shrunk.scales, 2 * some.scales)  # type: ignore[operator]
