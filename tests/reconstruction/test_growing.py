"""More photos than COLMAP's pipeline solves directly are mapped as well as fewer are by the pipeline."""

import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from synthetic_mapping import names_of, position_errors, synthetic_model

from lightmatch.reconstruction import drop_pairs
from lightmatch.reconstruction.mapping import mappers
from lightmatch.reconstruction.mapping.mappers import FORWARD, map_incrementally

SEED, PHOTOS = 3, 12


@pytest.fixture(scope="module")
def truth_and_database(tmp_path_factory: pytest.TempPathFactory) -> tuple[pycolmap.Reconstruction, Path]:
    path = tmp_path_factory.mktemp("scene") / "d.db"
    return synthetic_model(path, num_photos=PHOTOS, num_points=400, noise_px=0.3), path


@pytest.fixture
def database(truth_and_database: tuple[pycolmap.Reconstruction, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(truth_and_database[1], tmp_path / "d.db"))


def both_ways(
    database: Path, monkeypatch: pytest.MonkeyPatch, **options: object
) -> tuple[list[pycolmap.Reconstruction], list[pycolmap.Reconstruction]]:
    """Models by COLMAP's own pipeline, and step by step."""
    ours: list[list[pycolmap.Reconstruction]] = []
    for many in (1000, 1):
        monkeypatch.setattr(mappers, "MANY_PHOTOS", many)
        ours.append(map_incrementally(database, database.parent, seed=SEED, colors=False, **options))  # type: ignore[arg-type]
    return ours[0], ours[1]


def centers(model: pycolmap.Reconstruction) -> np.ndarray:
    return np.array([model.image(number).projection_center() for number in sorted(model.reg_image_ids())])


def test_the_model_is_that_of_colmaps_pipeline(
    truth_and_database: tuple[pycolmap.Reconstruction, Path], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[int] = []
    (whole,), (grown,) = both_ways(database, monkeypatch, on_image=lambda: placed.append(1))
    assert names_of(grown) == names_of(whole) and len(placed) == 2 * PHOTOS
    assert grown.num_points3D() == whole.num_points3D()
    np.testing.assert_allclose(centers(grown), centers(whole), atol=1e-4)
    assert position_errors(grown, truth_and_database[0]).max() < 2e-3


def test_a_set_of_two_parts_gives_two_models(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pycolmap.Database.open(database) as opened:
        names = sorted(image.name for image in opened.read_all_images())
    drop_pairs(database, [(a, b) for a in names[:7] for b in names[7:]])
    whole, grown = both_ways(database, monkeypatch)
    assert [names_of(model) for model in grown] == [set(names[:7]), set(names[7:])]
    assert [names_of(model) for model in whole] == [set(names[:7]), set(names[7:])]


def test_photos_without_matches_give_no_model(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pycolmap.Database.open(database) as opened:
        opened.clear_two_view_geometries()
    assert both_ways(database, monkeypatch) == ([], [])


def test_photos_are_added_to_a_model(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappers, "MANY_PHOTOS", 1)
    (model,) = map_incrementally(database, database.parent, seed=SEED, colors=False)
    for image_id in sorted(model.reg_image_ids())[7:]:
        model.deregister_frame(model.image(image_id).frame_id)
    placed: list[int] = []
    (extended,) = map_incrementally(
        database,
        database.parent,
        seed=SEED,
        extend=model,
        start=FORWARD,
        colors=False,
        on_image=lambda: placed.append(1),
    )
    assert extended.num_reg_images() == PHOTOS and len(placed) == PHOTOS - 7
    assert model.num_reg_images() == 7


def test_known_intrinsics_are_kept(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pycolmap.Database.open(database) as opened:
        given = list(opened.read_camera(1).params)
    for (model,) in both_ways(database, monkeypatch, known_cameras=frozenset({1})):
        assert list(model.camera(1).params) == given
