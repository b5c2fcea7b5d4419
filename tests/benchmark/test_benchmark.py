"""The clock, the runners, and what `lightmatch benchmark` writes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from sharpened import random_pair
from typer.testing import CliRunner

from lightmatch.benchmark import Runner, Timing, create_runner, default_runners, peak_memory, time_in_turns
from lightmatch.cli.app import app
from lightmatch.errors import InvalidValueError
from lightmatch.pipelines.benchmark import BenchmarkConfig, benchmark
from lightmatch.runtime.threads import num_threads, use_threads
from lightmatch.types import FeatureKind, Features, Matches

SIFT = FeatureKind("sift", 128, has_scale_orientation=True)


def small_pair(level: str, points: int, seed: int = 0) -> tuple[Features, Features]:
    return random_pair(SIFT, points, 0, 0, seed, ease=0.5)


def test_everyone_is_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by what each call is said to take."""
    called: list[str] = []
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def call(name: str, *seconds: float) -> None:
        now[0] += seconds[called.count(name)]
        called.append(name)

    found = time_in_turns(
        {"quick": lambda: call("quick", 9, 1, 1, 1), "slow": lambda: call("slow", 9, 3, 7, 5)}, rounds=3
    )
    assert called == ["quick", "slow"] * 4  # the first round does not count
    assert found == {"quick": Timing(1.0, 1.0, 1.0), "slow": Timing(5.0, 3.0, 7.0)}


def test_medians_and_quartiles_by_hand() -> None:
    assert Timing.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Timing(3.0, 1.5, 4.5)
    assert Timing.of([2.0]) == Timing(2.0, 2.0, 2.0)


def holds(mib: int) -> Callable[[], float]:
    return lambda: np.ones(mib << 17).sum()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not known")
def test_memory_is_what_the_call_adds() -> None:
    found = peak_memory(holds, 200)
    assert found is not None and 195 < found / 2**20 < 260


def test_where_the_system_does_not_tell_the_memory_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("lightmatch.benchmark.clock.ProcessPoolExecutor", None)
    assert peak_memory(holds, 200) is None
    assert peak_memory(holds, 200, device="mps") is None


@pytest.mark.parametrize("runner", default_runners(), ids=lambda runner: runner.name)
def test_every_runner_matches(runner: Runner) -> None:
    if not runner.installed or runner.name == "onnxruntime":  # its export takes half a minute; tests/export has it
        pytest.skip("not installed, or tested elsewhere")
    found = runner.prepare(*small_pair("easy", 40), "cpu")()
    if runner.name == "kornia":
        assert found["matches0"].shape == (1, 40)
    elif runner.name == "transformers":
        assert found[0].shape[-1] == 40
    else:
        assert isinstance(found, Matches)
        assert found.layers0 is not None and len(found.layers0) == 40
        assert runner.adaptive or found.stop_layer == (9 if "large" in runner.name else 6)


def test_any_matcher_of_features_is_a_runner() -> None:
    for name in ("nearest:0.9", "lightglue,full@0.5"):
        found = create_runner(name).prepare(*small_pair("easy", 40), "cpu")()
        assert create_runner(name).name == name and isinstance(found, Matches)
    with pytest.raises(InvalidValueError, match="expected a matcher of features, got 'vismatch:roma'"):
        create_runner("vismatch:roma")


def test_onnxruntime_is_timed_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not without the package that exports, nor on a GPU that onnxruntime would not compute on."""
    onnxruntime = pytest.importorskip("onnxruntime")
    runner = create_runner("onnxruntime")
    assert ("cuda" in runner.devices) == ("CUDAExecutionProvider" in onnxruntime.get_available_providers())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    assert not runner.installed


def test_kornia_and_ours_have_the_same_weights() -> None:
    pytest.importorskip("kornia")
    pair = small_pair("easy", 60)
    ours, theirs = (create_runner(name).prepare(*pair, "cpu")() for name in ("lightglue-large-float32", "kornia"))
    assert torch.equal(ours.indices, theirs["matches"][0])


def test_the_results_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightmatch.pipelines.benchmark.timing_pair", small_pair)
    monkeypatch.setattr("lightmatch.pipelines.benchmark.peak_memory", lambda *_, **__: 3 << 20)
    names = ("lightglue", "lightglue,full")
    result = benchmark(tmp_path / "out", BenchmarkConfig(names, (20, 40), ("easy", "hard"), rounds=2))
    # What takes all layers is timed on one kind of pair.
    assert [(row.runner, row.points, row.level) for row in result.rows] == [
        (name, points, level)
        for points in (20, 40)
        for level, name in (("easy", "lightglue"), ("easy", "lightglue,full"), ("hard", "lightglue"))
    ]
    content = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert len(content["rows"]) == 6 and content["environment"]["torch"] == torch.__version__
    assert content["rows"][0]["seconds"]["median"] > 0
    table = (tmp_path / "out" / "benchmark.md").read_text().splitlines()
    assert len(table) == 8 and table[2].startswith("| lightglue | 20 | easy |") and table[2].endswith("| 3 |")
    assert (tmp_path / "out" / "benchmark.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runners": ("hloc",)}, "runner: expected one of lightglue, .* got 'hloc'"),
        ({"points": (0,)}, "points: expected some of 1…4096"),
        ({"levels": ("odd",)}, "levels: expected some of easy"),
        ({"rounds": 0}, "rounds: expected at least 1"),
    ],
)
def test_odd_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        BenchmarkConfig(**options)


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightmatch.pipelines.benchmark.timing_pair", small_pair)
    chosen = ("--matcher", "lightglue,full", "--points", "32", "--level", "easy", "--rounds", "1")
    before = num_threads()
    try:
        done = CliRunner().invoke(app, ["--threads", "1", "benchmark", *chosen, "-o", str(tmp_path / "out")])
    finally:
        use_threads(before)
    assert done.exception is None and "lightglue,full" in done.stdout
    assert (tmp_path / "out" / "benchmark.png").exists()
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text())["environment"]["num_threads"] == 1
    assert "threads: expected 1…1024" in run("--threads", "0", "doctor", code=1).stderr
