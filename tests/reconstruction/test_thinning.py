"""Fewer matches for mapping: every photo keeps enough, every pair what connects it."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from seen_points import see, verify, write_database

from lightmatch.colmap.database import open_database
from lightmatch.reconstruction import database_to_map, restore_matches, with_all_points
from lightmatch.reconstruction.mapping import thinning
from lightmatch.reconstruction.mapping.mappers import map_incrementally
from lightmatch.reconstruction.mapping.shared_cameras import give_photos_cameras
from lightmatch.reconstruction.mapping.thinning import thin_matches, thin_points
from lightmatch.scenes import camera_ring, pinhole
from lightmatch.sfm.tracks import read_tracks

SIZE = (640, 480)
NAMES = [f"{n}.png" for n in range(8)]
POSES = camera_ring((0, 0, 0), 6.0, 2.0, 8, 0.03, torch.Generator().manual_seed(0), arc_deg=100).double()
POINTS = 1.5 * torch.randn((900, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thinning")
    seen = see(NAMES, POSES, pinhole(60.0, SIZE).double(), SIZE, POINTS, noise_px=0.5)
    path = write_database(folder, seen, [NAMES], model="SIMPLE_RADIAL")
    verify(path)
    return path


def observations(database: Path) -> np.ndarray:
    tracks = read_tracks(database)
    return np.bincount(tracks.photos, minlength=len(tracks.names))


def test_every_photo_keeps_as_many_observations_as_wanted(database: Path, tmp_path: Path) -> None:
    before = observations(database)
    left = thin_matches(database, tmp_path / "thin.db", wanted=100)
    after = observations(tmp_path / "thin.db")
    assert (before > 250).all() and (after >= 100).all() and (after < 0.7 * before).all()
    with open_database(tmp_path / "thin.db") as thinned, open_database(database) as full:
        assert sum(thinned.num_verified().values()) == left < 0.7 * sum(full.num_verified().values())
        assert thinned.num_verified().keys() == full.num_verified().keys()
        kept = {pair: set(map(tuple, thinned.inliers(pair).tolist())) for pair in full.num_verified()}
        assert all(matches <= set(map(tuple, full.inliers(pair).tolist())) for pair, matches in kept.items())
        configs = [{pair: geometry.config for pair, geometry in opened.verified()} for opened in (thinned, full)]
        assert configs[0] == configs[1]


def test_pairs_that_would_keep_few_matches_keep_all(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thinning, "FEWEST", 10_000)
    thin_matches(database, tmp_path / "thin.db", wanted=20)
    assert (observations(tmp_path / "thin.db") == observations(database)).all()


def test_a_model_of_fewer_matches_has_all_photos_and_gets_all_points(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database_to_map(database, tmp_path / "thin.db") == database
    assert not (tmp_path / "thin.db").exists()
    monkeypatch.setattr(thinning, "FEW_PHOTOS", 7)
    monkeypatch.setattr(thinning, "WANTED", 60)
    thin = database_to_map(database, tmp_path / "thin.db")
    models = [map_incrementally(path, database.parent / "images", seed=0)[0] for path in (thin, database)]
    assert [model.num_reg_images() for model in models] == [8, 8]
    assert models[0].num_points3D() < 0.7 * models[1].num_points3D()
    dense = with_all_points(models[0], database, 0)
    assert dense.num_points3D() > 0.9 * models[1].num_points3D()
    assert isinstance(dense, pycolmap.Reconstruction) and dense.num_reg_images() == 8


def test_a_database_with_other_cameras_gets_all_matches_again(database: Path, tmp_path: Path) -> None:
    thin_matches(database, tmp_path / "thin.db", wanted=60)
    own = tmp_path / "own.db"
    give_photos_cameras(tmp_path / "thin.db", own, database.parent / "images", "SIMPLE_RADIAL", NAMES[2:4])
    with open_database(database) as full, open_database(own, write=True) as opened:
        before = sum(opened.num_verified().values())
        camera = opened.camera_of(NAMES[2])
        camera.focal_length = 1234.0
        opened.update_camera(camera)
        assert full.photo(NAMES[2]).image_id != opened.photo(NAMES[2]).image_id
    restore_matches(own, database)
    with open_database(database) as full, open_database(own) as opened:
        assert sum(opened.num_verified().values()) == sum(full.num_verified().values()) > before
        for pair in full.num_verified():
            assert sorted(map(tuple, opened.inliers(pair))) == sorted(map(tuple, full.inliers(pair)))
        assert len(opened.cameras) == 3 and opened.camera_of(NAMES[2]).focal_length == 1234.0


def test_the_points_of_a_large_model_become_those_that_photos_need(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = map_incrementally(database, database.parent / "images", seed=0)[0]
    before = {number: point.track.length() for number, point in model.points3D.items()}
    thin_points(model)
    assert model.num_points3D() == len(before)  # eight photos are few
    monkeypatch.setattr(thinning, "FEW_PHOTOS", 7)
    monkeypatch.setattr(thinning, "WANTED", 60)
    thin_points(model)
    kept = model.points3D.keys()
    assert min(model.image(n).num_points3D for n in model.reg_image_ids()) >= 60 and len(kept) < 0.5 * len(before)
    assert np.mean([before[n] for n in kept]) > np.mean([before[n] for n in before.keys() - kept])
