import itertools
import random
import unicodedata
from pathlib import PurePosixPath

import pytest

from lightmatch.inputs.names import free_folders, free_names, name_problem, printable, valid_name


def as_on_a_mac(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def test_names_are_kept_where_they_can_be() -> None:
    names = ["a.jpg", "left/a.jpg", "right/a.jpg", "b.png", "two words.heic"]
    assert free_names(names) == names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "A.JPG"], ["a.jpg", "A~2.JPG"]),
        (["L/a.jpg", "l/a.jpg"], ["L/a.jpg", "l/a~2.jpg"]),
        (["é.jpg", "e\u0301.jpg"], ["é.jpg", "e\u0301~2.jpg"]),
        (["a.webp", "a.webp.jpg"], ["a.webp", "a.webp~2.jpg"]),
        (["a.webp.jpg", "a.webp"], ["a.webp.jpg", "a~2.webp"]),
        (["a.webp", "a.webp.jpg/b.png"], ["a~2.webp", "a.webp.jpg/b.png"]),
        (["a.jpg", "a~2.jpg", "A.jpg"], ["a.jpg", "a~2.jpg", "A~3.jpg"]),
    ],
)
def test_names_that_would_meet_are_numbered(names: list[str], expected: list[str]) -> None:
    assert free_names(names) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("10:30.jpg", "10_30.jpg"),
        ('day 1. /a<>"|?*\\.jpg', "day 1/a_______.jpg"),
        ("... /a.jpg", "_/a.jpg"),
        (f"a{'x' * 246}0001.jpg", f"{'x' * 192}0001.jpg"),
        (f"{'写' * 80}.jpg", f"{'写' * 65}.jpg"),
        (f"a.{'x' * 199}", "x" * 199),
    ],
)
def test_names_fit_every_disk(name: str, expected: str) -> None:
    assert valid_name(name) == valid_name(expected) == expected
    assert free_names([name]) == free_folders([name]) == [expected]
    assert all(len(f"{part}~99.jpg.geometric.bin".encode()) <= 255 for part in expected.split("/"))


def test_names_that_are_made_valid_do_not_meet() -> None:
    assert free_names(["a:b.jpg", "a?b.jpg", "a_b.jpg"]) == ["a_b.jpg", "a_b~2.jpg", "a_b~3.jpg"]
    assert free_folders(["a:", "a_"], ["a_/b.jpg"]) == ["a_~2", "a_~3"]


def test_nothing_ever_meets() -> None:
    rng = random.Random(0)
    parts = ["a", "A", "a.jpg", "a.webp", "a.webp.jpg", "é", "e\u0301", "a~2", "a~2.webp"]
    for _ in range(200):
        names = sorted({"/".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in range(8)})
        folders_of_names = {str(parent) for name in names for parent in PurePosixPath(name).parents}
        names = [name for name in names if name not in folders_of_names]  # as on a disk
        free = free_names(names)
        folders = free_folders([name.rpartition(".")[0] or name for name in names], free)
        on_disk = [{as_on_a_mac(name), as_on_a_mac(f"{name}.jpg")} for name in free]
        assert not any(one & other for one, other in itertools.combinations(on_disk, 2))
        used = {as_on_a_mac(str(parent)) for name in [*free, *folders] for parent in PurePosixPath(name).parents}
        assert not used & {as_on_a_mac(folder) for folder in folders}  # nothing lies in a video's folder
        assert len({as_on_a_mac(folder) for folder in folders}) == len(folders)
        assert not set.union(*on_disk) & {as_on_a_mac(folder) for folder in folders}


def test_what_can_be_said_of_a_name() -> None:
    assert name_problem("фото/写真.png") is None
    assert "UTF-8" in (name_problem("bad\udcff.png") or "")
    assert "one line" in (name_problem("a\nb.png") or "")
    assert printable("bad\udcff.png") == "bad?.png"
