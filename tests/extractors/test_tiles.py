"""Tiles of very large photos: every pixel once, and no seam in what is found."""

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

import lightmatch as lm
from lightmatch.errors import InvalidValueError
from lightmatch.extractors.tiles import MARGIN_PX, SMALLEST_PX, WIDEST_SCALE_PX, tiles
from lightmatch.types import Features, Image


def texture(width: int, height: int) -> Image:
    noise = np.random.default_rng(0).standard_normal((height, width, 3))
    coarse, fine = cv2.GaussianBlur(noise, (0, 0), 6), cv2.GaussianBlur(noise, (0, 0), 1.5)
    return Image(np.clip(128 + 600 * coarse + 120 * fine, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (600, 500), (512, 2047), (1999, 700)])
@pytest.mark.parametrize("tile_size", [SMALLEST_PX, 500])
def test_every_pixel_is_one_tiles_own_and_far_from_its_edges(size: tuple[int, int], tile_size: int) -> None:
    width, height = size
    owners = np.zeros((height, width), int)
    for tile, own in tiles(size, tile_size):
        assert max(tile.size) <= tile_size and tile.left % 32 == 0 and tile.top % 32 == 0
        owners[own.slices] += 1
        assert tile.left in (0, own.left - MARGIN_PX) and tile.top in (0, own.top - MARGIN_PX)
        assert own.right <= tile.right and (tile.right == width or tile.right - own.right == MARGIN_PX)
        assert own.bottom <= tile.bottom and (tile.bottom == height or tile.bottom - own.bottom == MARGIN_PX)
    assert (owners == 1).all()


def common(first: Features, second: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of both are the same keypoint: place, scale and orientation."""

    def rows(features: Features) -> torch.Tensor:
        assert features.scales is not None and features.orientations is not None
        return torch.cat((features.keypoints, features.scales[:, None], features.orientations[:, None]), 1)

    distances, nearest = map(torch.as_tensor, KDTree(rows(second)).query(rows(first)))
    same = distances < 0.01
    return same.nonzero()[:, 0], nearest[same]


def test_sift_in_tiles_is_sift_of_the_whole() -> None:
    image = texture(900, 700)
    whole, tiled = (lm.create_extractor("sift", max_keypoints=100_000, tile_size=size)(image) for size in (None, 448))
    index0, index1 = common(whole, tiled)
    assert len(whole) > 3000
    # What differs are blobs wider than the margin.
    assert len(index0) > 0.99 * len(whole) and len(index1.unique()) > 0.99 * len(tiled)
    same = (whole.descriptors[index0] * tiled.descriptors[index1]).sum(1)
    assert float((same > 0.999).float().mean()) > 0.99


def test_the_strongest_of_all_tiles_are_kept_and_masks_hold() -> None:
    image, mask = texture(900, 700), np.ones((700, 900), bool)
    mask[:, 300:500] = False
    whole, tiled = (lm.create_extractor("sift", max_keypoints=200, tile_size=size)(image, mask) for size in (None, 448))
    assert len(tiled) == 200 and len(common(whole, tiled)[0]) > 195
    x = tiled.keypoints[:, 0].round()
    assert not bool(((x >= 300) & (x < 500)).any())


def test_keypoints_of_ones_own_are_described_in_tiles_too() -> None:
    image = texture(900, 700)
    found = lm.create_extractor("sift", max_keypoints=500)(image)
    again = lm.create_extractor("sift", tile_size=448).describe(
        image, found.keypoints, scales=found.scales, orientations=found.orientations
    )
    same = (found.descriptors * again.descriptors).sum(1)
    assert float((same > 0.999).float().mean()) > 0.99


def coarse_texture(width: int, height: int) -> Image:
    noise = np.random.default_rng(1).standard_normal((height, width, 3))
    return Image(np.clip(128 + 2000 * cv2.GaussianBlur(noise, (0, 0), 12), 0, 255).astype(np.uint8))


def test_blobs_wider_than_the_margin_are_where_tiles_differ() -> None:
    image = coarse_texture(900, 700)
    whole, tiled = (lm.create_extractor("sift", tile_size=size)(image) for size in (None, 448))
    index0, index1 = common(whole, tiled)
    assert whole.scales is not None and len(whole) > 400
    wide = whole.scales > WIDEST_SCALE_PX
    found = torch.zeros(len(whole), dtype=torch.bool).index_fill(0, index0, True)
    assert bool(found[~wide].all()) and float(found[wide].float().mean()) > 0.9
    same = (whole.descriptors[index0] * tiled.descriptors[index1]).sum(1)
    assert float(same[~wide[index0]].min()) > 0.999 and float(same.min()) > 0.95


def test_wide_blobs_of_ones_own_are_described_at_half_the_size() -> None:
    """Three quarters of a descriptor would lie beyond the tile; at 132 px, of the widest, more than the whole tile."""
    image = coarse_texture(900, 700)
    found = lm.create_extractor("sift")(image)
    assert found.scales is not None and float(found.scales.max()) > 100
    again = lm.create_extractor("sift", tile_size=SMALLEST_PX).describe(
        image, found.keypoints, scales=found.scales, orientations=found.orientations
    )
    same = (found.descriptors * again.descriptors).sum(1)
    assert float(same.min()) > 0.95 and float(same.median()) > 0.999


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_odd_scales_are_refused(scale: float) -> None:
    with pytest.raises(InvalidValueError, match="scales: expected diameters above 0 px"):
        lm.create_extractor("sift").describe(texture(64, 48), torch.zeros(1, 2), scales=torch.tensor([scale]))


def test_a_tile_that_is_all_margin_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=f"tile_size: expected at least {SMALLEST_PX} px, got 100"):
        lm.create_extractor("sift", tile_size=100)
