"""Directions, pixels and views of panoramas, on pictures whose value is a function of the direction."""

import numpy as np
import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.panoramas import (
    VIEWS,
    PanoramaArea,
    cut_view,
    directions_of_panorama,
    directions_of_view,
    elevations_deg,
    join_views,
    pixels_of_directions,
)

SIZE = (256, 128)


def painted(directions: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32 of a smooth function of unit directions (h, w, 3)."""
    return (100 + 50 * np.sin(3 * directions) + 20 * directions[..., [1, 2, 0]]).astype(np.float32)


def unit(directions: np.ndarray) -> np.ndarray:
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("direction", "pixel"),
    [
        ((0, 0, 1), (127.5, 63.5)),  # ahead: the middle
        ((1, 0, 0), (191.5, 63.5)),  # right: three quarters
        ((-1, 0, 0), (63.5, 63.5)),
        ((0, -1, 0), (127.5, -0.5)),  # up: the upper edge of the first row
        ((0, 1, 0), (127.5, 127.5)),
        ((0, 5, 5), (127.5, 95.5)),  # 45° down, of any length
    ],
)
def test_where_directions_lie(direction: tuple[float, ...], pixel: tuple[float, float]) -> None:
    assert np.allclose(pixels_of_directions(np.array(direction, float), PanoramaArea(SIZE)), pixel)


def test_pixels_have_the_directions_that_lie_there() -> None:
    pixels = pixels_of_directions(directions_of_panorama(SIZE), PanoramaArea(SIZE))
    assert np.allclose(pixels, np.stack(np.meshgrid(np.arange(256), np.arange(128)), -1))


def test_views_are_cameras_that_look_along_the_axes() -> None:
    forward = {"front": (0, 0, 1), "right": (1, 0, 0), "back": (0, 0, -1), "left": (-1, 0, 0)}
    for view, axis in {**forward, "up": (0, -1, 0), "down": (0, 1, 0)}.items():
        rotation = VIEWS[view]
        assert np.allclose(rotation @ rotation.T, np.eye(3)) and np.linalg.det(rotation) == pytest.approx(1)
        assert np.allclose(rotation @ axis, (0, 0, 1))
        if view in forward:
            assert np.allclose(rotation @ (0, 1, 0), (0, 1, 0))  # held upright


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_what_lies_in_its_directions(view: str) -> None:
    panorama = painted(directions_of_panorama(SIZE))
    cut, held = cut_view(panorama, view)
    assert cut.shape == (81, 81, 3) and held.all()  # 256 / π px: the panorama's own resolution
    assert np.abs(cut - painted(unit(directions_of_view(view, 81)))).max() < 0.1


def test_views_are_joined_to_what_they_were_cut_from() -> None:
    panorama = painted(directions_of_panorama(SIZE))
    joined = join_views({view: cut_view(panorama, view, side=160)[0] for view in VIEWS}, 256)
    assert joined.shape == panorama.shape
    assert np.abs(joined - panorama).max() < 1


def test_the_six_views_hold_every_direction_once() -> None:
    directions = directions_of_panorama((64, 32)).reshape(-1, 3)
    inside = np.zeros(len(directions), int)
    for rotation in VIEWS.values():
        x, y, z = (directions @ rotation.T).T
        inside += (z > 0) & (np.abs(x) < z) & (np.abs(y) < z)
    assert (inside == 1).all()


def test_of_a_part_only_what_it_holds_is_shown() -> None:
    whole = painted(directions_of_panorama(SIZE))
    area = PanoramaArea(SIZE, left=64, top=32)
    part = whole[32:96, 64:192]  # 90° to either side of the middle, 45° up and down
    for view, share in {"front": 1.0, "right": 0.5, "left": 0.5, "back": 0.0}.items():
        cut, held = cut_view(part, view, area)
        expected, _ = cut_view(whole, view)
        elevations = np.abs(elevations_deg(directions_of_view(view, 81)))
        assert held[elevations < 44.5].mean() == pytest.approx(share, abs=0.02)
        assert not held[elevations > 45.5].any() and (cut[~held] == 0).all()
        inner = held & (elevations < 43) & (np.abs(directions_of_view(view, 81)[..., 2]) > 0.05)
        assert np.allclose(cut[inner], expected[inner], atol=1e-3)


def test_a_part_across_the_seam() -> None:
    whole = painted(directions_of_panorama(SIZE))
    part = np.roll(whole, -192, axis=1)[:, :128]  # from 270° on: a quarter to either side of what lies behind
    cut, held = cut_view(part, "back", PanoramaArea(SIZE, left=192))
    assert held.all()
    assert np.allclose(cut[:, 2:-2], cut_view(whole, "back")[0][:, 2:-2], atol=1e-3)


def test_elevations_and_bad_areas() -> None:
    assert np.allclose(elevations_deg(np.array([[0, -1, 1], [3, 0, 4], [0, 2, 0.0]])), [45, 0, -90])
    with pytest.raises(InvalidValueError, match="size ≥ 1 px"):
        PanoramaArea((0, 10))
