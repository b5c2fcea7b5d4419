"""A camera gets a richer lens where that predicts better, and not where it would only fit noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from synthetic_mapping import SIZE, synthetic_model

from lightmatch.colmap.projection import pixels_from_points, rays_from_pixels
from lightmatch.reconstruction.mapping.camera_models import (
    OFFERS,
    CameraModelOffer,
    converted,
    select_camera_models,
    set_camera_model,
)
from lightmatch.reconstruction.mapping.held_out import HeldOutScorer
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, FreeIntrinsics, adjust
from lightmatch.sfm.tracks import read_tracks

OPTIONS = AdjustOptions(threads=1)


def camera(model: str, params: list[float]) -> pycolmap.Camera:
    return pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=params, camera_id=1)


def plain_start(truth: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """The model as the mapper would leave it, with SIMPLE_RADIAL cameras, principal point in the middle."""
    model = pycolmap.Reconstruction(truth)
    for each in model.cameras.values():
        set_camera_model(each, "SIMPLE_RADIAL", np.array([each.mean_focal_length(), SIZE[0] / 2, SIZE[1] / 2, 0.0]))
    adjust(model, OPTIONS)
    return model


def enriched(folder: Path, lens: str, params: list[float], options: AdjustOptions = OPTIONS) -> tuple[Any, ...]:
    truth = synthetic_model(
        folder / "d.db", num_photos=10, num_points=400, track_length=8, noise_px=0.3, model=lens, params=params
    )
    model = plain_start(truth)
    scorer = HeldOutScorer(read_tracks(folder / "d.db"))
    before = scorer.score(model, options)
    after_options, trials = select_camera_models(model, scorer, options)
    return truth, model, trials, before, scorer.score(model, after_options), after_options


@pytest.mark.parametrize("name", ["RADIAL", "OPENCV", "FULL_OPENCV", "THIN_PRISM_FISHEYE"])
def test_a_lens_is_carried_over_to_a_richer_model(name: str) -> None:
    plain = camera("SIMPLE_RADIAL", [500.0, 330.0, 236.0, -0.08])
    rich = camera(name, converted(plain, name).tolist())
    grid = np.stack(np.meshgrid(np.linspace(0, SIZE[0], 9), np.linspace(0, SIZE[1], 7)), -1).reshape(-1, 2)
    rays = np.column_stack((rays_from_pixels(plain, grid), np.ones(len(grid))))
    limit_px = 0.3 if "FISHEYE" in name else 1e-3  # a fisheye's polynomial is another one
    assert np.abs(pixels_from_points(rich, rays) - grid).max() < limit_px
    assert rich.principal_point_x == 330.0


def test_a_shifted_principal_point_is_found(tmp_path: Path) -> None:
    _, model, trials, before, after, options = enriched(tmp_path, "SIMPLE_RADIAL", [500.0, 335.0, 228.0, 0.02])
    assert [trial.camera_model for trial in trials if trial.kept] == ["principal point free"]
    assert options.of(1).principal_point
    np.testing.assert_allclose(
        [model.camera(1).principal_point_x, model.camera(1).principal_point_y], [335, 228], atol=2
    )
    assert after.area > before.area + 0.05


def test_two_focal_lengths_are_found(tmp_path: Path) -> None:
    _, model, trials, *_ = enriched(tmp_path, "OPENCV", [500.0, 520.0, 320.0, 240.0, 0.02, 0, 0, 0])
    assert "OPENCV" in [trial.camera_model for trial in trials if trial.kept]
    assert model.camera(1).focal_length_y / model.camera(1).focal_length_x == pytest.approx(1.04, abs=0.003)


def test_a_plain_camera_stays_plain(tmp_path: Path) -> None:
    truth, model, trials, *_ = enriched(tmp_path, "SIMPLE_RADIAL", [500.0, 320.0, 240.0, 0.02])
    assert {trial.camera_model for trial in trials} == {"RADIAL", "OPENCV", "principal point free"}
    assert not any(trial.kept for trial in trials)
    assert model.camera(1).model_name == truth.camera(1).model_name


def test_known_intrinsics_are_never_touched(tmp_path: Path) -> None:
    known = AdjustOptions(cameras={1: KNOWN}, threads=1)
    truth = synthetic_model(tmp_path / "d.db", params=[500.0, 335.0, 228.0, 0.02])
    truth.camera(1).params = [505.0, 320.0, 240.0, 0.0]  # whatever was said, it is honoured
    options, trials = select_camera_models(truth, HeldOutScorer(read_tracks(tmp_path / "d.db")), known)
    assert trials == []
    assert options == known
    adjust(truth, known)
    assert list(truth.camera(1).params) == [505.0, 320.0, 240.0, 0.0]


def test_few_photos_keep_the_plain_camera(tmp_path: Path) -> None:
    truth = synthetic_model(tmp_path / "d.db", num_photos=3, track_length=3, params=[500.0, 335.0, 228.0, 0.02])
    _, trials = select_camera_models(plain_start(truth), HeldOutScorer(read_tracks(tmp_path / "d.db")), OPTIONS)
    assert trials == []
    assert min(lens.min_photos for lens in OFFERS) > 3


def test_an_offer_that_fits_nothing_changes_nothing(tmp_path: Path) -> None:
    truth = synthetic_model(tmp_path / "d.db")
    before = list(truth.camera(1).params)
    poorer = (CameraModelOffer("SIMPLE_RADIAL", FreeIntrinsics(), 1, 1),)  # not richer than what is there
    _, trials = select_camera_models(truth, HeldOutScorer(read_tracks(tmp_path / "d.db")), OPTIONS, poorer)
    assert trials == []
    assert list(truth.camera(1).params) == before


def test_cameras_that_differ_in_what_is_free_take_turns(tmp_path: Path) -> None:
    truth = synthetic_model(tmp_path / "d.db", params=[500.0, 335.0, 228.0, 0.02], noise_px=0.2)
    model = pycolmap.Reconstruction(truth)
    other = pycolmap.Camera(model.camera(1).todict())
    other.camera_id = 2
    model.add_camera_with_trivial_rig(other)
    for each in model.cameras.values():
        each.params = [490.0, 330.0, 235.0, 0.0]
    both = {1: FreeIntrinsics(principal_point=True), 2: KNOWN}
    adjust(model, AdjustOptions(cameras=both, threads=1))
    assert list(model.camera(2).params) == [490.0, 330.0, 235.0, 0.0]
    assert model.camera(1).focal_length == pytest.approx(500, abs=2)
