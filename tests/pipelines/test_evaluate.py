"""An evaluation from a folder of pairs to tables, and again."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import stand_in_vismatch
from planar_set import write_planar_set

from lightmatch.errors import ImageReadError, InvalidValueError, ReconstructionError
from lightmatch.evaluation.tables import ResultTable
from lightmatch.pipelines.evaluate import EvaluateConfig, EvaluationResult, evaluate


@pytest.fixture
def config(scene_photos: Path, tmp_path: Path) -> EvaluateConfig:
    for number in range(2):
        write_planar_set(tmp_path / "planes" / f"plane_{number}", scene_photos / f"view_{number}.png", num_views=3)
    return EvaluateConfig(
        "homographies",
        (tmp_path / "planes",),
        matchers=("nearest:0.8", "nearest:none"),
        max_keypoints=(300, 100),
        estimators=("dlt", "opencv"),
        num_draws=50,
    )


def values(table: ResultTable, column: int) -> dict[str, float]:
    return {name: row[column].value for name, row in table.rows if row[column] is not None}  # type: ignore[union-attr]


def numbers(result: EvaluationResult) -> list[list[str]]:
    return [row for table in (*result.tables, *result.scene_tables) for row in table.cells()]


def test_an_evaluation_writes_all_it_found(config: EvaluateConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = evaluate(out, config)
    whole, differences, fewer, _ = result.tables
    assert whole.title == "homographies, at most 300 keypoints, 4 pairs" and whole.columns == (
        "nearest:0.8",
        "nearest:none",
    )
    strict, loose = values(whole, 0), values(whole, 1)
    assert strict["precision at 3 px (%)"] > 95 and strict["recall at 3 px (%)"] > 50
    assert strict["AUC@5 px, opencv 2 px"] > 85
    assert strict["precision at 3 px (%)"] > loose["precision at 3 px (%)"]
    assert loose["matches"] - strict["matches"] == pytest.approx(values(differences, 0)["matches"])
    assert values(fewer, 0)["matches"] < strict["matches"]
    assert [table.title for table in result.scene_tables] == [
        f"plane_{scene}, at most {count} keypoints, 2 pairs{rest}"
        for count in (300, 100)
        for scene in (0, 1)
        for rest in ("", ": differences on the same pairs")
    ]
    assert [(one.method, one.max_keypoints) for one in result.scores] == [
        (name, count) for count in (300, 100) for name in ("nearest:0.8", "nearest:none")
    ]
    assert "4 pairs of 2 scenes" in result.notes[-1] and "at most 640 px" in result.notes[-1]

    content = json.loads((out / "results.json").read_text())
    assert content["config"]["max_keypoints"] == [300, 100] and "torch" in content["environment"]
    assert [table["title"] for table in content["tables"]] == [table.title for table in result.tables]
    assert whole.markdown() in (out / "results.md").read_text()
    with (out / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 4
    mean = sum(float(row["num_matches"]) for row in rows[:4]) / 4
    assert mean == pytest.approx(strict["matches"])
    assert (out / "curves" / "300.png").is_file() and (out / "curves" / "100.png").is_file()


def test_a_second_run_uses_features_and_matches_of_the_first(config: EvaluateConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = evaluate(out, config)
    kept = [path for folder in ("features", "predictions") for path in (out / folder).rglob("*.safetensors")]
    assert len(kept) == 6 + 2  # nearest neighbours and their ratio test share the matches
    for path in kept:
        os.utime(path, ns=(0, 0))
    with pytest.raises(ReconstructionError, match="--overwrite"):
        evaluate(out, config)
    again = evaluate(out, config, overwrite=True)
    assert numbers(again) == numbers(first)
    assert all(path.stat().st_mtime_ns == 0 for path in kept)


def test_worlds_need_no_root(tmp_path: Path) -> None:
    config = EvaluateConfig(
        "worlds", levels=("easy",), matchers=("nearest:0.8",), estimators=("opencv",), image_size=160, num_pairs=1
    )
    result = evaluate(tmp_path / "out", config)
    (table,) = result.tables
    found = values(table, 0)
    assert found["precision at 3 px (%)"] > 50 and "AUC@10°, opencv 1 px" in found
    assert not result.scene_tables


def test_an_estimator_that_is_not_installed_is_left_out_with_a_note(
    config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightmatch.pipelines.evaluate.is_installed", lambda name: name != "poselib")
    config = replace(config, estimators=(), max_keypoints=(100,))
    result = evaluate(tmp_path / "out", config)
    assert "poselib is not installed" in result.notes[0] and ".[evaluation]" in result.notes[0]
    assert not any("poselib" in name for name, _ in result.tables[0].rows)


def test_a_photo_that_is_not_there_is_named(config: EvaluateConfig, tmp_path: Path) -> None:
    (config.roots[0] / "plane_1" / "3.png").write_bytes(b"")
    with pytest.raises(ImageReadError, match=r"plane_1/3\.png"):
        evaluate(tmp_path / "out", config)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"suite": "all"}, "suite: expected one of homographies, poses"),
        ({"suite": "homographies"}, "'homographies': expected a root with pairs"),
        ({"suite": "worlds", "roots": (Path("a"),)}, "'worlds': expected no root"),
        ({"suite": "worlds", "levels": ("nightmare",)}, "levels: expected some of easy"),
        ({"suite": "poses", "roots": (Path("a"),), "estimators": ("dlt",)}, "estimators: expected some of opencv"),
        ({"suite": "worlds", "matchers": ()}, "expected at least one matcher"),
        ({"suite": "worlds", "thresholds_px": (1.0, 0.0)}, "thresholds_px: expected more than 0"),
        ({"suite": "worlds", "image_size": 0}, "image_size: expected more than 0"),
        ({"suite": "worlds", "seed": -1}, "seed: expected 0"),
        ({"suite": "homographies", "roots": (Path("a"),), "min_angle_deg": 9}, "angles: expected none"),
    ],
)
def test_bad_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        EvaluateConfig(**options)


@pytest.mark.parametrize("suite", ["homographies", "worlds"])
def test_a_matcher_of_images_is_measured_beside_one_of_features(
    suite: str, config: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_vismatch.install(monkeypatch)
    small = replace(config, matchers=("nearest", "vismatch:sift-nn"), max_keypoints=(20, 300), estimators=("opencv",))
    if suite == "worlds":
        small = replace(small, suite="worlds", roots=(), levels=("easy",), num_pairs=1, image_size=320)
    result = evaluate(tmp_path / "out", small)
    ours, theirs = (values(result.tables[-2], column) for column in (0, 1))
    assert theirs["precision at 3 px (%)"] > 80 and theirs["matches"] > 20
    # How many of the true matches between features it finds is not known: its places are others.
    assert "recall at 3 px (%)" in ours and "recall at 3 px (%)" not in theirs
    for name in ours:  # of features that it does not use
        if name.startswith(("repeatability", "localisation", "extraction", "matching score", "keypoints")):
            assert name not in theirs
    few = [scores.values["num_matches"].mean() for scores in result.scores if "vismatch" in scores.method]
    assert few[0] <= 20 < few[1]  # it is told how many keypoints it may find
    assert any(name.startswith("extraction") for name in ours)
