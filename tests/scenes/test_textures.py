import cv2
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.textures import fractal_noise, procedural_textures, smooth_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_bits_other_seed_other_texture() -> None:
    first, again, other = (procedural_textures(seeded(seed), 2, 64) for seed in (3, 3, 4))
    assert first.shape == (2, 64, 64, 3)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_texture_is_different_and_full_of_corners() -> None:
    textures = procedural_textures(seeded(), 4, 256)
    for number, texture in enumerate(textures):
        grey = cv2.cvtColor(texture.numpy(), cv2.COLOR_RGB2GRAY)
        assert len(cv2.goodFeaturesToTrack(grey, 1000, 0.02, 4)) > 400, f"texture {number}"
        for other in textures[:number]:
            assert float((texture.float() - other.float()).abs().mean()) > 20


@pytest.mark.parametrize("cells", [1, 3, 7, 32])
def test_noise_is_smooth_and_bounded(cells: int) -> None:
    noise = smooth_noise(seeded(), 96, cells, 2)
    assert noise.shape == (2, 96, 96)
    assert float(noise.abs().max()) < 1.6  # bicubic interpolation overshoots a little
    assert float(noise.diff(dim=-1).abs().max()) < 5 * cells / 96


def test_fractal_noise_keeps_its_strength_over_octaves() -> None:
    spread = [float(fractal_noise(seeded(), 128, 4, octaves).std()) for octaves in (1, 3, 5, 50)]
    assert max(spread) < 1.6 * min(spread)


def test_too_little_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="count"):
        procedural_textures(seeded(), 0, 64)
