"""vismatch's matchers behind our names: points in the photo's own pixels, sentences where one cannot be had."""

from pathlib import Path

import numpy as np
import pytest
import stand_in_vismatch
import torch

from lightmatch.errors import InvalidValueError, MissingDependencyError, WeightsError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.epipolar import sampson_error_px
from lightmatch.images import load_image
from lightmatch.matchers import create_image_matcher, create_matcher
from lightmatch.two_view import match
from lightmatch.types import Image

NO_CONFIDENCE: dict[str, np.ndarray | None] = {"matched_confidences": None}


def test_a_name_of_features_is_none_of_images() -> None:
    for name in ("lightglue", "nearest:0.8"):
        with pytest.raises(InvalidValueError, match=r"matches images, got .*, which matches features"):
            create_image_matcher(name)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vismatch", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[vismatch\]'"):
        create_image_matcher("vismatch:sift-nn")


def test_names_that_are_wrong_or_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_vismatch.install(monkeypatch)
    with pytest.raises(InvalidValueError, match=r"expected vismatch:NAME with a NAME of sift-nn.*got 'nothing'"):
        create_image_matcher("vismatch:nothing")
    with pytest.raises(WeightsError, match="vismatch:offline could not be made: no network"):
        create_image_matcher("vismatch:offline")
    with pytest.raises(InvalidValueError, match="matches images"):
        create_matcher("vismatch:sift-nn", create_extractor("sift").kind)


def test_licences_that_are_not_known_to_be_free_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in_vismatch.install(monkeypatch)
    create_image_matcher("vismatch:sift-nn")
    assert not caplog.records
    create_image_matcher("vismatch:dense")
    assert "the licence of this model: not stated; see huggingface.co/vismatch/dense" in caplog.text


def test_a_matcher_that_fails_on_a_pair_finds_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in_vismatch.install(monkeypatch)

    def fail(*_: object) -> None:
        raise ValueError("nothing to match")

    monkeypatch.setattr(stand_in_vismatch.Matcher, "__call__", fail)
    matcher = create_image_matcher("vismatch:sift-nn")
    blank = Image(np.zeros((99, 99, 3), np.uint8))
    assert len(matcher(blank, blank)) == 0
    assert "vismatch:sift-nn failed on a pair" in caplog.text and "nothing to match" in caplog.text


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), OSError("no space"), MemoryError()])
def test_what_may_go_well_another_time_is_raised(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Kept as a pair without matches it would stay one for ever."""
    stand_in_vismatch.install(monkeypatch)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(stand_in_vismatch.Matcher, "__call__", fail)
    blank = Image(np.zeros((99, 99, 3), np.uint8))
    with pytest.raises(type(error)):
        create_image_matcher("vismatch:sift-nn")(blank, blank)


def test_points_are_those_of_a_large_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_vismatch.install(monkeypatch)

    def corners(_: object, image0: np.ndarray, image1: np.ndarray) -> dict[str, np.ndarray | None]:
        assert image0.shape == (3, 512, 1024) and image1.shape == (3, 300, 400)
        points0 = np.array([[0, 0], [1023, 511], [np.nan, 3]])
        return {"matched_kpts0": points0, "matched_kpts1": np.array([[0, 0], [399, 299], [5, 5]]), **NO_CONFIDENCE}

    monkeypatch.setattr(stand_in_vismatch.Matcher, "__call__", corners)
    matcher = create_image_matcher("vismatch:sift-nn")
    found = matcher(Image(np.zeros((1024, 2048, 3), np.uint8)), Image(np.zeros((300, 400, 3), np.uint8)))
    assert found.points0.tolist() == [[0.5, 0.5], [2046.5, 1022.5]]  # the middle of the four pixels that it saw as one
    assert found.points1.tolist() == [[0, 0], [399, 299]] and found.scores.tolist() == [1, 1]


def test_a_score_is_a_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_vismatch.install(monkeypatch)

    def three(*_: object) -> dict[str, np.ndarray]:
        points = np.array([[1, 1], [2, 2], [3, 3]])
        return {"matched_kpts0": points, "matched_kpts1": points, "matched_confidences": np.array([0.2, 0.5, 0.9])}

    monkeypatch.setattr(stand_in_vismatch.Matcher, "__call__", three)
    blank = Image(np.zeros((9, 9, 3), np.uint8))
    every, strict = (create_image_matcher(f"vismatch:sift-nn{end}") for end in ("", "@0.5"))
    assert len(every(blank, blank)) == 3 and strict(blank, blank).points0.tolist() == [[3, 3]]
    assert every.described != strict.described  # what is kept of one does not serve the other


@pytest.mark.parametrize("rotations", [False, True])
def test_match_of_two_photos(rotations: bool, monkeypatch: pytest.MonkeyPatch, scene_photos: Path) -> None:
    stand_in_vismatch.install(monkeypatch)
    photo1 = load_image(scene_photos / "view_1.png")
    turned = Image(np.ascontiguousarray(np.rot90(photo1.pixels))) if rotations else photo1
    found = match(scene_photos / "view_0.png", turned, matcher="vismatch:sift-nn", rotations=rotations)
    assert found.geometry.num_inliers > 50 and found.overlap and found.overlap_probability is None
    assert found.features0.kind.name == "vismatch:sift-nn" and found.features1.image_size == turned.size
    points0, points1 = found.matches.points(found.features0, found.features1)
    inside = (points1 >= -0.5) & (points1 <= torch.tensor(turned.size) - 0.5)
    assert bool(inside.all())
    error = sampson_error_px(found.geometry.matrix, points0.double(), points1.double())
    assert float(error[found.geometry.inliers].max()) <= 2
    assert found.to_json()["overlap_probability"] is None
