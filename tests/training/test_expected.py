"""Runs are compared with the scores that recipes expect."""

import subprocess
import sys
from pathlib import Path

import pytest

from lightmatch.errors import TrainingError
from lightmatch.training.expected import SCORES, last_scores, shortfalls
from lightmatch.training.recipe import read_recipe

ROOT = Path(__file__).parents[2]
LOG = "step,pairs,loss,precision,recall\n20,160,1.5,0.40,0.50\n40,320,1.2,0.61,0.77\n60,480,1.1,,\n"


def test_the_last_validation_counts(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    assert last_scores(tmp_path / "log.csv") == {"precision": 0.61, "recall": 0.77}


def test_a_run_without_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="found no file"):
        last_scores(tmp_path / "log.csv")
    (tmp_path / "log.csv").write_text("step,pairs,loss\n20,160,1.5\n")
    with pytest.raises(TrainingError, match="found no scores"):
        last_scores(tmp_path / "log.csv")


def test_shares_may_fall_short_by_the_tolerance_and_be_better_by_anything() -> None:
    assert not shortfalls({"precision": 0.70}, {"precision": 0.68})
    assert not shortfalls({"precision": 0.70}, {"precision": 0.95})
    (said,) = shortfalls({"precision": 0.70, "recall": 0.8}, {"precision": 0.66, "recall": 0.8})
    assert said == "precision: expected at least 0.670, got 0.660"
    assert shortfalls({"precision": 0.70}, {"precision": 0.68}, tolerance=0.01)


def test_errors_in_pixels_may_not_grow() -> None:
    assert not shortfalls({"place_px": 1.0}, {"place_px": 0.5})
    assert not shortfalls({"place_px": 1.0}, {"place_px": 1.02})
    assert shortfalls({"place_px": 1.0}, {"place_px": 1.2})


def test_what_was_not_measured_falls_short() -> None:
    assert shortfalls({"recall": 0.5}, {"precision": 0.9}) == ["recall: expected 0.500, was not measured"]


def test_an_unknown_score_is_named() -> None:
    with pytest.raises(TrainingError, match="got accuracy"):
        shortfalls({"accuracy": 0.5}, {})


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.toml")), ids=lambda path: path.stem)
def test_recipes_expect_scores_that_a_run_measures(path: Path) -> None:
    expected = read_recipe(path).expected
    assert bool(expected) != ("no scores are on record: " in path.read_text())  # a comment says why there are none
    assert expected.keys() <= set(SCORES)
    assert all(0 < value < 1 for name, value in expected.items() if not name.endswith("_px"))


def test_the_command_compares_a_run_with_its_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "x"\n[expected]\nprecision = 0.6\nrecall = 0.75\n[lightglue]\n[groups]\nhomographies = 1\n'
        "[optimization]\nsteps = 60\n"
    )
    (tmp_path / "log.csv").write_text(LOG)
    command = [sys.executable, str(ROOT / "benchmarks" / "check_recipe.py"), str(recipe), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "as expected"
    (tmp_path / "log.csv").write_text(LOG.replace("0.77", "0.60"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "recall: expected at least 0.720, got 0.600"


def test_without_scores_on_record_the_command_compares_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    recipe = ROOT / "recipes" / "quick-cpu.toml"
    command = [sys.executable, str(ROOT / "benchmarks" / "check_recipe.py"), str(recipe), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout.splitlines()[:2] == ["precision: 0.610", "recall: 0.770"]
    assert "no scores are on record" in done.stdout and "nothing was compared" in done.stdout
