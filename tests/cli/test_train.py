"""`lightmatch train` as people type it."""

from pathlib import Path

from command import run

RECIPE = """
name = "tiny"
[features]
name = "sift"
max_keypoints = 64
[lightglue]
features = "sift"
descriptor_dim = 16
num_layers = 1
num_heads = 1
[photos]
validation_share = 0.3
[groups]
homographies = 2
validation = 1
validation_points = 40
[homographies]
size = [240, 180]
difficulty = 0.1
min_zoom = 0.9
[sampling]
points_per_step = 64
num_points = [32]
min_matches = 2
[optimization]
steps = 2
"""


def test_train_says_what_came_out_and_where(scene_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE + "[expected]\nprecision = 1.5\nrecall = 0.0\n")
    command = ["train", tmp_path / "tiny.toml", "--photos", scene_photos, "-o", tmp_path / "run", "--workers", 0]
    done = run(*command)
    assert "trained: precision" in done.stdout and "nearest neighbour" in done.stdout
    assert "worse than the recipe expects: precision: expected at least 1.470, got 0." in done.stdout
    assert "recall: expected" not in done.stdout
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    again = run(*command).stdout  # finished: nothing is left to do, and nothing breaks
    assert "weights.safetensors" in again and "stopped" not in again


def test_help_has_an_example() -> None:
    assert "Example" in run("train", "--help").stdout


def test_mistakes_give_one_sentence(scene_photos: Path, tmp_path: Path) -> None:
    absent = run("train", tmp_path / "absent.toml", "-o", tmp_path / "run", code=1)
    assert "expected a recipe, found no file" in absent.stderr
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "other.toml").write_text(RECIPE + "[expected]\naccuracy = 0.5\n")
    unknown = run("train", tmp_path / "other.toml", "--photos", scene_photos, "-o", tmp_path / "run", code=1)
    assert "[expected]" in unknown.stderr and "accuracy" in unknown.stderr
    needy = run("train", tmp_path / "tiny.toml", "-o", tmp_path / "run", code=1)
    assert "--photos" in needy.stderr
    elsewhere = run("train", tmp_path / "tiny.toml", "--photos", tmp_path / "no", "-o", tmp_path / "run", code=1)
    assert "cannot list" in elsewhere.stderr
