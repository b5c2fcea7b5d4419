"""The house: imports go down only, and `import lightmatch` is light."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightmatch

ROOT = Path(lightmatch.__file__).parent
LEVELS = {
    "errors": -2,
    "types": -1,
    "runtime": 0,
    **dict.fromkeys(["images", "weights", "geometry", "networks", "scenes"], 1),
    **dict.fromkeys(["colmap", "video", "extractors", "matchers"], 2),
    **dict.fromkeys(["inputs", "pairing", "sfm", "interchange"], 3),
    **dict.fromkeys(["two_view", "reconstruction", "tracking", "training", "evaluation", "export", "report"], 4),
    "benchmark": 5,
    "pipelines": 6,
    "cli": 7,
}
HEAVY = ["pycolmap", "kornia", "matplotlib", "av", "pillow_heif", "typer", "rich", "transformers"]
MAPPING = ["incremental_mapping", "global_mapping", "Reconstruction", "bundle_adjustment", "triangulate_points"]


def rooms() -> list[Path]:
    return [
        path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT or path.stem not in ("__init__", "__main__")
    ]


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            names = [node.module or ""]
            if node.module == "lightmatch":
                names = [f"lightmatch.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("lightmatch."):
                yield node.lineno, name.split(".")[1]


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    assert room in LEVELS, f"{room} has no level: give it one in design and here"
    for line, other in imported_rooms(path):
        assert other == room or LEVELS[other] < LEVELS[room], (
            f"{path.relative_to(ROOT)}:{line}: {room} must not import {other}"
        )


def test_only_structure_from_motion_and_tracking_make_models() -> None:
    for path in rooms():
        if room_of(path) not in ("colmap", "sfm", "reconstruction", "tracking"):
            attributes = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
            used = {"pycolmap"} & {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
            assert not (used and attributes & set(MAPPING)), f"{path} uses pycolmap's mapping"


def test_only_the_colmap_room_opens_databases() -> None:
    for path in rooms():
        if room_of(path) == "colmap":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            assert "sqlite3" not in (*names, module), f"{path}: databases are read by lightmatch.colmap alone"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pycolmap":
                names, module = [node.attr], "pycolmap"
            opens = module == "pycolmap" and {"Database", "DatabaseTransaction"} & {*names}
            assert not opens, f"{path}: databases are opened by lightmatch.colmap alone"


def loaded_by(code: str, names: list[str]) -> list[str]:
    """Those of `names` that a fresh interpreter has imported after `code`."""
    code = f"import sys\n{code}\nprint([name for name in {names} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stderr.strip().splitlines()[-1])


def test_import_is_light() -> None:
    assert loaded_by("import lightmatch", ["torch", "cv2", *HEAVY]) == []
    assert loaded_by("import lightmatch; lightmatch.match, lightmatch.reconstruct, lightmatch.LightGlue", HEAVY) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["weights", "list"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    code = f"from lightmatch.cli.app import app\ntry: app({arguments})\nexcept SystemExit: pass"
    heavy = ["cv2", "pycolmap", *([] if arguments[0] == "weights" else ["torch"])]
    assert loaded_by(code, heavy) == []


def test_names_are_listed_without_torch() -> None:
    code = (
        "from lightmatch.matchers import available_matchers, MatcherSpec\n"
        "from lightmatch.extractors import available_extractors\n"
        "assert {'lightglue', 'nearest', 'superglue', 'vismatch'} <= {*available_matchers()}\n"
        "assert {'sift', 'lightpoint', 'aliked_n16rot'} <= {*available_extractors()}"
    )
    assert loaded_by(code, ["torch", "cv2", *HEAVY]) == []


def test_a_matcher_is_made_without_the_others() -> None:
    others = ["lightmatch.matchers.lightglue", "lightmatch.matchers.superglue", "lightmatch.extractors.aliked"]
    code = (
        "from lightmatch.matchers import create_matcher\nfrom lightmatch.extractors import create_extractor\n"
        "create_matcher('nearest', create_extractor('sift').kind)"
    )
    assert loaded_by(code, [*others, *HEAVY]) == []


def test_training_needs_six_libraries() -> None:
    """Everything else that the package requires may be missing on a machine that only trains."""
    needed = {"torch", "numpy", "opencv-python-headless", "pillow", "safetensors", "cattrs", "filelock"}  # torch's own
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    others = {re.split("[>=<]", line)[0] for line in project["dependencies"]} - needed
    modules = [f"lightmatch.{path.relative_to(ROOT).with_suffix('')}" for path in (ROOT / "training").rglob("*.py")]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({[name.replace('-', '_') for name in sorted(others)]}))\n"
        f"from importlib import import_module\nfor name in {sorted(modules)}: import_module(name.replace('/', '.'))\n"
        "import lightmatch.pipelines.train"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_that_is_public_is_there() -> None:
    for name in lightmatch.__all__:
        assert getattr(lightmatch, name).__name__ == name
    assert set(lightmatch.__all__) <= set(dir(lightmatch))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lightmatch.nothing
