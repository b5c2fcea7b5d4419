from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightmatch.images import load_image
from lightmatch.inputs import pixels_digest
from lightmatch.inputs.duplicates import same_files
from lightmatch.types import Image


def write(folder: Path, **contents: bytes) -> list[Path]:
    paths = [folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def test_the_first_of_equal_files_stays(tmp_path: Path) -> None:
    a, b, c, d, e = write(tmp_path, a=b"one", b=b"two", c=b"one", d=b"longer", e=b"one")
    assert same_files([a, b, c, d, e]) == {c: a, e: a}
    assert same_files([e, c, a]) == {c: e, a: e}


def test_files_of_their_own_size_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path, a=b"1", b=b"22", c=b"333")
    monkeypatch.setattr("lightmatch.inputs.duplicates.file_digest", lambda _: pytest.fail("read"))
    assert same_files(paths) == {}


def test_empty_and_missing_files_are_nobody_s_duplicates(tmp_path: Path) -> None:
    a, b, c, d = write(tmp_path, a=b"", b=b"", c=b"same", d=b"same")
    assert same_files([a, b, tmp_path / "gone", c, d]) == {d: c}


def test_pixels_saved_twice_are_the_same(tmp_path: Path, write_photo: Callable[..., Path]) -> None:
    png, webp = write_photo(tmp_path / "a.png", 1), write_photo(tmp_path / "b.webp", 1, lossless=True)
    other = write_photo(tmp_path / "c.png", 2)
    digests = [pixels_digest(load_image(path)) for path in (png, webp, other)]
    assert digests[0] == digests[1] != digests[2]


def test_pixels_in_another_shape_or_order_in_memory() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    assert pixels_digest(Image(pixels)) != pixels_digest(Image(pixels.reshape(6, 4, 3)))
    assert pixels_digest(Image(pixels)) == pixels_digest(Image(np.asfortranarray(pixels)))
