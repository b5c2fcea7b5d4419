"""`lightmatch evaluate` as people type it."""

from pathlib import Path

import pytest
from command import run
from planar_set import write_planar_set


def test_help_has_an_example() -> None:
    assert "Example" in run("evaluate", "--help").stdout


def test_a_table_and_where_to_look(scene_photos: Path, tmp_path: Path) -> None:
    root = write_planar_set(tmp_path / "plane", scene_photos / "view_0.png")
    options = ["--matcher", "nearest:0.8", "--matcher", "nearest:none", "--max-keypoints", 100, "--estimator", "opencv"]
    done = run("evaluate", "homographies", "--root", root, "-o", tmp_path / "out", *options)
    assert "AUC@3 px, opencv" in done.stdout and "nearest:none − nearest:0.8" in done.stdout
    assert "results.md" in done.stdout and (tmp_path / "out" / "results.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["everything"], "suite: expected one of homographies"),
        (["poses"], "expected a root with pairs"),
        (["poses", "--root", "absent"], "absent: expected a data set in one of the layouts"),
        (["worlds", "--matcher", "best"], "with a family among lightglue, nearest"),
        (["worlds", "--level", "easiest"], "levels: expected some of easy"),
    ],
)
def test_a_mistake_gives_one_sentence(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = run("evaluate", *arguments, "-o", tmp_path / "out", code=1)
    assert done.stderr.startswith("error: ") and says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
