"""Warped views: the sampled homographies keep their promises, and the truth is where the pixels are."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.correspondence import Visibility
from lightmatch.geometry.homography import transfer
from lightmatch.training.homographies import HomographyConfig, HomographySource, sample_homography
from lightmatch.training.photometric import augment
from lightmatch.types import Image

PHOTO = (576, 400)
SIFT = create_extractor("sift", max_keypoints=50)


def outline_in_photo(H: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    corners = torch.tensor([[0.0, 0], [size[0] - 1, 0], [size[0] - 1, size[1] - 1], [0, size[1] - 1]])
    return transfer(torch.from_numpy(H).inverse(), corners.double()).numpy()


def turn_deg(H: np.ndarray) -> float:
    """In-plane rotation of the view against the photo, from the direction of its upper border."""
    quad = outline_in_photo(H, HomographyConfig().size)
    x, y = (quad[1] - quad[0]) + (quad[2] - quad[3])
    return float(np.degrees(np.arctan2(y, x)))


def test_views_lie_within_the_photo_and_are_not_mirrored() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        H = sample_homography(PHOTO, HomographyConfig(turned_share=0.5), rng)
        quad = outline_in_photo(H, (640, 480))
        assert (quad >= -0.01).all() and (quad <= np.array(PHOTO) - 0.99).all()
        assert np.linalg.det(H) > 0
        # Oriented: all of the view is in front of the horizon.
        assert (np.c_[quad, np.ones(4)] @ H[2] > 0).all()


def test_rotation_is_limited_unless_turned() -> None:
    rng = np.random.default_rng(1)
    calm = HomographyConfig(difficulty=0.1, max_rotation_deg=20)
    turns = [turn_deg(sample_homography(PHOTO, calm, rng)) for _ in range(100)]
    assert 15 < max(map(abs, turns)) < 25  # perspective adds a little of its own
    turned = replace(calm, turned_share=1.0)
    turns = [turn_deg(sample_homography(PHOTO, turned, rng)) for _ in range(200)]
    assert min(turns) < -160 and max(turns) > 160 and 0.2 < np.mean(np.abs(turns) > 90) < 0.8


def test_no_difficulty_no_rotation_full_zoom_is_the_whole_photo() -> None:
    plain = HomographyConfig(size=(576, 400), difficulty=0, max_rotation_deg=0, min_zoom=1)
    H = sample_homography(PHOTO, plain, np.random.default_rng(0))
    np.testing.assert_allclose(H, np.eye(3), atol=2e-3)  # sides in pixels and in steps between them differ by one


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="difficulty"):
        HomographyConfig(difficulty=1.2)


@pytest.fixture
def source(tmp_path: Path) -> HomographySource:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (50, 72, 3), np.uint8)
    pixels = cv2.resize(noise, (576, 400), interpolation=cv2.INTER_CUBIC)
    PillowImage.fromarray(np.asarray(pixels)).save(tmp_path / "photo.png")
    config = HomographyConfig(3, (320, 240), difficulty=0.1, max_rotation_deg=10, min_zoom=0.9)
    return HomographySource([tmp_path / "photo.png"], 0, config)


def test_the_truth_is_where_the_extractor_finds_the_points_again(source: HomographySource) -> None:
    group = source.group(0, create_extractor("sift", max_keypoints=300))
    assert len(group) == 3
    every = [torch.arange(len(f)) for f in group.features]
    for i, j in ((0, 1), (2, 0)):
        features0, features1, truth = group.pair(i, j, every[i], every[j])
        labels = truth.label(features0, features1, 3.0, 5.0)
        assert len(labels.matches) > 40
        like = features0.descriptors @ features1.descriptors.mT
        agreed = like[labels.matches[:, 0], labels.matches[:, 1]]
        assert float(agreed.median()) > 0.87 > float(like.median()) + 0.07
        # A keypoint is hidden exactly where it leaves the other view.
        outside = ~((truth.projection0.points >= -0.5) & (truth.projection0.points < torch.tensor([319.5, 239.5])))
        assert torch.equal(truth.projection0.visibility == Visibility.HIDDEN, outside.any(1))


def test_a_group_is_a_matter_of_seed_and_index(source: HomographySource) -> None:
    extractor = create_extractor("sift", max_keypoints=50)
    first, again, other = (source.group(index, extractor) for index in (4, 4, 5))
    assert torch.equal(first.features[1].keypoints, again.features[1].keypoints)
    assert not torch.equal(first.features[1].keypoints, other.features[1].keypoints)


def test_augmentation_changes_light_and_never_places() -> None:
    rng = np.random.default_rng(3)
    grid = np.zeros((96, 128, 3), np.uint8)
    grid[::, 64:], grid[48:] = 220, 90
    changed = [augment(grid, rng) for _ in range(30)]
    assert all(picture.shape == grid.shape and picture.dtype == np.uint8 for picture in changed)
    means = [float(picture.mean()) for picture in changed]
    assert max(means) - min(means) > 30
    assert min(means) > 5 and max(means) < 250
    # The border between the halves stays where it was.
    steps = [np.abs(np.diff(picture[20].astype(float).mean(-1))) for picture in changed]
    assert np.median([int(step.argmax()) for step in steps]) == 63


def test_groups_take_all_photos_in_a_random_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, a recipe with fewer groups than photos would never see the last ones, whatever its seed."""
    photos = [tmp_path / f"{number:02d}.png" for number in range(20)]
    taken: list[Path] = []

    def load(path: Path) -> Image:
        taken.append(path)
        return Image(np.full((120, 160, 3), 90, np.uint8))

    monkeypatch.setattr("lightmatch.training.homographies.load_image", load)
    config = HomographyConfig(size=(160, 120), views_per_group=2)
    for seed in (0, 1):
        source = HomographySource(photos, seed, config)
        for index in range(20):
            source.group(index, SIFT)
    first, second = taken[:20], taken[20:]
    assert set(first) == set(second) == set(photos) and first != photos and first[:5] != second[:5]
