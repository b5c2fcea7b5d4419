"""The parts of the tracking benchmark: errors as evo has them, the odometry it compares with, memory, its page."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lightmatch.scenes.sequences import Film, RenderedSequence, arc, film
from lightmatch.scenes.world import WorldConfig, build_world

ROOT = Path(__file__).parent.parent


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Modules of benchmarks/, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture(scope="module")
def walk() -> RenderedSequence:
    """Twenty-four frames on an arc of 3 m."""
    config = WorldConfig(num_textures=6, texture_size=512, texel_size=0.02)
    world = build_world(torch.Generator().manual_seed(0), config)
    return film(world, arc(24, 0.02), Film((320, 240), supersampling=1))


def wandering(num: int, noise: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A true path and a wrong one of another world and scale: (n, 3, 4) cam_from_world each."""
    rng, true, found = np.random.default_rng(0), [], []
    world_turn = cv2.Rodrigues(np.array([0.3, -0.2, 1.0]))[0]
    for number in range(num):
        turn = cv2.Rodrigues(np.array([0.1 * np.sin(number / 5), 0.05 * number, 0.02 * number]))[0]
        center = np.array([np.sin(number / 8), np.cos(number / 6), 0.1 * number])
        wrong = cv2.Rodrigues(noise * rng.normal(size=3))[0] @ turn @ world_turn.T
        place = world_turn @ (center + noise * rng.normal(size=3)) / scale + [1, 2, 3]
        true.append(np.column_stack((turn, -turn @ center)))
        found.append(np.column_stack((wrong, -wrong @ place)))
    return np.array(true), np.array(found)


@pytest.mark.parametrize(("is_metric", "scale"), [(True, 1.0), (True, 1.1), (False, 3.0)])
def test_errors_are_those_of_evo(load: Callable[[str], Any], is_metric: bool, scale: float) -> None:
    pytest.importorskip("evo")
    errors = load("track_errors")
    true, found = wandering(60, 0.02, scale)
    given = errors.Trajectory(np.arange(60) / 20, found, true)
    ours, evo = errors.errors_of(given, is_metric), errors.evo_errors(given, is_metric, 20)
    assert ours.ate_m == pytest.approx(evo.ate_m, rel=1e-6) and ours.ate_m > 0.01
    assert ours.rpe_m_per_s == pytest.approx(evo.rpe_m_per_s, rel=1e-6)
    assert ours.scale == pytest.approx(scale, rel=0.02)


def test_the_true_path_has_no_error_and_too_few_poses_have_none(load: Callable[[str], Any]) -> None:
    errors = load("track_errors")
    true, found = wandering(30, 0.0, 2.0)
    exact = errors.errors_of(errors.Trajectory(np.arange(30) / 10, found, true), False)
    assert exact.ate_m < 1e-9 and exact.rpe_m_per_s < 1e-9 and exact.scale == pytest.approx(2)
    few = errors.errors_of(errors.Trajectory(np.arange(2) / 10, found[:2], true[:2]), False)
    assert few == errors.Errors(None, None, None)
    short = errors.errors_of(errors.Trajectory(np.arange(5) / 10, found[:5], true[:5]), False)
    assert short.ate_m < 1e-9 and short.rpe_m_per_s is None


def test_the_odometry_finds_a_walk(load: Callable[[str], Any], walk: RenderedSequence) -> None:
    run = load("track_sequences").rendered_run("walk", "one camera", walk)
    row = load("track_measure").measure_klt(run)
    assert row["keyframes"] >= 5 and row["ate_m"] < 0.1 and 2.5 < row["walked_m"] < 3.5


def test_the_odometry_bridges_black_frames(load: Callable[[str], Any], walk: RenderedSequence) -> None:
    odometry = load("klt_odometry").KltOdometry(walk.K.double().numpy())
    greys = [cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2GRAY) for image in walk.rgb]
    for number in range(8, 11):
        greys[number] = np.zeros_like(greys[number])
    poses = [odometry.step(grey) for grey in greys]
    assert all(pose is None for pose in poses[8:12]) and sum(pose is not None for pose in poses[12:]) >= 2


def test_memory_is_told_each_so_many_frames(load: Callable[[str], Any], walk: RenderedSequence) -> None:
    run = load("track_sequences").rendered_run("walk", "depths", walk.take(range(4)))
    usages = list(load("track_memory").long_run(run, 9, 3))
    assert [usage.frames for usage in usages] == [0, 3, 6, 9]
    assert usages[0].keyframes == 0 and usages[-1].keyframes >= 1 and usages[-1].points > 100
    assert all(usage.resident_mb > 50 for usage in usages) and usages[-1].milliseconds > 0


def test_a_hard_sequence_says_what_went_wrong(load: Callable[[str], Any], walk: RenderedSequence) -> None:
    hard = load("track_hard")
    run = load("track_sequences").rendered_run("walk", "depths", walk.take(range(6)))
    row = hard.measure_hard(hard.HardCase(run, (1, None)))
    assert row["problems"] == ["0 loops"] and row["tracked"] == 1 and row["ate_m"] < 0.02
    row = hard.measure_hard(hard.HardCase(run, (0, 0), is_mappable=False))
    assert row["problems"] == ["a map of 2 keyframes without parallax"]


def test_the_page_has_a_table_of_each_part_that_was_measured(load: Callable[[str], Any]) -> None:
    page = load("track_page")
    machine = {"cpu": "C", "num_cpus": 2, "instructions": "I", "torch": "2", "pycolmap": "4", "commit": "c"}
    facts = {"machine": machine, "threads": 1}
    errors = {"ate_m": 0.0123, "rpe_m_per_s": None, "scale": 1.0}
    common = {"name": "walk", "num_frames": 20, "walked_m": 3.0, "keyframes": 4, **errors}
    timed = {"milliseconds": [1.0, 2.0], "frames_per_second": 9.0}
    row = {**common, **timed, "kind": "depths", "loops": 0, "tracked": 1.0, "live_ate_m": 0.02}
    hard = {**common, "kind": "depths", "tracked": 0.5, "live_ate_m": 0.015, "drift_m": None}
    hard |= {"loops": [[1, 2]], "loops_expected": [0, 0]}
    stopped = {"name": "stop", "kind": "depths", "num_frames": 9, "walked_m": 1.0, "loops_expected": [1, None]}
    pairs = [{"pair": [1, 10], "alike": 0.9}, {"pair": [2, 9], "alike": 0.8}]
    usage = {"frames": 500, "resident_mb": 600.0, "keyframes": 9, "points": 99, "loops": 1, "milliseconds": 5.0}
    results = {
        **facts,
        "one_after_other": [row],
        "background": [row],
        "peers": {
            **facts,
            "klt": [{**common, **timed}],
            "offline": [{**common, "registered": 19, "seconds": 10.0}],
        },
        "orb_slam3": {**facts, "rows": [{**row, "rpe_m_per_s": 0.02}]},
        "evo": {
            "name": "walk",
            "kind": "depths",
            "ours": {**errors, "rpe_m_per_s": 0.1},
            "evo": {**errors, "rpe_m_per_s": 0.1},
        },
        "hard": {**facts, "rows": [{**hard, "problems": ["x"]}, {**stopped, "problems": ["stops"]}]},
        "places": {**facts, "pairs": pairs, "found": [[1, 10]], "false": []},
        "memory": {**facts, "runs": {"depths": [usage]}},
    }
    text = page.page("before\n<!-- sequences -->\n<!-- end -->after", results)
    for said in (
        "| walk | depths | 20 | 100 | 4 | 0 | 3.0 | 2.0 / 1.2 | – | 1.000 | 1 / 2 | 9 |",
        "| walk | one camera, KLT odometry | 20 | – | 4 | – | 3.0 | 1.2 / – | – | own | 1 / 2 | 9 |",
        "| walk | one camera, `reconstruct` | 20 | 95 | – | – | 3.0 | – / 1.2 | – | own | – | 2.0 |",
        "| walk | depths | 20 | 50 | 3.0 | 1.5 / 1.2 | – | 0 / 1 | 4 | x |",
        "| stop | depths | 9 | – | 1.0 | – / – | – | 1 or more / – | – | stops |",
        "| walk | depths, ORB-SLAM3 | 20 | 100 | – | – | 3.0 | 2.0 / 1.2 | 2.0 | 1.000 | 1 / 2 | 9 |",
        "RPE is the root mean",
        "KLT odometry (`benchmarks",
        "`reconstruct` has the same",
        "1–10 looks most alike",
        "| depths | 500 | 600 | 9 | 99 | 1 | 5 |",
    ):
        assert said in text
    old = {name: results[name] for name in ("machine", "threads", "background")}
    text = page.page("<!-- sequences -->\n<!-- end -->", {**old, "one_after_other": [{**row, "rpe_m_per_s": 0.1}]})
    assert "Hard" not in text and "KLT" not in text and "| 10.0 | 1.000 |" in text


def test_the_pictures_of_one_place_are_found(load: Callable[[str], Any], real_data: Path) -> None:
    found = load("track_places").measure_places(real_data / "eval")
    assert found["pairs"][0]["pair"] == [1, 10] and [1, 10] in found["found"] and not found["false"]
