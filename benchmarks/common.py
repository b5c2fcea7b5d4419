"""What benchmarks share: the record of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def describe_machine() -> dict[str, str | int]:
    """What the numbers depend on: processor, cores, versions, commit; as they are when a run first asks.

    What the run itself writes to the repository does not make its commit "dirty".
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout.strip()
    return {
        "cpu": models[0] if models else platform.processor(),
        "num_cpus": os.cpu_count() or 1,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "opencv-python-headless", "pycolmap")},
        "commit": commit or "unknown",
    }
