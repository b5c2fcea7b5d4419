"""Evaluation pairs: cameras with lenses, and the angle that wide pairs are chosen by."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.evaluation.pairs import (
    Camera,
    CorrespondenceTruth,
    EvaluationPair,
    HomographyTruth,
    PoseTruth,
    viewing_angle_deg,
    within_viewing_angle,
)
from lightmatch.types import Image

K = torch.tensor([[500, 0, 319.5], [0, 510, 239.5], [0, 0, 1]], dtype=torch.float64)


def turned(angle_deg: float, axis: int = 1) -> torch.Tensor:
    """cam1_from_cam0 of a turn about the camera's x, y or z axis."""
    axis_angle = np.zeros(3)
    axis_angle[axis] = math.radians(angle_deg)
    rotation = torch.from_numpy(cv2.Rodrigues(axis_angle)[0])
    return torch.cat((rotation, torch.ones((3, 1), dtype=torch.float64)), 1)


def posed(angle_deg: float) -> EvaluationPair:
    truth = PoseTruth(Camera(K), Camera(K), turned(angle_deg))
    return EvaluationPair(f"{angle_deg}", "scene", Path("a.png"), Path("b.png"), truth)


@pytest.mark.parametrize("angle", [0.0, 1e-5, 15.0, 90.0, 179.9])
def test_viewing_angle_is_that_of_the_rotation(angle: float) -> None:
    for axis in (0, 1):
        assert float(viewing_angle_deg(turned(angle, axis))) == pytest.approx(angle, abs=1e-9)


def test_roll_is_no_viewing_angle() -> None:
    """A camera turned upside down still looks the same way."""
    assert float(viewing_angle_deg(turned(180, axis=2))) == pytest.approx(0)
    batch = torch.stack([turned(20), turned(50)])
    assert viewing_angle_deg(batch).tolist() == pytest.approx([20, 50])


def test_choice_by_viewing_angle() -> None:
    pairs = [posed(angle) for angle in (5, 30, 60, 120)]
    plane = EvaluationPair("plane", "scene", Path("a.png"), Path("b.png"), HomographyTruth(K))
    assert [p.name for p in within_viewing_angle([*pairs, plane], 20, 70)] == ["30", "60", "plane"]
    assert within_viewing_angle(pairs) == pairs
    with pytest.raises(InvalidValueError, match="got 70 to 20"):
        within_viewing_angle(pairs, 70, 20)


def test_undistort_inverts_the_lens() -> None:
    """Through OpenCV's lens and back, to the corners of a strong one."""
    camera = Camera(K, (-0.25, 0.06, 1e-3, -5e-4))
    straight = torch.tensor([[0, 0], [639, 0], [639, 479], [319.5, 239.5], [100.25, 300.75]], dtype=torch.float64)
    rays = torch.cat((straight, torch.ones((5, 1))), 1).double() @ torch.linalg.inv(K).T
    bent, _ = cv2.projectPoints(rays.numpy(), np.zeros(3), np.zeros(3), K.numpy(), np.array(camera.distortion))
    bent = torch.from_numpy(bent.reshape(-1, 2))
    assert (bent - straight).norm(dim=-1).max() > 20
    torch.testing.assert_close(camera.undistort(bent), straight, rtol=0, atol=1e-6)
    assert camera.undistort(bent.float()).dtype == torch.float32
    assert camera.undistort(bent[:0]).shape == (0, 2)


@pytest.mark.parametrize("k1", [-0.25, 0.6])
def test_undistort_reaches_as_far_as_the_lens(k1: float) -> None:
    """Just before the radius at which a barrel folds back, and where a plain fixed point runs off."""
    camera = Camera(K, (k1, 0.0, 0.0, 0.0))
    straight = torch.tensor([[1.1, 0.0], [0.0, -1.0], [0.6, 0.6]], dtype=torch.float64)
    radius = straight.norm(dim=1, keepdim=True)
    bent = straight * (1 + k1 * radius**2) @ K[:2, :2].T + K[:2, 2]
    torch.testing.assert_close(camera.undistort(bent), straight @ K[:2, :2].T + K[:2, 2], rtol=0, atol=1e-6)


def test_undistort_is_nan_outside_the_field_of_view() -> None:
    camera = Camera(K, (-0.25, 0.0, 0.0, 0.0))  # the largest radius it reaches is 0.77
    shown = torch.tensor([[0.8, 0.0], [0.7, 0.0], [0.0, 1.25]], dtype=torch.float64) @ K[:2, :2].T + K[:2, 2]
    assert camera.undistort(shown).isnan().tolist() == [[True, True], [False, False], [True, True]]


def test_distortion_that_opencv_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"Camera\.distortion: expected 0, 4, 5"):
        Camera(torch.eye(3, dtype=torch.float64), (0.1, 0.2))


def test_without_distortion_pixels_stay() -> None:
    points = torch.tensor([[1.5, 2.5]])
    assert Camera(K).undistort(points) is points


def test_load_from_file_and_memory(tmp_path: Path) -> None:
    pixels = np.full((4, 6, 3), 50, dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    pair = EvaluationPair("p", "s", tmp_path / "a.png", Image(pixels + 1), HomographyTruth(K))
    image0, image1 = pair.load()
    assert np.array_equal(image0.pixels, pixels)
    assert image1.pixels[0, 0, 0] == 51
    with pytest.raises(ImageReadError, match="no such file"):
        posed(10).load()


def test_bad_truth() -> None:
    with pytest.raises(InvalidValueError, match="PoseTruth"):
        PoseTruth(Camera(K), Camera(K), torch.eye(4))
    with pytest.raises(InvalidValueError, match="points1"):
        CorrespondenceTruth(torch.zeros((3, 2)), torch.zeros((2, 2)), "general")
