"""What benchmarks share: the record of the machine, and tables in pages of documentation."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
_INSTRUCTIONS = {  # that decide how fast matrices are multiplied, by their flag in /proc/cpuinfo
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 bfloat16",
    "amx_bf16": "AMX bfloat16",
}
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"


@cache
def describe_machine() -> dict[str, str | int]:
    """What the numbers depend on: processor, cores, versions, commit; as they are when a run first asks.

    The commit ends in "-dirty" where the tree differs from it, but for docs/ and benchmarks/results/: what benchmarks
    write changes nothing that they measure.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/docs", ":!/benchmarks/results")
    return {
        "cpu": models[0] if models else platform.processor(),
        "num_cpus": os.cpu_count() or 1,
        "instructions": ", ".join(name for flag, name in _INSTRUCTIONS.items() if flag in flags) or "unknown",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "opencv-python-headless", "pycolmap")},
        "commit": f"{commit}-dirty" if changed else commit or "unknown",
    }


def fill_table(page: str, name: str, lines: Iterable[str]) -> str:
    """The page of Markdown with these lines between `<!-- NAME -->` and the next `<!-- end -->`.

    Raises ValueError where the page has no such marks.
    """
    begin, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected the marks {begin.strip()} and {end} in the page, found {begin.strip() in page}")
    return f"{before}{begin}\n{chr(10).join(lines)}\n\n{end}{after}"


def _git(*arguments: str) -> str:
    """What git says of this repository; nothing where there is none."""
    command = ["git", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    return done.stdout.strip()
