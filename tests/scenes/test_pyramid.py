import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.pyramid import TexturePyramid


def chequered() -> TexturePyramid:
    """Two 4×4 textures: grey 0, 10, …, 150 in reading order, and all white."""
    ramp = (10 * torch.arange(16)).reshape(4, 4, 1).expand(4, 4, 3)
    return TexturePyramid.from_textures(torch.stack([ramp, torch.full((4, 4, 3), 255)]).to(torch.uint8))


def sample(texture: int, u: float, v: float, footprint: float) -> float:
    place = (torch.tensor([texture]), torch.tensor([u]), torch.tensor([v]), torch.tensor([footprint]))
    return float(chequered().sample(*place)[0, 0])


@pytest.mark.parametrize(
    ("u", "v", "footprint", "grey"),
    [
        (0.125, 0.125, 0.25, 0),  # the centre of the first texel
        (0.375, 0.125, 0.25, 10),  # one to the right
        (0.125, 0.375, 0.25, 40),  # one down
        (0.25, 0.25, 0.25, 25),  # where four texels meet
        (0.25, 0.25, 0.5, 25),  # their mean is the first texel of the next level
        (0.5, 0.5, 1.0, 75),  # the mean of all is the last level
        (0.5, 0.5, 99.0, 75),  # nothing is coarser
        (-1.0, -1.0, 0.25, 0),  # outside, the border goes on
        (2.0, 2.0, 0.25, 150),
    ],
)
def test_lookup_by_hand(u: float, v: float, footprint: float, grey: float) -> None:
    assert sample(0, u, v, footprint) == pytest.approx(grey, abs=0.51)  # levels are stored as whole grey values


@pytest.mark.parametrize("footprint", [0.1, 0.4, 0.7, 1.0])
def test_textures_do_not_bleed_into_each_other(footprint: float) -> None:
    assert sample(0, 1.0, 1.0, footprint) <= 150
    assert sample(1, 0.0, 0.0, footprint) == pytest.approx(255)


def test_levels_blend_between() -> None:
    fine, coarse = sample(0, 0.125, 0.125, 0.25), sample(0, 0.125, 0.125, 0.5)
    assert sample(0, 0.125, 0.125, 0.25 * 2**0.5) == pytest.approx((fine + coarse) / 2)


def test_any_size_works() -> None:
    assert TexturePyramid.from_textures(torch.zeros((1, 11, 11, 3), dtype=torch.uint8)).level_sizes == [11, 5, 2, 1]


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 5, 3), (1, 4, 4, 4), (0, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValueError, match="square"):
        TexturePyramid.from_textures(torch.zeros(shape, dtype=torch.uint8))
