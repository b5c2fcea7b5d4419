"""The whole chain: what it finds, that a seed repeats it to the bit, that it stops, and what it reports."""

import _thread
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from synthetic_mapping import names_of, synthetic_model

from lightmatch.colmap import interruption
from lightmatch.colmap.database import copy_database
from lightmatch.errors import ReconstructionError
from lightmatch.reconstruction.mapping import mappers
from lightmatch.reconstruction.mapping.history import MappingHistory
from lightmatch.reconstruction.mapping.mappers import FORWARD, map_globally, map_incrementally
from lightmatch.reconstruction.mapping.model_selection import MappingOptions, map_with_selection
from lightmatch.runtime import codec
from lightmatch.sfm.view_graph import (
    connected_photos,
    doubtful_focal_lengths,
    drop_weak_pairs,
)

SEED = 3


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "d.db"
    synthetic_model(path, num_photos=8, num_points=200, noise_px=0.3, params=(500.0, 335.0, 228.0, 0.02))
    with pycolmap.Database.open(path) as opened:  # what EXIF says of a camera
        camera = opened.read_camera(1)
        camera.params = [510.0, 320.0, 240.0, 0.0]
        opened.update_camera(camera)
    return path


def files_of(model: pycolmap.Reconstruction, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    model.write_binary(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_seed_repeats_the_whole_chain_to_the_bit(database: Path, tmp_path: Path) -> None:
    placed: list[int] = []
    attempts: list[str] = []
    results = [
        map_with_selection(database, tmp_path, seed=SEED, on_image=lambda: placed.append(1), on_attempt=attempts.append)
        for _ in range(2)
    ]
    first, second = (files_of(result.models[0], tmp_path / str(n)) for n, result in enumerate(results))
    assert first == second
    without_times = [codec.dumps(timeless(result.history)) for result in results]
    assert without_times[0] == without_times[1]

    result = results[0]
    assert len(placed) == 2 * 8
    assert attempts[:2] == [
        "incremental, default thresholds",
        "merging",
    ]  # complete: nothing for the global one to gain
    assert result.models[0].num_reg_images() == 8
    assert [trial.camera_model for trial in result.history.camera_models if trial.kept] == ["principal point free"]
    assert result.adjust_options.of(1).principal_point
    assert result.history.removed_photos == ()
    assert len(result.uncertainties) == 8
    assert result.score is not None
    assert result.score.is_valid
    assert result.history.photo_scores.keys() == names_of(result.models[0])


def timeless(history: MappingHistory) -> MappingHistory:
    return replace(history, seconds=0.0, attempts=tuple(replace(attempt, seconds=0.0) for attempt in history.attempts))


def test_the_global_mapper_repeats_too_and_leaves_the_database_alone(database: Path, tmp_path: Path) -> None:
    with pycolmap.Database.open(database) as opened:
        before = opened.read_two_view_geometry_num_inliers(), opened.read_camera(1).params.tolist()
    models = [map_globally(database, tmp_path, seed=SEED)[0] for _ in range(2)]
    assert files_of(models[0], tmp_path / "a") == files_of(models[1], tmp_path / "b")
    assert models[0].num_reg_images() == 8
    with pycolmap.Database.open(database) as opened:
        assert before == (opened.read_two_view_geometry_num_inliers(), opened.read_camera(1).params.tolist())
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_known_intrinsics_are_kept_by_both_mappers(database: Path, tmp_path: Path) -> None:
    with pycolmap.Database.open(database) as opened:
        given = list(opened.read_camera(1).params)
    known = frozenset({1})
    for models in (
        map_incrementally(database, tmp_path, seed=SEED, known_cameras=known, colors=False),
        map_globally(database, tmp_path, seed=SEED, known_cameras=known),
    ):
        assert list(models[0].camera(1).params) == given
    options = MappingOptions(known_cameras=known, both_mappers_up_to=0)
    result = map_with_selection(database, tmp_path, seed=SEED, options=options)
    assert list(result.models[0].camera(1).params) == given
    assert [attempt.name for attempt in result.history.attempts] == ["incremental, default thresholds"]


def test_the_global_mapper_is_tried_where_something_is_missing(database: Path, tmp_path: Path) -> None:
    """Most keypoints of one photo are moved, so that its observations are missed however it is placed."""
    copy_database(database, tmp_path / "d.db")
    with pycolmap.Database.open(tmp_path / "d.db") as opened:
        keypoints = opened.read_keypoints(1)
        moved, most = keypoints.copy(), int(0.7 * len(keypoints))
        moved[:most, :2] += np.random.default_rng(0).uniform(-60, 60, (most, 2))
        opened.update_keypoints(1, moved)
    result = map_with_selection(tmp_path / "d.db", tmp_path, seed=SEED)
    assert [attempt.name for attempt in result.history.attempts][:2] == ["incremental, default thresholds", "global"]


def test_photos_are_added_to_a_model(database: Path, tmp_path: Path) -> None:
    model = map_incrementally(database, tmp_path, seed=SEED, colors=False)[0]
    for image_id in sorted(model.reg_image_ids())[5:]:
        model.deregister_frame(model.image(image_id).frame_id)
    extended = map_incrementally(database, tmp_path, seed=SEED, extend=model, start=FORWARD, colors=False)
    assert len(extended) == 1
    assert extended[0].num_reg_images() == 8
    assert model.num_reg_images() == 5


def test_without_matches_there_is_no_model_but_a_history(database: Path, tmp_path: Path) -> None:
    copy_database(database, tmp_path / "d.db")
    with pycolmap.Database.open(tmp_path / "d.db") as opened:
        opened.clear_two_view_geometries()
    result = map_with_selection(tmp_path / "d.db", tmp_path, seed=SEED)
    assert result.models == []
    assert result.score is None
    assert {attempt.why for attempt in result.history.attempts} == {"nothing could be registered"}
    assert codec.loads(MappingHistory, codec.dumps(result.history)) == result.history


def test_weak_pairs_are_dropped_unless_they_connect(database: Path, tmp_path: Path) -> None:
    copy_database(database, tmp_path / "d.db")
    with pycolmap.Database.open(tmp_path / "d.db") as opened:
        strong = opened.num_verified_image_pairs()
    assert strong == 8 * 7 / 2
    assert connected_photos(tmp_path / "d.db") == 8
    assert drop_weak_pairs(tmp_path / "d.db", 10_000) == strong - 7  # a spanning tree stays
    assert connected_photos(tmp_path / "d.db", 10_000) == 0
    assert doubtful_focal_lengths(tmp_path / "d.db") == []
    with pytest.raises(ReconstructionError, match="can be copied"):
        (tmp_path / "broken.db").write_bytes(b"no database" * 100)
        copy_database(tmp_path / "broken.db", tmp_path / "copy.db")


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, even where pytest was started with it ignored: in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("many_photos", [1000, 1], ids=["pipeline", "step by step"])
def test_ctrl_c_stops_the_incremental_mapper(many_photos: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappers, "MANY_PHOTOS", many_photos)
    synthetic_model(tmp_path / "d.db", num_photos=24, num_points=1500, track_length=12)
    placed: list[int] = []

    def on_image() -> None:
        placed.append(1)
        if len(placed) == 5:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        map_incrementally(tmp_path / "d.db", tmp_path, seed=SEED, colors=False, on_image=on_image)
    assert len(placed) < 24  # it did not go on to the last photo
    assert [path.name for path in tmp_path.iterdir()] == ["d.db"]


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_ends_a_process(tmp_path: Path) -> None:
    """The process interrupts us as soon as it runs, and would then wait for an hour."""
    code = f"""
import os, pathlib, signal, time
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
os.kill(os.getppid(), signal.SIGINT)
time.sleep(3600)
"""
    with pytest.raises(KeyboardInterrupt):
        interruption.run_process([sys.executable, "-c", code])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_goes_wrong_in_a_thread_or_a_process_is_told() -> None:
    with pytest.raises(IndexError):
        interruption.run_cancellable(lambda: [][1], lambda: None)
    assert interruption.run_cancellable(lambda: 7, lambda: None) == 7
    status, said = interruption.run_process([sys.executable, "-c", "raise SystemExit('no such luck')"])
    assert status == 1
    assert "no such luck" in said
