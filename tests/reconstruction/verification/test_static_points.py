"""What stays in place in the pictures is found and left out; a camera that rests is not taken for it."""

from itertools import combinations

import cv2
import numpy as np
import torch

from lightmatch.reconstruction.verification.static_points import FixedPlaces, find_fixed_places
from lightmatch.types import FeatureKind, Features, Matches

SIZE = (640, 480)
KIND = FeatureKind("toy", 2)
SCENE, LOGO = 200, 40  # keypoints of a photo


def scene(num: int = 6, step: float = 0.3) -> list[np.ndarray]:
    """Keypoints (SCENE, 2) of photos of a camera that walks and turns a little, all of the same points."""
    rng = np.random.default_rng(0)
    points = np.column_stack((rng.uniform(-0.5, 0.5, (SCENE, 2)) * [1, 0.8], np.ones(SCENE)))
    points *= rng.uniform(3, 9, (SCENE, 1))
    photos = []
    for n in range(num):
        turn = cv2.Rodrigues(np.radians([0.5 * n % 2, (n * 7) % 5 - 2.0, 0.7 * n % 3]))[0]
        placed = (points - [step * n, 0.05 * n, 0]) @ turn.T
        photos.append(500 * placed[:, :2] / placed[:, 2:] + [320, 240] + rng.normal(0, 0.3, (SCENE, 2)))
    return photos


def logo(num: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    places = rng.uniform([20, 20], [160, 60], (LOGO, 2))
    return [places + rng.normal(0, 0.3, places.shape) for _ in range(num)]


def photos_of(*parts: list[np.ndarray], size: tuple[int, int] = SIZE) -> dict[str, Features]:
    """Photos 0, 1 … with the keypoints of all parts, one after the other."""
    found = {}
    for n, together in enumerate(zip(*parts, strict=True)):
        keypoints = torch.from_numpy(np.concatenate(together)).float()
        found[str(n)] = Features(keypoints, torch.ones(len(keypoints)), torch.zeros(len(keypoints), 2), size, KIND)
    return found


def same(count: int, start: int = 0) -> Matches:
    """Each keypoint from `start` on is the one of the same number."""
    return Matches(torch.arange(start, count)[:, None].expand(-1, 2).contiguous(), torch.ones(count - start))


def look(photos: dict[str, Features]) -> FixedPlaces:
    matches = same(len(photos["0"]))
    return find_fixed_places(photos, ((pair, matches) for pair in combinations(photos, 2)))


def test_a_logo_is_left_out_and_the_scene_kept() -> None:
    photos = photos_of(scene(), logo())
    fixed = look(photos)
    for a, b in combinations(photos, 2):
        kept = fixed.without(photos[a], photos[b], same(SCENE + LOGO)).indices[:, 0]
        assert (kept >= SCENE).sum() <= 2 and (kept < SCENE).sum() > 0.95 * SCENE


def test_photos_that_share_only_the_logo_keep_no_matches() -> None:
    photos = photos_of(scene(), logo())
    fixed = look(photos)
    assert len(fixed.without(photos["0"], photos["5"], same(SCENE + LOGO, start=SCENE))) <= 2


def test_ordinary_photos_are_left_as_they_are() -> None:
    photos = photos_of(scene())
    matches = same(SCENE)
    assert look(photos) == FixedPlaces({})
    assert look(photos).without(photos["0"], photos["1"], matches) is matches


def test_a_static_camera_before_a_static_scene_is_not_an_overlay() -> None:
    """Nothing moves, so nothing is known to stay."""
    assert look(photos_of(scene(step=0)[:1] * 6, logo())).cells == {}


def test_inconsistent_motion_does_not_vote() -> None:
    rng = np.random.default_rng(3)
    anywhere = [rng.uniform(0, 1, (SCENE, 2)) * SIZE for _ in range(6)]
    assert look(photos_of(anywhere, logo())).cells == {}


def test_images_of_other_sizes_keep_their_matches() -> None:
    photos = photos_of(scene(), logo())
    fixed = look(photos)
    large = photos_of(scene(), logo(), size=(800, 600))
    matches = same(SCENE + LOGO)
    assert fixed.without(photos["0"], large["1"], matches) is matches
    assert fixed.without(large["0"], large["1"], matches) is matches
    mixed = {"a": photos["0"], "b": large["1"]}
    assert find_fixed_places(mixed, [(("a", "b"), matches)]).cells == {}


def test_two_images_are_enough_for_a_logo() -> None:
    photos = photos_of(scene(2, step=0.8), logo(2))
    fixed = look(photos)
    kept = fixed.without(photos["0"], photos["1"], same(SCENE + LOGO)).indices[:, 0]
    assert (kept >= SCENE).sum() <= 4 and (kept < SCENE).sum() > 0.95 * SCENE
