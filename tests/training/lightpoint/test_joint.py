"""Keypoints found in views know their places in the other view; the matcher's loss reaches the features."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.correspondence import Visibility
from lightmatch.matchers import LightGlue, NearestNeighbor
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.lightpoint import LightPointConfig, LightPointNetwork
from lightmatch.training.lightpoint.detection import detect, predict_maps, project_to_other_view
from lightmatch.training.lightpoint.joint import (
    JointConfig,
    JointNetwork,
    JointObjective,
    JointValidation,
    detected_pair,
)
from lightmatch.training.lightpoint.objective import StudentObjective, StudentObjectiveConfig
from lightmatch.training.lightpoint.scenes import ScenePairs, ScenePairsConfig
from lightmatch.training.lightpoint.teachers import LabelStore
from lightmatch.training.lightpoint.views import StudentBatch, StudentViews, StudentViewsConfig

TEACHER = create_extractor("lightpoint", max_keypoints=300)
SIZE = LightPointConfig(
    16, (4, 8, 8, 8), merged_channels=16, score_channels=4, samples=4, spaces=(("lightpoint", 128),)
)
MATCHER = LightGlueConfig("lightpoint", 16, descriptor_dim=32, num_layers=2, num_heads=1, positions="xy")


@pytest.fixture
def views(scene_photos: Path, tmp_path: Path) -> StudentViews:
    photos = sorted(scene_photos.glob("*.png"))[:2]
    store = LabelStore(tmp_path / "labels", photos, TEACHER, {"lightpoint": TEACHER})
    config = ScenePairsConfig(space="lightpoint", match_score=0.0)
    pairs = ScenePairs(store, [(0, 1)], NearestNeighbor(ratio=None), tmp_path / "pairs", config)
    plain = StudentViewsConfig(pairs_per_step=2, sizes=((160, 128),), points=64, scenes_share=0.5)
    return StudentViews(store, plain, seed=3, scenes=pairs)


@pytest.fixture
def batch(views: StudentViews) -> StudentBatch:
    return views[0]


def networks() -> JointNetwork:
    torch.manual_seed(0)
    return JointNetwork(LightPointNetwork(SIZE), LightGlue(MATCHER).network)


def test_a_homography_projects_every_keypoint_and_hides_those_outside_the_view(batch: StudentBatch) -> None:
    assert batch.warped.tolist() == [True, False]
    both = batch.valid[0] & batch.valid[1]
    there = project_to_other_view(batch, 0, batch.points[0], 1.0)
    torch.testing.assert_close(there.points[both], batch.points[1][both], atol=1e-2, rtol=0)
    back = project_to_other_view(batch, 1, there.points[both], 1.0)
    torch.testing.assert_close(back.points, batch.points[0][both], atol=2e-2, rtol=0)
    assert (there.visibility[both] == Visibility.VISIBLE).all()
    outside = project_to_other_view(batch, 0, torch.tensor([[-500.0, 40.0]]), 1.0)
    assert outside.visibility.tolist() == [Visibility.HIDDEN]


def test_between_photos_only_what_the_teachers_matched_is_known(batch: StudentBatch) -> None:
    row = 2
    known = batch.valid[row].nonzero()[:, 0]
    places = torch.cat((batch.points[row, known] + 0.3, torch.tensor([[-50.0, -50.0]])))
    found = project_to_other_view(batch, row, places, 2.0)
    seen = batch.valid[row + 1, known]
    assert (found.visibility[:-1][seen] == Visibility.VISIBLE).all()
    assert (found.visibility[:-1][~seen] == Visibility.HIDDEN).all()
    assert found.visibility[-1] == Visibility.UNKNOWN
    nobody = replace(batch, valid=torch.zeros_like(batch.valid))
    assert (project_to_other_view(nobody, row, places, 2.0).visibility == Visibility.UNKNOWN).all()


def test_what_is_found_lies_in_the_photo_strongest_first(batch: StudentBatch) -> None:
    network = networks().features
    found = detect(network, predict_maps(network, batch), batch, 0, 30)
    assert 0 < len(found) <= 30 and found.descriptors.requires_grad
    assert (found.scores.diff() <= 0).all()
    x, y = found.keypoints.round().long().unbind(1)
    assert batch.inside[0, y, x].all()


def test_the_matchers_loss_reaches_the_descriptors(batch: StudentBatch) -> None:
    network = networks()
    silent = StudentObjectiveConfig(space=0.0, gram=0.0, score=0.0)
    losses = JointObjective(network, "xy", silent, JointConfig(num_points=40, match_px=4.0, unmatchable_px=8.0))(batch)
    losses.total.backward()
    assert float(losses.positive) > 0
    moved = network.features.cells.weight.grad
    assert moved is not None and float(moved.abs().sum()) > 0
    # The scores are not the matcher's to change.
    score = network.features.score3.weight.grad
    assert score is None or float(score.abs().sum()) == 0


def test_half_precision_of_the_network_moves_no_place(batch: StudentBatch) -> None:
    torch.manual_seed(0)
    objective = StudentObjective(LightPointNetwork(SIZE), StudentObjectiveConfig(pair=0.2, place=1.0))
    maps = predict_maps(objective.network, batch)
    exact = objective.losses(batch, maps)
    with torch.autocast("cpu", torch.bfloat16):
        same = objective.losses(batch, maps)
    assert all(torch.equal(one, two) for one, two in zip(exact, same, strict=True))


def test_validation_scores_matches_of_detected_keypoints(views: StudentViews) -> None:
    network = JointNetwork(LightPointNetwork(SIZE).eval(), LightGlue(MATCHER).network)
    matcher = LightGlue(MATCHER)
    scores = JointValidation(views, JointConfig(num_points=40), steps=1)(network.features, matcher)
    assert set(scores) == {"match_precision", "match_recall"}
    truth = detected_pair(network.features, predict_maps(network.features, views[0]), views[0], 0, JointConfig())[2]
    assert truth.matches.shape[1] == 2


def test_validation_moves_its_batches_to_the_device_of_the_network(
    views: StudentViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []
    monkeypatch.setattr(StudentBatch, "to", lambda batch, device: moved.append(torch.device(device)) or batch)
    JointValidation(views, JointConfig(num_points=40), steps=2)(LightPointNetwork(SIZE).eval(), LightGlue(MATCHER))
    assert moved == [torch.device("cpu")] * 2


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="match_px"):
        JointConfig(match_px=5.0, unmatchable_px=4.0)
