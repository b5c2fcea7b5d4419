import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from lightmatch.scenes import RenderedScene, demo_scene, world
from lightmatch.scenes.textures import procedural_textures


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, for tests wait a third of the time: for a cluster, a browser, the next frame."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def textures_painted_once() -> Iterator[None]:
    """Worlds of one seed share their textures, which take seconds to paint."""
    painted: dict[tuple[bytes, int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def paint(generator: torch.Generator, count: int, size: int) -> torch.Tensor:
        key = generator.get_state().numpy().tobytes(), count, size
        if key not in painted:
            painted[key] = procedural_textures(generator, count, size), generator.get_state()
        textures, after = painted[key]
        generator.set_state(after)
        return textures.clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "procedural_textures", paint)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real photos, where LIGHTMATCH_DATA names them."""
    named = os.environ.get("LIGHTMATCH_DATA")
    if not named or not Path(named, "eval").is_dir():
        pytest.skip("no real photos: LIGHTMATCH_DATA names no folder with eval/ in it")
    return Path(named)


@pytest.fixture(scope="session")
def scene() -> RenderedScene:
    """Six neighbouring views of the procedural world."""
    return demo_scene(seed=0, num_views=20, size=(480, 360), views=range(6))


@pytest.fixture(scope="session")
def scene_photos(scene: RenderedScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The views as PNG files, view_0.png and so on."""
    folder = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate(scene.rgb):
        cv2.imwrite(str(folder / f"view_{number}.png"), pixels.numpy()[..., ::-1])
    return folder
