"""The wheel holds all that the program needs: it runs far from the checkout, weights and page included."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_MB = 16


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("setuptools cannot be had to build with")
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_has_weights_page_and_licences_and_is_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for part in ("lightpoint.safetensors", "lightglue-lightpoint.safetensors", "lightglue-sift.safetensors"):
        assert f"lightmatch/pretrained/{part}" in names
    assert "lightmatch/py.typed" in names and any(name.startswith("lightmatch/report/page/assets/") for name in names)
    assert any(name.endswith("NOTICE") for name in names)
    assert not any(name.startswith(("tests", "benchmarks", "docs")) for name in names)
    assert wheel.stat().st_size < MOST_MB * 1e6


def test_it_runs_far_from_the_checkout(wheel: Path, scene_photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "COLUMNS": "200"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "lightmatch", "--threads", "1", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import lightmatch; print(lightmatch.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(tmp_path / "installed"))
    photos = [str(scene_photos / f"view_{number}.png") for number in range(2)]
    assert "; overlap (probability" in run("match", *photos, "--features", "lightpoint", "--json", "matches.json")
    run("reconstruct", str(scene_photos), "-o", "out", "--max-images", "4", "--max-keypoints", "512",
        "--guided-keypoints", "0", "--no-splat", "--quiet")  # fmt: skip
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000
    run("report", "out")
    assert "lightglue" in run("doctor")
