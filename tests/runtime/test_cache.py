"""Finished cache are there again, unfinished ones never; and a folder is worked in by one run alone."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.pipelines.output import is_output, resumable_output
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.store import StoredMatches
from lightmatch.types import Matches


@dataclass(frozen=True)
class Found:
    numbers: tuple[int, ...]
    name: str


def test_values_are_made_once_for_a_key(tmp_path: Path) -> None:
    made = []

    def make() -> Found:
        made.append(1)
        return Found((1, 2), "фото")

    cache = Cache(tmp_path)
    for _ in range(2):
        assert cache.value("pairs", "a" * 64, Found, make) == Found((1, 2), "фото")
    assert len(made) == 1
    cache.value("pairs", "b" * 64, Found, make)
    assert len(made) == 2 and len(list((tmp_path / "stages").iterdir())) == 1  # the older one is forgotten


def test_a_value_is_forgotten_before_another_is_made(tmp_path: Path) -> None:
    """What `make` changes elsewhere no longer fits the older value, though it may never end."""
    cache, made = Cache(tmp_path), []

    def fail() -> Found:
        raise KeyboardInterrupt

    for _ in range(2):
        cache.value("splat", "a" * 64, Found, lambda: made.append(1) or Found((1,), "a"))
        with pytest.raises(KeyboardInterrupt):
            cache.value("splat", "b" * 64, Found, fail)
    assert len(made) == 2


def test_what_is_no_address_of_object_storage_is_no_folder_here(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(InvalidValueError, match=r"bucket/prefix: expected the address of object storage.*no ://"):
        Cache.with_records_at(tmp_path / "store", "bucket/prefix")
    assert not (tmp_path / "store").exists()


def test_damaged_values_are_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number, damage in enumerate(("[1", "[]", '{"numbers": [1], "name": "a", "more": 1}')):
        cache.value("pairs", "a" * 64, Found, lambda: Found((1,), "a"))
        (path,) = (tmp_path / "stages").iterdir()
        path.write_text(damage)
        made_again = Found((number,), "b")
        assert cache.value("pairs", "a" * 64, Found, lambda made=made_again: made) == made_again


def test_a_folder_is_whole_or_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> int:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    def make(folder: Path) -> int:
        (folder / "model").touch()
        return 5

    with pytest.raises(KeyboardInterrupt):
        cache.folder("mapped", "a" * 64, int, fail)
    whole, value = cache.folder("mapped", "a" * 64, int, make)
    assert (whole / "model").is_file() and not (whole / "half").exists() and value == 5
    assert cache.folder("mapped", "a" * 64, int, fail) == (whole, 5)
    (whole / "value.json").write_text("damaged")
    assert cache.folder("mapped", "a" * 64, int, make) == (whole, 5)
    cache.forget("mapped")
    with pytest.raises(KeyboardInterrupt):
        cache.folder("mapped", "a" * 64, int, fail)


def test_one_run_works_in_a_folder(tmp_path: Path) -> None:
    with (
        resumable_output(tmp_path / "out", overwrite=False),
        pytest.raises(ReconstructionError, match="that no other run works in, one does"),
        resumable_output(tmp_path / "out", overwrite=True),
    ):
        pass
    assert is_output(tmp_path / "out")


def test_a_run_that_died_holds_no_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), resumable_output(tmp_path / "out", overwrite=False):
        raise ZeroDivisionError
    with resumable_output(tmp_path / "out", overwrite=False):  # unfinished: goes on without being told
        assert FileLock(tmp_path / "out" / ".lightmatch.lock").lock_file
    with (
        pytest.raises(ReconstructionError, match="results of an earlier run"),
        resumable_output(tmp_path / "out", False),
    ):
        pass


def test_a_pickled_cache_opens_the_same_files(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert "a" * 64 not in cache.matches
    other = pickle.loads(pickle.dumps(cache))
    found = StoredMatches(Matches(torch.tensor([[0, 1]]), torch.tensor([0.5])), None, True)
    other.matches.write(["a" * 64], [found])
    cache.matches.enter(["a" * 64])  # as whoever had it written does
    assert "a" * 64 in cache.matches
    assert torch.equal(cache.matches.read(["a" * 64])["a" * 64].matches.indices, found.matches.indices)
    assert other.value("pairs", "b" * 64, int, lambda: 1) == 1
    assert cache.value("pairs", "b" * 64, int, lambda: 2) == 1
