import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.scenes import RenderedScene, demo_scene, render


def test_views_are_renderings_of_the_world(scene: RenderedScene) -> None:
    height, width = scene.rgb.shape[1:3]
    again = render(scene.world, scene.K[2:3], scene.cam_from_world[2:3], (width, height))
    assert torch.equal(again.rgb[0], scene.rgb[2])
    assert torch.equal(again.depth[0], scene.depth[2])


def test_views_are_filled_and_no_object_blocks_the_camera(scene: RenderedScene) -> None:
    for depth in scene.depth:
        assert float((depth > 0).float().mean()) > 0.7
        assert float(depth[depth > 0].min()) > 0.5


def test_views_that_are_not_there_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"0…2"):
        demo_scene(num_views=3, views=[3])
