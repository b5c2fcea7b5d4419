"""A photo against a model: exact where there is no noise, as uncertain as it says where there is, and refused."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from seen_points import Seen, see, verify, write_database

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import rotation_angle_deg
from lightmatch.reconstruction.priors.cameras import CameraPriors, IntrinsicsPrior, enter_intrinsics, map_given_poses
from lightmatch.reconstruction.refinement.adding import add_photo
from lightmatch.scenes import camera_ring, pinhole
from lightmatch.sfm.absolute_pose import MIN_INLIERS, NoPose, PoseOptions
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, adjust
from lightmatch.sfm.placement import PlacedPhoto, find_correspondences, place_photo
from lightmatch.types import Features, Matches

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

SIZE = (320, 240)
K = pinhole(60.0, SIZE).double()
FOCAL = float(K[0, 0])
NAMES = [f"{n}.png" for n in range(5)]
PHOTO, PLACED_IN_MODEL = NAMES[2], [NAMES[0], NAMES[1], NAMES[3], NAMES[4]]
POSES = camera_ring((0, 0, 0), 6.0, 2.0, 5, 0.03, torch.Generator().manual_seed(0), arc_deg=80).double()
POINTS = 1.5 * torch.randn((300, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TRUE = POSES[2].numpy()


class FoundBefore:
    """A matcher that knows the answers."""

    def __init__(self, seen: Seen) -> None:
        self.names = {id(features): name for name, features in seen.features.items()}
        self.matches = {**seen.matches}
        for (name0, name1), found in seen.matches.items():
            flipped = found.indices.flip(1)
            order = flipped[:, 0].argsort()
            self.matches[name1, name0] = Matches(flipped[order], found.scores[order])

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        return [self.matches[self.names[id(first)], self.names[id(second)]] for first, second in pairs]


class Setting(NamedTuple):
    seen: Seen
    model: "Reconstruction"
    database: Path


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Four of five photos with true poses and their points; all five are in the database."""
    folder = tmp_path_factory.mktemp("localization")
    seen = see(NAMES, POSES, K, SIZE, POINTS, noise_px=0.2)
    path = write_database(folder, seen, [[name] for name in NAMES])
    true = IntrinsicsPrior("SIMPLE_PINHOLE", (FOCAL, SIZE[0] / 2, SIZE[1] / 2), SIZE)
    poses = {name: pose.numpy() for name, pose in zip(NAMES, POSES, strict=True) if name != PHOTO}
    known = CameraPriors("test", dict.fromkeys(poses, (true,)), poses)
    enter_intrinsics(path, known)
    verify(path)
    return Setting(seen, map_given_poses(path, folder / "images", known, seed=0), path)


def camera(focal: float = FOCAL, model: str = "SIMPLE_RADIAL") -> "Camera":
    import pycolmap

    return pycolmap.Camera.create_from_model_name(1, model, focal, *SIZE)


def place(
    setting: Setting,
    focal: float = FOCAL,
    *,
    known: bool = False,
    seed: int = 0,
    features: Features | None = None,
    matcher: FoundBefore | None = None,
) -> PlacedPhoto | NoPose:
    return place_photo(
        features or setting.seen.features[PHOTO],
        camera(focal),
        setting.model,
        PLACED_IN_MODEL,
        setting.seen.features,
        matcher or FoundBefore(setting.seen),
        PoseOptions(intrinsics="known" if known else "guess", seed=seed),
    )


def errors(placed: PlacedPhoto | NoPose) -> tuple[float, float]:
    """Of the camera's centre, in parts of its distance of 6.3, and of the rotation in degrees."""
    assert isinstance(placed, PlacedPhoto), placed
    apart = np.linalg.norm(placed.center - (-TRUE[:, :3].T @ TRUE[:, 3]))
    turned = rotation_angle_deg(torch.tensor(placed.cam_from_world[:, :3]), torch.tensor(TRUE[:, :3]))
    return float(apart) / 6.3, float(turned)


def changed(setting: Setting, **new: np.ndarray) -> FoundBefore:
    """A matcher that gives other keypoints of candidates by name: (k,) places in their features."""
    matcher = FoundBefore(setting.seen)
    for name, second in new.items():
        found = matcher.matches[PHOTO, f"{name[1:]}.png"]
        indices = torch.stack((found.indices[:, 0], torch.from_numpy(second)), 1)
        matcher.matches[PHOTO, f"{name[1:]}.png"] = Matches(indices, found.scores)
    return matcher


def test_known_camera(setting: Setting) -> None:
    placed = place(setting, known=True)
    position, rotation_deg = errors(placed)
    assert position < 0.002 and rotation_deg < 0.1
    assert isinstance(placed, PlacedPhoto)
    assert placed.num_inliers > 0.9 * placed.num_correspondences > 80
    assert placed.focal_std_px is None and placed.camera.mean_focal_length() == FOCAL
    np.testing.assert_allclose(
        placed.inlier_pixels, setting.seen.features[PHOTO].keypoints.numpy()[placed.inlier_keypoints]
    )
    for point_id, xy in zip(placed.point_ids.tolist(), placed.inlier_pixels, strict=True):
        local = TRUE[:, :3] @ setting.model.point3D(point_id).xyz + TRUE[:, 3]
        pixel = (K.numpy() @ local)[:2] / local[2]
        assert np.abs(pixel - xy).max() < 4
    assert sorted(placed.inliers_by_candidate) == PLACED_IN_MODEL
    assert max(placed.inliers_by_candidate.values()) <= placed.num_inliers


def place_altered(setting: Setting, matrix: np.ndarray, *, any_camera: bool = True) -> PlacedPhoto | NoPose:
    """The photo, its pixels moved by an affine `matrix` (2, 3)."""
    original = setting.seen.features[PHOTO]
    moved = original.keypoints.double().numpy() @ matrix[:, :2].T + matrix[:, 2]
    features = replace(original, keypoints=torch.from_numpy(moved).float())
    matcher = FoundBefore(setting.seen)
    matcher.names[id(features)] = PHOTO
    return place_photo(
        features,
        camera(),
        setting.model,
        PLACED_IN_MODEL,
        setting.seen.features,
        matcher,
        PoseOptions(any_camera=any_camera),
    )


@pytest.mark.parametrize(
    ("matrix", "shape"),
    [
        ([[1.0, 0, 70], [0, 1, -40]], r"cropped: its principal point lies \(\+(69|70|71), -(39|40|41)\) px"),
        ([[1.0, 0, 0], [0, 0.75, 30]], "stretched: 1.33 times as wide"),
        ([[1.3, 0, -120], [0, 1.0, 60]], r"cropped: .*; stretched: 1.3"),
    ],
)
def test_a_photo_that_was_cropped_or_stretched_is_placed_and_said_to_be(
    setting: Setting, matrix: list[list[float]], shape: str
) -> None:
    placed = place_altered(setting, np.array(matrix))
    position, rotation_deg = errors(placed)
    assert position < 0.02 and rotation_deg < 1
    assert isinstance(placed, PlacedPhoto) and placed.shape is not None and re.match(shape, placed.shape)
    assert 3 * placed.rotation_std_deg > rotation_deg
    blind = place_altered(setting, np.array(matrix), any_camera=False)
    assert isinstance(blind, NoPose) or errors(blind)[1] > 3


def test_a_mirrored_photo_is_refused(setting: Setting) -> None:
    answer = place_altered(setting, np.array([[-1.0, 0, SIZE[0] - 1], [0, 1, 0]]))
    assert isinstance(answer, NoPose) and answer.reason == "mirrored" and "mirror it back" in answer.sentence


def test_an_ordinary_photo_is_placed_as_ever(setting: Setting) -> None:
    placed, as_ever = place_altered(setting, np.eye(2, 3)), place(setting)
    assert isinstance(placed, PlacedPhoto) and isinstance(as_ever, PlacedPhoto) and placed.shape is None
    assert np.array_equal(placed.cam_from_world, as_ever.cam_from_world)


@pytest.mark.parametrize("off", [0.3, 0.7, 1.0, 1.3, 4.0])
def test_focal_length_is_found(setting: Setting, off: float) -> None:
    placed = place(setting, off * FOCAL)
    position, rotation_deg = errors(placed)
    assert position < 0.01 and rotation_deg < 0.3
    assert isinstance(placed, PlacedPhoto) and placed.focal_std_px is not None
    error = abs(placed.camera.mean_focal_length() - FOCAL)
    assert error < 0.02 * FOCAL and error < 4 * placed.focal_std_px + 0.1
    held = place(setting, off * FOCAL, known=True)
    assert off == 1 or isinstance(held, NoPose) or held.num_inliers < placed.num_inliers


@pytest.mark.parametrize("off", [0.3, 0.7, 1.3, 4.0])
def test_focal_length_is_found_among_wrong_matches(setting: Setting, off: float) -> None:
    """Two keypoints of three are matched wrongly; then a start with the wrong focal length alone leads nowhere."""
    rng = np.random.default_rng(1)
    mixed = {}
    for name in PLACED_IN_MODEL:
        found = FoundBefore(setting.seen).matches[PHOTO, name].indices.numpy().copy()
        wrong = np.flatnonzero(found[:, 0] % 3 > 0)
        found[wrong, 1] = found[rng.permutation(wrong), 1]
        mixed[f"_{name[0]}"] = found[:, 1]
    placed = place(setting, off * FOCAL, matcher=changed(setting, **mixed))
    position, rotation_deg = errors(placed)
    assert position < 0.02 and rotation_deg < 0.6
    assert isinstance(placed, PlacedPhoto) and placed.num_inliers < 0.6 * placed.num_correspondences


def test_a_free_focal_length_makes_the_position_less_certain(setting: Setting) -> None:
    free, held = place(setting), place(setting, known=True)
    assert isinstance(free, PlacedPhoto) and isinstance(held, PlacedPhoto)
    assert free.position_std > held.position_std


def test_same_seed_same_bits(setting: Setting) -> None:
    first, second = place(setting, 0.7 * FOCAL, seed=3), place(setting, 0.7 * FOCAL, seed=3)
    assert isinstance(first, PlacedPhoto) and isinstance(second, PlacedPhoto)
    assert first.cam_from_world.tobytes() == second.cam_from_world.tobytes()
    assert first.covariance.tobytes() == second.covariance.tobytes()
    assert (first.inlier_keypoints == second.inlier_keypoints).all()


def test_covariance_is_that_of_repeated_trials(setting: Setting) -> None:
    """The photo anew with other noise, often: errors whitened by the covariance have a mean square of 1."""
    rng = np.random.default_rng(0)
    base = setting.seen.features[PHOTO]
    found = find_correspondences(base, setting.model, PLACED_IN_MODEL, setting.seen.features, FoundBefore(setting.seen))
    exact = np.array([setting.model.point3D(point_id).xyz for point_id in found.point_ids]) @ TRUE[:, :3].T + TRUE[:, 3]
    exact = (exact @ K.numpy().T)[:, :2] / exact[:, 2:]
    squares = []
    for _ in range(40):
        keypoints = base.keypoints.clone()
        keypoints[found.keypoints] = torch.from_numpy(exact + 0.5 * rng.normal(size=exact.shape)).float()
        features = Features(keypoints, base.scores, base.descriptors, SIZE, base.kind)
        matcher = FoundBefore(setting.seen)
        matcher.names[id(features)] = PHOTO
        placed = place(setting, known=True, features=features, matcher=matcher)
        assert isinstance(placed, PlacedPhoto)
        turn = cv2.Rodrigues(placed.cam_from_world[:, :3] @ TRUE[:, :3].T)[0].ravel()
        error = np.concatenate((turn, placed.center + TRUE[:, :3].T @ TRUE[:, 3]))
        squares.append(error @ np.linalg.solve(placed.covariance, error) / 6)
        assert squares[-1] * 6 < 36
    assert 0.7 < np.mean(squares) < 1.5  # robust weights cost a little


def test_a_guessed_camera_knows_that_its_principal_point_may_be_off(setting: Setting) -> None:
    """All keypoints 3 px to the right, 1 % of the side: as turned by half a degree, which only a guess allows for."""
    base = setting.seen.features[PHOTO]
    moved = Features(base.keypoints + torch.tensor([3.0, 0]), base.scores, base.descriptors, SIZE, base.kind)
    matcher = FoundBefore(setting.seen)
    matcher.names[id(moved)] = PHOTO
    guess, held = (place(setting, known=known, features=moved, matcher=matcher) for known in (False, True))
    assert isinstance(guess, PlacedPhoto) and isinstance(held, PlacedPhoto)
    _, rotation_deg = errors(guess)
    assert 0.3 < rotation_deg < 3 * guess.rotation_std_deg
    assert errors(held)[1] > 5 * held.rotation_std_deg


def test_the_point_that_most_candidates_agree_on_wins(setting: Setting) -> None:
    """One candidate of four lies about every keypoint: nothing changes but its own support."""
    true = FoundBefore(setting.seen).matches[PHOTO, NAMES[1]].indices[:, 1].numpy()
    lying = changed(setting, _1=np.roll(true, 7))
    for name in PLACED_IN_MODEL:  # two who are not sure outvote a sure one
        found = lying.matches[PHOTO, name]
        lying.matches[PHOTO, name] = Matches(found.indices, torch.full((len(found),), 0.9 if name == NAMES[1] else 0.2))
    seen = setting.seen
    before = find_correspondences(
        seen.features[PHOTO], setting.model, PLACED_IN_MODEL, seen.features, FoundBefore(seen)
    )
    after = find_correspondences(seen.features[PHOTO], setting.model, PLACED_IN_MODEL, seen.features, lying)
    wanted = dict(zip(before.keypoints.tolist(), before.point_ids.tolist(), strict=True))
    trusted = before.support[[0, 2, 3]].sum(0) >= 2
    got = dict(zip(after.keypoints.tolist(), after.point_ids.tolist(), strict=True))
    for keypoint in before.keypoints[trusted].tolist():
        assert got[keypoint] == wanted[keypoint]
    assert trusted.sum() > 50
    assert after.support[1].sum() < 0.4 * before.support[1].sum()
    assert len(set(after.point_ids.tolist())) == len(after.point_ids)
    assert (np.diff(after.keypoints) > 0).all()
    placed = place(setting, known=True, matcher=lying)
    assert errors(placed)[0] < 0.002


def test_keypoints_beyond_those_of_the_model_and_fewer(setting: Setting) -> None:
    seen = setting.seen
    more = dict(seen.features)
    base = more[NAMES[0]]
    extra = torch.zeros((3, 2))
    more[NAMES[0]] = Features(
        torch.cat((base.keypoints, extra)),
        torch.cat((base.scores, torch.ones(3))),
        torch.cat((base.descriptors, torch.zeros((3, 1)))),
        SIZE,
        base.kind,
    )
    matcher = FoundBefore(seen)
    matcher.names[id(more[NAMES[0]])] = NAMES[0]
    found = matcher.matches[PHOTO, NAMES[0]]
    matcher.matches[PHOTO, NAMES[0]] = Matches(
        torch.tensor([[0, len(base) + 2]]), torch.ones(1)
    )  # a keypoint that the model does not know
    few = find_correspondences(seen.features[PHOTO], setting.model, [NAMES[0]], more, matcher)
    assert len(few.point_ids) == 0
    half = len(base) // 2
    more[NAMES[0]] = base.select(torch.arange(half))
    matcher.names[id(more[NAMES[0]])] = NAMES[0]
    kept = found.indices[:, 1] < half
    matcher.matches[PHOTO, NAMES[0]] = Matches(found.indices[kept], found.scores[kept])
    some = find_correspondences(seen.features[PHOTO], setting.model, [NAMES[0]], more, matcher)
    assert 20 < len(some.point_ids) <= int(kept.sum())


@pytest.mark.parametrize(("num_points", "num_matched"), [(MIN_INLIERS - 1, 2), (MIN_INLIERS, 4)])
def test_a_photo_of_which_the_first_candidates_show_too_little_is_not_matched_with_the_others(
    setting: Setting, num_points: int, num_matched: int
) -> None:
    matched: list[Features] = []

    class Counting(FoundBefore):
        def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
            matched.extend(other for _, other in pairs)
            return super().match_batch(pairs)

    matcher, photos = Counting(setting.seen), setting.seen.features
    first, second = PLACED_IN_MODEL[:2]
    image = setting.model.find_image_with_name(first)
    assert image is not None
    found = matcher.matches[PHOTO, first]
    shown = torch.isin(found.indices[:, 1], torch.tensor(image.get_observation_point2D_idxs()))
    matcher.matches[PHOTO, first] = found.subset(shown & (shown.cumsum(0) <= num_points))
    matcher.matches[PHOTO, second] = found.subset(torch.zeros(len(found), dtype=torch.bool))
    placed = place_photo(photos[PHOTO], camera(), setting.model, PLACED_IN_MODEL, photos, matcher, num_first=2)
    assert len(matched) == num_matched and isinstance(placed, NoPose) == (num_matched == 2)


def test_random_matches_are_refused(setting: Setting) -> None:
    rng = np.random.default_rng(5)
    mixed = {
        f"_{name[0]}": rng.permutation(FoundBefore(setting.seen).matches[PHOTO, name].indices[:, 1].numpy())
        for name in PLACED_IN_MODEL
    }
    placed = place(setting, matcher=changed(setting, **mixed))
    assert isinstance(placed, NoPose)
    assert placed.reason in ("few inliers", "by chance")
    assert f"of {placed.num_correspondences} matches" in placed.sentence


def test_agreement_by_chance_is_refused(setting: Setting) -> None:
    """In a tiny photo many random matches agree with some pose: 4 px around are a fifteenth of it."""
    import pycolmap

    size, count = (32, 24), 150
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand((count, 2), generator=generator) * torch.tensor([31.0, 23.0])
    base = setting.seen.features[PLACED_IN_MODEL[0]]
    features = Features(keypoints, torch.ones(count), torch.zeros(count, 1), size, base.kind)
    matcher = FoundBefore(setting.seen)
    matcher.names[id(features)] = "tiny"
    image = setting.model.find_image_with_name(PLACED_IN_MODEL[0])
    assert image is not None
    seen = torch.tensor(image.get_observation_point2D_idxs())[:count]
    both = torch.stack((torch.arange(len(seen)), seen), 1)
    matcher.matches["tiny", PLACED_IN_MODEL[0]] = Matches(both, torch.ones(len(seen)))
    tiny = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 28.0, *size)
    placed = place_photo(
        features,
        tiny,
        setting.model,
        PLACED_IN_MODEL[:1],
        setting.seen.features,
        matcher,
        PoseOptions(intrinsics="known"),
    )
    assert isinstance(placed, NoPose)
    assert placed.reason == "by chance" and placed.num_inliers >= 12
    assert placed.sentence.startswith("expected more matches to agree with one pose than by chance")


def test_too_few_matches(setting: Setting) -> None:
    matcher = FoundBefore(setting.seen)
    for name in PLACED_IN_MODEL:
        found = matcher.matches[PHOTO, name]
        matcher.matches[PHOTO, name] = Matches(found.indices[:2], found.scores[:2])
    placed = place(setting, matcher=matcher)
    assert isinstance(placed, NoPose) and placed.reason == "few correspondences"
    assert placed.sentence.startswith("expected at least 12 matches with points of the model, got ")


@pytest.mark.parametrize("thickness", [0.0, 0.002])
def test_points_on_a_line_fix_no_pose(thickness: float) -> None:
    """A camera may turn about the line."""
    import pycolmap

    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera(model="SIMPLE_PINHOLE"))
    line = torch.linspace(-1.5, 1.5, 40, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.3, 0.2]).double()
    line += thickness * torch.randn(line.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    seen = see(NAMES, POSES, K, SIZE, line, noise_px=0.3, share=1.1)
    for number in (0, 4):
        xy = seen.features[NAMES[number]].keypoints.double().numpy() + 0.5
        image = pycolmap.Image(name=NAMES[number], keypoints=xy, camera_id=1, image_id=number + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(POSES[number].numpy()))
    for index, xyz in enumerate(line.numpy()):
        track = pycolmap.Track()
        for image_id in (1, 5):
            track.add_element(image_id, index)
        model.add_point3D(xyz, track, np.zeros(3, np.uint8))
    placed = place_photo(seen.features[PHOTO], camera(), model, [NAMES[0], NAMES[4]], seen.features, FoundBefore(seen))
    assert isinstance(placed, NoPose)
    assert placed.num_correspondences == 40
    assert placed.reason == ("degenerate" if thickness else "few inliers")


def test_bad_input(setting: Setting) -> None:
    seen, matcher = setting.seen, FoundBefore(setting.seen)
    photo = seen.features[PHOTO]
    with pytest.raises(InvalidValueError, match=r"placed in the model, got '2.png'"):
        find_correspondences(photo, setting.model, [PHOTO], seen.features, matcher)
    with pytest.raises(InvalidValueError, match="each photo once"):
        find_correspondences(photo, setting.model, [NAMES[0], NAMES[0]], seen.features, matcher)
    strange = dict(seen.features)
    strange[NAMES[0]] = seen.features[NAMES[1]]
    with pytest.raises(InvalidValueError, match=r"features of '0.png': expected those that the model was made of"):
        find_correspondences(photo, setting.model, [NAMES[0]], strange, matcher)
    other = camera()
    other.rescale(640, 480)
    with pytest.raises(InvalidValueError, match=r"expected the photo's size \(320, 240\), got \(640, 480\)"):
        place_photo(photo, other, setting.model, [NAMES[0]], seen.features, matcher)


def with_photo(
    model: "Reconstruction", database: Path, name: str, placed: PlacedPhoto, **options: bool
) -> "Reconstruction":
    """A copy of the model with one more photo."""
    import pycolmap

    extended = pycolmap.Reconstruction(model)
    add_photo(extended, database, name, placed, **options)
    extended.update_point_3d_errors()
    return extended


@pytest.mark.parametrize("registered_before", [False, True])
def test_added_photo_takes_part(setting: Setting, registered_before: bool) -> None:
    placed = place(setting)
    assert isinstance(placed, PlacedPhoto)
    before = setting.model.num_reg_images(), setting.model.compute_num_observations()
    model = setting.model
    if registered_before:  # image and frame are there, without a pose
        model = with_photo(model, setting.database, PHOTO, placed)
        image = model.find_image_with_name(PHOTO)
        assert image is not None
        model.deregister_frame(image.frame_id)
        assert image.num_points3D == 0 and model.num_reg_images() == 4
    added = with_photo(model, setting.database, PHOTO, placed)
    assert (setting.model.num_reg_images(), setting.model.compute_num_observations()) == before
    assert added.num_reg_images() == 5
    assert added.compute_num_observations() == before[1] + placed.num_inliers
    image = added.find_image_with_name(PHOTO)
    assert image is not None and image.camera is not None
    np.testing.assert_allclose(image.cam_from_world().matrix(), placed.cam_from_world, atol=1e-12)
    assert image.camera.mean_focal_length() == placed.camera.mean_focal_length()
    free = {added.image(image_id).camera_id: KNOWN for image_id in setting.model.reg_image_ids()}
    adjust(added, AdjustOptions(cameras=free, threads=1))
    assert added.compute_mean_reprojection_error() < 0.5
    with pytest.raises(InvalidValueError, match=r"not placed yet, got '2.png'"):
        with_photo(added, setting.database, PHOTO, placed)
    with pytest.raises(InvalidValueError, match=r"got 'x.png', which is not in it"):
        with_photo(setting.model, setting.database, "x.png", placed)


def test_added_photo_survives_a_file(setting: Setting, tmp_path: Path) -> None:
    import pycolmap

    placed = place(setting)
    assert isinstance(placed, PlacedPhoto)
    with_photo(setting.model, setting.database, PHOTO, placed).write_binary(tmp_path)
    again = pycolmap.Reconstruction(tmp_path).find_image_with_name(PHOTO)
    assert again is not None and again.has_pose
    assert again.num_points3D == placed.num_inliers


def test_no_keypoint_sees_two_points(setting: Setting) -> None:
    placed = place(setting)
    assert isinstance(placed, PlacedPhoto)
    pixels = placed.inlier_pixels.copy()
    pixels[1] = pixels[0]
    added = with_photo(setting.model, setting.database, PHOTO, replace(placed, inlier_pixels=pixels))
    image = added.find_image_with_name(PHOTO)
    assert image is not None and image.num_points3D == placed.num_inliers - 1


def test_inliers_that_are_no_keypoints_of_the_database(setting: Setting, tmp_path: Path) -> None:
    """Features with more keypoints, in another order: found again by place, and appended where wanted."""
    import shutil

    import pycolmap

    base = setting.seen.features[PHOTO]
    order = torch.randperm(len(base), generator=torch.Generator().manual_seed(0))
    features, place_of = base.select(order), order.argsort()
    matcher = FoundBefore(setting.seen)
    matcher.names[id(features)] = PHOTO
    for name in PLACED_IN_MODEL:
        found = matcher.matches[PHOTO, name]
        first = place_of[found.indices[:, 0]]
        turn = first.argsort()
        indices = torch.stack((first, found.indices[:, 1]), 1)[turn]
        matcher.matches[PHOTO, name] = Matches(indices, found.scores[turn])
    placed = place(setting, features=features, matcher=matcher)
    assert isinstance(placed, PlacedPhoto)
    database = tmp_path / "few.db"
    shutil.copyfile(setting.database, database)
    few = len(base) // 2
    with pycolmap.Database.open(database) as opened:
        (number,) = (image.image_id for image in opened.read_all_images() if image.name == PHOTO)
        opened.update_keypoints(number, opened.read_keypoints(number)[:few])
    without = with_photo(setting.model, database, PHOTO, placed).image(number)
    known = order.numpy()[placed.inlier_keypoints] < few
    assert 20 < without.num_points3D == known.sum() < placed.num_inliers
    assert without.num_points2D() == few
    with_all = with_photo(setting.model, database, PHOTO, placed, append_keypoints=True).image(number)
    assert with_all.num_points3D == placed.num_inliers
    with pycolmap.Database.open(database) as opened:
        assert len(opened.read_keypoints(number)) == with_all.num_points2D() == few + (~known).sum()
    for index in with_all.get_observation_point2D_idxs():
        assert np.abs(with_all.point2D(index).xy - 0.5 - placed.inlier_pixels).max(1).min() < 1e-3
