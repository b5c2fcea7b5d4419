import random

import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.inputs import RigGap, describe_gaps, rig_frames, rig_gaps


def test_a_folder_for_each_camera() -> None:
    names = ["left/0001.jpg", "left/0002.jpg", "right/0001.png", "right/0002.heic.jpg", "cover.jpg"]
    expected = {
        "0001": {"left": "left/0001.jpg", "right": "right/0001.png"},
        "0002": {"left": "left/0002.jpg", "right": "right/0002.heic.jpg"},
    }
    assert rig_frames(names) == expected and rig_gaps(expected) == []
    random.Random(0).shuffle(names)
    again = rig_frames(names)
    assert list(again) == list(expected) and [list(photos) for photos in again.values()] == [["left", "right"]] * 2


def test_cameras_above_and_below_other_folders() -> None:
    above = rig_frames(["left/day1/a.jpg", "left/day2/b.jpg", "right/day1/a.jpg", "right/day2/b.jpg"])
    assert above == {
        "day1/a": {"left": "left/day1/a.jpg", "right": "right/day1/a.jpg"},
        "day2/b": {"left": "left/day2/b.jpg", "right": "right/day2/b.jpg"},
    }
    below = rig_frames([f"rig{rig}/cam{camera}/{frame}.jpg" for rig in (1, 2) for camera in (1, 2) for frame in "ab"])
    assert list(below) == ["rig1/a", "rig1/b", "rig2/a", "rig2/b"]  # as COLMAP has it
    assert below["rig2/a"] == {"rig2/cam1": "rig2/cam1/a.jpg", "rig2/cam2": "rig2/cam2/a.jpg"}
    frames = rig_frames([name for photos in below.values() for name in photos.values()], depth=0)
    assert frames["cam1/a"] == {"rig1": "rig1/cam1/a.jpg", "rig2": "rig2/cam1/a.jpg"}


def test_points_in_a_name_stay() -> None:
    assert list(rig_frames(["a/0.5.jpg", "b/0.5.jpg", "a/x.heic", "b/x.heic.jpg"])) == ["0.5", "x"]


def test_which_photos_lack_a_partner() -> None:
    frames = rig_frames(["a/1.jpg", "b/1.jpg", "c/1.jpg", "a/2.jpg", "c/2.jpg", "b/3.jpg"])
    gaps = rig_gaps(frames)
    assert gaps == [RigGap("2", ("a", "c"), ("b",)), RigGap("3", ("b",), ("a", "c"))]
    sentence = describe_gaps(gaps, len(frames))
    assert sentence == "2 of 3 frames of the rig are not whole; the first, 2, has no photo of b"
    assert describe_gaps([], 3) == ""


def test_a_rig_lacks_no_camera_of_another() -> None:
    frames = rig_frames(["r1/a/1.jpg", "r1/b/1.jpg", "r2/a/1.jpg", "r2/c/1.jpg"])
    assert rig_gaps(frames) == []


@pytest.mark.parametrize(
    ("names", "got"),
    [
        (["a.jpg", "b.jpg"], "photos in 0 folders"),
        (["a/1.jpg", "a/2.jpg"], "photos in 1 folder;"),
        (["a/1.jpg", "b/2.jpg"], "folders without a common name, such as a and b"),
        ([], "photos in 0 folders"),
    ],
)
def test_what_is_no_rig(names: list[str], got: str) -> None:
    with pytest.raises(InvalidValueError, match=got):
        rig_gaps(rig_frames(names))


def test_two_photos_of_one_moment() -> None:
    with pytest.raises(InvalidValueError, match=r"left: expected one photo of frame 1, got 1\.jpg and 1\.png"):
        rig_frames(["left/1.jpg", "left/1.png", "right/1.jpg"])
