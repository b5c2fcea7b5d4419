"""The environment of a measurement: versions, commit, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

_LIBRARIES = ("lightmatch", "torch", "numpy", "opencv-python-headless", "pycolmap", "poselib")


def describe_environment(device: str) -> dict[str, str | int]:
    """Versions of the libraries, the commit if the package runs from a git checkout, processor and GPU."""
    found: dict[str, str | int] = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found |= {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "num_cpus": os.cpu_count() or 1,
    }
    found |= {"num_threads": torch.get_num_threads(), "device": device}
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _commit() -> str | None:
    """As git describes the checkout this file is tracked in, with "-dirty" behind where files were changed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=False)
        command = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        described = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return None
    return described.stdout.strip() if tracked.returncode == 0 and described.returncode == 0 else None
