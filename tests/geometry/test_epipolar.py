import math

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import invert_rigid, normalize_pixels, rotation_angle_deg, transform_points
from lightmatch.geometry.depth import project
from lightmatch.geometry.epipolar import (
    decompose_essential,
    epipolar_distance_px,
    essential_from_pose,
    fundamental_from_essential,
    pose_error,
    sampson_error_px,
    skew,
    two_view_depths,
)

DOUBLE = torch.float64
K0 = torch.tensor([[800, 0, 320], [0, 780, 240], [0, 0, 1]], dtype=DOUBLE)
K1 = torch.tensor([[500, 1, 300], [0, 510, 200], [0, 0, 1]], dtype=DOUBLE)


def pose(angle_deg: float, t: tuple[float, float, float]) -> torch.Tensor:
    """A turn about y, then a step."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return torch.tensor([[c, 0, s, t[0]], [0, 1, 0, t[1]], [-s, 0, c, t[2]]], dtype=DOUBLE)


POSE = pose(12, (0.8, -0.36, 0.48))  # |t| = 1


def space(count: int = 40) -> torch.Tensor:
    unit = torch.rand(count, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    return unit * torch.tensor([6, 4, 6]) + torch.tensor([-3, -2, 5])


def two_views() -> tuple[torch.Tensor, torch.Tensor]:
    return project(space(), K0)[0], project(transform_points(POSE, space()), K1)[0]


def fundamental() -> torch.Tensor:
    return fundamental_from_essential(essential_from_pose(POSE), K0, K1)


def sideways(zoom: float) -> torch.Tensor:
    """F of a step along x, with a second camera `zoom` times as long: y1 = zoom · y0."""
    K = torch.diag(torch.tensor([100, 100, 1], dtype=DOUBLE))
    E = essential_from_pose(torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=DOUBLE))
    return fundamental_from_essential(E, K, torch.diag(torch.tensor([100 * zoom, 100 * zoom, 1], dtype=DOUBLE)))


def test_skew_is_the_cross_product() -> None:
    a, b = torch.tensor([1.0, 2, 3]), torch.tensor([-4.0, 5, 6])
    assert torch.equal(skew(a) @ b, torch.linalg.cross(a, b))


def test_true_matches_have_no_error() -> None:
    points0, points1 = two_views()
    assert float(sampson_error_px(fundamental(), points0, points1).max()) < 1e-9
    assert float(epipolar_distance_px(fundamental(), points0, points1).max()) < 1e-9


@pytest.mark.parametrize(("zoom", "sampson", "distance"), [(1, 1 / math.sqrt(2), 1), (2, 1 / math.sqrt(5), 0.75)])
def test_errors_of_a_point_moved_across_its_epipolar_line(zoom: float, sampson: float, distance: float) -> None:
    """By hand: the constraint y1 / zoom - y0 = 0 is off by d / zoom; its gradient is (1, 1 / zoom).

    Image 1 sees d px, image 0 d / zoom; a move along the line is no error.
    """
    d = 3.0
    points0 = torch.tensor([[10, 20]], dtype=DOUBLE)
    points1 = torch.tensor([[55, 20 * zoom + d]], dtype=DOUBLE)
    assert float(sampson_error_px(sideways(zoom), points0, points1)) == pytest.approx(d * sampson)
    assert float(epipolar_distance_px(sideways(zoom), points0, points1)) == pytest.approx(d * distance)


def test_errors_ignore_the_scale_of_f_and_the_order_of_the_images() -> None:
    points0, points1 = two_views()
    points1 = points1 + 2
    for error in (sampson_error_px, epipolar_distance_px):
        expected = error(fundamental(), points0, points1)
        torch.testing.assert_close(error(-5 * fundamental(), points0, points1), expected)
        torch.testing.assert_close(error(fundamental().mT, points1, points0), expected)


def test_a_match_on_the_epipole_has_no_line() -> None:
    forward = essential_from_pose(torch.eye(3, 4) + torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]))
    epipole, other = torch.zeros(1, 2), torch.ones(1, 2)
    assert epipolar_distance_px(forward, epipole, other).isinf().all()
    assert sampson_error_px(forward, epipole, epipole).tolist() == [0]


def test_batches_broadcast_and_dtype_follows() -> None:
    points0, points1 = (points.float() for points in two_views())
    F = fundamental().float().expand(3, 1, 3, 3)
    error = sampson_error_px(F, points0.expand(2, -1, -1), points1)
    assert error.shape == (3, 2, 40) and error.dtype == torch.float32
    assert sampson_error_px(F, points0[:0], points1[:0]).shape == (3, 1, 0)
    assert essential_from_pose(POSE.expand(4, 2, 3, 4)).shape == (4, 2, 3, 3)


@pytest.mark.parametrize("angle_deg", [1e-4, 0.5, 30, 179])
def test_pose_error_of_known_turns(angle_deg: float) -> None:
    rotation_deg, translation_deg = pose_error(pose(angle_deg, (0, 0, 1)), pose(0, (0, 0, 5)))
    assert float(rotation_deg) == pytest.approx(angle_deg, rel=1e-6)
    assert float(translation_deg) == 0
    step = (math.sin(math.radians(angle_deg)), 0.0, math.cos(math.radians(angle_deg)))
    _, translation_deg = pose_error(pose(0, step), pose(0, (0, 0, 3)))
    assert float(translation_deg) == pytest.approx(min(angle_deg, 180 - angle_deg), rel=1e-6)
    _, signed_deg = pose_error(pose(0, step), pose(0, (0, 0, 3)), up_to_sign=False)
    assert float(signed_deg) == pytest.approx(angle_deg, rel=1e-6)


def test_pose_error_at_its_limits() -> None:
    still, step, missing = pose(0, (0, 0, 0)), pose(0, (0, 0, 1)), torch.full((3, 4), torch.nan, dtype=DOUBLE)
    estimated, true = torch.stack([step, still, missing, missing]), torch.stack([still, step, step, still])
    rotation_deg, translation_deg = pose_error(estimated, true)
    assert rotation_deg.tolist() == [0, 0, math.inf, math.inf]
    assert translation_deg.tolist() == [0, 90, math.inf, math.inf]
    assert pose_error(estimated, true, up_to_sign=False)[1].tolist() == [0, 180, math.inf, math.inf]


@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_one_of_the_four_poses_is_the_true_one(scale: float) -> None:
    poses = decompose_essential(scale * essential_from_pose(torch.stack([POSE, invert_rigid(POSE)])))
    assert poses.shape == (2, 4, 3, 4)
    torch.testing.assert_close(torch.linalg.det(poses[..., :3]), torch.ones(2, 4, dtype=DOUBLE))
    assert float((poses - torch.stack([POSE, invert_rigid(POSE)])[:, None]).abs().amax((-1, -2)).min(1)[0].max()) < 1e-9


def test_the_points_are_in_front_of_both_cameras_in_the_true_pose_only() -> None:
    points0, points1 = two_views()
    poses = decompose_essential(essential_from_pose(POSE))
    depth0, depth1 = two_view_depths(poses, normalize_pixels(points0, K0), normalize_pixels(points1, K1))
    in_front = ((depth0 > 0) & (depth1 > 0)).sum(-1)
    best = int(in_front.argmax())
    assert in_front[best] == 40 and int(in_front.sum()) == 40
    assert float(rotation_angle_deg(poses[best, :, :3], POSE[:, :3])) < 1e-6
    torch.testing.assert_close(depth0[best], space()[:, 2])
    torch.testing.assert_close(depth1[best], transform_points(POSE, space())[:, 2])


def test_device_follows() -> None:
    eye, step, points = (torch.ones(shape, device="meta") for shape in ((3, 3), (3, 4), (6, 2)))
    assert sampson_error_px(eye, points, points).is_meta and epipolar_distance_px(eye, points, points).is_meta
    assert decompose_essential(essential_from_pose(step)).is_meta and pose_error(step, step)[1].is_meta
    assert fundamental_from_essential(eye, eye, eye).is_meta and two_view_depths(step, points, points)[0].is_meta


def test_bad_shapes_are_named() -> None:
    with pytest.raises(InvalidValueError, match="F: expected"):
        sampson_error_px(torch.eye(4), torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(InvalidValueError, match="cam1_from_cam0: expected"):
        essential_from_pose(torch.eye(4))
