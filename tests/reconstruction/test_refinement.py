"""A first model of few matches becomes a denser and truer one, and gets the photos it lacked."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycolmap
import pytest
import torch
from seen_points import KIND, Seen, see, verify, write_database

from lightmatch.colmap.database_files import read_colmap_verified
from lightmatch.geometry.epipolar import sampson_error_px
from lightmatch.reconstruction import AdjustOptions, RefineOptions, Reregistration, refine, refining_steps
from lightmatch.reconstruction.mapping.mappers import map_incrementally
from lightmatch.reconstruction.refinement import steps
from lightmatch.reconstruction.refinement.rematching import (
    PlacedPair,
    PlacedView,
    RematchOptions,
    pairs_to_rematch,
    rematch,
    rematch_pair,
)
from lightmatch.reconstruction.refinement.reregistration import reregister
from lightmatch.scenes import camera_ring, pinhole
from lightmatch.sfm.bundle_adjustment import adjust
from lightmatch.sfm.tracks import read_tracks
from lightmatch.types import FeatureKind, Features, Matches

SIZE = (640, 480)
K = pinhole(60.0, SIZE).double()
NAMES = [f"{n}.png" for n in range(6)]
POSES = camera_ring((0, 0, 0), 6.0, 2.0, 6, 0.03, torch.Generator().manual_seed(0), arc_deg=80).double()
POINTS = 1.5 * torch.randn((600, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
FEW = 150  # keypoints that are matched at first


class Setting(NamedTuple):
    features: dict[str, Features]
    images: Path
    database: Path  # of the first few keypoints
    model: pycolmap.Reconstruction


class ByDescriptor:
    """A matcher of features that are distinguished by their descriptors alone."""

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        return [self.match(*pair) for pair in pairs]

    def match(self, features0: Features, features1: Features) -> Matches:
        similarity = features0.descriptors @ features1.descriptors.T
        best, found = similarity.max(1)
        sure = torch.nonzero(best > 0.99)[:, 0]
        return Matches(torch.stack([sure, found[sure]], 1), best[sure].clamp(max=1))


def described(seen: Seen) -> dict[str, Features]:
    """Each keypoint with a descriptor that its point has in all photos; which point it is, is found by projection."""
    codes = torch.nn.functional.normalize(
        torch.randn(len(POINTS), 32, generator=torch.Generator().manual_seed(2)), dim=1
    )
    kind = FeatureKind(KIND.name, 32)
    features = {}
    for name, pose in zip(NAMES, POSES, strict=True):
        in_camera = POINTS @ pose[:, :3].mT + pose[:, 3]
        pixels = (in_camera @ K.mT)[:, :2] / in_camera[:, 2:]
        nearest = torch.cdist(seen.features[name].keypoints.double(), pixels).argmin(1)
        features[name] = replace(seen.features[name], descriptors=codes[nearest], kind=kind)
    return features


def setting_in(folder: Path, *, lacking: str | None = None, noise_px: float = 0.5) -> Setting:
    """A model of the first keypoints of each photo; `lacking` has none of their matches."""
    seen = see(NAMES, POSES, K, SIZE, POINTS, noise_px=noise_px)
    features = described(seen)
    few = {name: one.select(torch.arange(min(FEW, len(one)))) for name, one in features.items()}
    matcher = ByDescriptor()
    pairs = [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :] if lacking not in (a, b)]
    matches = {pair: matcher.match(few[pair[0]], few[pair[1]]) for pair in pairs}
    database = write_database(folder, Seen(few, matches), [NAMES], model="SIMPLE_RADIAL")
    verify(database)
    (model, *_) = map_incrementally(database, folder / "images", seed=0)
    return Setting(features, folder / "images", database, model)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return setting_in(tmp_path_factory.mktemp("refining"))


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return setting_in(tmp_path_factory.mktemp("lacking"), lacking=NAMES[2])


def position_error(model: pycolmap.Reconstruction) -> float:
    """Median, in parts of the ring's radius, after a similarity onto the truth."""
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: image.name)
    true = np.array([-POSES[NAMES.index(i.name), :, :3].T @ POSES[NAMES.index(i.name), :, 3] for i in images])
    moved = pycolmap.Reconstruction(model)
    ransac = pycolmap.RANSACOptions()
    ransac.max_error, ransac.random_seed = 0.5, 0
    back = pycolmap.align_reconstruction_to_locations(moved, [i.name for i in images], true, 3, ransac)
    assert back is not None
    centers = np.array([back * image.projection_center() for image in images])
    return float(np.median(np.linalg.norm(centers - true, axis=1))) / 6.0


def test_all_keypoints_are_matched_along_their_epipolar_lines(setting: Setting, tmp_path: Path) -> None:
    target = tmp_path / "d.db"
    dense = rematch(setting.model, setting.database, target, setting.images, setting.features, RematchOptions(seed=0))
    assert len(pairs_to_rematch(setting.model)) == 15
    assert dense.num_points3D() > 2 * setting.model.num_points3D()
    tracks = read_tracks(target)
    assert tracks is not None
    assert position_error(dense) < position_error(setting.model)
    assert setting.model.num_reg_images() == 6  # and nothing else of it changed: it has its own points
    with pycolmap.Database.open(target) as opened:
        for image in opened.read_all_images():
            assert len(opened.read_keypoints(image.image_id)) == len(setting.features[image.name])
    inverse = torch.linalg.inv(K)
    for pair, found in read_colmap_verified(target).items():
        assert found.geometry.num_inliers == len(found.matches) > FEW
        points = found.matches.points(*(setting.features[name] for name in pair))
        F = inverse.T @ found.geometry.matrix @ inverse
        assert sampson_error_px(F, points[0].double(), points[1].double()).median() < 1


def test_matches_at_the_rim_of_a_fisheye_are_kept() -> None:
    """What is a pixel off there is several off in the pinhole picture that epipolar lines are straight in."""
    camera = pycolmap.Camera(model="OPENCV_FISHEYE", width=960, height=960, params=[300, 300, 480, 480, 0, 0, 0, 0])
    rng, count = np.random.default_rng(0), 400
    off_axis, around = np.radians(rng.uniform(55, 72, count)), rng.uniform(0, 2 * np.pi, count)
    rays = np.column_stack((np.tan(off_axis) * np.cos(around), np.tan(off_axis) * np.sin(around), np.ones(count)))
    points = rays * rng.uniform(3, 8, (count, 1))
    poses = [np.eye(3, 4), np.column_stack((np.eye(3), [-0.3, 0.1, 0.0]))]
    features, views = {}, []
    for name, pose in zip("ab", poses, strict=True):
        local = points @ pose[:, :3].T + pose[:, 3]
        pixels = np.array([camera.img_from_cam(place) for place in local]) - 0.5 + rng.normal(0, 0.4, (count, 2))
        codes = torch.eye(count)  # distinguished by their descriptors alone
        keypoints = torch.from_numpy(pixels).float()
        features[name] = Features(keypoints, torch.ones(count), codes, (960, 960), FeatureKind("toy", count))
        views.append(PlacedView(camera, torch.from_numpy(pose), (1.0, 10.0)))
    verified = np.column_stack((np.arange(count), np.arange(count)))
    wrong = np.column_stack((np.arange(40), np.arange(40) + 100))  # of other points
    kept = rematch_pair(features, PlacedPair("a", "b", views[0], views[1], np.concatenate((verified[40:], wrong))))
    right = (kept[:, 0] == kept[:, 1]).sum()
    assert right > 0.95 * count and len(kept) - right < 5


def test_each_photo_is_matched_again_with_those_that_share_most_points(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightmatch.reconstruction.refinement.rematching.MOST_PARTNERS", 2)
    pairs = pairs_to_rematch(setting.model)
    assert 6 <= len(pairs) < 15 and pairs == sorted(pairs)
    seen = {i.name: {p.point3D_id for p in i.get_observation_points2D()} for i in setting.model.images.values()}
    for name in NAMES:
        others = sorted((-len(seen[name] & seen[other]), other) for other in NAMES if other != name)
        assert {(min(name, other), max(name, other)) for _, other in others[:2]} <= set(pairs)


def test_wrong_matches_of_the_first_model_do_not_survive(setting: Setting, tmp_path: Path) -> None:
    shuffled = dict(setting.features)
    generator = torch.Generator().manual_seed(0)
    for name in NAMES[:2]:  # what is not in the first model has other points' descriptors
        one = shuffled[name]
        order = torch.cat([torch.arange(FEW), FEW + torch.randperm(len(one) - FEW, generator=generator)])
        shuffled[name] = replace(one, descriptors=one.descriptors[order])
    dense = rematch(
        setting.model, setting.database, tmp_path / "d.db", setting.images, shuffled, RematchOptions(seed=0)
    )
    for image_id in dense.reg_image_ids():
        image = dense.image(image_id)
        if image.name in NAMES[:2]:
            late = [index for index in image.get_observation_point2D_idxs() if index >= FEW]
            assert len(late) < 0.1 * len(image.get_observation_point2D_idxs())


def test_refining_tells_what_it_did_and_repeats(setting: Setting, tmp_path: Path) -> None:
    called: list[int] = []
    options = AdjustOptions(threads=1)
    results = [
        refine(
            setting.model,
            setting.database,
            tmp_path / f"{n}.db",
            setting.images,
            setting.features,
            RefineOptions(options, seed=0),
            on_step=lambda n=n: called.append(n),
        )
        for n in range(2)
    ]
    total = refining_steps(setting.model, setting.features)
    assert total == 15 + 5 and called == [0] * total + [1] * total  # of 6 photos all pairs
    assert refining_steps(setting.model, None) == 5
    first, second = (np.array([r.model.point3D(i).xyz for i in sorted(r.model.point3D_ids())]) for r in results)
    np.testing.assert_array_equal(first, second)
    assert results[0].history.rematches[0].kept and results[0].database == tmp_path / "0.db"
    assert len(results[0].uncertainties) == 6
    assert position_error(results[0].model) < 0.001


def test_a_database_of_new_matches_is_deleted_with_the_model_that_is_rejected(
    lacking: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = steps._compared
    kept = iter([False, True, False])
    monkeypatch.setattr(steps, "_compared", lambda *of: replace(compared(*of), kept=next(kept)))
    chance = Reregistration({NAMES[2]: [NAMES[1], NAMES[3]]}, ByDescriptor())
    options, target = RefineOptions(AdjustOptions(threads=1), chance, seed=0), tmp_path / "d.db"
    given = (lacking.model, lacking.database, target, lacking.images, lacking.features, options)
    assert refine(*given).database == lacking.database and not list(tmp_path.iterdir())
    refined = refine(*given)
    assert refined.database == target and [trial.kept for trial in refined.history.rematches] == [True, False]
    assert list(tmp_path.iterdir()) == [target]


def test_a_point_that_the_last_adjustment_moves_behind_a_camera_is_left_out(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []

    def adjusted(model: pycolmap.Reconstruction, options: AdjustOptions) -> None:
        adjust(model, options)
        if options.tolerance == steps.FINAL:
            moved.append(min(model.point3D_ids()))
            model.point3D(moved[-1]).xyz = 100 * next(iter(model.images.values())).projection_center()

    monkeypatch.setattr(steps, "adjust", adjusted)
    options = RefineOptions(AdjustOptions(threads=1), seed=0)
    refined = refine(setting.model, setting.database, tmp_path / "not.db", setting.images, None, options)
    assert len(moved) == 1 and moved[0] not in refined.model.point3D_ids()
    assert refined.model.compute_mean_reprojection_error() < 1


def test_a_photo_that_was_left_out_gets_its_place(
    lacking: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lacking.model.num_reg_images() == 5
    matched: list[tuple[str, str]] = []

    def noting(features: dict[str, Features], pair: PlacedPair) -> np.ndarray:
        matched.append((pair.name0, pair.name1))
        return rematch_pair(features, pair)

    monkeypatch.setattr("lightmatch.reconstruction.refinement.rematching.rematch_pair", noting)
    chance = Reregistration({name: [other for other in NAMES if other != name] for name in NAMES}, ByDescriptor())
    refined = refine(
        lacking.model,
        lacking.database,
        tmp_path / "d.db",
        lacking.images,
        lacking.features,
        RefineOptions(AdjustOptions(threads=1), chance, seed=0),
    )
    assert refined.model.num_reg_images() == 6
    assert [trial.name for trial in refined.history.reregistrations if trial.kept] == [NAMES[2]]
    assert position_error(refined.model) < 0.002
    added = refined.model.find_image_with_name(NAMES[2])
    assert added is not None and added.num_points3D > 100
    assert refined.database == tmp_path / "d.db" and not (tmp_path / "d-more.db").exists()
    assert len(matched) == 15 and len(set(matched)) == 15  # each once: first those of the five, then those of the sixth
    assert all(len(found.matches) > FEW for found in read_colmap_verified(refined.database).values())


def test_a_photo_of_something_else_is_not_placed(lacking: Setting, tmp_path: Path) -> None:
    other = lacking.features[NAMES[2]]
    noise = torch.rand(other.keypoints.shape, generator=torch.Generator().manual_seed(3)) * torch.tensor(SIZE)
    features = {**lacking.features, NAMES[2]: replace(other, keypoints=noise.float())}
    dense = rematch(
        lacking.model, lacking.database, tmp_path / "d.db", lacking.images, features, RematchOptions(seed=0)
    )
    chance = Reregistration({NAMES[2]: [NAMES[1], NAMES[3]]}, ByDescriptor())
    model, (trial,) = reregister(dense, tmp_path / "d.db", features, chance, seed=0)
    assert model.num_reg_images() == 5
    assert not trial.kept and "expected" in trial.why
