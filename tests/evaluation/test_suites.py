"""Suites: each takes the pairs that have its truth."""

from pathlib import Path

import pytest
from planar_set import write_planar_set

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.estimators import ModelSearch
from lightmatch.evaluation.suites import SUITES, read_suite_pairs


@pytest.fixture
def root(scene_photos: Path, tmp_path: Path) -> Path:
    for number in range(2):
        write_planar_set(tmp_path / "planes" / f"plane_{number}", scene_photos / f"view_{number}.png", num_views=4)
    return tmp_path / "planes"


def test_all_scenes_below_the_roots(root: Path) -> None:
    suite = SUITES["homographies"]
    assert [f"{p.scene} {p.name}" for p in read_suite_pairs(suite, [root])] == [
        f"plane_{scene} 1-{number}" for scene in (0, 1) for number in (2, 3, 4)
    ]
    assert len(read_suite_pairs(suite, [root / "plane_0", root / "plane_1"])) == 6


def test_some_pairs_of_each_scene_in_their_order(root: Path) -> None:
    suite = SUITES["homographies"]
    every = [(p.scene, p.name) for p in read_suite_pairs(suite, [root])]
    drawn = [
        [(p.scene, p.name) for p in read_suite_pairs(suite, [root], num_pairs=2, seed=seed)] for seed in (0, 0, 1, 2, 3)
    ]
    assert drawn[0] == drawn[1] and len({tuple(pairs) for pairs in drawn}) > 1
    for pairs in drawn:
        assert [scene for scene, _ in pairs] == ["plane_0"] * 2 + ["plane_1"] * 2
        assert pairs == [pair for pair in every if pair in pairs]


def test_pairs_of_another_kind_are_refused(root: Path) -> None:
    with pytest.raises(InvalidValueError, match="expected pairs for the suite 'poses'"):
        read_suite_pairs(SUITES["poses"], [root])


def test_angles_without_a_pair_are_named(real_data: Path) -> None:
    root = real_data / "eval" / "strecha"
    assert len(read_suite_pairs(SUITES["poses"], [root], min_angle_deg=30, max_angle_deg=60)) == 20
    with pytest.raises(InvalidValueError, match=r"look 150…180° apart, got none among 55"):
        read_suite_pairs(SUITES["poses"], [root], min_angle_deg=150)


def test_every_estimator_has_its_rows() -> None:
    searches = [ModelSearch("dlt"), ModelSearch("opencv", 2.0)]
    names = [measure.name for measure in SUITES["homographies"].measures(searches, 3.0)]
    assert [name for name in names if "AUC" in name] == [
        *(f"AUC@{t} px, dlt" for t in (1, 3, 5)),
        *(f"AUC@{t} px, opencv 2 px" for t in (1, 3, 5)),
    ]
    assert "precision at 3 px (%)" in names
    assert "epipolar precision at 3 px (%)" in [m.name for m in SUITES["poses"].measures([], 3.0)]
