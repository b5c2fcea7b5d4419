"""Training from a recipe to weights, on photos of the procedural scene."""

import csv
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightmatch.errors import ImageReadError, TrainingError
from lightmatch.matchers import LightGlue, SuperGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.pipelines.train import TrainConfig, TrainResult, train_recipe
from lightmatch.training.initialization import copy_layers
from lightmatch.training.loop import RunOptions

RECIPE = """
name = "tiny"
seed = 1
[features]
name = "sift"
max_keypoints = 160
[lightglue]
features = "sift"
descriptor_dim = 32
num_layers = 2
num_heads = 1
[photos]
validation_share = 0.3
[groups]
homographies = 4
validation = 2
validation_points = 64
[homographies]
size = [320, 240]
difficulty = 0.15
min_zoom = 0.8
[sampling]
points_per_step = 256
num_points = [64]
min_matches = 4
[optimization]
steps = 6
precision = "float32"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups")


def run(recipe: Path, output: Path, photos: Path, cache: Path, **options: Any) -> TrainResult:
    config = TrainConfig((photos,), cache=cache, device="cpu", run=RunOptions(workers=0, log_every=2, validate_every=3))
    return train_recipe(recipe, output, replace(config, **options))


def test_a_recipe_becomes_weights_a_log_and_a_picture(
    recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(recipe, tmp_path / "run", scene_photos, cache)
    assert result.finished and result.steps == 6 and "had ended" not in caplog.text
    assert set(result.baseline) == {"precision", "recall"}
    assert set(result.scores) == {"precision", "recall", "recall_at_equal_precision"}
    assert result.scores["recall_at_equal_precision"] <= result.scores["recall"]
    assert 0 < result.baseline["recall"] <= 1 and 0 <= result.scores["recall"] <= 1
    matcher = LightGlue.from_checkpoint(result.weights)
    assert matcher.config.descriptor_dim == 32
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "3", "4", "6"]
    assert [bool(row["recall"]) for row in rows] == [False, True, False, True]
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "recipe.toml").read_text() == RECIPE
    again = run(recipe, tmp_path / "run", scene_photos, cache)  # nothing is left to do
    assert again.finished and again.steps == 6
    assert "had ended before, after 6 steps; nothing was trained (--restart starts over)" in caplog.text


def test_the_same_recipe_gives_the_same_weights_however_batches_are_made(
    recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path
) -> None:
    apart = replace(RunOptions(), workers=1)
    alone = run(recipe, tmp_path / "alone", scene_photos, cache)
    helped = run(recipe, tmp_path / "helped", scene_photos, cache, run=apart)
    one, two = (LightGlue.from_checkpoint(result.weights).network.state_dict() for result in (alone, helped))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_the_data_is_said_in_a_sentence(
    recipe: Path, scene_photos: Path, tmp_path: Path, workers: int
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in scene_photos.glob("*.png"):
        (photos / photo.name).write_bytes(photo.read_bytes()[:2000])  # cut off
    with pytest.raises(ImageReadError) as caught:
        run(recipe, tmp_path / "run", photos, tmp_path / "cache", run=replace(RunOptions(), workers=workers))
    assert "Traceback" not in str(caught.value) and ".png" in str(caught.value)


def test_a_signal_leaves_a_run_that_goes_on(recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace("steps = 6", "steps = 400"))
    both = (signal.SIGINT, signal.SIGTERM)  # the terminal's, and torchrun's at once after it
    threading.Timer(2.0, lambda: [os.kill(os.getpid(), number) for number in both]).start()
    stopped = run(recipe, tmp_path / "run", scene_photos, cache)
    assert not stopped.finished and 0 < stopped.steps < 400
    assert (tmp_path / "run" / "checkpoint.pt").exists() and stopped.weights.exists()
    recipe.write_text(RECIPE.replace("steps = 6", "steps = 401"))
    with pytest.raises(TrainingError, match="expected a run of this recipe, it holds one of another"):
        run(recipe, tmp_path / "run", scene_photos, cache)


def test_training_goes_on_from_given_weights(recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path) -> None:
    first = run(recipe, tmp_path / "first", scene_photos, cache)
    tuned = run(recipe, tmp_path / "tuned", scene_photos, cache, weights=first.weights)
    before, after = (LightGlue.from_checkpoint(r.weights).network.state_dict() for r in (first, tuned))
    moved = max(float((after[name] - tensor).abs().max()) for name, tensor in before.items())
    assert 0 < moved < 0.1  # from there, not from a new random start
    recipe.write_text(RECIPE.replace("num_layers = 2", "num_layers = 3"))
    with pytest.raises(TrainingError, match="expected the network of the recipe"):
        run(recipe, tmp_path / "other", scene_photos, cache, weights=first.weights)


def test_the_layers_of_weights_for_other_features_are_taken_over(
    recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    donor = LightGlue(LightGlueConfig("toy", input_dim=64, descriptor_dim=32, num_layers=2, num_heads=1))
    donor.save(tmp_path / "toy.safetensors")
    result = run(recipe, tmp_path / "run", scene_photos, cache, weights=tmp_path / "toy.safetensors")
    after = LightGlue.from_checkpoint(result.weights)
    assert after.config.features == "sift" and after.config.input_dim == 128
    before = donor.network.state_dict()
    for name, tensor in after.network.state_dict().items():
        if not name.startswith("input_proj."):
            assert float((tensor - before[name]).abs().max()) < 0.1, name


def test_layers_of_another_size_are_not_taken_over(
    recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path
) -> None:
    donor = LightGlue(LightGlueConfig("toy", input_dim=64, descriptor_dim=64, num_layers=2, num_heads=1))
    donor.save(tmp_path / "toy.safetensors")
    with pytest.raises(TrainingError, match=r"'toy': expected .* \(32, 2, 1\), got \(64, 2, 1\)"):
        run(recipe, tmp_path / "run", scene_photos, cache, weights=tmp_path / "toy.safetensors")


def test_of_positions_the_part_both_know_is_taken_over() -> None:
    size = {"descriptor_dim": 32, "num_layers": 1, "num_heads": 1}
    for given, wanted in (("xy", "xy_logscale_orientation"), ("xy_logscale_orientation", "xy")):
        donor = LightGlue(LightGlueConfig("toy", positions=given, **size))  # type: ignore[arg-type]
        taken = copy_layers(LightGlue(LightGlueConfig("other", positions=wanted, **size)), donor)  # type: ignore[arg-type]
        assert torch.equal(taken.network.posenc.Wr.weight[:, :2], donor.network.posenc.Wr.weight[:, :2])


def test_superglue_is_trained_by_the_same_loop(recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path) -> None:
    head, _, rest = RECIPE.partition("[lightglue]")
    table = "[superglue]\nfeatures = 'sift'\ninput_dim = 128\ndescriptor_dim = 32\nnum_layers = 1\nnum_heads = 1\n"
    recipe.write_text(head + table + "keypoint_encoder_dims = [8]\n" + rest[rest.index("[photos]") :])
    result = run(recipe, tmp_path / "run", scene_photos, cache)
    assert SuperGlue.from_checkpoint(result.weights).config.keypoint_encoder_dims == (8,)


def test_a_finished_reconstruction_teaches(recipe: Path, scene_photos: Path, tmp_path: Path) -> None:
    reconstruct(scene_photos, tmp_path / "model", ReconstructConfig(matcher="nearest", max_keypoints=2000, seed=0))
    # Only keypoints that became 3D points have a truth, so many are extracted.
    changes = {"homographies = 4": "posed = 2", "max_keypoints = 160": "max_keypoints = 1000"}
    changes |= {"num_points = [64]": "num_points = [500]", "validation_points = 64": "validation_points = 500"}
    text = RECIPE
    for old, new in changes.items():
        text = text.replace(old, new)
    recipe.write_text(text)
    config = TrainConfig(posed=(tmp_path / "model",), device="cpu", run=RunOptions(workers=0))
    result = train_recipe(recipe, tmp_path / "run", config)
    assert result.finished and result.baseline["recall"] > 0.3  # nearest neighbours find the tracks they made


def test_views_too_poor_to_validate_on_are_named(recipe: Path, scene_photos: Path, cache: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("validation_points = 64", "validation_points = 20000")
    recipe.write_text(text.replace("max_keypoints = 160", "max_keypoints = 20000"))
    with pytest.raises(TrainingError, match="share 4 of 20000 keypoints, got none"):
        run(recipe, tmp_path / "run", scene_photos, cache)


def test_what_is_missing_is_named(recipe: Path, tmp_path: Path, scene_photos: Path) -> None:
    with pytest.raises(TrainingError, match="needs photos; name a folder of them with --photos"):
        train_recipe(recipe, tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(TrainingError, match="expected an empty folder or a training run"):
        train_recipe(recipe, tmp_path / "full", TrainConfig((scene_photos,)))
