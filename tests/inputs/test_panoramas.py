"""Which pictures are panoramas: by what they say, and by what can be seen."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from video_clips import texture

from lightmatch.geometry.panoramas import VIEWS, PanoramaArea, directions_of_panorama
from lightmatch.inputs import declared_area, looks_like_panorama, two_to_one_size


def xmp(**entries: object) -> bytes:
    said = " ".join(f'GPano:{name}="{value}"' for name, value in entries.items())
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {said}/></x:xmpmeta>'.encode()


def photo(path: Path, size: tuple[int, int], packet: bytes = b"") -> Path:
    Image.new("RGB", size, (90, 120, 60)).save(path, xmp=packet)
    return path


def surroundings(width: int = 1024, seed: int = 0) -> np.ndarray:
    """A panorama of a room of six textured walls: (width / 2, width, 3) uint8."""
    panorama = np.zeros((width // 2, width, 3), np.uint8)
    rays = np.stack([directions_of_panorama((width, width // 2)) @ rotation.T for rotation in VIEWS.values()])
    nearest = rays[..., 2].argmax(0)
    for number, ray in enumerate(rays):
        wall = cv2.GaussianBlur(texture(256, 256, seed + number), (0, 0), 3)
        x, y = ((ray[..., axis] / np.maximum(ray[..., 2], 0.1) + 1) * 127.5 for axis in (0, 1))
        seen = cv2.remap(wall, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        panorama[nearest == number] = seen[nearest == number]
    return cv2.convertScaleAbs(panorama, alpha=3.0, beta=-240)


WHOLE = {"ProjectionType": "equirectangular", "FullPanoWidthPixels": 800, "FullPanoHeightPixels": 400}
WHOLE |= {"CroppedAreaImageWidthPixels": 800, "CroppedAreaImageHeightPixels": 400}


def test_a_whole_panorama_says_so(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", (800, 400), xmp(**WHOLE, CroppedAreaLeftPixels=0, CroppedAreaTopPixels=0))
    assert declared_area(path) == PanoramaArea((800, 400))


def test_a_part_says_which(tmp_path: Path) -> None:
    part = WHOLE | {"CroppedAreaImageWidthPixels": 400, "CroppedAreaImageHeightPixels": 200}
    packet = xmp(**part, CroppedAreaLeftPixels=100, CroppedAreaTopPixels=50)
    assert declared_area(photo(tmp_path / "a.jpg", (400, 200), packet)) == PanoramaArea((800, 400), 100, 50)
    # Saved in half the size by a program that kept the packet.
    assert declared_area(photo(tmp_path / "b.jpg", (200, 100), packet)) == PanoramaArea((400, 200), 50, 25)


def test_entries_written_as_elements(tmp_path: Path) -> None:
    packet = b"<GPano:ProjectionType>equirectangular</GPano:ProjectionType>"
    assert declared_area(photo(tmp_path / "a.png", (800, 400))) is None
    assert declared_area(photo(tmp_path / "a.jpg", (800, 400), packet)) == PanoramaArea((800, 400))


@pytest.mark.parametrize(
    ("size", "packet"),
    [
        ((800, 400), b""),
        ((800, 400), xmp(ProjectionType="cylindrical")),
        ((800, 500), xmp(ProjectionType="equirectangular")),  # no whole one, and nothing says which part
        ((900, 400), xmp(**WHOLE)),  # the packet of another picture
    ],
)
def test_what_says_nothing_that_fits_is_none(tmp_path: Path, size: tuple[int, int], packet: bytes) -> None:
    assert declared_area(photo(tmp_path / "a.jpg", size, packet)) is None


def test_of_a_whole_shape_sizes_that_do_not_fit_are_not_believed(tmp_path: Path) -> None:
    packet = xmp(**(WHOLE | {"FullPanoWidthPixels": 900, "FullPanoHeightPixels": 700}))
    assert declared_area(photo(tmp_path / "a.jpg", (800, 400), packet)) == PanoramaArea((800, 400))


def test_no_photo_and_a_turned_one_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (800, 400)).save(tmp_path / "b.jpg", xmp=xmp(**WHOLE), exif=turned)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        assert declared_area(tmp_path / name) is None and two_to_one_size(tmp_path / name) is None
    assert two_to_one_size(photo(tmp_path / "d.jpg", (800, 400))) == (800, 400)
    assert two_to_one_size(photo(tmp_path / "e.jpg", (800, 401))) is None


@pytest.mark.parametrize("seed", range(4))
def test_surroundings_look_like_a_panorama(seed: int) -> None:
    panorama = surroundings(seed=seed)
    assert looks_like_panorama(panorama)
    assert looks_like_panorama(np.roll(panorama, 100, axis=1))  # turned
    compressed = BytesIO()
    Image.fromarray(panorama).save(compressed, "JPEG", quality=60)
    assert looks_like_panorama(np.asarray(Image.open(compressed)))


@pytest.mark.parametrize("seed", range(4))
def test_ordinary_photos_of_two_to_one_do_not(seed: int) -> None:
    panorama = surroundings(seed=seed)
    wide = cv2.GaussianBlur(texture(512, 256, seed), (0, 0), 1.5)
    assert not looks_like_panorama(wide)
    assert not looks_like_panorama(np.hstack([wide[:, :256], wide[:, 255::-1]]))  # its edges meet, its rows vary
    assert not looks_like_panorama(panorama[:, :-2])  # of another shape
    assert not looks_like_panorama(panorama[128:384, 256:768])  # a part
    assert not looks_like_panorama(np.hstack([panorama[:, 512:], panorama[::-1, :512]]))  # its edges do not meet


def test_a_plain_edge_meets_anything() -> None:
    picture = np.full((256, 512, 3), 255, np.uint8)
    picture[64:192, 128:384] = texture(256, 128)
    assert not looks_like_panorama(picture)
