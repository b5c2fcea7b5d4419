import os
from pathlib import Path

import cv2
import pytest

from lightmatch.scenes import RenderedScene, demo_scene


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
