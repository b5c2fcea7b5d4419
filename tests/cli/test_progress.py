"""What a run says of its progress."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lightmatch.cli.progress import BarProgress
from lightmatch.pipelines.forecast import readable_time


def told(progress: BarProgress) -> None:
    """A run of which 60 of 100 seconds are done, and the rest will take 300."""
    progress.forecast.expect({"extract": 20.0, "match": 100.0})
    progress.forecast._taken["extract"] = 60.0
    progress.announce("3000 pictures")
    with progress.stage("match", 2) as step:
        step()
        step()


def test_the_bar_says_how_long_the_whole_run_will_take() -> None:
    written = io.StringIO()
    progress = BarProgress(Console(file=written, force_terminal=True, width=120))
    progress.forecast.expect({"extract": 20.0, "match": 10.0, "map": 100.0})
    progress.forecast._taken["extract"] = 60.0
    with progress.stage("match", 3) as step:
        for _ in range(2):
            step()
        left = progress.forecast.seconds_left()
    assert left is not None and 290 < left < 340
    assert "about 5 min for the whole run" in written.getvalue()


def test_a_stage_of_unknown_length_counts_until_its_end() -> None:
    written = io.StringIO()
    with BarProgress(Console(file=written, force_terminal=True, width=100)).stage("track", 0) as step:
        for _ in range(3):
            step()
    assert "0/?" in written.getvalue() and "3/3" in written.getvalue() and "/0" not in written.getvalue()


def test_announcements_are_lines_of_their_own_and_silent_runs_have_none() -> None:
    written = io.StringIO()
    told(BarProgress(Console(file=written, width=100)))
    assert written.getvalue().startswith("3000 pictures\n")
    told(BarProgress(None))


def test_the_log_has_the_seconds_left_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightmatch.cli.progress._LEAST_SECONDS", 0.0)
    told(BarProgress(None, tmp_path / "log.jsonl"))
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in steps if line["event"] == "step"]
    assert len(steps) == 2 and all(0 <= line["run_seconds_left"] <= 160 for line in steps)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(20, "a minute"), (200, "3 min"), (2950, "50 min"), (5000, "85 min"), (7200, "2.0 h")],
)
def test_times_in_words(seconds: float, said: str) -> None:
    assert readable_time(seconds) == f"about {said}"
