import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.depth import project, sample_depth, unproject, warp_with_depth

K = torch.tensor([[100, 0.5, 32], [0, 110, 24], [0, 0, 1]], dtype=torch.float64)


def some_points(*shape: int) -> torch.Tensor:
    return 40 * torch.rand(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def slanted_plane(height: int, width: int) -> torch.Tensor:
    """The depth map of a plane: its inverse is linear in the pixel."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return 1 / (0.1 + 0.002 * x + 0.001 * y)


def test_unproject_and_project_are_inverse() -> None:
    points, depth = some_points(3, 10), 1 + some_points(3, 10)[..., 0]
    in_space = unproject(points, depth, K)
    assert in_space.shape == (3, 10, 3)
    torch.testing.assert_close(in_space[..., 2], depth)
    back, depth_back = project(in_space, K)
    torch.testing.assert_close(back, points)
    torch.testing.assert_close(depth_back, depth)


def test_the_principal_point_is_the_optical_axis() -> None:
    points, depth = project(torch.tensor([[0, 0, 7], [1, 0, 10]], dtype=torch.float64), K)
    assert points.tolist() == [[32, 24], [42, 24]] and depth.tolist() == [7, 10]


def test_behind_the_camera_is_nowhere_in_the_image() -> None:
    points, depth = project(torch.tensor([[1, 1, -2], [1, 1, 0]], dtype=torch.float64), K)
    assert points.isinf().all() and depth.tolist() == [-2, 0]


def test_a_plane_is_sampled_exactly_between_pixels() -> None:
    points = torch.tensor([[2.0, 3.0], [2.25, 3.5], [6.9, 0.1]])
    depth, valid = sample_depth(slanted_plane(6, 9), points)
    torch.testing.assert_close(depth, 1 / (0.1 + 0.002 * points[:, 0] + 0.001 * points[:, 1]))
    assert valid.all()


def test_nearest_takes_the_pixel_it_lies_on() -> None:
    depth_map = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    points = torch.tensor([[0.4, 0.4], [0.6, 0.4], [-0.5, 1.49], [1.0, 0.5]])
    depth, valid = sample_depth(depth_map, points, mode="nearest")
    assert depth.tolist() == [1, 2, 3, 4] and valid.all()


def test_bilinear_does_not_mix_over_a_depth_edge() -> None:
    depth_map = torch.tensor([[1.0, 1.0, 10.0, 10.0]]).expand(3, 4)
    depth, valid = sample_depth(depth_map, torch.tensor([[1.4, 1.0], [1.6, 1.0]]))
    assert depth.tolist() == [1, 10] and valid.all()
    mixed, _ = sample_depth(depth_map, torch.tensor([[1.5, 1.0]]), edge_tolerance=1.0)
    assert 1 < float(mixed) < 10


@pytest.mark.parametrize("hole", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_holes_are_not_mixed_in(hole: float, mode) -> None:
    depth_map = torch.full((3, 4), 5.0)
    depth_map[:, 2] = hole
    depth, valid = sample_depth(depth_map, torch.tensor([[1.4, 1.0], [1.6, 1.0], [2.5, 1.0]]), mode=mode)
    assert depth.tolist() == [5, 0, 5] and valid.tolist() == [True, False, True]


@pytest.mark.parametrize("x", [-0.6, 3.5, 1e30, -1e30, float("nan"), float("inf")])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_outside_there_is_no_depth(x: float, mode) -> None:
    depth, valid = sample_depth(torch.full((3, 4), 5.0), torch.tensor([[x, 1.0], [1.0, x]]), mode=mode)
    assert not depth.any() and not valid[0] and (x == 3.5 or not valid[1])


def test_batches_broadcast_and_dtype_follows() -> None:
    maps = torch.stack([slanted_plane(48, 64), 2 * slanted_plane(48, 64)])[:, None].double()
    points = some_points(3, 7)
    depth, valid = sample_depth(maps, points)
    assert depth.shape == valid.shape == (2, 3, 7) and depth.dtype == torch.float64
    torch.testing.assert_close(depth[1, 2], sample_depth(maps[1, 0], points[2])[0])
    assert sample_depth(maps, points[:, :0])[0].shape == (2, 3, 0)
    poses = torch.eye(3, 4, dtype=torch.float64).expand(2, 1, 3, 4)
    points1, visible = warp_with_depth(points, maps, K, maps, K, poses)
    assert points1.shape == (2, 3, 7, 2) and visible.shape == (2, 3, 7)


def test_the_same_view_sees_every_point_at_its_place() -> None:
    depth_map = slanted_plane(48, 64).double()
    points = some_points(50)
    points1, visible = warp_with_depth(points, depth_map, K, depth_map, K, torch.eye(3, 4, dtype=torch.float64))
    torch.testing.assert_close(points1, points)
    assert visible.all()


def test_occlusion_by_a_nearer_plane() -> None:
    """A wall at 10 and a post at 5, seen from one unit further right by a camera of focal length 10.

    The wall moves 1 px to the left, the post 2 px. Columns of image 0: wall 0…5 and 8…11, post 6, 7.
    """
    K = torch.diag(torch.tensor([10.0, 10.0, 1.0]))
    step = torch.tensor([[1.0, 0, 0, -1], [0, 1, 0, 0], [0, 0, 1, 0]])
    wall = torch.full((3, 12), 10.0)
    depth_map0, depth_map1 = wall.clone(), wall.clone()
    depth_map0[:, 6:8] = 5
    depth_map1[:, 4:6] = 5
    depth_map0[:, 11] = 0  # a hole in image 0
    depth_map1[:, 9] = 0  # a hole in image 1

    columns = torch.tensor([0.0, 1, 4, 5, 6, 7, 8, 9, 10, 11])
    points0 = torch.stack([columns, torch.ones_like(columns)], dim=-1)
    points1, visible = warp_with_depth(points0, depth_map0, K, depth_map1, K, step)
    assert points1[:9, 0].tolist() == pytest.approx([-1, 0, 3, 4, 4, 5, 7, 8, 9])
    assert points1[9].isinf().all()
    #                            outside            hidden by the post                    hole   no depth
    assert visible.tolist() == [False, True, True, False, True, True, True, True, False, False]


def test_the_tolerance_is_relative_to_the_depth_seen() -> None:
    seen, point = torch.full((4, 4), 10.0), torch.full((4, 4), 10.4)
    args = (torch.ones(1, 2), point, torch.eye(3), seen, torch.eye(3), torch.eye(3, 4))
    assert warp_with_depth(*args, relative_tolerance=0.05)[1].all()
    assert not warp_with_depth(*args, relative_tolerance=0.03)[1].any()


def test_device_follows() -> None:
    depth_map, K, step, points = (torch.ones(shape, device="meta") for shape in ((4, 5), (3, 3), (3, 4), (6, 2)))
    assert all(result.is_meta for result in warp_with_depth(points, depth_map, K, depth_map, K, step))


def test_bad_input_is_named() -> None:
    with pytest.raises(InvalidValueError, match="'nearest' or 'bilinear', got 'cubic'"):
        sample_depth(torch.ones(2, 2), torch.zeros(1, 2), mode="cubic")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="at least one pixel"):
        sample_depth(torch.ones(0, 2), torch.zeros(1, 2))
    with pytest.raises(InvalidValueError, match="depth_map: expected"):
        sample_depth(torch.ones(2), torch.zeros(1, 2))
