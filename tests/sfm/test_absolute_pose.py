"""A pose from points of known place: exact without noise, as uncertain as it says with it, refused where it must be."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.sfm.absolute_pose import AbsolutePose, NoPose, PoseOptions, estimate_absolute_pose

if TYPE_CHECKING:
    from pycolmap import Camera

SIZE, FOCAL, K1 = (640, 480), 520.0, -0.08
NUM_POINTS = 80
KNOWN = PoseOptions(intrinsics="known")

ROTATION = cv2.Rodrigues(np.array([0.1, -0.3, 0.05]))[0]
CENTER = np.array([0.4, -0.2, 0.3])


def camera(focal: float = FOCAL, k1: float = K1) -> "Camera":
    import pycolmap

    params = [focal, SIZE[0] / 2, SIZE[1] / 2, k1]
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=SIZE[0], height=SIZE[1], params=params)


def seen_points(count: int = NUM_POINTS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2), the first pixel's centre at (0, 0), and points (n, 3) in the world, 3 to 8 units in front."""
    rng = np.random.default_rng(seed)
    plane = rng.uniform((-0.5, -0.4), (0.5, 0.4), (count, 2))
    local = np.column_stack((plane, np.ones(count))) * rng.uniform(3, 8, (count, 1))
    straight = local[:, :2] / local[:, 2:]
    distorted = straight * (1 + K1 * (straight**2).sum(1, keepdims=True))
    return FOCAL * distorted + np.array(SIZE) / 2 - 0.5, local @ ROTATION + CENTER


def errors(pose: AbsolutePose | NoPose) -> np.ndarray:
    """(6,) in the order of the covariance: turn about the camera's axes, rad, and centre, units."""
    assert isinstance(pose, AbsolutePose), pose
    turn = cv2.Rodrigues(pose.cam_from_world[:, :3] @ ROTATION.T)[0].ravel()
    return np.concatenate((turn, pose.center - CENTER))


def test_exact_pixels_give_the_exact_pose() -> None:
    pixels, points = seen_points()
    pose = estimate_absolute_pose(pixels, points, camera(), KNOWN)
    assert isinstance(pose, AbsolutePose)
    assert np.abs(errors(pose)).max() < 1e-7
    assert pose.inliers.all() and pose.num_correspondences == NUM_POINTS and pose.error_px < 1e-6
    assert pose.focal_std_px is None and pose.camera.params.tolist() == camera().params.tolist()


def test_a_known_camera_is_taken_as_it_is() -> None:
    _, points = seen_points()
    strong = camera(k1=1.2)  # of a guessed camera, so much distortion would be refused
    pixels = np.asarray(strong.img_from_cam((points - CENTER) @ ROTATION.T)) - 0.5
    pose = estimate_absolute_pose(pixels, points, strong, KNOWN)
    assert np.abs(errors(pose)).max() < 1e-6


def test_focal_length_and_distortion_of_a_guessed_camera_are_found() -> None:
    pixels, points = seen_points()
    guess = camera(0.6 * FOCAL, 0.0)
    pose = estimate_absolute_pose(pixels, points, guess)
    assert isinstance(pose, AbsolutePose) and pose.focal_std_px is not None
    np.testing.assert_allclose(pose.camera.params, camera().params, rtol=1e-4)
    assert np.abs(errors(pose)).max() < 1e-4
    assert guess.params[0] == 0.6 * FOCAL  # the camera given stays as it is
    held = estimate_absolute_pose(pixels, points, guess, KNOWN)
    assert isinstance(held, NoPose) or held.num_inliers < pose.num_inliers


def test_wrong_correspondences_are_left_out() -> None:
    pixels, points = seen_points()
    rng = np.random.default_rng(1)
    wrong = rng.permutation(NUM_POINTS)[: NUM_POINTS // 2]
    pixels[wrong] = rng.uniform((0, 0), SIZE, (len(wrong), 2))
    pose = estimate_absolute_pose(pixels, points, camera(), KNOWN)
    assert isinstance(pose, AbsolutePose) and np.abs(errors(pose)).max() < 0.01
    true = np.ones(NUM_POINTS, bool)
    true[wrong] = False
    assert pose.inliers[true].all() and pose.inliers[wrong].sum() <= 2


def test_covariance_is_the_spread_of_repeated_trials() -> None:
    """New noise of 0.5 px each time: the errors spread as much, in each direction, as the covariance says."""
    pixels, points = seen_points()
    rng = np.random.default_rng(2)
    found, said = [], []
    for _ in range(200):
        pose = estimate_absolute_pose(pixels + 0.5 * rng.normal(size=pixels.shape), points, camera(), KNOWN)
        found.append(errors(pose))
        assert isinstance(pose, AbsolutePose)
        said.append(pose.covariance)
    spread, mean = np.cov(np.array(found).T), np.mean(said, 0)
    # Whitened by the covariance it is the identity; of 200 trials a standard deviation is good to 5 %.
    white = np.linalg.inv(np.linalg.cholesky(mean))
    eigenvalues = np.linalg.eigvalsh(white @ spread @ white.T)
    assert eigenvalues[0] > 0.65**2 and eigenvalues[-1] < 1.35**2
    assert np.abs(np.mean(found, 0) / np.sqrt(np.diag(mean))).max() < 4 / np.sqrt(200)  # no bias
    assert 0.9 < np.sqrt(np.trace(spread[3:, 3:]) / np.trace(mean[3:, 3:])) < 1.15


def test_twice_the_noise_is_twice_as_uncertain_and_half_the_points_more() -> None:
    pixels, points = seen_points(400)
    noise = np.random.default_rng(3).normal(size=pixels.shape)

    def deviations(scale: float, count: int) -> tuple[float, float]:
        pose = estimate_absolute_pose(pixels[:count] + scale * noise[:count], points[:count], camera(), KNOWN)
        assert isinstance(pose, AbsolutePose)
        return pose.position_std, pose.rotation_std_deg

    base = deviations(0.3, 400)
    np.testing.assert_allclose(deviations(0.6, 400), np.multiply(2, base), rtol=0.05)
    np.testing.assert_allclose(deviations(0.3, 100), np.multiply(2, base), rtol=0.35)


def test_units_of_the_points_are_those_of_the_position() -> None:
    pixels, points = seen_points()
    pixels += 0.3 * np.random.default_rng(4).normal(size=pixels.shape)
    metres = estimate_absolute_pose(pixels, points, camera(), KNOWN)
    millimetres = estimate_absolute_pose(pixels, 1000 * points, camera(), KNOWN)
    assert isinstance(metres, AbsolutePose) and isinstance(millimetres, AbsolutePose)
    assert millimetres.position_std == pytest.approx(1000 * metres.position_std, rel=1e-2)
    assert millimetres.rotation_std_deg == pytest.approx(metres.rotation_std_deg, rel=1e-2)


def test_same_seed_same_bits() -> None:
    pixels, points = seen_points()
    pixels += np.random.default_rng(5).normal(size=pixels.shape)
    first, second = (estimate_absolute_pose(pixels, points, camera(), PoseOptions(seed=7)) for _ in range(2))
    assert isinstance(first, AbsolutePose) and isinstance(second, AbsolutePose)
    assert first.cam_from_world.tobytes() == second.cam_from_world.tobytes()
    assert first.covariance.tobytes() == second.covariance.tobytes()


def test_what_fixes_no_pose_is_refused() -> None:
    pixels, points = seen_points()
    few = estimate_absolute_pose(pixels[:11], points[:11], camera(), KNOWN)
    assert isinstance(few, NoPose) and few.reason == "few correspondences" and "got 11" in few.sentence
    none = estimate_absolute_pose(np.zeros((0, 2)), np.zeros((0, 3)), camera())
    assert isinstance(none, NoPose) and none.reason == "few correspondences"
    mixed = estimate_absolute_pose(np.random.default_rng(0).permutation(pixels), points, camera(), KNOWN)
    assert isinstance(mixed, NoPose) and mixed.reason in ("few inliers", "by chance")
    # All points in one spot: the camera may turn about it.
    rng = np.random.default_rng(6)
    spot = points[:1] + 1e-4 * rng.normal(size=points.shape)
    assert isinstance(estimate_absolute_pose(pixels[:1] + rng.normal(size=pixels.shape), spot, camera(), KNOWN), NoPose)


@pytest.mark.parametrize(
    ("pixels", "points", "words"),
    [
        (np.zeros((20, 3)), np.zeros((20, 3)), r"pixels \(n, 2\) and as many points \(n, 3\), got \(20, 3\)"),
        (np.zeros((20, 2)), np.zeros((19, 3)), r"got \(20, 2\) and \(19, 3\)"),
        (np.full((20, 2), np.nan), np.zeros((20, 3)), "expected finite pixels and points"),
    ],
)
def test_bad_input(pixels: np.ndarray, points: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        estimate_absolute_pose(pixels, points, camera())
