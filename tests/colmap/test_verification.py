"""What goes into COLMAP: indices in range, pixels shifted once, cameras shared by who took the photo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags
from PIL import Image as PillowImage

from lightmatch.errors import InvalidValueError
from lightmatch.reconstruction import MatchDatabase, group_by_camera, verified_matches
from lightmatch.runtime.threads import num_threads, use_threads
from lightmatch.types import FeatureKind, Features, Matches

KIND = FeatureKind("plain", 2)
SIZE = (64, 48)


def save_photo(path: Path, size: tuple[int, int] = SIZE, model: str | None = None, focal_mm: float = 4.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = PillowImage.Exif()
    if model is not None:
        exif[ExifTags.Base.Model] = model
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = int(focal_mm)
    PillowImage.new("RGB", size).save(path, exif=exif)


def features(*keypoints: tuple[float, float]) -> Features:
    n = len(keypoints)
    return Features(torch.tensor(keypoints, dtype=torch.float32), torch.ones(n), torch.zeros(n, 2), SIZE, KIND)


@pytest.fixture
def database(tmp_path: Path) -> MatchDatabase:
    for name in ("a.png", "b.png"):
        save_photo(tmp_path / "images" / name)
    return MatchDatabase(tmp_path / "d.db", tmp_path / "images", [["a.png", "b.png"]], "SIMPLE_RADIAL")


def matches(*indices: tuple[int, int]) -> Matches:
    return Matches(torch.tensor(indices), torch.ones(len(indices)))


def test_the_half_pixel_is_added_once(database: MatchDatabase) -> None:
    import pycolmap

    database.write(
        {"a.png": features((0, 0), (3, 4)), "b.png": features((1, 1))}, [(("a.png", "b.png"), matches((1, 0)))]
    )
    with pycolmap.Database.open(database.path) as opened:
        ids = {image.name: image.image_id for image in opened.read_all_images()}
        np.testing.assert_allclose(opened.read_keypoints(ids["a.png"])[:, :2], [[0.5, 0.5], [3.5, 4.5]])
        np.testing.assert_array_equal(opened.read_matches(ids["a.png"], ids["b.png"]), [[1, 0]])


def test_an_index_out_of_range_never_reaches_colmap(database: MatchDatabase) -> None:
    with pytest.raises(InvalidValueError, match=r"a.png – b.png: expected indices below 1 and 1"):
        database.write({"a.png": features((0, 0)), "b.png": features((1, 1))}, [(("a.png", "b.png"), matches((0, 1)))])


@pytest.mark.parametrize(("focal_mm", "believed"), [(1, False), (11, True), (28, True), (300, True), (65535, False)])
def test_a_focal_length_that_no_lens_has_is_not_believed(
    focal_mm: int, believed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import pycolmap

    save_photo(tmp_path / "images" / "a.jpg", (640, 480), model="some phone", focal_mm=focal_mm)
    database = MatchDatabase(tmp_path / "d.db", tmp_path / "images", [["a.jpg"]], "SIMPLE_RADIAL")
    with pycolmap.Database.open(database.path) as opened:
        (camera,) = opened.read_all_cameras()
    assert camera.has_prior_focal_length is believed
    if believed:
        assert camera.mean_focal_length() == pytest.approx(focal_mm / 36 * 640, rel=0.1)
    else:
        assert camera.mean_focal_length() == pytest.approx(1.2 * 640)
    assert ("cannot be" in caplog.text) is not believed


def test_an_unknown_camera_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="expected one of SIMPLE_PINHOLE"):
        MatchDatabase(tmp_path / "d.db", tmp_path, [], "PINHOLES")


def see_two(folder: Path, num_true: int, num_false: int) -> MatchDatabase:
    """Two photos of points in depth, some matched rightly and some at random."""
    rng = np.random.default_rng(0)
    size = (640, 480)
    for name in ("a.png", "b.png"):
        save_photo(folder / "images" / name, size)
    points = rng.uniform((-2, -1.5, 4), (2, 1.5, 9), (num_true + num_false, 3))
    pixels = [500 * (points + move)[:, :2] / points[:, 2:] + (320, 240) for move in ((0, 0, 0), (0.6, 0.1, 0))]
    keypoints = [torch.from_numpy(xy + rng.normal(0, 0.3, xy.shape)).float() for xy in pixels]
    count = len(points)
    order = torch.cat((torch.arange(num_true), num_true + torch.from_numpy(rng.permutation(num_false))))
    seen = {
        name: Features(xy, torch.ones(count), torch.zeros(count, 2), size, KIND)
        for name, xy in zip(("a.png", "b.png"), keypoints, strict=True)
    }
    found = Matches(torch.stack((torch.arange(count), order), 1), torch.ones(count))
    database = MatchDatabase(folder / "d.db", folder / "images", [["a.png", "b.png"]], "SIMPLE_RADIAL")
    database.write(seen, [(("a.png", "b.png"), found)])
    return database


def test_verification_keeps_what_agrees_and_counts_its_pairs(tmp_path: Path) -> None:
    database = see_two(tmp_path, 60, 40)
    calls: list[int] = []
    database.verify(seed=0, on_pair=lambda: calls.append(1))
    (count,) = verified_matches(database.path).values()
    assert calls == [1] and 60 <= count < 70
    database.verify(seed=0, on_pair=lambda: calls.append(1))  # again does nothing
    assert calls == [1]


def test_matches_that_agree_by_chance_are_not_kept(tmp_path: Path) -> None:
    database = see_two(tmp_path / "random", 0, 80)
    database.verify(seed=0)
    assert verified_matches(database.path) == {}
    fewer = see_two(tmp_path / "fewer", 20, 10)  # a few that agree are something else
    fewer.verify(seed=0)
    assert next(iter(verified_matches(fewer.path).values())) >= 20


@pytest.fixture
def verified_thoroughly(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each thorough search how many matches it was given."""
    import pycolmap

    counts: list[int] = []
    whole = pycolmap.estimate_two_view_geometry

    def counted(*arguments: Any) -> Any:
        counts.append(len(arguments[4]))
        return whole(*arguments)

    monkeypatch.setattr(pycolmap, "estimate_two_view_geometry", counted)
    return counts


def test_a_hopeless_pair_is_not_searched_thoroughly(tmp_path: Path, verified_thoroughly: list[int]) -> None:
    see_two(tmp_path / "random", 0, 80).verify(seed=0)
    assert verified_thoroughly == []
    see_two(tmp_path / "some", 25, 40).verify(seed=0)
    assert verified_thoroughly == [65]


@pytest.mark.parametrize("model", ["OPENCV_FISHEYE", "SIMPLE_RADIAL"])
def test_a_pair_of_a_distorted_camera_is_searched_thoroughly_in_any_case(
    tmp_path: Path, verified_thoroughly: list[int], model: str
) -> None:
    import pycolmap

    database = see_two(tmp_path, 0, 80)
    with pycolmap.Database.open(database.path) as opened:
        camera = opened.read_camera(1)
        radial = [0.05] if model == "SIMPLE_RADIAL" else []
        made = pycolmap.Camera.create_from_model_name(1, model, 500, camera.width, camera.height)
        made.params = [*made.params[: len(made.params) - len(radial)], *radial]
        opened.update_camera(made)
    database.verify(seed=0)
    assert verified_thoroughly == [80]


def test_a_seed_repeats_on_any_number_of_threads(tmp_path: Path) -> None:
    import pycolmap

    before, found = num_threads(), []
    try:
        for number in (1, 3):
            use_threads(number)
            database = see_two(tmp_path / str(number), 50, 60)
            database.verify(seed=4)
            with pycolmap.Database.open(database.path) as opened:
                geometry = opened.read_two_view_geometry(1, 2)
            assert geometry.F is not None and geometry.cam2_from_cam1 is not None
            found.append([geometry.inlier_matches, geometry.F, geometry.cam2_from_cam1.matrix()])
    finally:
        use_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def groups(folder: Path, sizes: Mapping[str, tuple[int, int]], sharing: str = "auto") -> list[list[str]]:
    return group_by_camera(folder, sizes, sharing)  # type: ignore[arg-type]


def test_exif_tells_who_shares_a_camera(tmp_path: Path) -> None:
    save_photo(tmp_path / "a1.jpg", model="A")
    save_photo(tmp_path / "a2.jpg", model="A")
    save_photo(tmp_path / "a_zoomed.jpg", model="A", focal_mm=9)
    save_photo(tmp_path / "b.jpg", model="B")
    save_photo(tmp_path / "other" / "a3.jpg", model="A")
    names = ["a1.jpg", "a2.jpg", "a_zoomed.jpg", "b.jpg", "other/a3.jpg"]
    sizes = dict.fromkeys(names, SIZE)
    assert groups(tmp_path, sizes) == [["a1.jpg", "a2.jpg"], ["a_zoomed.jpg"], ["b.jpg"], ["other/a3.jpg"]]
    assert groups(tmp_path, sizes, "folder") == [names[:4], names[4:]]
    assert groups(tmp_path, sizes, "photo") == [[name] for name in names]


def test_without_exif_a_folder_of_one_size_is_one_camera(tmp_path: Path) -> None:
    for name, size in {
        "film/1.png": SIZE,
        "film/2.png": SIZE,
        "web/1.png": SIZE,
        "web/2.png": SIZE,
        "web/3.png": (8, 8),
    }.items():
        save_photo(tmp_path / name, size)
    sizes = dict.fromkeys(["film/1.png", "film/2.png", "web/1.png", "web/2.png"], SIZE) | {"web/3.png": (8, 8)}
    assert groups(tmp_path, sizes) == [["film/1.png", "film/2.png"], ["web/1.png"], ["web/2.png"], ["web/3.png"]]
    assert groups(tmp_path, sizes, "folder") == [
        ["film/1.png", "film/2.png"],
        ["web/1.png", "web/2.png"],
        ["web/3.png"],
    ]


def test_photos_above_the_limit_of_pillow_are_grouped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a1.jpg", "a2.jpg"]
    for name in names:
        save_photo(tmp_path / name, model="A")
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 10)  # it raises from twice as many on
    assert groups(tmp_path, dict.fromkeys(names, SIZE)) == [names]
