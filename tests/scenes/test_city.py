"""The city: streets that a walk comes back to, and pictures of it."""

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.scenes import city
from lightmatch.scenes.city import BLOCK, STREET, build_city, city_camera


def _places(cam_from_world):
    return invert_rigid(cam_from_world)[..., 3]


@pytest.fixture(autouse=True)
def cheap_textures(monkeypatch):
    def noise(generator, count, size):
        coarse = torch.randint(256, (count, size // 16, size // 16, 3), dtype=torch.uint8, generator=generator)
        return coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)

    monkeypatch.setattr(city, "procedural_textures", noise)


def test_a_walk_goes_on_by_small_steps_in_the_streets():
    places = _places(build_city(300).cam_from_world)
    steps = (places[1:] - places[:-1]).norm(dim=1)
    assert len(places) == 300 and steps.min() > 0.25 and steps.max() < 1.6
    from_street = (places[:, :2] - BLOCK * (places[:, :2] / BLOCK).round()).abs()
    assert (from_street.min(1).values < STREET / 2).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_long_walk_stays_in_the_streets_to_its_end(seed):
    """Though each turn is a metre and a half shorter than the corner that it cuts."""
    blocks = 5  # as for 3000 pictures
    places = _places(city._walk(torch.Generator().manual_seed(seed), blocks, 3000))[:, :2]
    from_street = (places - BLOCK * (places / BLOCK).round()).abs()
    assert (from_street.min(1).values < STREET / 2).all()
    assert places.min() > -STREET / 2 and places.max() < blocks * BLOCK + STREET / 2


def test_the_camera_turns_little_from_one_picture_to_the_next_and_never_upside_down():
    rotations = build_city(300).cam_from_world[:, :, :3]
    between = rotations[1:] @ rotations[:-1].transpose(1, 2)
    angles = torch.rad2deg(((between.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).arccos())
    assert angles.max() < 45
    assert (rotations[:, 1, 2] < -0.9).all()  # y points down


def test_a_walk_comes_back_to_where_it_was_and_looks_the_same_way():
    cam_from_world = build_city(300).cam_from_world
    places, views = _places(cam_from_world), cam_from_world[:, 2, :3]
    near = (places[:, None] - places).norm(dim=-1) < 3
    alike = views @ views.T > 0.9
    later = torch.arange(300)[:, None] - torch.arange(300) > 60
    assert (near & alike & later).any(1).sum() > 30


def test_cities_grow_with_the_number_of_pictures():
    extents = [build_city(count).world.corners[..., :2].amax() for count in (10, 300)]
    assert extents[0] < extents[1]


@pytest.mark.parametrize("num_pictures", [10, 1000])
def test_no_piece_of_texture_is_used_twice(num_pictures):
    world = build_city(num_pictures).world
    pieces = torch.cat((world.texture_index[:, None].float(), world.uvs.flatten(1)), 1)
    assert len(torch.unique(pieces, dim=0)) == len(pieces)


def test_pictures_show_houses_and_the_same_arguments_give_the_same_bits():
    first, again = (list(build_city(9, seed=3).pictures((96, 64))) for _ in range(2))
    assert len(first) == 9 and all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(picture.shape == (64, 96, 3) and picture.float().std() > 25 for picture in first)
    assert not torch.equal(first[0], next(build_city(9, seed=4).pictures((96, 64))))
    assert city_camera((96, 64))[0, 2] == 47.5


def test_one_picture_is_no_walk():
    with pytest.raises(InvalidValueError, match="at least 2"):
        build_city(1)
