"""LightPoint from a recipe to weights, with SIFT as its teacher."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightmatch.errors import TrainingError
from lightmatch.matchers import LightGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.lightpoint import LightPointConfig, LightPointNetwork
from lightmatch.pipelines.train import TrainConfig, TrainResult, train_recipe
from lightmatch.training.initialization import copy_layers, read_through_head
from lightmatch.training.loop import RunOptions
from lightmatch.weights import read_tensors

RECIPE = """
name = "tiny"
seed = 1
[lightpoint]
descriptor_dim = 16
channels = [4, 8, 8, 8]
score_channels = 4
[teachers]
detector = "sift"
describers = ["sift"]
max_keypoints = 100
[photos]
validation_share = 0.3
exclude_folders = ["left_out"]
[views]
pairs_per_step = 2
sizes = [[128, 96]]
points = 40
[objective]
pair = 0.2
place = 1.0
[optimization]
steps = 6
precision = "float32"
confidence_share = 0.0
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def run(recipe: Path, output: Path, photos: Path, cache: Path, **options: Any) -> TrainResult:
    config = TrainConfig((photos,), cache=cache, device="cpu", run=RunOptions(workers=0, log_every=2, validate_every=3))
    return train_recipe(recipe, output, replace(config, **options))


def test_a_recipe_becomes_features_and_a_stop_changes_no_bit(
    recipe: Path, scene_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(recipe, tmp_path / "run", scene_photos, tmp_path / "cache")
    assert result.finished and set(result.scores) == {"repeatability", "place_px", "precision", "recall"}
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "3", "4", "6"]
    assert all(float(row["place"]) >= 0 and float(row["space"]) > 0 for row in rows)
    tensors, metadata = read_tensors(result.weights)
    assert json.loads(metadata["config"])["spaces"] == [["sift", 128]] and metadata["recipe"] == RECIPE

    from lightmatch.pipelines import train_run

    steps = iter([False, False, True])

    class Stop:
        def __enter__(self) -> object:
            return lambda: next(steps)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(train_run, "_stop_on_signal", Stop)
    stopped = run(recipe, tmp_path / "other", scene_photos, tmp_path / "cache")
    assert not stopped.finished and stopped.steps == 3
    monkeypatch.undo()
    again = run(recipe, tmp_path / "other", scene_photos, tmp_path / "cache")
    for name, tensor in read_tensors(again.weights)[0].items():
        assert torch.equal(tensor, tensors[name]), name


def test_training_goes_on_from_a_file_of_the_same_network_alone(
    recipe: Path, scene_photos: Path, tmp_path: Path
) -> None:
    result = run(recipe, tmp_path / "run", scene_photos, tmp_path / "cache")
    tuned = run(recipe, tmp_path / "tuned", scene_photos, tmp_path / "cache", weights=result.weights)
    assert tuned.finished
    recipe.write_text(RECIPE.replace("descriptor_dim = 16", "descriptor_dim = 24"))
    with pytest.raises(TrainingError, match="expected the network of the recipe"):
        run(recipe, tmp_path / "other", scene_photos, tmp_path / "cache", weights=result.weights)


def test_photos_of_one_scene_make_pairs(recipe: Path, scene_photos: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(scene_photos, photos / "scene")
    shutil.copytree(scene_photos, photos / "held_out")
    text = RECIPE.replace("sift", "lightpoint").replace("points = 40", "points = 40\nscenes_share = 0.5")
    text = text.replace("left_out", "held_out")
    recipe.write_text(text + '[scenes]\nspace = "lightpoint"\nstrides = [1]\nvalidation = ["held_out"]\n')
    with pytest.raises(TrainingError, match="--scenes"):
        run(recipe, tmp_path / "without", photos, tmp_path / "cache")
    result = run(recipe, tmp_path / "run", photos, tmp_path / "cache", scenes=(photos,))
    assert result.finished and 0 <= result.scores["scene_recall"] <= 1
    assert len(list((tmp_path / "cache").glob("pairs-*/*.safetensors"))) > 2


JOINT = """
[lightglue]
features = "lightpoint"
input_dim = 16
descriptor_dim = 32
num_layers = 2
num_heads = 1
positions = "xy"
[joint]
num_points = 40
"""


def test_features_and_matcher_are_trained_together_and_go_on_from_both_files(
    recipe: Path, scene_photos: Path, tmp_path: Path
) -> None:
    recipe.write_text(RECIPE + JOINT)
    result = run(recipe, tmp_path / "run", scene_photos, tmp_path / "cache")
    assert result.finished and {"repeatability", "match_precision", "match_recall"} <= set(result.scores)
    matcher = result.weights.with_name("lightglue.safetensors")
    assert LightGlue.from_checkpoint(matcher).config.features == "lightpoint"
    assert json.loads(read_tensors(result.weights)[1]["config"])["descriptor_dim"] == 16
    on = run(recipe, tmp_path / "on", scene_photos, tmp_path / "cache", weights=result.weights, matcher_weights=matcher)
    assert on.finished
    with (tmp_path / "on" / "log.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["positive"]) > 0
    recipe.write_text(RECIPE + JOINT.replace("input_dim = 16", "input_dim = 32"))
    with pytest.raises(TrainingError, match="of width 16"):
        run(recipe, tmp_path / "wrong", scene_photos, tmp_path / "cache")


def test_photos_are_asked_for(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--photos"):
        train_recipe(recipe, tmp_path / "run", TrainConfig(device="cpu"))


def test_a_matcher_reads_lightpoint_as_its_donor_reads_the_teacher() -> None:
    size: dict[str, Any] = {"descriptor_dim": 32, "num_layers": 1, "num_heads": 1, "positions": "xy"}
    donor = LightGlue(LightGlueConfig("teacher", 128, **size))
    network = LightPointNetwork(LightPointConfig(spaces=(("teacher", 128),)))
    matcher = copy_layers(LightGlue(LightGlueConfig("lightpoint", 128, **size)), donor)
    head = network.spaces["teacher"]
    assert isinstance(head, torch.nn.Linear)
    read_through_head(matcher, donor, head)
    ours = torch.nn.functional.normalize(torch.randn(50, 128), dim=1)
    with torch.no_grad():
        states = matcher.network.input_proj(ours)
        wanted = donor.network.input_proj(network.in_space(ours, "teacher"))
    assert float(torch.nn.functional.cosine_similarity(states, wanted).min()) > 0.99
    torch.testing.assert_close(states.norm(dim=1).mean(), wanted.norm(dim=1).mean(), rtol=0.05, atol=0)
