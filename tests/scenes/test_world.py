from dataclasses import replace

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes import World, WorldConfig, build_world, look_at, pinhole, render
from lightmatch.scenes.surfaces import rectangle

SMALL = WorldConfig(extent=8.0, num_objects=3, num_textures=2, texture_size=64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int, size: int = 64) -> torch.Tensor:
    return torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=seeded())


def test_same_seed_same_world() -> None:
    first, again, other = (build_world(seeded(seed), SMALL) for seed in (0, 0, 1))
    assert torch.equal(first.corners, again.corners)
    assert torch.equal(first.uvs, again.uvs)
    assert torch.equal(first.textures.texels, again.textures.texels)
    assert first.corners.shape != other.corners.shape or not torch.equal(first.corners, other.corners)


def test_normals_and_sun_are_unit_and_textures_are_there() -> None:
    world = build_world(seeded(), SMALL)
    torch.testing.assert_close(world.normals.norm(dim=-1), torch.ones(world.normals.shape[:2]))
    torch.testing.assert_close(world.sun.norm(), torch.tensor(1.0))
    assert set(world.texture_index.tolist()) == {0, 1}
    assert 0 <= float(world.uvs.min()) <= float(world.uvs.max()) <= 1


def test_the_ground_has_no_steps_between_its_slabs() -> None:
    world = build_world(
        seeded(), WorldConfig(extent=8.0, num_objects=0, wall_height=0, num_textures=1, texture_size=64)
    )
    heights: dict[tuple[float, float], set[float]] = {}
    for x, y, z in world.corners.reshape(-1, 3).tolist():
        heights.setdefault((round(x, 3), round(y, 3)), set()).add(round(z, 5))
    assert len(heights) == 49**2, "four slabs of twelve cells along each side"
    assert all(len(values) == 1 for values in heights.values())
    assert len({next(iter(values)) for values in heights.values()}) > 1000, "uneven"


def test_surfaces_do_not_share_texture_while_it_lasts() -> None:
    world = build_world(seeded(), WorldConfig(extent=6.0, num_objects=6, texel_size=0.01), photos(6, 1024))
    # Triangles are several texels wide: two of them centred on one texel would share their piece.
    taken = torch.zeros(6, 1024, 1024)
    for texture, uvs in zip(world.texture_index.tolist(), world.uvs, strict=True):
        centre = (uvs.mean(0) * 1024).long()
        taken[texture, centre[1], centre[0]] += 1
    assert float(taken.max()) == 1


def test_repeated_objects_wear_the_same_texels() -> None:
    single = build_world(seeded(), WorldConfig(num_objects=1, wall_height=0), photos(3))
    repeated = build_world(seeded(), WorldConfig(num_objects=1, wall_height=0, repeated_objects=2), photos(3))
    box = repeated.uvs[-30:].reshape(3, 10, 3, 2)  # three boxes of five faces, each two triangles
    assert len(repeated.uvs) == len(single.uvs) + 20
    assert torch.equal(box[0], box[1])
    assert torch.equal(box[0], box[2])
    corners = repeated.corners[-30:].reshape(3, 30, 3)
    for copy in corners[1:]:
        assert not torch.equal(copy, corners[0])
        torch.testing.assert_close(torch.cdist(copy, copy), torch.cdist(corners[0], corners[0]), atol=2e-3, rtol=0)


def test_repeated_facades_wear_the_same_texels_on_each_side() -> None:
    config = WorldConfig(num_objects=0, texel_size=0.5)  # so coarse that one texture has room for all
    for repeated, num_pieces in ((False, 12), (True, 4)):
        world = build_world(seeded(), replace(config, repeated_facades=repeated), photos(1, 256))
        facades = world.uvs[-12 * 512 :].reshape(12, 512 * 3, 2)  # each 16 · 16 cells of two triangles
        corners = torch.cat((facades.amin(1), facades.amax(1)), 1)
        assert len(corners.unique(dim=0)) == num_pieces


def test_backdrops_are_whole_upright_pictures_far_away_all_around() -> None:
    picture = torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    picture[:, :32, 32:] = 255  # white in the upper right quarter
    config = WorldConfig(extent=8.0, wall_height=0, num_objects=0, num_backdrops=4)
    world = build_world(seeded(), config, picture)
    eye = torch.tensor([0.0, 0.0, 9.6])  # the middle of the pictures, which stand on −6.4 m and are 32 m high
    for x, y in ((0, -1), (1, 0), (0, 1), (-1, 0)):
        pose = look_at(eye, eye + torch.tensor([x, y, 0.0]))
        seen = render(world, pinhole(60.0, (64, 48))[None], pose[None], (64, 48))
        torch.testing.assert_close(seen.depth[0, :20], torch.full((20, 64), 16.0))
        grey = seen.rgb[0].float().mean(-1)
        assert grey[2:20, 35:62].min() > 80 and grey[2:20, 2:29].max() == 0 == grey[28:46, 2:62].max()


def test_moving_to_a_device_keeps_the_values() -> None:
    world = World.from_surfaces([rectangle((0, 0, 0), (1, 0, 0), (0, 1, 0))], photos(1))
    copy = world.to("cpu")
    assert copy.device == torch.device("cpu")
    assert torch.equal(copy.corners, world.corners)
    assert copy.ambient == world.ambient


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="uint8"):
        build_world(seeded(), SMALL, photos(1).float())
    with pytest.raises(InvalidValueError, match="0 surfaces"):
        World.from_surfaces([], photos(1))
    with pytest.raises(InvalidValueError, match="extent"):
        WorldConfig(extent=1.0)
    with pytest.raises(InvalidValueError, match="repeated"):
        WorldConfig(num_objects=0, repeated_objects=1)
