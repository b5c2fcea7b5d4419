"""What goes into COLMAP: indices in range, pixels shifted once, cameras shared by who took the photo."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags
from PIL import Image as PillowImage

from lightmatch.errors import InvalidValueError
from lightmatch.reconstruction import MatchDatabase, group_by_camera
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


def test_an_unknown_camera_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="expected one of SIMPLE_PINHOLE"):
        MatchDatabase(tmp_path / "d.db", tmp_path, [], "PINHOLES")


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
