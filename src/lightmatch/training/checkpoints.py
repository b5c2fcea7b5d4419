"""Checkpoints of a training run, written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lightmatch.errors import WeightsError
from lightmatch.runtime.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and texts to `path`, which is replaced atomically."""
    with replacing(path) as unfinished:
        torch.save(state, unfinished)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, on the CPU. Raises WeightsError where the file is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise many kinds of exceptions
        raise WeightsError(f"{path}: expected a checkpoint of a training run, could not read it ({error})") from error
