import os
from pathlib import Path

import pytest

from lightmatch.runtime.files import file_digest, replacing, replacing_folder


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as unfinished:
        unfinished.write_text("one")
        assert not path.exists()
    with pytest.raises(ValueError, match="half way"), replacing(path) as unfinished:
        unfinished.write_text("two")
        raise ValueError("half way")
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(pipe) as partial:
            partial.write_text("a")
        assert os.read(reader, 9) == b"a" and pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with replacing_folder(path) as unfinished:
        (unfinished / "one").write_text("1")
        assert not path.exists()
    with pytest.raises(ValueError, match="half way"), replacing_folder(path) as unfinished:
        (unfinished / "two").write_text("2")
        raise ValueError("half way")
    assert [file.name for file in path.iterdir()] == ["one"] and list(path.parent.iterdir()) == [path]
    with replacing_folder(path) as unfinished:
        (unfinished / "two").write_text("2")
    assert [file.name for file in path.iterdir()] == ["two"] and list(path.parent.iterdir()) == [path]


def test_a_folder_that_was_lost_between_two_names_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with replacing_folder(path) as unfinished:
        (unfinished / "one").write_text("1")
    path.rename(tmp_path / "folder.old")  # what a process leaves that is killed between the two renames
    with pytest.raises(ValueError, match="half way"), replacing_folder(path):
        raise ValueError("half way")
    assert [file.name for file in path.iterdir()] == ["one"]


def test_two_processes_may_write_a_shared_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    with replacing(path, shared=True) as first:
        first.write_text("one")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with replacing(path, shared=True) as second:
            second.write_text("two")
        assert path.read_text() == "two"
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_a_file_system_allows_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("字" * 83 + ".jpg")  # 253 bytes
    with replacing(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_the_digest_of_a_file_is_the_sha_256_of_its_bytes(tmp_path: Path) -> None:
    path, large = tmp_path / "small", tmp_path / "large"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    large.write_bytes(bytes(3 * 2**20 + 1))
    assert file_digest(large) != file_digest(path)
