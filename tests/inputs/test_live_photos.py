import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from lightmatch.inputs.live_photos import duration_s, live_photo_films

WriteMovie = Callable[..., Path]


@pytest.mark.parametrize("version", [0, 1])
def test_the_length_of_a_film(tmp_path: Path, write_movie: WriteMovie, version: int) -> None:
    assert duration_s(write_movie(tmp_path / "a.mov", 2.5, version=version)) == 2.5


@pytest.mark.parametrize(("version", "unknown"), [(0, b"\xff" * 4), (1, b"\xff" * 8)])
def test_a_length_that_is_not_known(tmp_path: Path, write_movie: WriteMovie, version: int, unknown: bytes) -> None:
    path = write_movie(tmp_path / "a.mov", 2.5, version=version)
    length = struct.pack(">IQ" if version else ">II", 600, 1500)
    for other in (struct.pack(">I", 600) + unknown, struct.pack(">I", 600) + bytes(len(unknown)), bytes(len(length))):
        path.write_bytes(write_movie(path, 2.5, version=version).read_bytes().replace(length, other))
        assert duration_s(path) is None


def test_the_header_is_found_behind_the_pictures(tmp_path: Path, write_movie: WriteMovie) -> None:
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 1000) + bytes(1000)  # its size in 64 bits
    assert duration_s(write_movie(tmp_path / "a.mov", 3, before=large)) == 3


def test_as_a_real_encoder_writes_it(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(15):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    assert duration_s(path) == pytest.approx(1.5, abs=0.11)


def test_damaged_films_have_no_length(tmp_path: Path, write_movie: WriteMovie) -> None:
    whole = write_movie(tmp_path / "a.mov", 2).read_bytes()
    path = tmp_path / "b.mov"
    for length in range(len(whole) - 80):
        path.write_bytes(whole[:length])
        assert duration_s(path) is None
    for content in (b"a few bytes", struct.pack(">I4s", 4, b"free") * 9, struct.pack(">I4s", 8, b"free") * 5000):
        path.write_bytes(content)
        assert duration_s(path) is None
    assert duration_s(tmp_path / "gone.mov") is None


def test_which_films_belong_to_a_photo(tmp_path: Path, write_movie: WriteMovie) -> None:
    photos = [tmp_path / name for name in ("IMG_1.HEIC", "IMG_2.JPG", "IMG_3.jpg", "sub/IMG_4.jpg", "IMG_5.jpg")]
    films = {
        write_movie(tmp_path / name, seconds): name
        for name, seconds in {"IMG_1.MOV": 3.0, "img_2.mov": 1.9, "IMG_3.MOV": 9.0, "IMG_4.MOV": 2.0}.items()
    }
    unknown = tmp_path / "IMG_5.MOV"
    unknown.write_bytes(b"damaged")
    found = live_photo_films([*films, unknown], photos)
    assert {film.name: photo.name for film, photo in found.items()} == {
        "IMG_1.MOV": "IMG_1.HEIC",
        "img_2.mov": "IMG_2.JPG",
    }
