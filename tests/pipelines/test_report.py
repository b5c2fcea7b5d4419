"""A finished run's folder → its page: what is read from it, exactly, and what may be missing."""

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from summary_example import SCORE, SUMMARY

from lightmatch.colmap.model_files import read_colmap_model, write_colmap_model
from lightmatch.colmap.model_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from lightmatch.errors import InvalidValueError, LightmatchError, ReconstructionError
from lightmatch.pipelines.reconstruct import ReconstructConfig
from lightmatch.pipelines.reconstruct.report import page_data, write_report
from lightmatch.pipelines.reconstruct.verification import DroppedPair, PairSummary
from lightmatch.pipelines.report_models import page_models
from lightmatch.reconstruction import FrameSummary
from lightmatch.reconstruction.diagnostics.capture_advice import Advice
from lightmatch.reconstruction.diagnostics.reasons import LeftOut
from lightmatch.reconstruction.mapping.cleaning import RemovedPhoto
from lightmatch.reconstruction.mapping.held_out import Comparison
from lightmatch.reconstruction.mapping.history import Attempt
from lightmatch.reconstruction.refinement.reregistration import ReregistrationTrial
from lightmatch.reconstruction.refinement.steps import RematchTrial
from lightmatch.report.page import PageData
from lightmatch.runtime import codec
from lightmatch.sfm.uncertainty import CameraUncertainty

WIDTH, HEIGHT, FOCAL, K1 = 64, 48, 60.0, 0.05
# Where the keypoints lie off the projections, in px: by photo.
OFFSETS = np.array([[0.5, 0.0], [0.0, -0.25], [-1.0, 1.0]])
PLACED = ("a/zero.png", "a/один.png", "b/two.png")
TIMES_SEEN = 6  # points; keypoints 6 and 7 see none


def points() -> np.ndarray:
    return np.random.default_rng(0).uniform((-1, -1, 4), (1, 1, 6), (TIMES_SEEN, 3))


def camera_at(photo: int) -> np.ndarray:
    return np.concatenate((np.eye(3), [[-0.5 * photo], [0], [0]]), 1)


def project(xyz: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """SIMPLE_RADIAL in our pixels, from its formula."""
    seen = xyz @ pose[:, :3].T + pose[:, 3]
    flat = seen[:, :2] / seen[:, 2:]
    flat = flat * (1 + K1 * (flat**2).sum(1, keepdims=True))
    return FOCAL * flat + np.array([WIDTH, HEIGHT]) / 2 - 0.5


def keypoints(photo: int) -> np.ndarray:
    """(8, 2) in our pixels; a photo that is not placed has the first one's."""
    return np.concatenate((project(points(), camera_at(photo)) + OFFSETS[photo], [[1.0, 2.0], [3.0, 4.0]]))


def write_model(folder: Path, photos: list[int], num_points: int = TIMES_SEEN, num_keypoints: int = 8) -> None:
    camera = ColmapCamera(1, "SIMPLE_RADIAL", WIDTH, HEIGHT, (FOCAL, WIDTH / 2, HEIGHT / 2, K1))
    rows = torch.arange(num_points)
    images = {
        photo + 1: ColmapImage(
            photo + 1,
            PLACED[photo],
            1,
            torch.from_numpy(camera_at(photo)),
            torch.from_numpy(keypoints(photo)[:num_keypoints]),
            rows,
            rows,
        )
        for photo in photos
    }
    found = ColmapPoints(
        rows + 1,
        torch.from_numpy(points()[:num_points]),
        torch.arange(3 * num_points, dtype=torch.uint8).reshape(-1, 3),
        torch.full((num_points,), 0.7, dtype=torch.float64),
    )
    folder.mkdir(parents=True)
    write_colmap_model(ColmapModel({1: camera}, images, found), folder, binary=True)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """OUT of three placed photos, one that matches nothing (a copy made of a HEIC) and one that cannot be read."""
    import pycolmap

    folder = tmp_path / "Tour"
    copies = [*PLACED, "c/lost.heic.jpg"]
    for number, name in enumerate(copies):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 50 * number, np.uint8)).save(folder / "images" / name)
    write_model(folder / "sparse" / "0", [0, 1, 2])
    pycolmap.Database.open(folder / "database.db").close()
    for name in reversed(copies):  # camera by camera, as a run does: so numbers do not follow names
        pycolmap.import_images(folder / "database.db", folder / "images", image_names=[name])
    with pycolmap.Database.open(folder / "database.db") as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for number, name in enumerate(copies):
            database.write_keypoints(ids[name], (keypoints(number % 3) + 0.5).astype(np.float32))
        for name0, name1, num_inliers in (
            (PLACED[0], PLACED[1], 5),
            (PLACED[2], PLACED[0], 3),
            (PLACED[1], copies[3], 0),
        ):
            found = np.stack((np.arange(TIMES_SEEN), (np.arange(TIMES_SEEN) + 2)), 1).astype(np.uint32)
            database.write_matches(ids[name0], ids[name1], found)
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.inlier_matches = found[:num_inliers]
            database.write_two_view_geometry(ids[name0], ids[name1], geometry)
    codec.write(folder / "summary.json", WRITTEN)
    return folder


WRITTEN = replace(
    SUMMARY,
    photos=replace(
        SUMMARY.photos,
        not_registered=(
            LeftOut("c/lost.heic", "no verified matches", "no overlap", "move closer"),
            LeftOut("bad.jpg", "unreadable: truncated", "unreadable"),
        ),
        sources={**{name: name for name in PLACED}, "c/lost.heic.jpg": "c/lost.heic"},
    ),
    model=replace(SUMMARY.model, num_points=TIMES_SEEN),
    config=ReconstructConfig("sift"),
)


def rewrite(folder: Path, **changes: Any) -> None:
    codec.write(folder / "summary.json", replace(WRITTEN, **changes))


def row(data: PageData, name: str) -> int:
    return [photo.name for photo in data.photos].index(name)


def test_residuals_are_projection_minus_keypoint(output: Path) -> None:
    model = page_data(output).models[0]
    for camera, photo in enumerate(PLACED):
        assert page_data(output).photos[model.photos[camera]].name == photo
        first, last = model.starts[camera], model.starts[camera + 1]
        expected = np.tile(-OFFSETS[PLACED.index(photo)], (TIMES_SEEN, 1))
        np.testing.assert_allclose(model.residuals_px[first:last], expected, atol=1e-6)
        # Shares count from the photo's corner, half a pixel before the centre of its first pixel.
        places = (keypoints(PLACED.index(photo))[:TIMES_SEEN] + 0.5) / (WIDTH, HEIGHT)
        np.testing.assert_allclose(model.places[first:last], places, atol=1e-6)
    assert model.track_lengths.tolist() == [3] * TIMES_SEEN
    np.testing.assert_array_equal(model.points, points())


def test_lens_tells_focal_length_and_view(output: Path) -> None:
    model = page_data(output).models[0]
    (lens,) = model.lens_table
    assert (lens.model, lens.focal_px, dict(lens.params)["k1"]) == ("SIMPLE_RADIAL", FOCAL, K1)
    assert lens.field_of_view_deg is not None
    assert 50 < lens.field_of_view_deg < np.degrees(2 * np.arctan(WIDTH / 2 / FOCAL)) + 0.1
    # Cameras that stand level: up is against what they call down.
    np.testing.assert_allclose(model.up, (0, -1, 0), atol=1e-6)


def test_wide_lenses_have_no_field_of_view_of_their_drawing(output: Path) -> None:
    folder = output / "sparse" / "0"
    model = read_colmap_model(folder)
    upright = ColmapCamera(1, "PINHOLE", HEIGHT, WIDTH, (15.0, 15.0, HEIGHT / 2, WIDTH / 2))  # 130° high
    rows = {name: row for row, name in enumerate(PLACED)}
    (page,) = page_models([folder], [replace(model, cameras={1: upright})], rows)
    assert page.lens_table[0].field_of_view_deg is None
    assert (page.half_sizes > 0).all() and np.isclose(page.half_sizes[0, 0] / page.half_sizes[0, 1], HEIGHT / WIDTH)


def test_of_a_sample_of_points_the_photos_have_the_observations_of_all(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightmatch.pipelines.report_models.MAX_POINTS", 2)
    (model,) = page_data(output).models
    assert (len(model.points), model.num_points, np.diff(model.starts).tolist()) == (2, TIMES_SEEN, [2, 2, 2])
    assert model.num_observations is not None and model.num_observations.tolist() == [TIMES_SEEN] * 3


def test_missing_photos_are_told_by_their_own_names(output: Path) -> None:
    data = page_data(output)
    lost, bad = data.photos[row(data, "c/lost.heic")], data.photos[row(data, "bad.jpg")]
    assert (lost.reason, lost.advice, lost.num_keypoints) == ("no verified matches", "move closer", 8)
    assert lost.thumbnail and lost.size == (WIDTH, HEIGHT)
    assert bad.reason == "unreadable: truncated" and not bad.thumbnail and bad.size is None
    assert len(data.photos) == 5 and not (lost.is_duplicate or bad.is_duplicate)


def test_copies_of_photos_are_told_apart(output: Path) -> None:
    copy = LeftOut.same_file("copy.png", PLACED[0])
    rewrite(output, photos=replace(WRITTEN.photos, not_registered=(*WRITTEN.photos.not_registered, copy)))
    assert [photo.name for photo in page_data(output).photos if photo.is_duplicate] == ["copy.png"]


def test_photos_frames_and_views_are_told_beside_their_working_copies(output: Path) -> None:
    sources = {
        "d/x~2.png": "d/x.png",
        "f/z.heic.jpg": "f/z.heic",
        "clip/000010.jpg": "clip.mp4 at 0.67 s",
        "p/front.jpg": "p.jpg, front",
    }
    with closing(sqlite3.connect(output / "database.db")) as database, database:
        for number, name in enumerate(sources):
            database.execute("INSERT INTO images VALUES (?, ?, 1)", (90 + number, name))
    (output / "images" / "clip").mkdir()
    shutil.copy(output / "images" / PLACED[0], output / "images" / "clip" / "000010.jpg")
    not_registered = tuple(LeftOut(own, f"about {own}") for own in sources.values())
    rewrite(output, photos=replace(WRITTEN.photos, not_registered=not_registered, sources=sources))
    data = page_data(output)
    assert [data.photos[row(data, own)].reason for own in sources.values()] == [
        f"about {own}" for own in sources.values()
    ]
    assert data.photos[row(data, "clip.mp4 at 0.67 s")].thumbnail
    assert len(data.photos) == 4 + len(sources)


def test_pairs_have_counts_and_lines_of_inliers(output: Path) -> None:
    data = page_data(output)
    assert data.pairs is not None
    told = {tuple(pair): row for row, pair in enumerate(data.pairs.photos.tolist())}
    zero, two = row(data, PLACED[0]), row(data, PLACED[2])
    assert zero < two
    at = told[(zero, two)]
    assert (data.pairs.num_matches[at], data.pairs.num_inliers[at]) == (TIMES_SEEN, 3)
    lines = data.pairs.lines[data.pairs.starts[at] : data.pairs.starts[at + 1]]
    # Keypoints 0, 1, 2 of photo two match 2, 3, 4 of photo zero.
    ends = [(keypoints(0)[2:5] + 0.5) / (WIDTH, HEIGHT), (keypoints(2)[:3] + 0.5) / (WIDTH, HEIGHT)]
    np.testing.assert_allclose(lines, np.concatenate(ends, 1), atol=1e-6)
    assert len(told) == 2  # a pair without inliers is none


@pytest.mark.parametrize("has_database", [True, False])
def test_inliers_are_those_that_lines_are_drawn_of(output: Path, has_database: bool) -> None:
    """Guided matching gives a pair other verified matches than summary.json tells of."""
    names = (PLACED[0], PLACED[1])
    rewrite(output, pairs=(PairSummary(*names, 9, 0, 2, 0.9), PairSummary(PLACED[2], PLACED[0], 7, 0, 0, 0.5)))
    if not has_database:
        (output / "database.db").unlink()
    data = page_data(output)
    assert data.pairs is not None and data.pairs.num_verified is not None
    found = zip(data.pairs.num_matches, data.pairs.num_verified, data.pairs.num_inliers, strict=True)
    assert sorted(map(tuple, found)) == ([(7, 0, 3), (9, 2, 5)] if has_database else [(9, 2, 2)])
    num_lines = data.pairs.num_inliers.tolist() if has_database else [0]
    assert np.diff(data.pairs.starts).tolist() == num_lines


def test_keypoints_that_see_no_point_are_told_apart(output: Path) -> None:
    data = page_data(output)
    photo = row(data, PLACED[1])
    idle = data.idle_places[data.idle_starts[photo] : data.idle_starts[photo + 1]]
    np.testing.assert_allclose(idle, (np.array([[1.0, 2.0], [3.0, 4.0]]) + 0.5) / (WIDTH, HEIGHT), atol=1e-6)
    lost = row(data, "c/lost.heic")
    assert data.idle_starts[lost + 1] - data.idle_starts[lost] == 8


def test_figures_and_options(output: Path) -> None:
    data = page_data(output)
    figures = {figure.label: figure.value for figure in data.figures}
    assert figures["Points"] == "6" and figures["Reprojection error, mean"] == "0.71\u202fpx"
    options = dict(data.options)
    assert (options["Features"], options["Seed"], options["Rig"]) == ("sift", "", "no") and data.title == "Tour"


def test_what_a_run_found_is_shown(output: Path) -> None:
    better = Comparison(0.1, 0.05, 0.2)
    removed = RemovedPhoto("far.jpg", 40.0, 12, 0.1, None, ("far from the others", "seen under small angles"))
    attempts = (
        Attempt("incremental", 1.0, (2,), 5, SCORE, None, True, "the first"),
        Attempt("global", 1.0, (3,), 6, SCORE, better, True, "better"),
        Attempt("relaxed", 1.0, (), 0, None, None, False, "nothing could be registered"),
    )
    assert WRITTEN.history.mapping is not None
    mapping = replace(WRITTEN.history.mapping, attempts=attempts, removed_photos=(removed,))
    refinement = replace(
        WRITTEN.history.refinement,
        rematches=(RematchTrial("9 points instead of 6", better, False, "worse"),),
        reregistrations=(ReregistrationTrial("b/two.png", True, "5 of 6 matches agree"),),
    )
    rewrite(
        output,
        warnings=("look-alikes",),
        advice=(Advice("gap", "more photos", ()),),
        history=replace(WRITTEN.history, mapping=mapping, refinement=refinement),
        uncertainties=(CameraUncertainty(PLACED[0], 0.02, 0.3), CameraUncertainty("unknown.jpg", 1.0, 1.0)),
        frame=FrameSummary(True, "m", True, (0.0, 0.0, 1.0), "gps", 0.5, notes=("a note",)),
        doppelgangers=(
            DroppedPair(PLACED[1], PLACED[2], "same door"),
            DroppedPair("gone", PLACED[0], "same door"),
        ),
        pairs=(PairSummary(PLACED[1], PLACED[0], 9, 0, 7, 0.9),),
    )
    data = page_data(output)
    photo = data.photos[row(data, PLACED[0])]
    assert (photo.position_uncertainty, photo.rotation_uncertainty_deg) == (0.02, 0.3)
    assert dict(data.frame) == {
        "Metric": "yes",
        "Unit of length": "m",
        "Upright": "yes",
        "Up direction from": "gps",
        "Up, uncertainty": "0.5°",
        "Note": "a note",
    }
    assert data.unit == "m" and data.models[0].up == (0, 0, 1)
    assert data.warnings == ("look-alikes",) and data.advice == ("more photos",)
    assert [(step.step, step.candidates, step.kept, step.why) for step in data.history] == [
        ("mapping", "incremental: 2 photos; global: 3 photos; relaxed: none", "global", "better"),
        ("matching again", "9 points instead of 6", "unchanged", "worse"),
        ("re-registration", "b/two.png", "b/two.png", "5 of 6 matches agree"),
        ("cleaning", "", "far.jpg removed", "far from the others; seen under small angles"),
    ]
    assert len(data.doppelgangers) == 1 and data.doppelgangers[0].reason == "same door"
    assert data.pairs is not None
    told = {tuple(pair): at for at, pair in enumerate(data.pairs.photos.tolist())}
    at = told[tuple(sorted((row(data, PLACED[0]), row(data, PLACED[1]))))]
    assert (data.pairs.num_matches[at], data.pairs.num_inliers[at]) == (9, 5)
    assert data.pairs.probability is not None and data.pairs.probability[at] == 0.9
    dropped = told[tuple(sorted((data.doppelgangers[0].photo0, data.doppelgangers[0].photo1)))]
    assert data.pairs.num_inliers[dropped] == 0 and np.isnan(data.pairs.probability[dropped])
    assert data.pairs.num_found == 2 and len(told) == 3  # a dropped pair is no verified one


def test_a_photo_in_a_lesser_model_is_there(output: Path) -> None:
    write_model(output / "sparse" / "1", [1, 2])
    write_model(output / "sparse" / "10", [0, 1])
    data = page_data(output)
    assert [model.name for model in data.models] == ["sparse/0", "sparse/1", "sparse/10"]
    assert sum(len(model.points) for model in data.models) == 3 * TIMES_SEEN


def test_page_without_database_or_copies(output: Path) -> None:
    (output / "database.db").unlink()
    (output / "images" / PLACED[0]).unlink()
    data = page_data(output)
    assert data.pairs is None and data.photos[row(data, PLACED[0])].thumbnail == b""
    assert data.photos[row(data, PLACED[1])].num_keypoints == 8
    assert write_report(output) == output / "report.html"


def test_without_database_the_best_model_of_a_photo_has_its_keypoints(output: Path) -> None:
    write_model(output / "sparse" / "1", [0, 1], num_points=3, num_keypoints=4)
    (output / "database.db").unlink()
    data = page_data(output)
    assert [data.photos[row(data, name)].num_keypoints for name in PLACED] == [8, 8, 8]


def test_page_repeats_to_the_byte_and_leaves_the_run_alone(output: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}
    first = write_report(output).read_bytes()
    assert write_report(output).read_bytes() == first
    assert before == {path: path.read_bytes() for path in before}
    assert {path for path in output.rglob("*") if path.is_file()} - set(before) == {output / "report.html"}
    assert not re.search(
        rb"\d{4}-\d\d-\d\d|" + re.escape(str(output.parent).encode()), first.split(b'id="meta"')[1][:4000]
    )


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda out: (out / "summary.json").unlink(), ReconstructionError, "no summary.json"),
        (lambda out: (out / "summary.json").write_text("{"), ReconstructionError, "damaged text"),
        (lambda out: (out / "database.db").write_bytes(b"no database" * 99), InvalidValueError, "COLMAP database"),
        (lambda out: (out / "summary.json").write_text("[]"), ReconstructionError, r"expected an object, got \[\]"),
        (
            lambda out: (out / "summary.json").write_text('{"num_images": 3}'),
            ReconstructionError,
            "expected version 2 of the format, got 1; reconstruct again",
        ),
        (
            lambda out: (out / "summary.json").write_text('{"version": 2, "phtos": 3}'),
            ReconstructionError,
            "expected only the keys version, photos, model",
        ),
        (lambda out: (out / "sparse" / "0" / "points3D.bin").unlink(), ReconstructionError, "none; name the folder"),
        (lambda out: (out / "sparse" / "0" / "images.bin").write_bytes(b"\1"), InvalidValueError, "damaged"),
    ],
)
def test_folders_that_are_no_run_are_refused(output: Path, spoil, error: type[LightmatchError], words: str) -> None:
    spoil(output)
    with pytest.raises(error, match=words):
        write_report(output)
    assert not (output / "report.html").exists()
