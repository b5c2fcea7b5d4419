"""What benchmarks share: the record of the machine, and the true cameras of Strecha's sets."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from lightmatch.geometry.coordinates import invert_rigid


def describe_machine() -> dict[str, str | int]:
    """What the numbers depend on: processor, cores, versions, commit."""
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


def read_strecha_camera(path: Path) -> tuple[Tensor, Tensor]:
    """K (3, 3) and cam_from_world (3, 4), float64, of a `.camera` file.

    Its numbers: K (9), three zeros, R (9) camera-to-world, C (3), width, height.
    """
    numbers = torch.tensor([float(number) for number in path.read_text().split()], dtype=torch.float64)
    world_from_cam = torch.cat((numbers[12:21].reshape(3, 3), numbers[21:24, None]), 1)
    return numbers[:9].reshape(3, 3), invert_rigid(world_from_cam)
