import pytest
from moving_camera import MovingCamera, moving_camera


@pytest.fixture(scope="session")
def walk() -> MovingCamera:
    """Thirty frames of a walk of 1.4 m."""
    return moving_camera()
