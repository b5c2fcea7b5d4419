from dataclasses import replace

import cv2
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.scenes import World, WorldConfig, build_world, camera_ring, look_at, pinhole, render
from lightmatch.scenes.surfaces import rectangle, relief

SIZE = (120, 90)
FRONT = torch.cat([torch.eye(3), torch.zeros(3, 1)], 1)  # a camera at the origin that looks along z, y down


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facing_camera(z: float, half: float, texture: torch.Tensor) -> World:
    """A square at depth `z`, upright as FRONT sees it, lit evenly."""
    square = rectangle((-half, half, z), (2 * half, 0, 0), (0, -2 * half, 0))
    return World.from_surfaces([square], texture, sun=(0, 0, -1))


@pytest.fixture(scope="module")
def world() -> World:
    config = WorldConfig(extent=10.0, num_objects=8, num_textures=4, texture_size=256, texel_size=0.02)
    return build_world(seeded(), config)


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    return camera_ring((0.0, 0.0, 0.4), 3.6, 1.2, 24, 0.02, seeded())[:3]


def cameras(count: int) -> torch.Tensor:
    return pinhole(65.0, SIZE).expand(count, 3, 3)


def test_a_frontal_plane_has_its_depth_everywhere() -> None:
    white = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    seen = render(facing_camera(2.0, 9.0, white), cameras(1), FRONT[None], SIZE)
    assert seen.rgb.shape == (1, 90, 120, 3)
    assert bool(seen.valid.all())
    torch.testing.assert_close(seen.depth, torch.full((1, 90, 120), 2.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_an_edge_in_the_texture_lands_where_the_intrinsics_say(supersampling: int) -> None:
    # Black on the left and above, white in the lower right quarter: the corner is the texture's middle.
    texture = torch.zeros((1, 256, 256, 3), dtype=torch.uint8)
    texture[:, 128:, 128:] = 255
    K = torch.tensor([[100.0, 0, 50.0], [0, 100, 40], [0, 0, 1]])
    right_down = FRONT.clone()
    right_down[:, 3] = torch.tensor([0.2, 0.1, 0])  # moves the corner by (10, 5) px at z = 2
    picture = render(facing_camera(2.0, 2.0, texture), K[None], right_down[None], SIZE, supersampling=supersampling)
    grey = picture.rgb[0, :, :, 0].float() / picture.rgb.max()
    # The corner is at (60, 45): pixels beyond are white, pixels before are black, those it halves are grey.
    assert float(grey[48:, 63:].min()) == 1
    assert float(grey[:42].max()) == float(grey[:, :57].max()) == 0
    assert grey[60, 55:66].sum() == pytest.approx(5.5, abs=0.05)
    assert grey[40:51, 70].sum() == pytest.approx(5.5, abs=0.05)


def test_the_nearer_surface_hides_the_farther_and_the_sky_has_no_depth() -> None:
    near = rectangle((-0.5, 0.5, 2), (1, 0, 0), (0, -1, 0))
    far = rectangle((-1, 0.5, 4), (2, 0, 0), (0, -1, 0))
    white = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    K = torch.tensor([[100.0, 0, 60], [0, 100, 45], [0, 0, 1]])
    for order in ([near, far], [far, near]):
        seen = render(World.from_surfaces(order, white), K[None], FRONT[None], SIZE)
        depth = seen.depth[0]
        assert depth[45, [60, 80, 90]].tolist() == [2, 2, 0]
        assert depth[25].unique().tolist() == [0, 2]
        assert torch.equal(seen.valid[0], depth > 0)


def test_a_surface_that_passes_the_camera_is_seen_up_to_the_picture_s_edge() -> None:
    # The ground is 1 m below the camera and reaches far behind it: pixel row y sees it at z = f / (y − cy).
    ground = rectangle((-50, 1, 50), (100, 0, 0), (0, 0, -100))
    white = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    K = torch.tensor([[100.0, 0, 60], [0, 100, 45], [0, 0, 1]])
    depth = render(World.from_surfaces([ground], white), K[None], FRONT[None], SIZE).depth[0]
    rows = torch.arange(48, 90)
    torch.testing.assert_close(depth[rows], (100 / (rows - 45))[:, None].expand(-1, 120), rtol=1e-5, atol=0)
    assert not bool(depth[:46].any())


def test_depth_lies_on_the_height_function() -> None:
    axis = torch.linspace(0, 1, 129)
    heights = 0.2 * (6 * axis).sin()[:, None] * (5 * axis).cos()
    hills = World.from_surfaces(
        [relief((-2, -2, 0), (4, 0, 0), (0, 4, 0), heights)], torch.zeros((1, 4, 4, 3), dtype=torch.uint8)
    )
    pose = look_at(torch.tensor([0.3, -3.0, 1.5]), torch.tensor([0.0, 0, 0]))
    seen = render(hills, cameras(1), pose[None], SIZE)
    x, y, z = world_points(seen.depth, cameras(1), pose[None])[0][seen.valid[0]].unbind(-1)
    truth = 0.2 * (6 * (y + 2) / 4).sin() * (5 * (x + 2) / 4).cos()
    assert len(x) > 3000
    # The mesh is straight between grid points: it may miss the curve by curvature · step² / 8 along each axis.
    step = 1 / 128
    assert float((z - truth).abs().max()) < 0.2 * (36 + 25) * step**2 / 8 * 1.5 + 1e-5


def world_points(depth: torch.Tensor, K: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """(b, h, w, 3) in float64."""
    y, x = torch.meshgrid(torch.arange(SIZE[1]), torch.arange(SIZE[0]), indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1).double() @ torch.linalg.inv(K.double()).mT[:, None]
    inverse = invert_rigid(pose.double())[:, None]
    return (rays * depth[..., None]) @ inverse[..., :3].mT + inverse[..., 3][:, :, None]


def test_views_agree_on_depth_colour_and_what_hides_what(world: World, poses: torch.Tensor) -> None:
    K = cameras(2)
    seen = render(world, K, poses[:2], SIZE)
    points = world_points(seen.depth, K, poses[:2])[0][seen.valid[0]]
    at1 = points @ poses[1, :, :3].double().T + poses[1, :, 3].double()
    # A camera of one pixel per point: its depth is exact where the point is, not in the middle of a nearby pixel.
    pixel = at1 @ K[1].double().T
    pixel = pixel[:, :2] / pixel[:, 2:]
    inside = ((pixel >= 0) & (pixel <= torch.tensor(SIZE) - 1)).all(1) & (at1[:, 2] > 0)
    chosen = inside.nonzero()[::97, 0]
    moved = K[:1].repeat(len(chosen), 1, 1).double()
    moved[:, :2, 2] -= pixel[chosen]
    depth1 = render(world, moved.float(), poses[1:2].expand(len(chosen), -1, -1), (1, 1), supersampling=1).depth
    ratio = depth1[:, 0, 0].double() / at1[chosen, 2]
    visible = (ratio - 1).abs() < 1e-3
    assert len(chosen) > 70
    assert float(visible.double().mean()) > 0.7
    assert bool((ratio[~visible] < 1).all()), "what is not visible is hidden by something nearer"
    assert float((ratio[visible] - 1).abs().median()) < 2e-6
    # Away from edges the colours of both views are those of the same texel.
    colour0 = seen.rgb[0][seen.valid[0]][chosen][visible].double()
    place = pixel[chosen][visible].float().numpy()
    colour1 = cv2.remap(seen.rgb[1].numpy(), place[:, None, :1], place[:, None, 1:], cv2.INTER_LINEAR)[:, 0]
    difference = (colour0 - torch.from_numpy(colour1).double()).abs().mean(1)
    assert float(difference.median()) < 12
    assert float(difference.median()) < 0.4 * float((colour0 - colour0.roll(40, 0)).abs().mean(1).median())


def test_a_batch_is_its_cameras_and_chunks_change_nothing(world: World, poses: torch.Tensor) -> None:
    together = render(world, cameras(3), poses, SIZE, chunk=2**24)
    for number in range(3):
        alone = render(world, cameras(1), poses[number : number + 1], SIZE, chunk=2**12)
        assert torch.equal(alone.rgb[0], together.rgb[number])
        assert torch.equal(alone.depth[0], together.depth[number])
    again = render(world, cameras(3), poses, SIZE, chunk=2**24)
    assert torch.equal(again.rgb, together.rgb)


def test_supersampling_changes_colours_a_little_and_depth_never(world: World, poses: torch.Tensor) -> None:
    once, twice = (render(world, cameras(1), poses[:1], SIZE, supersampling=s) for s in (1, 2))
    assert torch.equal(once.depth, twice.depth)
    assert 0 < float((once.rgb.float() - twice.rgb.float()).abs().mean()) < 15


def test_exposure_scales_each_view(world: World, poses: torch.Tensor) -> None:
    K, pose = cameras(2), poses[:1].expand(2, -1, -1)
    normal, dark = render(world, K, pose, SIZE, exposure=torch.tensor([1.0, 0.5])).rgb.float()
    torch.testing.assert_close(dark, normal / 2, atol=1, rtol=0)


def test_the_sky_goes_from_the_horizon_s_colour_to_the_zenith_s(world: World) -> None:
    coloured = replace(world, sky=((200.0, 100.0, 0.0), (0.0, 100.0, 200.0)))
    eye = torch.tensor([0.0, 0.0, 50.0])
    # Almost flat, above the horizon, and almost straight up.
    poses = torch.stack([look_at(eye, eye + torch.tensor([1.0, 0, rise])) for rise in (0.001, 1e3)])
    middle = render(coloured, cameras(2), poses, SIZE).rgb[:, 44, 59].tolist()
    assert middle[0] == pytest.approx([200, 100, 0], abs=2)
    assert middle[1] == pytest.approx([0, 100, 200], abs=2)


def test_neighbouring_triangles_leave_no_holes(world: World) -> None:
    down = look_at(torch.tensor([[0.1, 0.2, 6.0]]), torch.tensor([[0.0, 0, 0]]), (0.0, 1.0, 0.0))
    assert bool(render(world, cameras(1), down, SIZE, supersampling=1).valid.all())


def test_no_cameras_give_no_pictures(world: World) -> None:
    seen = render(world, torch.zeros(0, 3, 3), torch.zeros(0, 3, 4), SIZE)
    assert seen.rgb.shape == (0, 90, 120, 3)
    assert seen.rgb.dtype == torch.uint8


def test_relative_poses_come_from_the_given_ones(poses: torch.Tensor) -> None:
    # 24 cameras on a ring: neighbours turn by 15 degrees, give or take the jitter.
    relative = compose_rigid(poses[1].double(), invert_rigid(poses[0].double()))
    angle = torch.rad2deg(torch.arccos((relative[:, :3].trace() - 1) / 2))
    assert 10 < float(angle) < 20


def test_bad_input_is_refused(world: World, poses: torch.Tensor) -> None:
    with pytest.raises(InvalidValueError, match=r"add a batch dimension"):
        render(world, cameras(1)[0], poses[0], SIZE)
    with pytest.raises(InvalidValueError, match="cam_from_world"):
        render(world, cameras(2), poses, SIZE)
    with pytest.raises(InvalidValueError, match="supersampling"):
        render(world, cameras(3), poses, SIZE, supersampling=0)
    with pytest.raises(InvalidValueError, match="exposure"):
        render(world, cameras(3), poses, SIZE, exposure=torch.ones(2))
