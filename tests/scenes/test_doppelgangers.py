"""Scenes with doppelgängers: copies are identical to the last texel, and landmarks are unique."""

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes.doppelgangers import DOPPELGANGER_KINDS, doppelganger_scene

SMALL = (48, 36)


@pytest.fixture(autouse=True)
def cheap_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in place of patterns, which take seconds."""

    def noise(generator: torch.Generator, count: int, size: int) -> torch.Tensor:
        coarse = torch.randint(256, (count, size // 16, size // 16, 3), dtype=torch.uint8, generator=generator)
        return coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)

    monkeypatch.setattr("lightmatch.scenes.doppelgangers.procedural_textures", noise)
    monkeypatch.setattr("lightmatch.scenes.world.procedural_textures", noise)


@pytest.mark.parametrize("kind", DOPPELGANGER_KINDS)
def test_every_kind_is_seen_from_every_camera(kind: str) -> None:
    scene = doppelganger_scene(kind, 0, 6, SMALL)  # type: ignore[arg-type]
    assert scene.rgb.shape == (6, 36, 48, 3) and scene.cam_from_world.shape == (6, 3, 4)
    assert ((scene.depth > 0).float().mean((1, 2)) > 0.2).all()
    assert (scene.rgb.float().std((1, 2, 3)) > 3).all()


@pytest.mark.parametrize("num_views", [2, 3])
def test_two_views_are_enough_for_every_kind(num_views: int) -> None:
    for kind in DOPPELGANGER_KINDS:
        assert len(doppelganger_scene(kind, 0, num_views, (8, 6)).cam_from_world) == num_views


def pieces(num_landmarks: int) -> dict[tuple[float, ...], list[torch.Tensor]]:
    """Triangles of the pavilion's scene by their piece of texture."""
    world = doppelganger_scene("pavilion", 0, 2, SMALL, num_landmarks=num_landmarks).world
    found: dict[tuple[float, ...], list[torch.Tensor]] = {}
    for texture, uvs, corners in zip(world.texture_index.tolist(), world.uvs, world.corners, strict=True):
        found.setdefault((texture, *uvs.flatten().tolist()), []).append(corners)
    return found


def test_the_back_of_the_pavilion_is_its_front_rotated() -> None:
    rotation = torch.tensor([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    upright = {piece: [at for at in places if at[:, 2].std() > 0.1] for piece, places in pieces(0).items()}
    walls = [places for places in upright.values() if places]
    assert len(walls) == 4, "two triangles of the front and two of a side"
    for front, back in walls:  # each piece is used twice
        torch.testing.assert_close(front @ rotation, back, atol=1e-5, rtol=0)


def test_landmarks_exist_once() -> None:
    bare, with_landmarks = pieces(0), pieces(5)
    added = [places for piece, places in with_landmarks.items() if piece not in bare]
    assert len(added) == 5 * 5 * 2, "five sides of two triangles each"
    assert all(len(places) == 1 for places in added)


def test_same_seed_same_scene_and_views_are_chosen() -> None:
    every, again = (
        doppelganger_scene("islands", 3, 10, SMALL),
        doppelganger_scene("islands", 3, 10, SMALL, views=[7, 2]),
    )
    assert torch.equal(every.rgb[[7, 2]], again.rgb) and torch.equal(every.cam_from_world[[7, 2]], again.cam_from_world)
    assert not torch.equal(doppelganger_scene("islands", 4, 10, SMALL, views=[7]).rgb[0], again.rgb[0])


def test_bad_input() -> None:
    with pytest.raises(InvalidValueError, match="expected one of pavilion"):
        doppelganger_scene("barn")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="at least 2 views"):
        doppelganger_scene("tower", num_views=1)
    with pytest.raises(InvalidValueError, match=r"views within 0…4, got \[5\]"):
        doppelganger_scene("tower", num_views=5, views=[5])
