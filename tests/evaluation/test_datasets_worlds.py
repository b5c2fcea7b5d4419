"""Rendered pairs: as far apart as their level says, and true to the pixel."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.datasets import rendered, worlds
from lightmatch.evaluation.datasets.rendered import Level
from lightmatch.evaluation.pairs import DepthTruth, EvaluationPair, viewing_angle_deg
from lightmatch.geometry.depth import warp_with_depth
from lightmatch.scenes import World, WorldConfig, build_world
from lightmatch.types import Image

SIZE = (160, 120)


@pytest.fixture(scope="module", autouse=True)
def few_textures() -> Iterator[None]:
    """Painting a dozen large textures takes seconds; two small ones do here."""

    def build(generator: torch.Generator, config: WorldConfig | None) -> World:
        return build_world(generator, replace(config or WorldConfig(), num_textures=2, texture_size=256))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered, "build_world", build)
        yield


@pytest.fixture(scope="module")
def easy() -> list[EvaluationPair]:
    return worlds("easy", 3, seed=5, size=SIZE)


def truth_of(pair: EvaluationPair) -> DepthTruth:
    assert isinstance(pair.truth, DepthTruth)
    return pair.truth


def test_colours_agree_where_the_truth_says_so(easy: list[EvaluationPair]) -> None:
    """The colour of a pixel is found again where depth and pose send it; a pixel beside, it is not."""
    for pair in easy:
        truth = truth_of(pair)
        image0, image1 = (torch.from_numpy(image.pixels).float().mean(-1) for image in pair.load())
        y, x = torch.meshgrid(torch.arange(4, 116), torch.arange(4, 156), indexing="ij")
        points = torch.stack((x, y), -1).reshape(-1, 2).double()
        places, visible = warp_with_depth(
            points, truth.depth_map0.double(), truth.K0, truth.depth_map1.double(), truth.K1, truth.cam1_from_cam0
        )
        assert 0.3 < visible.double().mean() < 1
        colours0 = image0[y, x].reshape(-1)[visible]

        def difference(shift: int, places: torch.Tensor, colours: torch.Tensor, image: torch.Tensor) -> float:
            grid = (places + shift) / (places.new_tensor(SIZE) - 1) * 2 - 1
            found = torch.nn.functional.grid_sample(
                image[None, None].double(), grid[None, None], align_corners=True, padding_mode="border"
            )
            return float((found[0, 0, 0] - colours).abs().median())

        right, beside = (difference(shift, places[visible], colours0, image1) for shift in (0, 2))
        assert right < 0.6 * beside


def test_fewer_pairs_are_the_first_of_more(easy: list[EvaluationPair]) -> None:
    for pair, other in zip(worlds("easy", 2, seed=5, size=SIZE), easy, strict=False):
        assert pair.name == other.name
        for one, two in zip(pair.load(), other.load(), strict=True):
            assert (one.pixels == two.pixels).all()
        assert torch.equal(truth_of(pair).depth_map1, truth_of(other).depth_map1)


@pytest.mark.parametrize(("level", "low", "high"), [("easy", 0, 15), ("hard", 35, 60), ("repeated", 15, 35)])
def test_levels(level: Level, low: float, high: float, easy: list[EvaluationPair]) -> None:
    pairs = easy if level == "easy" else worlds(level, 2, seed=0, size=SIZE)
    for pair in pairs:
        truth = truth_of(pair)
        assert pair.scene == f"world-{level}"
        assert isinstance(pair.image0, Image)
        assert pair.image0.size == SIZE
        assert truth.depth_map0.shape == SIZE[::-1]
        assert low <= float(viewing_angle_deg(truth.cam1_from_cam0)) <= high
    assert len({pair.name for pair in pairs}) == len(pairs)


def test_bad_arguments() -> None:
    assert worlds("easy", 0) == []
    with pytest.raises(InvalidValueError, match="easy, medium, hard, repeated"):
        worlds("absurd", 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="num_pairs"):
        worlds("easy", -1)
