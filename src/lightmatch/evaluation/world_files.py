"""Cache of rendered pairs on disk: rendering takes seconds per pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightmatch.evaluation.datasets.rendered import Level, worlds
from lightmatch.evaluation.features import code_hash
from lightmatch.evaluation.pairs import DepthTruth, EvaluationPair
from lightmatch.types import Image
from lightmatch.weights import read_tensors, write_tensors

_TRUTH = ("K0", "K1", "cam1_from_cam0", "depth_map0", "depth_map1")


def cached_worlds(folder: Path, level: Level, num_pairs: int, seed: int, long_side: int) -> list[EvaluationPair]:
    """The pairs of `worlds` at an aspect ratio of 4:3, read from `folder` or rendered and written there.

    long_side: px of the images.
    """
    size = long_side, max(1, round(0.75 * long_side))
    code = code_hash("scenes", "evaluation/datasets/rendered")
    path = folder / f"{level}-{num_pairs}-{seed}-{long_side}-{code}.safetensors"
    if not path.exists():
        pairs = worlds(level, num_pairs, seed, size=size)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, _stack(pairs), {"scene": pairs[0].scene})
    tensors, metadata = read_tensors(path)
    return [
        EvaluationPair(
            str(number),
            metadata["scene"],
            Image(tensors["rgb0"][number].numpy()),
            Image(tensors["rgb1"][number].numpy()),
            DepthTruth(*(tensors[name][number] for name in _TRUTH)),
        )
        for number in range(num_pairs)
    ]


def _stack(pairs: list[EvaluationPair]) -> dict[str, Tensor]:
    def pixels(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(pair, name).pixels for pair in pairs]))

    truth = {name: torch.stack([getattr(pair.truth, name) for pair in pairs]) for name in _TRUTH}
    return {"rgb0": pixels("image0"), "rgb1": pixels("image1"), **truth}
