"""Mirrored photos are found among the others, and nothing else is called so."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lightmatch.errors import ReconstructionError
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.pipelines.reconstruct.mirrored import mirrored_photos

CONFIG = ReconstructConfig(max_keypoints=512, guided_keypoints=0, splat=False, seed=0)
ROW = {(f"a{n}", f"a{n + 1}"): 400 for n in range(4)}  # photos that match their neighbours
NAMES = [f"a{n}" for n in range(5)]


def test_of_two_groups_that_match_better_mirrored_the_smaller_is_mirrored() -> None:
    counts = ROW | {("b0", "b1"): 380, ("a2", "b0"): 90, ("a3", "b1"): 60}  # b: fewer than three
    asked = []

    def alikeness(pair: tuple[str, str]) -> int:
        asked.append(pair)
        return -1 if {name[0] for name in pair} == {"a", "b"} else 1

    assert mirrored_photos([*NAMES, "b0", "b1"], counts, alikeness) == {"b0", "b1"}
    assert len(asked) == 6 and ("a3", "b1") not in asked  # a tree


def test_of_two_photos_the_second_is_mirrored() -> None:
    assert mirrored_photos(["b", "a"], {("b", "a"): 90}, lambda _: -1) == {"a"}


def test_a_photo_that_nothing_tells_of_is_left_alone_after_a_few_tries() -> None:
    counts = ROW | {(name, "b"): 40 for name in NAMES}
    asked = []

    def alikeness(pair: tuple[str, str]) -> int:
        asked.append(pair)
        return 0 if "b" in pair else 1

    assert mirrored_photos([*NAMES, "b"], counts, alikeness) == set()
    assert sum("b" in pair for pair in asked) == 3


def test_the_good_partner_of_photos_that_tell_nothing_is_asked_on() -> None:
    counts = ROW | {("a0", f"x{n}"): 60 - n for n in range(4)} | {("a0", "m"): 40}

    def alikeness(pair: tuple[str, str]) -> int:
        return 0 if pair[1].startswith("x") else -1 if "m" in pair else 1

    assert mirrored_photos([*NAMES, "x0", "x1", "x2", "x3", "m"], counts, alikeness) == {"m"}


@pytest.mark.parametrize(("second", "found"), [(-1, {"b0", "b1", "b2"}), (1, set())])
def test_large_groups_are_mirrored_only_where_two_pairs_say_so(second: int, found: set[str]) -> None:
    counts = ROW | {("b0", "b1"): 380, ("b1", "b2"): 370, ("a2", "b0"): 90, ("a3", "b1"): 60}
    said = {("a2", "b0"): -1, ("a3", "b1"): second}
    assert mirrored_photos([*NAMES, "b0", "b1", "b2"], counts, lambda pair: said.get(pair, 1)) == found


def test_signs_go_on_through_several_groups() -> None:
    counts = {("a", "b"): 300, ("c", "d"): 300, ("e", "f"): 300, ("b", "c"): 100, ("d", "e"): 100}
    # b and c are of different kinds, and so are d and e: a, b, e and f are alike.
    found = mirrored_photos([*"abcdef"], counts, lambda pair: -1 if pair in (("b", "c"), ("d", "e")) else 1)
    assert found == {"c", "d"}


def test_frames_of_one_video_are_never_asked() -> None:
    def fail(_: tuple[str, str]) -> int:
        raise AssertionError

    frames = ["a0", "a1", "b0", "b1"]
    assert mirrored_photos(frames, {("a0", "a1"): 300, ("b0", "b1"): 300, ("a1", "b0"): 60}, fail, [frames]) == set()


@pytest.fixture
def photos(scene_photos: Path, tmp_path: Path) -> Path:
    """Five photos of the procedural world, the fourth mirrored."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        pixels = cv2.imread(str(scene_photos / f"view_{number}.png"))
        assert pixels is not None
        cv2.imwrite(str(folder / f"view_{number}.png"), np.fliplr(pixels) if number == 3 else pixels)
    return folder


@pytest.mark.parametrize("features", ["sift", "lightpoint"])
def test_a_mirrored_photo_is_left_out_and_called_so(features: str, photos: Path, tmp_path: Path) -> None:
    config = ReconstructConfig(features, max_keypoints=512, guided_keypoints=0, splat=False, seed=0)
    summary = reconstruct(photos, tmp_path / "out", config)
    assert summary.num_registered == 4
    (left_out,) = summary.not_registered
    assert left_out.name == "view_3.png" and left_out.kind == "mirrored" and "flip-back" in left_out.advice
    assert "mirrored against the others, and left out: view_3.png" in summary.warnings
    assert (tmp_path / "out" / "images" / "view_3.png").is_file()  # for the page


def test_a_mirrored_photo_is_flipped_back_where_asked(photos: Path, scene_photos: Path, tmp_path: Path) -> None:
    config = ReconstructConfig(max_keypoints=512, guided_keypoints=0, splat=False, seed=0, mirrored="flip-back")
    summary = reconstruct(photos, tmp_path / "out", config)
    assert summary.num_registered == 5
    assert "mirrored against the others, and flipped back: view_3.png" in summary.warnings
    as_taken = cv2.imread(str(scene_photos / "view_3.png"))
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "images" / "view_3.png")), as_taken)  # type: ignore[arg-type]


def test_two_photos_of_which_one_is_mirrored(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ReconstructionError, match=r"view_3\.png: expected a photo as it was taken.*--mirrored flip-back"
    ):
        reconstruct([photos / "view_2.png", photos / "view_3.png"], tmp_path / "out", CONFIG)
    kept = ReconstructConfig(max_keypoints=512, guided_keypoints=0, splat=False, seed=0, mirrored="keep")
    assert reconstruct([photos / "view_2.png", photos / "view_3.png"], tmp_path / "kept", kept).num_images == 2
