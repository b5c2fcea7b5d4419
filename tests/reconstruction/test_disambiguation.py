"""Doppelgängers: a house whose back equals its front, seen from all round; no pair of an ordinary house is dropped."""

from __future__ import annotations

import math
import shutil
import sqlite3
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycolmap
import pytest
import torch
from seen_points import KIND, Seen, verify, write_database

from lightmatch.colmap.database_files import read_colmap_verified
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.alignment import align_points
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.reconstruction import drop_pairs, find_doppelgangers, map_incrementally, model_arrays
from lightmatch.reconstruction.disambiguation.evidence import absences
from lightmatch.reconstruction.disambiguation.find import DoppelgangerReport, doppelgangers_of_views
from lightmatch.reconstruction.disambiguation.views import Photo, Placement, ViewPair, Views, views_of_database
from lightmatch.scenes import camera_ring, pinhole
from lightmatch.types import Features, Matches

NUM_VIEWS, SIZE = 14, (640, 480)
K = pinhole(65.0, SIZE).double().numpy()
NAMES = [f"{number:02d}.png" for number in range(NUM_VIEWS)]
HALF = np.array([1.5, 1.1])  # of the house, m
WIDEST_DEG = 55.0  # over which a point of a landmark is matched
NOISE_PX = 0.3
WALL, LANDMARK = 300, 55  # points

Pair = tuple[str, str]


class Points(NamedTuple):
    """Points of the scene; points that look alike have the same `look`."""

    xyz: np.ndarray  # (p, 3)
    normal: np.ndarray  # (p, 3) of the side it is on, (0, 0, 0) where it is seen from all round
    look: np.ndarray  # (p,)


class Setting(NamedTuple):
    database: Path
    true: set[Pair]  # verified pairs that show one place
    false: set[Pair]
    centers: torch.Tensor  # (n, 3)


def house(copies: bool, num_landmarks: int) -> Points:
    """Four walls, the back as the front and the left as the right where there are copies; landmarks around."""
    rng = np.random.default_rng(0)
    xyz, normal, look = [], [], []
    for side, (axis, half) in enumerate(((0, 1), (1, 0), (0, 1), (1, 0))):
        wall = np.random.default_rng(10 + (side % 2 if copies else side)).uniform(-1, 1, (WALL, 2))
        sign = 1 if side < 2 else -1
        points = np.zeros((WALL, 3))
        points[:, axis] = sign * wall[:, 0] * HALF[axis]
        points[:, half] = -sign * HALF[half]
        points[:, 2] = 1.1 + 1.1 * wall[:, 1]
        points[:, half] += sign * 0.25 * np.sin(7 * wall[:, 0]) * np.cos(5 * wall[:, 1])  # no plane
        xyz.append(points)
        normal.append(np.tile(np.eye(3)[half] * -sign, (WALL, 1)))
        look.append(np.arange(WALL) + 1000 * (side % 2 if copies else side))
    for number in range(num_landmarks):
        angle = math.tau * (number + rng.uniform(-0.3, 0.3)) / num_landmarks
        radius = rng.uniform(2.2, 3.0)
        foot = np.array([radius * math.cos(angle), radius * math.sin(angle), 0.5])
        xyz.append(foot + rng.uniform(-0.4, 0.4, (LANDMARK, 3)))
        normal.append(np.zeros((LANDMARK, 3)))
        look.append(10_000 + 100 * number + np.arange(LANDMARK))
    return Points(np.concatenate(xyz), np.concatenate(normal), np.concatenate(look))


def visible(points: Points, pose: np.ndarray) -> np.ndarray:
    """(p,) bool: in the picture, on a side that is turned to the camera, not behind the house."""
    center = -pose[:, :3].T @ pose[:, 3]
    local = points.xyz @ pose[:, :3].T + pose[:, 3]
    pixels = (local @ K.T)[:, :2] / local[:, 2:]
    inside = (local[:, 2] > 0.1) & (pixels > 0).all(1) & (pixels < np.array(SIZE) - 1).all(1)
    towards = center - points.xyz
    faces = (points.normal * towards).sum(1) > 0.3 * np.linalg.norm(towards, axis=1)
    landmark = (points.normal == 0).all(1)
    steps = np.linspace(0.02, 0.98, 40)[:, None, None]
    way = points.xyz + steps * towards
    hidden = ((np.abs(way[..., :2]) < HALF - 0.3).all(2) & (way[..., 2] < 2.2)).any(0)
    return inside & np.where(landmark, ~hidden, faces)


def build(folder: Path, *, copies: bool, num_landmarks: int = 8) -> Setting:
    """What cameras all round the house see of it, matched by looks, verified."""
    rng = np.random.default_rng(1)
    points = house(copies, num_landmarks)
    poses = camera_ring((0, 0, 0.9), 5.6, 1.0, NUM_VIEWS, 0.02, torch.Generator().manual_seed(0)).double()
    centers = invert_rigid(poses)[:, :, 3]
    features, rows = {}, []
    for name, pose in zip(NAMES, poses.numpy(), strict=True):
        seen = np.flatnonzero(visible(points, pose) & (rng.random(len(points.xyz)) < 0.85))
        local = points.xyz[seen] @ pose[:, :3].T + pose[:, 3]
        pixels = (local @ K.T)[:, :2] / local[:, 2:] + NOISE_PX * rng.normal(size=(len(seen), 2))
        count = len(seen)
        features[name] = Features(torch.tensor(pixels).float(), torch.ones(count), torch.zeros(count, 1), SIZE, KIND)
        rows.append(seen)
    matches: dict[Pair, Matches] = {}
    same: dict[Pair, dict[tuple[int, int], bool]] = {}  # by match, whether it is of one point
    for first, second in combinations(range(NUM_VIEWS), 2):
        _, i, j = np.intersect1d(points.look[rows[first]], points.look[rows[second]], return_indices=True)
        i, j = i[np.argsort(i)], j[np.argsort(i)]
        one = rows[first][i] == rows[second][j]
        rays = [centers[view].numpy() - points.xyz[rows[first][i]] for view in (first, second)]
        cosine = np.prod([np.linalg.norm(ray, axis=1) for ray in rays], 0) ** -1 * (rays[0] * rays[1]).sum(1)
        kept = ~one | (cosine > math.cos(math.radians(WIDEST_DEG)))
        if kept.sum() >= 15:
            pair = NAMES[first], NAMES[second]
            matches[pair] = Matches(torch.from_numpy(np.stack((i, j), 1)[kept]), torch.ones(int(kept.sum())))
            same[pair] = dict(zip(zip(i[kept], j[kept], strict=True), one[kept], strict=True))
    path = write_database(folder, Seen(features, matches), [NAMES], model="SIMPLE_RADIAL")
    verify(path)
    true, false = set(), set()
    for pair, found in read_colmap_verified(path).items():
        shares = [same[pair][a, b] for a, b in found.matches.indices.tolist()]
        if shares:
            (true if np.mean(shares) >= 0.5 else false).add(pair)
    return Setting(path, true, false, centers)


@pytest.fixture(scope="module")
def doppelgangers(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return build(tmp_path_factory.mktemp("doppelgangers"), copies=True)


@pytest.fixture(scope="module")
def report(doppelgangers: Setting) -> DoppelgangerReport:
    return find_doppelgangers(doppelgangers.database)


def misplaced(database: Path, centers: torch.Tensor) -> tuple[int, int]:
    """Photos in the best model, and how many of them are further off than 5 % of the ring's width.

    Under the similarity that four photos in a row fix: a folded model fits the truth nowhere else.
    """
    model = map_incrementally(database, database.parent / "images", seed=0)[0]
    found = model_arrays(model)
    views = [NAMES.index(name) for name in found.names]
    ours, true = torch.from_numpy(found.centers), centers[views]
    off = [
        (align_points(ours[n : n + 4], true[n : n + 4]).apply(ours) - true).norm(dim=1) for n in range(len(views) - 3)
    ]
    return len(views), min(int((distance > 0.05 * 11.2).sum()) for distance in off)


def test_false_pairs_are_found_and_no_true_one(doppelgangers: Setting, report: DoppelgangerReport) -> None:
    assert len(doppelgangers.false) > 40 and len(doppelgangers.true) > 20
    assert report.num_pairs == len(doppelgangers.false) + len(doppelgangers.true)
    dropped = set(report.dropped)
    assert dropped <= doppelgangers.false and len(dropped) > 0.9 * len(doppelgangers.false)
    assert {pair.names for pair in report.suspicious} >= dropped
    assert all(pair.probability > 0.5 for pair in report.suspicious)


def test_some_pairs_have_evidence_of_their_own_and_others_by_loops(report: DoppelgangerReport) -> None:
    direct = [pair for pair in report.suspicious if pair.direct]
    assert 0 < len(direct) < len(report.suspicious)
    for pair in direct:
        assert pair.absence is not None
        missing = [side.missing for side in pair.absence]
        assert sum(missing) >= 5 or min(missing) >= 3
        assert "are missing in the second" in str(pair)
    assert any(pair.num_open_loops > 0 and "trusted" in str(pair) for pair in report.suspicious)


def test_one_pair_alone_is_not_dropped(doppelgangers: Setting, report: DoppelgangerReport) -> None:
    """It may be one photo whose depths are wrong; two are doppelgängers."""
    views = views_of_database(doppelgangers.database)
    names = [(views.photos[pair.photos[0]].name, views.photos[pair.photos[1]].name) for pair in views.pairs]
    direct = [pair.names for pair in report.suspicious if pair.direct]

    def dropped(kept: list[Pair]) -> set[Pair]:
        pairs = [
            pair for pair, name in zip(views.pairs, names, strict=True) if name in doppelgangers.true or name in kept
        ]
        return set(doppelgangers_of_views(Views(views.photos, pairs)).dropped)

    assert dropped(direct[:1]) == set()
    assert dropped(direct[:2]) == set(direct[:2])


def test_open_loops_tell_that_places_look_alike(doppelgangers: Setting, report: DoppelgangerReport) -> None:
    """Also where no pair can be dropped: of fewer keypoints, too few are missing."""
    assert report.is_ambiguous and report.num_open_loops > 0.01 * report.num_loops
    views = views_of_database(doppelgangers.database, dict.fromkeys(doppelgangers.false | doppelgangers.true, 40))
    assert all(pair.first_keypoints == 40 for pair in views.pairs)
    few = doppelgangers_of_views(views)
    assert few.num_classified < report.num_classified and few.suspicious == () and few.is_ambiguous


def test_dropping_repairs_the_model(doppelgangers: Setting, report: DoppelgangerReport, tmp_path: Path) -> None:
    """With the false pairs the two halves of the ring coincide."""
    assert misplaced(doppelgangers.database, doppelgangers.centers)[1] >= NUM_VIEWS // 3
    shutil.copytree(doppelgangers.database.parent, tmp_path / "copy")
    repaired = tmp_path / "copy" / doppelgangers.database.name
    drop_pairs(repaired, report.dropped)
    assert misplaced(repaired, doppelgangers.centers) == (NUM_VIEWS, 0)


def test_the_warning_names_the_strongest_pairs(report: DoppelgangerReport) -> None:
    warning = report.warning()
    assert warning is not None and warning.startswith(f"{len(report.dropped)} pairs of photos match but seem to show")
    strongest = max((pair for pair in report.suspicious if pair.drop), key=lambda pair: pair.num_matches)
    assert f"{strongest.names[0]} – {strongest.names[1]}" in warning
    assert f"and {len(report.dropped) - 5} more" in warning


def test_the_same_again(doppelgangers: Setting, report: DoppelgangerReport) -> None:
    """And the database is as it was."""
    assert find_doppelgangers(doppelgangers.database) == report
    assert set(read_colmap_verified(doppelgangers.database)) == doppelgangers.true | doppelgangers.false


@pytest.mark.parametrize(("depth", "missing"), [(2.0, False), (10.0, True), (20.0, True)])
def test_what_may_be_occluded_is_not_missing(depth: float, missing: bool) -> None:
    """Three photos of a wall 10 m away; the right half of the second shows something else, nearer or farther."""
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=480, params=[500, 320, 240])
    grid = np.stack(np.meshgrid(np.arange(10.0, 640, 20), np.arange(10.0, 480, 20)), -1).reshape(-1, 2)
    wall = np.column_stack(((grid - (320, 240)) / 50, np.full(len(grid), 10.0)))
    eyes = np.array([[0.0, 0, 0], [0.5, 0, 0], [2, 0, 0]])
    photos, rows = [], []
    for number, eye in enumerate(eyes):
        local = wall - eye
        pixels = local[:, :2] * 50 + (320, 240)
        rows.append(np.flatnonzero((pixels[:, 0] > 0) & (pixels[:, 0] < 640)))
        pixels = pixels[rows[number]]
        depths = np.where((number == 1) & (pixels[:, 0] > 320), depth, 10.0)
        rays = np.column_stack(((pixels - (320, 240)) / 500, np.ones(len(pixels))))
        photos.append(Photo(f"{number}.png", pixels, rays, depths, camera))
    pairs = []
    for first, second in combinations(range(3), 2):
        _, i, j = np.intersect1d(rows[first], rows[second], return_indices=True)
        same = photos[first].depth[i] == photos[second].depth[j]
        if depth == 10.0 and 1 in (first, second):  # as far away, and yet another thing
            own = photos[first].keypoints[i] if first == 1 else photos[second].keypoints[j]
            same = own[:, 0] <= 320
        matches = np.stack((i, j), 1)[same]
        move = eyes[first] - eyes[second]
        placed = (Placement(np.eye(3), move, 0.0, 1.0), Placement(np.eye(3), -move, 0.0, 1.0))
        pairs.append(ViewPair((first, second), matches, placed, (matches[:, 0], matches[:, 1])))
    absence = absences(Views(photos, pairs))[0]
    assert absence is not None and absence[0].lacking > 10
    assert (absence[0].missing > 10) == missing and (missing or absence[0].missing == 0)


def test_an_ordinary_house_loses_nothing(tmp_path: Path) -> None:
    ordinary = build(tmp_path, copies=False)
    found = find_doppelgangers(ordinary.database)
    assert len(ordinary.true) > 20 and not ordinary.false and found.num_classified > 10
    assert found.dropped == () and found.warning() is None and not found.is_ambiguous and found.num_loops > 10


def test_without_surroundings_nothing_is_dropped(tmp_path: Path) -> None:
    """Without landmarks no photo shows which side of the house it is of."""
    bare = build(tmp_path, copies=True, num_landmarks=0)
    assert len(bare.false) > 40 and find_doppelgangers(bare.database).suspicious == ()


def test_dropped_pairs_keep_their_raw_matches(doppelgangers: Setting, tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    shutil.copy(doppelgangers.database, path)
    (pair,) = sorted(doppelgangers.false)[:1]
    verified = set(read_colmap_verified(path))
    raw = count_rows(path)
    drop_pairs(path, [pair, (pair[1], pair[0])])  # again is no error
    assert set(read_colmap_verified(path)) == verified - {pair}
    assert count_rows(path) == raw
    with pytest.raises(InvalidValueError, match=r"name of a photo in it.*got 'gone\.png'"):
        drop_pairs(path, [sorted(doppelgangers.false)[1], (pair[0], "gone.png")])
    assert set(read_colmap_verified(path)) == verified - {pair}


def count_rows(path: Path) -> int:
    with sqlite3.connect(path) as opened:
        return int(opened.execute("SELECT COUNT(*) FROM matches WHERE rows > 0").fetchone()[0])
