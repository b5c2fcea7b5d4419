"""What README and docs/ say: commands, options, names and files in them exist, and their Python runs."""

import ast
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightmatch as lm
from lightmatch.cli.app import VERBS, load_verb

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TO_BE_MADE = "extending.md"  # names files that its reader makes
DOWNLOADS = ("superpoint_lightglue.pth", "aliked")  # in examples that need a file or the network


def code_blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        if language in languages:
            yield code


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each call of `lightmatch`, in code blocks and within sentences."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(code_blocks(page, "", "sh")).replace("\\\n", " ")
    for line in [*blocks.splitlines(), *re.findall(r"`(lightmatch [^`]+)`", text)]:
        if (at := re.search(r"(?:^|-m )lightmatch ", line.strip())) is not None:
            yield shlex.split(line.strip()[at.end() :], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in commands(page):
        verb = next((word for word in words if word in VERBS), None)
        if verb is None:
            assert words[0].startswith("-") or words[0].isupper(), f"{words[0]} is no verb"
            continue
        command = load_verb(verb)
        parameters = [*command.params, *(p for sub in getattr(command, "commands", {}).values() for p in sub.params)]
        known = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word for word in words[words.index(verb) :] if re.match(r"--?[a-z]", word)}
        assert asked <= known | {"--help"}, f"{verb} has no {', '.join(sorted(asked - known))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_python_examples_exist(page: Path) -> None:
    for code in code_blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightmatch"):
                module = importlib.import_module(node.module or "")
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lm":
                assert node.attr in lm.__all__, f"lightmatch has no public {node.attr}"


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_python_examples_run(name: str, scene_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, photo in enumerate(("a.jpg", "b.jpg")):
        shutil.copy(scene_photos / f"view_{number}.png", tmp_path / photo)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in code_blocks(ROOT / name, "python"):
        if not any(word in code for word in DOWNLOADS):
            exec(compile(code, name, "exec"), names)
    assert isinstance(names["result"], lm.TwoViewResult)
    assert names["result"].geometry.num_inliers > 50


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != TO_BE_MADE], ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:src/lightmatch|benchmarks|recipes|examples|tests)/[\w./-]*[\w/]", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / name).read_text(encoding="utf-8")):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert len(text.split()) <= 650


def test_docstrings_list_their_parameters() -> None:
    pytest.importorskip("griffe")
    spec = importlib.util.spec_from_file_location("griffe_docstrings", ROOT / "docs" / "griffe_docstrings.py")
    assert spec is not None and spec.loader is not None
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    docstring = "Find points.\n\npoints0/1: (n, 2) px. seed: of the\n    sampling.\nReturns (k, 2)."
    names = ["points0", "points1", "seed"]
    wanted = "Find points.\n\n- `points0/1`: (n, 2) px.\n- `seed`: of the sampling.\n\nReturns (k, 2)."
    assert extension.listed(docstring, names) == wanted
    assert extension.listed("Nothing to list.", names) == "Nothing to list."
