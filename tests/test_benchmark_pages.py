"""Pages of docs/ say what their results in benchmarks/results/ say, and results carry clean commits."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "benchmarks" / "run.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_pages_say_what_their_results_say() -> None:
    done = run(ROOT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changed_number_an_unclean_commit_and_a_stray_file_are_found(tmp_path: Path) -> None:
    for name in ("benchmarks", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    page = tmp_path / "docs" / "precision.md"
    page.write_text(page.read_text().replace("76.5", "79.5", 1))
    results = tmp_path / "benchmarks" / "results"
    record = json.loads((results / "densify.json").read_text())
    record["machine"]["commit"] += "-dirty"
    (results / "densify.json").write_text(json.dumps(record))
    (results / "stray.json").write_text("{}")
    done = run(tmp_path, "--check")
    assert done.returncode == 1
    found = done.stdout.partition("not measured from a clean tree")[0]
    assert "precision.md is not what precision.py makes" in found
    assert "densify.json was measured at" in found
    assert "stray.json belongs to no page" in found
    assert "exits" not in found

    assert run(tmp_path, "--write", "precision").returncode == 0
    assert "76.5" in page.read_text()
    assert "79.5" not in page.read_text()


def test_commands_of_a_page_can_be_read_before_they_run(tmp_path: Path) -> None:
    done = run(ROOT, "splats", "--dry-run", "--data", "/data", "--work", str(tmp_path))
    first, *_, last = done.stdout.splitlines()
    assert first == f"$ lightmatch demo --output {tmp_path}/densify/demo"
    assert last.startswith(f"$ python benchmarks/densify.py --demo {tmp_path}/densify/demo --set castle=")


def test_an_unknown_page_is_refused() -> None:
    done = run(ROOT, "nothing")
    assert done.returncode == 2
    assert "expected pages among" in done.stderr
