"""docs/extending.md: each example is one file, which every command knows once it is in the package."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from planar_set import write_planar_set

import lightmatch
from lightmatch.reconstruction import read_model

# A learned matcher: LightGlue under another name, whose parts are those of LightGlue.
LEARNED = """
from dataclasses import dataclass

from lightmatch.matchers import LightGlue, register
from lightmatch.matchers.learned import LearnedFamily
from lightmatch.networks.lightglue import LightGlueConfig


@dataclass(frozen=True)
class MineConfig(LightGlueConfig):
    pass


class Mine(LightGlue):
    _config_type = MineConfig


@register("mine")
class MineFamily(LearnedFamily):
    usage = "mine:FILE[,PRECISION][@SCORE]"
    config = "lightmatch.matchers.mine:MineConfig"
    objective = "lightmatch.training.losses:lightglue_objective"
    matcher_type = Mine
"""

RECIPE = """
name = "tiny"
[features]
name = "sift"
max_keypoints = 160
[mine]
features = "sift"
descriptor_dim = 32
num_layers = 1
num_heads = 1
[photos]
validation_share = 0.3
[groups]
homographies = 4
validation = 2
validation_points = 64
[homographies]
size = [320, 240]
difficulty = 0.15
min_zoom = 0.8
[sampling]
points_per_step = 256
num_points = [64]
min_matches = 4
[optimization]
steps = 2
precision = "float32"
"""

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def examples() -> dict[str, str]:
    """Code on the page, by the file that the text before names."""
    return dict(
        re.findall(r"`src/lightmatch/(\S+\.py)`:\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    )


class Extended:
    """A copy of the package with the examples in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package, root = folder / "lightmatch", Path(lightmatch.__file__).parent
        shutil.copytree(root, package, ignore=shutil.ignore_patterns("__pycache__", "pretrained"))
        (package / "pretrained").symlink_to(root / "pretrained", target_is_directory=True)
        for name, code in examples().items():
            (package / name).write_text(code, encoding="utf-8")
        (package / "matchers" / "mine.py").write_text(LEARNED)

    def run(self, *arguments: object, code: int = 0) -> str:
        """What a verb of the copy says."""
        done = run(*arguments, code=code, packages=self.folder, columns=200)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Extended:
    return Extended(tmp_path_factory.mktemp("extended"))


def test_the_page_has_an_example_of_each() -> None:
    assert [Path(name).parent.as_posix() for name in examples()] == [
        "extractors",
        "matchers",
        "reconstruction/outputs",
    ]


def test_names_are_listed_and_mistakes_are_told_in_the_family_s_words(extended: Extended, scene_photos: Path) -> None:
    code = (
        "import sys; from lightmatch.matchers import available_matchers;"
        " from lightmatch.extractors import available_extractors;"
        " print('cosine' in available_matchers(), 'corners' in available_extractors(), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(extended.folder)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "True", "False"]
    photos = [scene_photos / f"view_{number}.png" for number in range(2)]
    said = extended.run("match", *photos, "--matcher", "cosine:2", code=1)
    assert "matcher 'cosine:2': expected cosine or cosine:LEAST with 0 ≤ LEAST < 1, got '2'" in " ".join(said.split())


@pytest.mark.parametrize(("features", "matcher"), [("corners", "cosine"), ("sift", "cosine:0.95")])
def test_match(features: str, matcher: str, extended: Extended, scene_photos: Path) -> None:
    photos = [scene_photos / f"view_{number}.png" for number in range(2)]
    said = extended.run("match", *photos, "--features", features, "--matcher", matcher)
    found = re.search(r"(\d+) matches, (\d+) inliers", said)
    assert found is not None and int(found[2]) > 0.5 * int(found[1]) > 20


def test_evaluate_and_benchmark(extended: Extended, scene_photos: Path, tmp_path: Path) -> None:
    write_planar_set(tmp_path / "planes" / "plane", scene_photos / "view_0.png", num_views=3)
    options = ("--matcher", "cosine:0.95", "--matcher", "nearest", "--features", "corners", "--max-keypoints", 200)
    said = extended.run(
        "evaluate",
        "homographies",
        "--root",
        tmp_path / "planes",
        *options,
        "--estimator",
        "opencv",
        "-o",
        tmp_path / "out",
    )
    assert "nearest − cosine:0.95" in said and "corners features" in " ".join(said.split())
    options = ("--matcher", "cosine", "--points", 32, "--level", "easy", "--rounds", 1)
    assert "cosine" in extended.run("benchmark", *options)


def test_reconstruct_localize_and_the_output(extended: Extended, scene_photos: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(5):
        shutil.copy(scene_photos / f"view_{number}.png", photos)
    options = ("--features", "corners", "--matcher", "cosine", "--max-keypoints", 1024, "--guided-keypoints", 0)
    extended.run("reconstruct", photos, "-o", out, *options, "--no-splat", "--seed", 0, "-q")
    model = read_model(out / "sparse" / "0")
    assert model.num_reg_images() == 5
    assert "inliers" in extended.run("localize", out, scene_photos / "view_5.png", "-q")
    write = runpy.run_path(str(extended.folder / "lightmatch" / "reconstruction" / "outputs" / "centers.py"))
    write["write_centers"](model, tmp_path / "centers.csv")
    lines = (tmp_path / "centers.csv").read_text().splitlines()
    assert lines[0] == "name,x,y,z" and lines[1].startswith("view_0.png,") and len(lines) == 6


def test_a_learned_matcher_in_one_file_is_trained_named_and_exported(
    extended: Extended, scene_photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    run = tmp_path / "run"
    extended.run(
        "train", tmp_path / "tiny.toml", "--photos", scene_photos, "-o", run, "--device", "cpu", "--workers", 0
    )
    mine = f"mine:{run / 'weights.safetensors'},float32@0.1"
    photos = [scene_photos / f"view_{number}.png" for number in range(2)]
    assert "matches" in extended.run("match", *photos, "--features", "sift", "--matcher", mine)
    assert "MiB" in extended.run("export", mine, "-o", tmp_path / "mine.onnx")
