"""Each part of the loss is least where it should be, and reaches the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightmatch.extractors import create_extractor
from lightmatch.networks.lightpoint import LightPointConfig, LightPointNetwork
from lightmatch.training.lightpoint.cut import gaussian_targets
from lightmatch.training.lightpoint.objective import (
    StudentObjective,
    StudentObjectiveConfig,
    pair_loss,
    place_loss,
    score_loss,
)
from lightmatch.training.lightpoint.teachers import LabelStore
from lightmatch.training.lightpoint.validation import StudentValidation
from lightmatch.training.lightpoint.views import StudentBatch, StudentViews, StudentViewsConfig

CONFIG = LightPointConfig(16, (4, 8, 8, 8), merged_channels=16, score_channels=4, samples=4, spaces=(("sift", 128),))


@pytest.fixture
def views(scene_photos: Path, tmp_path: Path) -> StudentViews:
    sift = create_extractor("sift", max_keypoints=200)
    store = LabelStore(tmp_path, sorted(scene_photos.glob("*.png"))[:2], sift, {"sift": sift})
    return StudentViews(store, StudentViewsConfig(pairs_per_step=2, sizes=((160, 128),), points=64), seed=0)


def shifted_pair(shift_px: float) -> tuple[torch.Tensor, StudentBatch]:
    """Logits of two views of one place, in the second of which it is found `shift_px` to the right of the truth."""
    places = torch.tensor([[20.0, 15.0]])
    batch = StudentBatch(
        images=torch.zeros(2, 1, 32, 48),
        inside=torch.ones(2, 32, 48, dtype=torch.bool),
        targets=torch.zeros(2, 32, 48),
        points=torch.stack((places, places)),
        valid=torch.ones(2, 1, dtype=torch.bool),
        plain=torch.zeros(2, dtype=torch.bool),
        descriptors={},
        homographies=torch.eye(3)[None],
        warped=torch.ones(1, dtype=torch.bool),
        names=("one",),
    )
    bells = [
        gaussian_targets(places + torch.tensor([dx, 0.0]), torch.tensor([0.9]), (48, 32)) for dx in (0.0, shift_px)
    ]
    return torch.logit(torch.stack(bells).clamp(1e-4)).requires_grad_(), batch


def test_the_loss_of_places_falls_to_zero_where_both_views_agree_and_points_there() -> None:
    losses = []
    for shift in (0.0, 0.2, 0.4):
        logits, batch = shifted_pair(shift)
        losses.append(float(place_loss(logits, batch, batch.valid[:1]).detach()))
    assert losses[0] == pytest.approx(0, abs=1e-6) and losses[0] < losses[1] < losses[2]
    logits, batch = shifted_pair(0.4)
    place_loss(logits, batch, batch.valid[:1]).backward()
    # Less on the right of the peak in the second view, more on its left.
    assert logits.grad is not None and float(logits.grad[1, 15, 21]) > 0 > float(logits.grad[1, 15, 19])


def test_keypoints_far_apart_are_not_drawn_together() -> None:
    logits, batch = shifted_pair(6.0)
    assert float(place_loss(logits, batch, batch.valid[:1]).detach()) == 0


def test_the_loss_of_true_pairs_is_lower() -> None:
    descriptors = torch.eye(4).repeat(2, 1, 1)
    both = torch.ones(1, 4, dtype=torch.bool)
    right = pair_loss(descriptors, both, 20.0)
    wrong = pair_loss(torch.stack((descriptors[0], descriptors[1].roll(1, 0))), both, 20.0)
    assert float(right) < 1e-6 < 10 < float(wrong)
    # A place that only one view shows neither counts nor confuses.
    both[0, 3] = False
    assert float(pair_loss(descriptors, both, 20.0)) < 1e-6


def test_a_perfect_student_has_no_loss_of_scores_and_what_lies_outside_does_not_count() -> None:
    targets = torch.rand(1, 8, 8)
    inside = torch.ones(1, 8, 8, dtype=torch.bool)
    inside[:, 4:] = False
    logits = torch.logit(targets)
    logits[:, 4:] = 9.0
    assert float(score_loss(logits, targets, inside, 20.0)) == pytest.approx(0, abs=1e-5)
    logits[:, 0] += 1
    assert float(score_loss(logits, targets, inside, 20.0)) > 0.01


def test_every_part_reaches_the_weights_and_none_is_made_where_it_has_no_weight(views: StudentViews) -> None:
    batch = views[0]
    full = StudentObjectiveConfig(pair=0.2, place=1.0)
    for without in ("space", "gram", "score", "pair", "place"):
        torch.manual_seed(0)
        network = LightPointNetwork(CONFIG)
        zeros: dict[str, Any] = dict.fromkeys({"space", "gram", "score", "pair", "place"} - {without}, 0.0)
        only = replace(full, **zeros)
        StudentObjective(network, only)(batch).total.backward()
        touched = [p for p in network.parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0]
        assert touched, without
    losses = StudentObjective(LightPointNetwork(CONFIG), StudentObjectiveConfig())(batch)
    assert float(losses.pair) == float(losses.place) == 0 < float(losses.space)


class Elsewhere:
    """Batches that are not on the network's device until they are moved there."""

    def __init__(self, batch: StudentBatch) -> None:
        self.batch = batch

    def __getitem__(self, step: int) -> "Elsewhere":
        return self

    def to(self, device: torch.device | str) -> StudentBatch:
        assert torch.device(device) == torch.device("cpu")
        return self.batch


def test_validation_moves_its_batches_to_the_device_of_the_network_and_stays_there(views: StudentViews) -> None:
    network = LightPointNetwork(CONFIG).eval()
    moved: Any = Elsewhere(views[0])
    with torch.device("meta"):  # where tensors are made that name no device
        scores = StudentValidation(moved, moved, steps=1, points=50)(network)
    assert scores.keys() > {"recall", "scene_recall"}


def test_validation_gives_shares_and_the_same_ones_again(views: StudentViews) -> None:
    torch.manual_seed(0)
    network = LightPointNetwork(CONFIG).eval()
    validation = StudentValidation(views, steps=1, points=50)
    scores = validation(network)
    assert scores == validation(network)
    assert all(0 <= scores[name] <= 1 for name in ("repeatability", "precision", "recall"))
    assert 0 <= scores["place_px"] < 3
