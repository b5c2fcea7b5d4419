from collections.abc import Iterator

import pytest
import torch
from moving_camera import MovingCamera, moving_camera


@pytest.fixture(scope="session")
def walk() -> MovingCamera:
    """Thirty frames of a walk of 1.4 m."""
    return moving_camera()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
