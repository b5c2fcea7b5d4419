"""The split: by photo, not by file, and stable."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from lightmatch.errors import InvalidValueError
from lightmatch.training.photos import list_photos, photo_id

WINDOWS = r"(.*?)(?:_c\d+)?$"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(60):
        for window in ("", "_c1", "_c2"):
            pixels = np.zeros((4, 4, 3), np.uint8)
            PillowImage.fromarray(pixels).save(tmp_path / f"photo{number}{window}.png")
    return tmp_path


def test_the_id_is_the_first_group_of_the_pattern() -> None:
    assert photo_id(Path("a/oak_0012_c3.jpg"), WINDOWS) == "oak_0012"
    assert photo_id(Path("a/oak_0012.jpg"), WINDOWS) == "oak_0012"
    assert photo_id(Path("a/oak_0012.jpg"), r"[a-z]+") == "oak"
    assert photo_id(Path("a/walk7_003.jpg"), r"(walk)\d+|(.*)") == "walk"
    assert photo_id(Path("a/oak_003.jpg"), r"(walk)\d+|(.*)") == "oak_003"
    assert photo_id(Path("a/0012.jpg"), r"([a-z]+)") == "0012"  # what has no id stands for itself


def test_both_sides_together_are_all_photos_and_share_no_id(folder: Path) -> None:
    train = list_photos([folder], "train", 0.3, WINDOWS)
    held_out = list_photos([folder], "validation", 0.3, WINDOWS)
    assert len(train) + len(held_out) == 180
    assert not {photo_id(p, WINDOWS) for p in train} & {photo_id(p, WINDOWS) for p in held_out}
    assert 0.1 < len(held_out) / 180 < 0.5


def test_new_photos_move_no_old_one_across(folder: Path) -> None:
    before = set(list_photos([folder], "validation", 0.3, WINDOWS))
    (folder / "photo0.png").rename(folder / "another.png")
    after = set(list_photos([folder], "validation", 0.3, WINDOWS))
    assert {p for p in before if p.exists()} <= after


def test_what_is_excluded_stands_on_no_side(folder: Path) -> None:
    left = list_photos([folder], "train", 0.3, WINDOWS, r"photo1\d") + list_photos(
        [folder], "validation", 0.3, WINDOWS, r"photo1\d"
    )
    assert len(left) == 150 and not any(path.stem.startswith("photo17") for path in left)


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"expected photos for train under .*, found none"):
        list_photos([tmp_path], "train")
    with pytest.raises(InvalidValueError, match="validation_share"):
        list_photos([tmp_path], "train", 1.0)


def test_photos_of_a_scene_stand_on_one_side(tmp_path: Path) -> None:
    for scene in map(str, range(12)):
        (tmp_path / scene).mkdir()
        for number in range(5):
            PillowImage.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / scene / f"{number}{scene}.png")
    train, held_out = (list_photos([tmp_path], side, 0.4, scenes=[tmp_path]) for side in ("train", "validation"))
    assert len(train) + len(held_out) == 60
    assert not {path.parent for path in train} & {path.parent for path in held_out}
