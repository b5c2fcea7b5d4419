"""Sequences with truth: what each shows, and that the same arguments give the same bits."""

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.sequences import (
    Film,
    arc,
    blackout,
    circle,
    film,
    kidnapped,
    passing_box,
    plane_wall,
    rotation,
    standing,
)
from lightmatch.scenes.world import World, WorldConfig, build_world

SMALL = Film((160, 120), supersampling=1)


@pytest.fixture(scope="module")
def world() -> World:
    config = WorldConfig(num_textures=2, texture_size=256, texel_size=0.04)
    return build_world(torch.Generator().manual_seed(0), config)


def test_the_same_arguments_give_the_same_bits(world: World) -> None:
    first, second = (standing(world, 2, SMALL, num_before=1, seed=3) for _ in range(2))
    assert torch.equal(first.rgb, second.rgb) and first.size == (160, 120) and len(first) == 3
    assert not torch.equal(first.rgb[1], first.rgb[2])  # the noise of a sensor
    assert torch.equal(first.depth[1], first.depth[2]) and not torch.equal(first.depth[0], first.depth[1])


def test_a_camera_that_turns_stays_where_it_is(world: World) -> None:
    turned = rotation(world, 3, SMALL, step_deg=10)
    assert (turned.centers - turned.centers[0]).norm(dim=1).max() < 1e-5
    ahead = turned.cam_from_world[:, 2, :2]
    cosine = torch.nn.functional.cosine_similarity(ahead[1:], ahead[:-1])
    assert torch.rad2deg(cosine.arccos()) == pytest.approx([10, 10], abs=0.2)


def test_a_circle_passes_its_beginning(world: World) -> None:
    round_ = circle(world, 20, SMALL, radius=5)
    assert (round_.centers[18] - round_.centers[0]).norm() < 0.1
    assert (round_.centers[:, :2].norm(dim=1) - 5).abs().max() < 1e-4


def test_a_wall_has_no_depth() -> None:
    wall = plane_wall(2, SMALL, step=0.5)
    assert (wall.depth > 0).all()
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (120, 160)), indexing="ij")
    rays = torch.stack((x, y, torch.ones_like(x)), -1) @ wall.K.inverse().T
    points = (rays * wall.depth[1][..., None]) @ wall.cam_from_world[1, :, :3] + wall.centers[1]
    assert points[..., 1].abs().max() < 1e-3


def test_a_box_covers_about_a_quarter_of_the_image_and_passes(world: World) -> None:
    passed = passing_box(world, 5, SMALL, step=0.02)
    covered = passed.depth < film(world, passed.cam_from_world, SMALL).depth - 0.01
    assert 0.15 < covered[2].float().mean() < 0.35
    columns = torch.arange(160.0).expand(120, 160)
    middles = [float(columns[mask].mean()) for mask in covered[1:4]]
    assert middles == sorted(middles) or middles == sorted(middles, reverse=True)
    assert abs(middles[2] - middles[0]) > 60


def test_black_frames_show_nothing_and_the_camera_goes_on(world: World) -> None:
    walk = film(world, arc(4, 0.05), SMALL)
    dark = blackout(walk, 1, 2)
    assert dark.rgb[1:3].max() == 0 and dark.depth[1:3].max() == 0
    assert all(torch.equal(dark.rgb[frame], walk.rgb[frame]) for frame in (0, 3))
    assert torch.equal(dark.cam_from_world, walk.cam_from_world)
    with pytest.raises(InvalidValueError, match=r"black frames within 0…4, got 3…5"):
        blackout(walk, 3, 2)


def test_a_kidnapped_camera_goes_on_near_its_beginning(world: World) -> None:
    centers = kidnapped(world, 10, 2, SMALL, step=0.1).centers
    steps = (centers[1:] - centers[:-1]).norm(dim=1)
    assert len(centers) == 12 and steps.argmax() == 9 and steps[9] > 4
    assert (centers[:10] - centers[10]).norm(dim=1).min() < 0.35
