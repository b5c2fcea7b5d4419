"""Make a page of docs/ again from measurements, or check that all pages say what their results say.

    python benchmarks/run.py                     every page, its script and arguments, and its results
    python benchmarks/run.py exits               measure anew and write docs/exits.md
    python benchmarks/run.py --write [exits …]   write pages from the results there are
    python benchmarks/run.py --check             seconds: pages against results, results against clean commits
    python benchmarks/run.py exits --dry-run     the commands that would run

LIGHTMATCH_DATA names the folder of data sets. --work (runs/benchmarks by default) keeps features, matches and models.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common import DOCS, HERE, RESULTS
from pages import NOT_CLEAN, PAGES, Page, commits, page_of, write_page


def problems() -> list[str]:
    """A sentence for each page that does not say what its results say, and each results file without clean commits."""
    found = []
    for page in PAGES:
        if not page.is_text:
            continue
        if page.text() != (DOCS / page.path).read_text(encoding="utf-8"):
            found.append(
                f"docs/{page.path} is not what {page.script}.py makes of its results; run.py --write {page.path}"
            )
    listed = {path.name for page in PAGES for path in page.result_files}
    for path in sorted(RESULTS.glob("*.json")):
        found += _problems_of_results(path, listed)
    found += [f"results/{name} is expected, there is none" for name in sorted(listed) if not (RESULTS / name).exists()]
    return found


def _problems_of_results(path: Path, listed: set[str]) -> list[str]:
    found = []
    if path.name not in listed:
        found.append(f"results/{path.name} belongs to no page in pages.py")
    named = set(commits(json.loads(path.read_text(encoding="utf-8"))))
    unclean = {commit for commit in named if commit.endswith("-dirty") or commit == "unknown"}
    if not named:
        found.append(f"results/{path.name} names no commit")
    elif unclean and path.name not in NOT_CLEAN:
        found.append(f"results/{path.name} was measured at {', '.join(sorted(unclean))}; commit first, then measure")
    elif path.name in NOT_CLEAN and not unclean:
        found.append(f"results/{path.name} has clean commits now: take it out of NOT_CLEAN in pages.py")
    return found


def run(page: Page, values: dict[str, str], dry: bool) -> int:
    """The commands of a page one after the other; the exit status of the first that fails."""
    for command in page.commands:
        words = [word.format_map(values) for word in shlex.split(command)]
        print("$", shlex.join(words), flush=True)
        if dry:
            continue
        # The verbs and scripts of this tree, whatever `python` and `lightmatch` the shell finds.
        words = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])]
        if status := subprocess.run(words, check=False, cwd=HERE.parent).returncode:
            return status
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """The exit status: 0 where all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="as listed without arguments; .md may be left out")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--data", default=os.environ.get("LIGHTMATCH_DATA"))
    parser.add_argument("--work", type=Path, default=HERE.parent / "runs" / "benchmarks")
    parser.add_argument("--weights", help="for pages that start from weights outside the package")
    options = parser.parse_args(words)
    try:
        chosen = [page_of(name) for name in options.pages]
    except KeyError as error:
        parser.error(f"expected pages among {', '.join(page.path for page in PAGES)}; got {error.args[0]}")
    if options.check:
        found = problems()
        print(*found or ["all pages say what their results say"], sep="\n")
        for name, reason in NOT_CLEAN.items():
            print(f"not measured from a clean tree: results/{name} ({reason})")
        return 1 if found else 0
    if options.write:
        for page in chosen or PAGES:
            if page.is_text:
                write_page(page.script)
        return 0
    if not chosen:
        for page in PAGES:
            print(f"{page.path}: {', '.join(path.name for path in page.result_files)}")
            print(*(f"    {command}" for command in page.commands), sep="\n")
        return 0
    for page in chosen:
        needed = {name for name in ("data", "weights") if any(f"{{{name}}}" in command for command in page.commands)}
        for name in sorted(needed):
            if getattr(options, name) is None:
                parser.error(f"{page.path} needs --{name}{' or LIGHTMATCH_DATA' if name == 'data' else ''}")
        values = {"work": str(options.work / page.script), "data": options.data, "weights": options.weights}
        if status := run(page, values, options.dry_run):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
