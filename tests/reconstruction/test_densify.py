"""A dense cloud against the truth: of the procedural world from end to end, and each step on planes known exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image as PillowImage

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import invert_rigid, scale_intrinsics, transform_points
from lightmatch.geometry.depth import project, sample_depth, unproject
from lightmatch.reconstruction.outputs.clouds import DensePoints
from lightmatch.reconstruction.outputs.depth_maps import DepthMapWriter
from lightmatch.reconstruction.outputs.exports import write_splat_folder
from lightmatch.reconstruction.stereo.densify import DensifyOptions, densify
from lightmatch.reconstruction.stereo.depth import depth_map
from lightmatch.reconstruction.stereo.fusion import agreed_points, merge
from lightmatch.reconstruction.stereo.views import (
    StereoImage,
    StereoImages,
    StereoView,
    dense_views,
    neighbor_weights,
    rays,
    scaled,
)
from lightmatch.runtime.threads import num_threads, use_threads
from lightmatch.scenes import RenderedScene, WorldConfig, build_world, camera_ring, pinhole, render
from lightmatch.training.posed_scenes import read_depth, read_scene

NUM_VIEWS = 4
SIZE = (240, 180)
LONG_SIDE, SMALL = 160, 100  # px that are worked on
BEND = 0.08  # of the lens, k1


class World:
    """The first views of the procedural world as photos of a lens that bends, and their true model."""

    def __init__(self, scene: RenderedScene, folder: Path) -> None:
        self.scene, self.images = scene, folder / "images"
        self.images.mkdir()
        height, width = scene.depth.shape[1:]
        K = scene.K[0].double().numpy()
        params = [K[0, 0], K[0, 2] + 0.5, K[1, 2] + 0.5, BEND]
        self.camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=width, height=height, params=params, camera_id=1)
        y, x = np.mgrid[:height, :width] + 0.5
        rays = np.asarray(self.camera.cam_from_img(np.stack((x, y), -1).reshape(-1, 2)))
        places = (rays * K[0, 0] + K[:2, 2]).reshape(height, width, 2).astype(np.float32)
        for number in range(NUM_VIEWS):
            rgb = cv2.remap(scene.rgb[number].numpy(), places[..., 0], places[..., 1], cv2.INTER_CUBIC)
            PillowImage.fromarray(rgb).save(self.images / f"{number}.png")

    def model(self, numbers: range = range(NUM_VIEWS), points: int = 200) -> pycolmap.Reconstruction:
        """Views with their true poses, and points of the true surface that see each other."""
        scene, model = self.scene, pycolmap.Reconstruction()
        model.add_camera_with_trivial_rig(self.camera)
        for number in numbers:
            pose = scene.cam_from_world[number].double().numpy()
            image = pycolmap.Image(name=f"{number}.png", camera_id=1, image_id=number + 1)
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        pixels = torch.rand(points, 2, generator=torch.Generator().manual_seed(0)).double()
        pixels = pixels * torch.tensor([self.camera.width - 1, self.camera.height - 1])
        depth, known = sample_depth(scene.depth[1].double(), pixels)
        local = unproject(pixels, depth, scene.K[1].double())[known]
        world = transform_points(invert_rigid(scene.cam_from_world[1].double()), local)
        ids = [model.add_point3D(point.numpy(), pycolmap.Track(), np.zeros(3, np.uint8)) for point in world]
        for number in numbers:
            places, z = self.seen(world, number)
            surface, known = sample_depth(scene.depth[number].double(), places)
            visible = (known & ((surface - z).abs() < 0.02 * z)).nonzero()[:, 0].tolist()
            model.image(number + 1).points2D = pycolmap.Point2DList(
                [pycolmap.Point2D(places[row].numpy()) for row in visible]
            )
            for place, row in enumerate(visible):
                model.add_observation(ids[row], pycolmap.TrackElement(number + 1, place))
        return model

    def errors(self, cloud: DensePoints) -> torch.Tensor:
        """How far each point is from the surface in the view where it is nearest, in parts of its distance."""
        points, least = torch.from_numpy(cloud.points).double(), torch.full((len(cloud),), torch.inf)
        for number in range(NUM_VIEWS):
            places, z = self.seen(points, number)
            surface, known = sample_depth(self.scene.depth[number].double(), places)
            least = torch.where(known, torch.minimum(least, ((z - surface).abs() / z).float()), least)
        return least

    def seen(self, points: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels of the pinhole picture, far outside where not in front, and depth."""
        places, z = project(
            transform_points(self.scene.cam_from_world[number].double(), points), self.scene.K[number].double()
        )
        return torch.where(places.isfinite(), places, -9.0), z


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A plaza with few textures, which take most of the time, from neighbours of a ring of 20."""
    generator = torch.Generator().manual_seed(0)
    plaza = build_world(generator, WorldConfig(num_textures=3, texture_size=512))
    poses = camera_ring((0.0, 0.0, 0.5), 6.4, 2.8, 20, 0.03, generator)[:NUM_VIEWS]
    K = pinhole(65.0, SIZE).expand(NUM_VIEWS, 3, 3).contiguous()
    seen = render(plaza, K, poses, SIZE)
    return World(RenderedScene(plaza, K, poses, seen.rgb, seen.depth), tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def cloud(world: World) -> DensePoints:
    steps: list[int] = []
    made = densify(
        world.model(), world.images, None, DensifyOptions(long_side=LONG_SIDE), progress=lambda: steps.append(1)
    )
    assert len(steps) == 2 * NUM_VIEWS
    return made


def test_many_points_on_the_true_surface(world: World, cloud: DensePoints) -> None:
    errors = world.errors(cloud)
    assert len(cloud) > 0.45 * LONG_SIDE * (LONG_SIDE * SIZE[1] // SIZE[0])  # pixels of one photo
    # At 190 px of focal length and 18° between the views, 0.3 % of the distance is a fifth of a pixel.
    assert errors.median() < 0.004 and errors.quantile(0.95) < 0.02, (errors.median(), errors.quantile(0.95))
    assert (cloud.num_views >= 3).all() and (cloud.num_views <= NUM_VIEWS).all()


def test_colours_are_those_of_the_photos(world: World, cloud: DensePoints) -> None:
    places, _ = world.seen(torch.from_numpy(cloud.points).double(), 1)
    inside = ((places > 20) & (places < torch.tensor(SIZE) - 21)).all(1).numpy()
    x, y = places[inside].round().long().T.numpy()
    smooth = cv2.GaussianBlur(world.scene.rgb[1].numpy(), (0, 0), 1.5)
    difference = np.abs(smooth[y, x].astype(int) - cloud.colors[inside])
    assert np.median(difference) < 12


def test_normals_have_unit_length_and_the_ground_looks_up(world: World, cloud: DensePoints) -> None:
    length = np.linalg.norm(cloud.normals, axis=1)
    assert ((np.abs(length - 1) < 1e-3) | (length == 0)).all() and (length > 0).mean() > 0.95
    ground = np.abs(cloud.points[:, 2] - np.median(cloud.points[cloud.points[:, 2] < 0.1, 2])) < 0.02
    assert ground.sum() > 500 and np.median(cloud.normals[ground, 2]) > 0.93


def test_depth_maps_fit_the_pictures_of_the_splat_folder(world: World, tmp_path: Path) -> None:
    model = world.model()
    cloud = densify(
        model,
        world.images,
        None,
        DensifyOptions(long_side=LONG_SIDE),
        on_depth=DepthMapWriter(model, tmp_path / "maps"),
    )
    write_splat_folder(model, world.images, None, tmp_path / "splat", cloud=cloud, depth_maps=tmp_path / "maps")
    scene = read_scene(tmp_path / "splat")
    assert len(scene.photos) == NUM_VIEWS and not (tmp_path / "maps").exists()
    for number, photo in enumerate(scene.photos):
        assert photo.depth is not None and photo.size is not None
        found = read_depth(photo.depth)
        size = found.shape[1], found.shape[0]
        assert abs(size[0] / size[1] - photo.size[0] / photo.size[1]) < 0.02
        y, x = (found > 0).nonzero(as_tuple=True)
        assert len(x) > 0.2 * found.numel()
        # The same ray in the render, which is of a pinhole camera too.
        K, own = world.scene.K[number].double(), scale_intrinsics(photo.K, photo.size, size)
        pixels = (torch.stack((x, y), 1) - own[:2, 2]) / own.diagonal()[:2] * K.diagonal()[:2] + K[:2, 2]
        truth, known = sample_depth(world.scene.depth[number].double(), pixels)
        error = (found[y, x].double() / truth - 1).abs()[known]
        assert float(error.median()) < 0.01


def same(a: DensePoints, b: DensePoints) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("points", "colors", "normals", "num_views")
    )


def test_the_same_bits_again_on_any_number_of_threads(world: World) -> None:
    before = num_threads()
    try:
        use_threads(2)
        again = densify(world.model(), world.images, None, DensifyOptions(long_side=SMALL))
        use_threads(1)
        assert (
            same(densify(world.model(), world.images, None, DensifyOptions(long_side=SMALL)), again)
            and len(again) > 1000
        )
    finally:
        use_threads(before)


def test_depth_maps_of_a_run_that_was_stopped_are_taken(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, done = DensifyOptions(long_side=SMALL), 0

    def stop() -> None:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt

    before = num_threads()
    use_threads(1)
    try:
        with pytest.raises(KeyboardInterrupt):
            densify(world.model(), world.images, None, options, maps=tmp_path, progress=stop)
        left = len(list(tmp_path.glob("*.npy")))
        assert 2 <= left < NUM_VIEWS
        made = []
        whole = "lightmatch.reconstruction.stereo.densify.depth_map"
        monkeypatch.setattr(whole, lambda *arguments: made.append(1) or depth_map(*arguments))
        again = densify(world.model(), world.images, None, options, maps=tmp_path)
        assert len(made) == NUM_VIEWS - left
        assert same(again, densify(world.model(), world.images, None, options))
    finally:
        use_threads(before)


def test_a_choice_at_random_beyond_max_points(world: World) -> None:
    few = [
        densify(world.model(points=60), world.images, None, DensifyOptions(long_side=64, max_points=500, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert [len(made) for made in few] == [500] * 3
    assert same(few[0], few[1]) and not same(few[0], few[2])


def test_masked_pixels_give_no_points(world: World, cloud: DensePoints, tmp_path: Path) -> None:
    """The right half of every photo is masked: each point is seen in the left half by the three views it needs."""
    height, width = world.camera.height, world.camera.width
    mask = np.full((height, width), 255, np.uint8)
    mask[:, width // 2 :] = 0
    for number in range(NUM_VIEWS):
        PillowImage.fromarray(mask).save(tmp_path / f"{number}.png.png")

    def left_views(made: DensePoints) -> torch.Tensor:
        places = [world.seen(torch.from_numpy(made.points).double(), number)[0] for number in range(NUM_VIEWS)]
        return torch.stack([(x > -0.5) & (x < width / 2 - 1) for x in (place[:, 0] for place in places)]).sum(0)

    masked = densify(world.model(), world.images, tmp_path, DensifyOptions(long_side=SMALL))
    assert len(masked) > 500
    assert (left_views(masked) >= 3).double().mean() > 0.999 and (left_views(cloud) >= 3).double().mean() < 0.8


def test_one_photo_has_no_depth(world: World) -> None:
    assert len(densify(world.model(range(1)), world.images, None, DensifyOptions(long_side=LONG_SIDE))) == 0
    assert len(densify(world.model(points=0), world.images, None, DensifyOptions(long_side=LONG_SIDE))) == 0


def test_two_photos_are_enough_where_there_are_no_more(world: World) -> None:
    pair = densify(world.model(range(2)), world.images, None, DensifyOptions(long_side=SMALL))
    assert len(pair) > 500 and (pair.num_views == 2).all()
    assert world.errors(pair).median() < 0.015


@pytest.mark.parametrize(
    ("options", "words"), [({"max_points": 0}, "max_points: expected"), ({"long_side": 20}, "at least 64 px")]
)
def test_bad_options(world: World, options: dict[str, int], words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        densify(world.model(range(1)), world.images, None, DensifyOptions(**options))


def test_neighbors_see_the_same_from_another_side(world: World) -> None:
    model = world.model()
    pictures = StereoImages(model, world.images, None, LONG_SIDE, keep=2)
    views = dense_views(model, pictures, num_neighbors=2)
    assert [view.name for view in views] == [f"{number}.png" for number in range(NUM_VIEWS)]
    # On a ring with 18° between views the nearest look most alike: the two beside, or the next two at the ends.
    assert [set(view.neighbors) for view in views] == [{1, 2}, {0, 2}, {1, 3}, {1, 2}]
    for view in views:
        low, high = view.inverse_depths
        depths = [(model.point3D(p.point3D_id).xyz - view.center) @ view.rotation[2] for p in seen_in(model, view.name)]
        assert 0 < low < 1 / max(depths) and high > 1 / min(depths)


def test_a_neighbor_stands_at_a_good_angle_and_a_like_distance() -> None:
    """One point seen from the origin 10 away, and from places at 0.5°, 8° and 40° beside, and 8° at half and twice."""
    turns, lengths = np.deg2rad([0, 0.5, 8, 40, 8, 8]), np.array([10, 10, 10, 10, 5, 20])
    point = np.array([0.0, 0, 10])
    centers = point - lengths[:, None] * np.stack((np.sin(turns), 0 * turns, np.cos(turns)), 1)
    weights = neighbor_weights(np.tile(point, (5, 1)), np.arange(1, 6), 0, centers, np.full(6, 100.0))
    assert weights[1] == pytest.approx(1) and weights[3:] == pytest.approx([0.5, 0.5])
    assert weights[0] < 0.25 and weights[2] < 0.01


def seen_in(model: pycolmap.Reconstruction, name: str) -> list[pycolmap.Point2D]:
    image = model.find_image_with_name(name)
    assert image is not None
    return list(image.get_observation_points2D())


def test_views_without_points_are_left_out_and_the_others_renumbered(world: World) -> None:
    model = world.model()
    for point in seen_in(model, "0.png"):
        model.delete_point3D(point.point3D_id)
    views = dense_views(model, StereoImages(model, world.images, None, LONG_SIDE, keep=2), num_neighbors=5)
    assert "0.png" not in [view.name for view in views]
    assert all(number not in view.neighbors and max(view.neighbors) < len(views) for number, view in enumerate(views))


def plane_view(center: tuple[float, float, float], size: tuple[int, int] = (120, 90), tilt: float = 0.0) -> StereoView:
    """A camera that looks along z, turned by `tilt` about y."""
    K = np.array([[110.0, 0, 60], [0, 108, 44], [0, 0, 1]])
    rotation = cv2.Rodrigues(np.array([0, tilt, 0]))[0]
    return StereoView("v", size, K, rotation, np.array(center), (1 / 8, 1 / 3), ())


NORMAL, OFFSET = np.array([0.35, 0.2, 1.0]), 5.0  # the plane: NORMAL · X = OFFSET


def plane_depth(view: StereoView) -> np.ndarray:
    """The true depth of each pixel, (h, w)."""
    directions = np.einsum("chw,cd->hwd", rays(view.K, view.size), view.rotation)
    return (OFFSET - NORMAL @ view.center) / (directions @ NORMAL)


def plane_picture(view: StereoView, texture: np.ndarray) -> StereoImage:
    """The plane with a texture in its x and y, 40 texels to the unit."""
    directions = np.einsum("chw,cd->hwd", rays(view.K, view.size), view.rotation)
    points = view.center + directions * plane_depth(view)[..., None]
    x, y = (points[..., axis].astype(np.float32) * 40 + 400 for axis in (0, 1))
    grey = cv2.remap(texture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return StereoImage(np.repeat(grey[..., None], 3, 2), None)


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(800, 800)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(127 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


EYES = [(0.0, 0.0, 0.0), (0.6, 0.0, 0.0), (-0.5, 0.2, 0.1), (0.0, -0.5, 0.0)]


@pytest.mark.parametrize("masked", [False, True])
def test_a_slanted_plane_is_found_to_a_fraction_of_a_pixel(texture: np.ndarray, masked: bool) -> None:
    views = [plane_view(eye, tilt=0.02 * number) for number, eye in enumerate(EYES)]
    pictures = [plane_picture(view, texture) for view in views]
    if masked:  # the first neighbour shows something else, and says so
        wrong = np.full_like(pictures[1].rgb, 90)
        wrong[::3] = 200
        pictures[1] = StereoImage(wrong, np.zeros(wrong.shape[:2], bool))
    found = depth_map(views[0], pictures[0], list(zip(views[1:], pictures[1:], strict=True)))
    error_px = np.abs(found.inverse_depth - 1 / plane_depth(views[0])) * 110 * 0.6
    inner = error_px[12:-12, 12:-12]
    assert np.median(inner) < (0.12 if masked else 0.06) and np.quantile(inner, 0.95) < 0.4
    assert np.median(found.score) > 0.9


def test_what_has_no_texture_has_no_depth(texture: np.ndarray) -> None:
    views = [plane_view(eye) for eye in EYES]
    flat = StereoImage(np.full((90, 120, 3), 128, np.uint8), None)
    assert not depth_map(views[0], flat, [(view, flat) for view in views[1:]]).inverse_depth.any()


def test_where_the_texture_hardly_tells_the_depth_a_smooth_surface_is_found(texture: np.ndarray) -> None:
    """A band of stripes along the baseline between two noisy views: patch by patch a quarter is off by over 2 px."""
    band = np.abs(np.arange(800) - 400) < 40
    striped = np.where(band, texture[:, :1], texture)
    views = [plane_view(eye) for eye in EYES[:2]]
    random = np.random.default_rng(1)
    pictures = []
    for view in views:
        rgb = plane_picture(view, striped).rgb
        pictures.append(StereoImage(np.clip(rgb + random.normal(0, 10, rgb.shape), 0, 255).astype(np.uint8), None))
    found = depth_map(views[0], pictures[0], [(views[1], pictures[1])])
    error_px = np.abs(found.inverse_depth - 1 / plane_depth(views[0])) * 110 * 0.6
    inside = error_px[20:-20, 50:70]
    assert np.mean(inside > 2) < 0.1 and np.mean(inside > 3) < 0.03


def plane_maps(wrong: tuple[int, ...] = (), factor: float = 1.03) -> list[tuple[StereoView, np.ndarray]]:
    """Views of the plane with their true inverse depths, but those of the views `wrong`."""
    views = [plane_view(eye) for eye in EYES]
    maps = [(1 / plane_depth(view)).astype(np.float32) for view in views]
    return [
        (view, w * np.float32(factor if n in wrong else 1)) for n, (view, w) in enumerate(zip(views, maps, strict=True))
    ]


def test_views_that_agree_make_a_point() -> None:
    (view, w), *others = plane_maps()
    found = agreed_points(view, w, others, least=2)
    assert len(found.points) > 0.9 * w.size
    np.testing.assert_allclose(found.points @ NORMAL, OFFSET, atol=1e-4)
    expected = -NORMAL / np.linalg.norm(NORMAL)  # towards the camera
    inner = np.isin(found.pixels, np.arange(w.size).reshape(w.shape)[4:-4, 4:-4])
    np.testing.assert_allclose(found.normals[inner], np.broadcast_to(expected, (inner.sum(), 3)), atol=0.02)
    np.testing.assert_allclose(found.footprint, (1 / w).reshape(-1)[found.pixels] / 110, rtol=1e-5)
    assert found.num_views.max() == 4


@pytest.mark.parametrize(("wrong", "least", "any_left"), [((1,), 2, True), ((1, 2), 2, False), ((0,), 1, False)])
def test_views_that_disagree_do_not(wrong: tuple[int, ...], least: int, any_left: bool) -> None:
    (view, w), *others = plane_maps(wrong)
    found = agreed_points(view, w, others, least)
    assert (len(found.points) > 0) == any_left
    if any_left:
        assert found.num_views.max() == 3
        np.testing.assert_allclose(found.points @ NORMAL, OFFSET, atol=1e-4)


def test_an_unknown_pixel_confirms_nothing_and_a_narrow_angle_is_not_enough() -> None:
    (view, w), *others = plane_maps()
    hole = [(other, np.where(np.arange(120) < 60, there, 0).astype(np.float32)) for other, there in others]
    assert 0 < len(agreed_points(view, w, hole, least=3).points) < 0.6 * w.size
    beside = plane_view((0.05, 0.0, 0.0))  # 0.05 beside at 5 away: 0.6°
    narrow = [(beside, (1 / plane_depth(beside)).astype(np.float32))]
    assert len(agreed_points(view, w, narrow, least=1).points) == 0


def some_points(points: list[list[float]], **columns: np.ndarray) -> DensePoints:
    count = len(points)
    base = {
        "colors": np.zeros((count, 3), np.uint8),
        "normals": np.tile(np.array([0, 0, 1], np.float32), (count, 1)),
        "num_views": np.full(count, 3, np.int32),
    }
    return DensePoints(np.array(points, np.float32), **(base | columns))


def test_one_point_for_each_cube() -> None:
    colors = np.array([[10, 0, 0], [21, 0, 0], [90, 0, 0]], np.uint8)
    cloud = some_points([[0.1, 0.1, 0.1], [0.2, 0.3, 0.1], [-0.1, 0.1, 0.1]], colors=colors)
    merged, footprint = merge(cloud, np.array([0.4, 0.3, 0.5], np.float32))  # cubes of ½
    np.testing.assert_allclose(merged.points, [[-0.1, 0.1, 0.1], [0.15, 0.2, 0.1]], atol=1e-7)
    assert merged.colors[:, 0].tolist() == [90, 16] and footprint.tolist() == pytest.approx([0.5, 0.35])
    # A point seen from afar does not blur those seen from near.
    apart, _ = merge(cloud, np.array([0.4, 0.01, 0.5], np.float32))
    assert len(apart) == 3 and apart.points[0].tolist() == pytest.approx([0.2, 0.3, 0.1])


def test_opposite_normals_cancel_and_far_worlds_fit() -> None:
    normals = np.array([[0, 0, 1], [0, 0, -1]], np.float32)
    merged, _ = merge(some_points([[0, 0, 0], [0, 0, 0]], normals=normals), np.ones(2, np.float32))
    assert merged.normals.tolist() == [[0, 0, 0]]
    wide, _ = merge(some_points([[0, 0, 0], [4e7, 3e7, 5e7], [0, 0, 0]]), np.full(3, 1e-6, np.float32))
    assert len(wide) == 2


def test_intrinsics_follow_the_size() -> None:
    K = np.array([[100.0, 0, 49.5], [0, 100, 29.5], [0, 0, 1]])
    half = scaled(K, (100, 60), (50, 30))
    np.testing.assert_allclose(half, [[50, 0, 24.5], [0, 50, 14.5], [0, 0, 1]])
    middle: Callable[[np.ndarray], np.ndarray] = lambda grid: grid[:2, 15, 25]  # noqa: E731
    np.testing.assert_allclose(middle(rays(half, (50, 30))), [0.01, 0.01])
