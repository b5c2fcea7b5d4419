"""Rendered pairs come back from disk as they were."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightmatch.evaluation import world_files
from lightmatch.evaluation.pairs import DepthTruth, EvaluationPair
from lightmatch.types import Image

K = torch.eye(3, dtype=torch.float64)


def invented_worlds(level: str, num_pairs: int, seed: int, *, size: tuple[int, int]) -> list[EvaluationPair]:
    """Noise in place of renderings, which take seconds."""
    rng = np.random.default_rng(seed)
    shape = size[::-1]

    def invent(number: int) -> EvaluationPair:
        image0, image1 = (Image(rng.integers(256, size=(*shape, 3), dtype=np.uint8)) for _ in range(2))
        depth0, depth1 = (torch.from_numpy(rng.random(shape, dtype=np.float32)) for _ in range(2))
        truth = DepthTruth(K * (number + 1), K, torch.from_numpy(rng.random((3, 4))), depth0, depth1)
        return EvaluationPair(str(number), f"world-{level}", image0, image1, truth)

    return [invent(number) for number in range(num_pairs)]


def test_worlds_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_files, "worlds", invented_worlds)
    first = world_files.cached_worlds(tmp_path, "easy", 2, 5, 80)
    monkeypatch.delattr(world_files, "worlds")
    again = world_files.cached_worlds(tmp_path, "easy", 2, 5, 80)
    for kept, read, want in zip(first, again, invented_worlds("easy", 2, 5, size=(80, 60)), strict=True):
        assert kept.name == read.name == want.name and read.scene == want.scene == "world-easy"
        assert isinstance(read.image1, Image) and isinstance(want.image1, Image)
        assert np.array_equal(read.image1.pixels, want.image1.pixels)
        assert isinstance(read.truth, DepthTruth) and isinstance(want.truth, DepthTruth)
        for name in ("K0", "cam1_from_cam0", "depth_map0", "depth_map1"):
            assert torch.equal(getattr(read.truth, name), getattr(want.truth, name))
