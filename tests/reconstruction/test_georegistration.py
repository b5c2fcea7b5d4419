"""Up, north and metres: from how cameras are held, from the ground, and from GPS with its noise and outliers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightmatch.colmap.models import ModelArrays
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.reconstruction.georegistration.frame import apply_georegistration, find_georegistration, georegister
from lightmatch.reconstruction.georegistration.gps import (
    GpsPosition,
    enu_from_geodetic,
    gps_origin,
    local_metres,
)
from lightmatch.reconstruction.georegistration.upright import find_up, upright_rotation
from lightmatch.scenes import camera_ring, look_at

PARIS = GpsPosition(48.8584, 2.2945, 35.0)
METRES_PER_DEGREE = 111_200.0


def rotation_about(degrees: float, axis: int) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def a_scene(rng: np.random.Generator, size: float) -> np.ndarray:
    """Points of a ground and of things that stand on it."""
    ground = rng.uniform(-size, size, (400, 3)) * [1, 1, 0.002]
    things = rng.uniform(-0.5, 0.5, (600, 3)) * size * [1, 1, 0.5] + [0, 0, 0.25 * size]
    return np.concatenate([ground, things])


def model_of(poses: torch.Tensor, points: np.ndarray, *, roll_deg: float = 0.0, seed: int = 0) -> ModelArrays:
    """A model of cameras (n, 3, 4), each rolled by chance, in the true world: metres, z up."""
    rng = np.random.default_rng(seed)
    poses = poses.double()
    rolls = np.stack([rotation_about(angle, 2) for angle in rng.normal(0, roll_deg, len(poses))])
    return ModelArrays(
        [f"{n:03}.jpg" for n in range(len(poses))],
        invert_rigid(poses)[:, :, 3].numpy(),
        rolls @ poses[:, :, :3].numpy(),
        points,
        np.zeros((len(points), 3), np.uint8),
    )


def ring(
    num: int = 16, radius: float = 20.0, arc_deg: float = 360.0, roll_deg: float = 1.5, seed: int = 0
) -> ModelArrays:
    generator = torch.Generator().manual_seed(seed)
    poses = camera_ring((0.0, 0.0, 0.0), radius, 0.3 * radius, num, 0.03, generator, arc_deg=arc_deg)
    return model_of(poses, a_scene(np.random.default_rng(seed), radius), roll_deg=roll_deg, seed=seed)


def line(num: int = 20, length: float = 150.0, roll_deg: float = 1.0, seed: int = 0) -> ModelArrays:
    """Cameras along a street, all looking down it: their x axes are parallel, their positions on one line."""
    rng = np.random.default_rng(seed)
    along = torch.from_numpy(np.linspace(0, length, num))
    eyes = torch.stack([0 * along, along, 1.6 + 0 * along], 1) + torch.from_numpy(rng.normal(0, 0.3, (num, 3)))
    aims = eyes + torch.from_numpy(rng.normal(0, 0.05, (num, 3))) + torch.tensor([0.0, 1.0, 0.0])
    points = rng.uniform([-8, 0, 0], [8, length, 12], (500, 3))
    points[:, 0] = np.where(points[:, 0] > 0, 8, -8)  # house fronts
    return model_of(look_at(eyes, aims), points, roll_deg=roll_deg, seed=seed)


def lost(model: ModelArrays, seed: int = 1) -> ModelArrays:
    """The same model as a mapper gives it: with arbitrary scale, rotation and translation."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    shift, scale = rng.normal(0, 5, 3), math.exp(rng.normal())
    return model._replace(
        centers=scale * model.centers @ rotation.T + shift,
        points=scale * model.points @ rotation.T + shift,
        rotations=model.rotations @ rotation.T,
    )


def up_error_deg(rotation: np.ndarray, found: ModelArrays, true: ModelArrays) -> float:
    """Angle between z after `rotation` and the true up, seen from the first camera."""
    true_up_in_camera = true.rotations[0, :, 2]
    up_in_camera = found.rotations[0] @ rotation[2]
    return math.degrees(math.acos(min(1.0, float(true_up_in_camera @ up_in_camera))))


def gps_of(
    model: ModelArrays, noise_m: float, *, seed: int = 0, altitude: bool = True, outliers: int = 0
) -> dict[str, GpsPosition]:
    """What receivers near Paris tell of the true world's cameras; the last ones are far off."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, noise_m, model.centers.shape) * [1, 1, 2]
    noise[len(noise) - outliers :, :2] += rng.choice([-1, 1], (outliers, 2)) * 150.0
    east, north, height = (model.centers + noise).T
    latitude = PARIS.latitude_deg + north / METRES_PER_DEGREE
    longitude = PARIS.longitude_deg + east / (111_320.0 * math.cos(math.radians(PARIS.latitude_deg)))
    return {
        name: GpsPosition(float(lat), float(lon), 35.0 + float(h) if altitude else None)
        for name, lat, lon, h in zip(model.names, latitude, longitude, height, strict=True)
    }


def scale_error(found: np.ndarray, true: np.ndarray) -> float:
    """Relative error of the distances between cameras."""
    sizes = [np.linalg.norm(centers - centers.mean(0), axis=1).sum() for centers in (found, true)]
    return abs(float(sizes[0] / sizes[1]) - 1)


def test_ecef_agrees_with_colmap() -> None:
    import pycolmap

    places = np.array([[55.7, 13.2, 37.0], [-33.9, 151.2, 100.0], [0.0, 180.0, 0.0], [89.0, -20.0, 5000.0]])
    colmaps = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    near = places + np.array([0.001, 0.002, 10.0])
    for place, other in zip(places, near, strict=True):
        local = enu_from_geodetic(other[None], GpsPosition(*place))
        np.testing.assert_allclose(local, colmaps.ellipsoid_to_enu(other[None], *place), atol=1e-6)
    at_equator = enu_from_geodetic(np.array([[0.0, 1e-5, 2.0]]), GpsPosition(0.0, 0.0, 0.0))
    np.testing.assert_allclose(at_equator, [[6378137.0 * math.radians(1e-5), 0, 2]], atol=1e-4)


def test_the_origin_is_the_middle_even_across_the_date_line() -> None:
    places = {"a": GpsPosition(-17.0, 179.9999), "b": GpsPosition(-17.0, -179.9999), "c": GpsPosition(-17.0, -179.9998)}
    origin = gps_origin(places)
    assert abs(abs(origin.longitude_deg) - 180) < 2e-4 and origin.altitude_m is None
    local = local_metres(places, origin)
    assert max(abs(local[name][0]) for name in places) < 50 and np.isnan(local["a"][2])
    with pytest.raises(InvalidValueError, match="GPS of x: expected a latitude within"):
        gps_origin({"x": GpsPosition(91.0, 0.0)})


@pytest.mark.parametrize("seed", range(4))
def test_up_from_level_cameras_and_ground(seed: int) -> None:
    true = ring(seed=seed, roll_deg=1.0)
    model = lost(true, seed)
    frame = find_georegistration(model)
    assert frame.upright and not frame.metric
    assert up_error_deg(frame.rotation, model, true) < 1.0
    centers = frame.apply(model.centers)
    assert np.linalg.norm(centers - np.median(centers, 0), axis=1).mean() == pytest.approx(1)
    np.testing.assert_allclose(np.median(centers, 0), 0, atol=1e-9)
    looks = (model.rotations[0] @ frame.rotation.T)[2]
    assert looks[0] == pytest.approx(0, abs=1e-9) and looks[1] > 0  # the first photo looks along y


def test_some_cameras_in_portrait_orientation_do_not_matter() -> None:
    true = ring()
    rotations = true.rotations.copy()
    rotations[:5] = rotation_about(90, 2) @ rotations[:5]
    rotations[5] = rotation_about(180, 2) @ rotations[5]
    true = true._replace(rotations=rotations)
    up = find_up(true.rotations, true.centers, true.points)
    assert up.trustworthy and up.level_share == pytest.approx(10 / 16)
    assert math.degrees(math.acos(up.direction[2])) < 2


@pytest.mark.parametrize("quarter", [90.0, -90.0])
def test_cameras_all_in_portrait_orientation(quarter: float) -> None:
    true = ring(18)
    rotation = rotation_about(quarter, 2)
    up = find_up(rotation @ true.rotations, true.centers, np.zeros((0, 3)))
    level = find_up(true.rotations, true.centers, np.zeros((0, 3)))
    assert up.direction @ level.direction > np.cos(np.radians(1))
    assert up.trustworthy


def test_cameras_of_any_roll_leave_up_to_the_ground_and_untrusted() -> None:
    rng = np.random.default_rng(3)
    true = ring(num=20)
    rolls = np.stack([rotation_about(angle, 2) for angle in rng.uniform(0, 360, 20)])
    model = lost(true._replace(rotations=rolls @ true.rotations))
    up = find_up(model.rotations, model.centers, model.points)
    assert up.source == "ground" and not up.trustworthy and "not held level" in up.note
    frame = find_georegistration(model)
    assert not frame.upright
    assert up_error_deg(frame.rotation, model, true._replace(rotations=rolls @ true.rotations)) < 3


def test_photos_straight_down() -> None:
    rng = np.random.default_rng(0)
    eyes = torch.from_numpy(np.append(rng.uniform(-30, 30, (12, 2)), np.full((12, 1), 40.0), 1))
    headings = rng.uniform(0, 2 * math.pi, 12)
    ups = torch.from_numpy(np.stack([np.cos(headings), np.sin(headings), 0 * headings], 1))
    down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    poses = torch.stack([look_at(eye, eye + down, up) for eye, up in zip(eyes, ups, strict=True)])
    true = model_of(poses, rng.uniform(-40, 40, (500, 3)) * [1, 1, 0.01])
    frame = find_georegistration(lost(true))
    assert up_error_deg(frame.rotation, lost(true), true) < 1 and frame.upright
    assert frame.apply(lost(true).points)[:, 2].max() < 0  # the ground is below


@pytest.mark.parametrize("num", [1, 2, 3])
def test_few_cameras_are_not_trusted(num: int) -> None:
    true = ring()
    few = true._replace(names=true.names[:num], centers=true.centers[:num], rotations=true.rotations[:num])
    few = few._replace(points=few.points[400:], colors=few.colors[400:])
    frame = find_georegistration(lost(few))
    assert not frame.upright and "too few" in " ".join(frame.notes)
    assert np.isfinite(frame.apply(lost(few).centers)).all()


def test_a_facade_seen_from_one_side_is_not_trusted() -> None:
    true = line(num=8, length=2)
    up = find_up(true.rotations, true.centers, true.points[:30])
    assert not up.trustworthy and up.std_deg > 5 and "face one way" in up.note
    assert math.degrees(math.acos(up.direction[2])) < 15  # still the best guess


def test_measured_gravity_takes_precedence() -> None:
    rng = np.random.default_rng(0)
    rolls = np.stack([rotation_about(angle, 2) for angle in rng.uniform(20, 70, 16)])
    true = ring()
    true = true._replace(rotations=rolls @ true.rotations)
    model = lost(true)
    down = {name: rotation @ [0, 0, -9.8] for name, rotation in zip(true.names, true.rotations, strict=True)}
    down["000.jpg"] = np.array([1.0, 0, 0])  # one photo was shaken
    frame = find_georegistration(model, gravity=down)
    assert frame.upright and frame.up_from == "gravity"
    assert up_error_deg(frame.rotation, model, true) < 1


@pytest.mark.parametrize(("noise_m", "radius"), [(0.02, 4.0), (3.0, 30.0), (5.0, 60.0), (10.0, 150.0)])
@pytest.mark.parametrize("altitude", [True, False])
def test_gps_makes_a_ring_metric(noise_m: float, radius: float, altitude: bool) -> None:
    true = ring(num=24, radius=radius)
    model = lost(true)
    frame = find_georegistration(model, gps_of(true, noise_m, altitude=altitude))
    assert frame.metric and frame.upright
    assert frame.scale_std is not None and frame.heading_std_deg is not None
    placed = frame.apply(model.centers)
    assert scale_error(placed, true.centers) < max(3 * frame.scale_std, 0.005)
    assert up_error_deg(frame.rotation, model, true) < 1.5
    north = frame.rotation @ model.rotations[0].T @ true.rotations[0] @ [0, 1, 0]  # where the true north went
    assert abs(math.degrees(math.atan2(north[0], north[1]))) < max(3 * frame.heading_std_deg, 0.3)
    assert frame.gps_noise_m is not None and frame.gps_noise_m < 2 * noise_m + 2.5


def test_gps_outliers_are_named_and_do_no_harm() -> None:
    true = ring(num=24, radius=40)
    model = lost(true)
    frame = find_georegistration(model, gps_of(true, 3.0, outliers=6))
    assert frame.metric and set(frame.gps_outliers) == set(true.names[-6:])
    assert scale_error(frame.apply(model.centers), true.centers) < 0.06
    assert all(frame.gps_residuals_m[name] > 100 for name in frame.gps_outliers)
    summary = frame.summary()
    assert summary.unit == "m" and summary.metric and summary.gps is not None
    assert summary.gps.median_residual_m < 10 and set(summary.gps.outliers) == set(frame.gps_outliers)
    assert summary.gps.latitude_deg == pytest.approx(PARIS.latitude_deg, abs=1e-3)


def test_positions_on_a_line_leave_the_roll_to_the_cameras_and_take_the_pitch_from_gps() -> None:
    true = line()
    model = lost(true)
    alone = find_georegistration(model)
    assert not alone.upright  # all look one way: they do not say how far up they look
    frame = find_georegistration(model, gps_of(true, 4.0))
    assert frame.metric and frame.upright
    assert up_error_deg(frame.rotation, model, true) < 4
    assert scale_error(frame.apply(model.centers), true.centers) < 0.06


def test_spread_below_the_noise_gives_no_metres() -> None:
    true = ring(num=20, radius=3)
    for seed in range(5):
        frame = find_georegistration(lost(true, seed), gps_of(true, 5.0, seed=seed))
        assert not frame.metric and "not metric" in frame.notes[0]
        assert frame.upright and up_error_deg(frame.rotation, lost(true, seed), true) < 1
    same = dict.fromkeys(true.names, PARIS)
    assert not find_georegistration(lost(true), same).metric


def test_photos_without_gps_are_ignored_and_two_are_too_few() -> None:
    true = ring(num=24, radius=40)
    positions = gps_of(true, 3.0)
    some = {name: positions[name] for name in true.names[::3]} | {"elsewhere.jpg": PARIS}
    frame = find_georegistration(lost(true), some)
    assert frame.metric and set(frame.gps_residuals_m) == set(true.names[::3])
    two = {name: positions[name] for name in true.names[:2]}
    frame = find_georegistration(lost(true), two)
    assert not frame.metric and "at least 3 photos are needed, 2 in this model" in frame.notes[0]


def test_gps_of_another_place_is_refused() -> None:
    true = ring(num=24, radius=40)
    rng = np.random.default_rng(0)
    shuffled = dict(zip(true.names, [gps_of(true, 3.0)[true.names[n]] for n in rng.permutation(24)], strict=True))
    assert not find_georegistration(lost(true), shuffled).metric


def test_the_same_seed_gives_the_same_bits() -> None:
    true = ring(num=60, radius=40)
    positions = gps_of(true, 3.0)
    first, again = (find_georegistration(lost(true), positions, seed=5) for _ in range(2))
    assert first.scale == again.scale and (first.rotation == again.rotation).all()


def test_the_rotation_to_upright_is_the_smallest() -> None:
    for up in ([0, 0, 1], [0, 0, -1], [1, 0, 0], [0.3, -0.4, -0.2]):
        rotation = upright_rotation(np.array(up, float))
        np.testing.assert_allclose(rotation @ up / np.linalg.norm(up), [0, 0, 1], atol=1e-12)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)


def test_colmap_models_are_transformed() -> None:
    import pycolmap

    options = pycolmap.SyntheticDatasetOptions()
    options.num_frames_per_rig, options.num_points3D, options.num_cameras_per_rig = 8, 60, 1
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)
    centers = np.array([model.image(image_id).projection_center() for image_id in model.reg_image_ids()])
    (frame,) = georegister([model])
    moved = np.array([model.image(image_id).projection_center() for image_id in model.reg_image_ids()])
    np.testing.assert_allclose(moved, frame.apply(centers), atol=1e-9)
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 1e-6
    apply_georegistration(model, replace(frame, scale=2.0, rotation=np.eye(3), translation=np.ones(3)))
    again = np.array([model.image(image_id).projection_center() for image_id in model.reg_image_ids()])
    np.testing.assert_allclose(again, 2 * moved + 1, atol=1e-9)
