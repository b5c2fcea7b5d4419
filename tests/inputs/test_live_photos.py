from collections.abc import Callable
from pathlib import Path

import pytest

from lightmatch.errors import ImageReadError
from lightmatch.inputs.live_photos import duration_s, live_photo_films

WriteMovie = Callable[..., Path]


@pytest.mark.parametrize("seconds", [0.4, 2.5, 60])
def test_the_length_of_a_film(tmp_path: Path, write_movie: WriteMovie, seconds: float) -> None:
    assert duration_s(write_movie(tmp_path / "a.mov", seconds)) == seconds


def test_a_name_with_a_colon_is_no_address(
    tmp_path: Path, write_movie: WriteMovie, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_movie(tmp_path / "a.mov", 2.5).rename(tmp_path / "12:30.mov")
    monkeypatch.chdir(tmp_path)
    assert duration_s(Path("12:30.mov")) == 2.5


def test_what_is_no_film_has_no_length(tmp_path: Path, write_movie: WriteMovie) -> None:
    whole = write_movie(tmp_path / "a.mov", 2).read_bytes()
    path = tmp_path / "b.mov"
    for content in (b"", b"a few bytes", whole[:40], whole[: whole.index(b"moov")], bytes(2000)):
        path.write_bytes(content)
        with pytest.raises(ImageReadError):
            duration_s(path)
    for path in (tmp_path / "gone.mov", tmp_path):
        with pytest.raises(ImageReadError):
            duration_s(path)


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
