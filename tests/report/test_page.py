"""The page's values, bounds and bytes. What a browser makes of it: test_page_in_browser.py."""

import base64
import dataclasses
import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from page_example import NAMES, example_model, example_page
from PIL import Image

from lightmatch.errors import InvalidValueError
from lightmatch.report.page import PageData, PagePhoto, encode_pictures, write_page
from lightmatch.report.page.limits import evenly, picture_bytes, points_within_limits
from lightmatch.report.page.packing import pack


def blocks(page: str) -> dict[str, str]:
    """The data blocks of a page, by id."""
    return dict(re.findall(r'<script type="[^"]+" id="([^"]+)">([^<]*)</script>', page))


def unpacked(page: str, name: str) -> np.ndarray:
    found = blocks(page)
    kind, shape = json.loads(found["meta"])["arrays"][name]
    return np.frombuffer(base64.b64decode(found[name]), np.dtype(kind).newbyteorder("<")).reshape(shape)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_page(tmp_path_factory.mktemp("page") / "report.html", example_page())
    return path.read_text(encoding="utf-8")


def test_values_come_back_from_the_page(page: str) -> None:
    model = example_model()
    meta = json.loads(blocks(page)["meta"])
    assert [photo["name"] for photo in meta["photos"]] == list(NAMES)
    origin = np.array(meta["models"][0]["origin"])
    np.testing.assert_allclose(unpacked(page, "m0.points") + origin, model.points, atol=1e-6)
    np.testing.assert_allclose(unpacked(page, "m0.places") / 65535, model.places, atol=1e-5)
    np.testing.assert_allclose(unpacked(page, "m0.residuals") / 256, model.residuals_px, atol=0.002 + 1e-9)
    np.testing.assert_allclose(unpacked(page, "m0.errors") / 1000, model.errors_px, atol=0.0005 + 1e-9)
    np.testing.assert_array_equal(unpacked(page, "m0.observed"), model.observed)
    np.testing.assert_array_equal(unpacked(page, "m0.numObservations"), [80] * 6)
    centers = unpacked(page, "m0.centers") + origin
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 4, atol=1e-5)


def test_the_data_fits_its_schema(page: str) -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(blocks(page)["meta"]), schema)


def test_origin_keeps_digits_of_far_coordinates() -> None:
    near = example_model()
    shift = np.array([6_378_000.0, -512_000.0, 40.0])
    moved = near.cam_from_world.copy()
    moved[:, :, 3] -= moved[:, :, :3] @ shift
    far = dataclasses.replace(near, points=near.points + shift, cam_from_world=moved)
    text = {name: value for name, _, value in pack(PageData("far", example_page().photos, (far,)))}
    origin = json.loads(text["meta"])["models"][0]["origin"]
    points = np.frombuffer(base64.b64decode(text["m0.points"]), "<f4").reshape(-1, 3)
    np.testing.assert_allclose(points + origin - shift, near.points, atol=1e-5)
    centers = np.frombuffer(base64.b64decode(text["m0.centers"]), "<f4").reshape(-1, 3)
    np.testing.assert_allclose(np.linalg.norm(centers + origin - shift, axis=1), 4, atol=1e-5)


def test_names_are_data_and_never_markup(page: str) -> None:
    assert "<img src=x" not in page and "<repeats>" not in page and "<alike>" not in page
    assert "<title>&lt;Tour&gt; &amp; &#x27;Co&#x27; 🗼 · lightmatch</title>" in page


def test_policy_allows_our_scripts_and_nothing_else(page: str) -> None:
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found
    policy = dict(part.split(" ", 1) for part in html.unescape(found[1]).split("; "))
    assert policy["default-src"] == "'none'" and policy["img-src"] == "data:"
    assert "unsafe" not in " ".join(policy.values()) and "http" not in " ".join(policy.values())
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert policy[directive] == " ".join(f"'sha256-{digest}'" for digest in digests)


def test_page_names_no_address(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert '<html lang="en">' in page


def test_same_data_same_bytes(page: str, tmp_path: Path) -> None:
    again = write_page(tmp_path / "again.html", example_page())
    assert again.read_text(encoding="utf-8") == page


def test_interrupted_page_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def broken(data: PageData) -> Iterator[tuple[str, str, str]]:
        yield next(pack(data))
        raise OSError("disk full")

    monkeypatch.setattr("lightmatch.report.page.writer.pack", broken)
    with pytest.raises(OSError, match="disk full"):
        write_page(path, example_page())
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_values_that_do_not_fit_are_refused() -> None:
    model = example_model()
    with pytest.raises(InvalidValueError, match=r"colors: expected an array of shape \(80, 3\)"):
        dataclasses.replace(model, colors=model.colors[:5])
    with pytest.raises(InvalidValueError, match=r"observed: expected rows 0…79"):
        dataclasses.replace(model, observed=model.observed + 1)
    with pytest.raises(InvalidValueError, match=r"num_observations: expected an array of shape \(6,\)"):
        dataclasses.replace(model, num_observations=np.arange(5))
    with pytest.raises(InvalidValueError, match="ascending offsets"):
        dataclasses.replace(model, starts=model.starts[::-1])
    with pytest.raises(InvalidValueError, match=r"photos: expected rows 0…0"):
        PageData("few", (PagePhoto("only.jpg"),), (model,))


def test_only_pairs_with_inliers_count() -> None:
    page = example_page()
    assert page.pairs is not None
    pairs = dataclasses.replace(page.pairs, num_inliers=np.maximum(page.pairs.num_inliers - 31, 0))
    assert json.loads(next(iter(pack(dataclasses.replace(page, pairs=pairs))))[2])["num_pairs"] == 13


def test_no_number_of_json_is_without_value() -> None:
    photo = PagePhoto("a.jpg", position_uncertainty=float("nan"))
    meta = next(iter(pack(PageData("nan", (photo,)))))[2]
    assert json.loads(meta)["photos"][0]["position_uncertainty"] is None


def test_evenly_keeps_first_and_last_and_no_more_than_asked() -> None:
    assert evenly(3, 5).tolist() == [0, 1, 2]
    assert evenly(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly(0, 5).tolist() == []
    assert len(set(evenly(1000, 999).tolist())) == 999


def test_points_within_both_limits() -> None:
    lengths = np.random.default_rng(0).integers(2, 40, 5000)
    assert len(points_within_limits(lengths, 10_000, 10**9)) == 5000
    assert len(points_within_limits(lengths, 700, 10**9)) == 700
    rows = points_within_limits(lengths, 10_000, 20_000)
    assert 17_000 < lengths[rows].sum() <= 20_000 and (np.diff(rows) > 0).all()


@pytest.mark.parametrize(("num_photos", "bound_mb"), [(1, 1), (20, 8), (100, 12), (1000, 26), (20_000, 26)])
def test_pictures_of_any_number_of_photos_are_bounded(num_photos: int, bound_mb: float) -> None:
    assert num_photos * picture_bytes(num_photos) <= bound_mb * 1e6
    assert picture_bytes(num_photos) >= 1000


@pytest.fixture(scope="module")
def noisy_photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worst there is for JPEG."""
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("max_bytes", [400_000, 60_000, 6_000, 1_300])
def test_pictures_stay_within_their_bytes(noisy_photo: Path, max_bytes: int) -> None:
    found = encode_pictures(noisy_photo, max_bytes)
    assert found
    thumbnail, preview, size = found
    assert size == (1200, 900) and thumbnail and len(thumbnail) + len(preview) <= max_bytes
    assert bool(preview) == (max_bytes >= 4_000)


def test_pictures_are_as_large_as_said_and_keep_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "tall.png"
    Image.fromarray(np.full((1500, 1000, 3), 90, np.uint8)).save(path)
    thumbnail, preview, _ = encode_pictures(path, 400_000) or (b"", b"", None)
    sizes = []
    for number, content in enumerate((thumbnail, preview)):
        (tmp_path / f"{number}.jpg").write_bytes(content)
        with Image.open(tmp_path / f"{number}.jpg") as picture:
            sizes.append(picture.size)
    assert sizes == [(171, 256), (533, 800)]


def test_a_photo_that_cannot_be_read_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    assert encode_pictures(tmp_path / "bad.jpg", 10_000) is None
    assert encode_pictures(tmp_path / "absent.jpg", 10_000) is None
