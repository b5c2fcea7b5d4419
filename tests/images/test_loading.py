import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from images_data import camera_exif, gradient, noise, stored_for, tiff_bytes
from PIL import Image as PilImage
from PIL import ImageFile
from video_clips import encode_video, pan

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.images import (
    common_levels,
    is_image_file,
    keypoints_to_size,
    list_images,
    load_image,
    load_shrunk,
    open_photo,
    orientation_of,
    resize_to_fit,
    upright_size,
)
from lightmatch.types import Image

pytestmark = pytest.mark.filterwarnings("error")  # no photo may warn

WIDTH, HEIGHT = 48, 32


def pil(array: np.ndarray) -> PilImage.Image:
    return PilImage.fromarray(array)


def save(picture: PilImage.Image, path: Path, **options: Any) -> Path:
    if path.suffix == ".heic":
        import pillow_heif

        pillow_heif.from_pillow(picture).save(path, **options)
    else:
        picture.save(path, **options)
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def level_error(path: Path, expected: np.ndarray) -> int:
    pixels = load_image(path).pixels
    assert pixels.shape == expected.shape
    return int(np.abs(pixels.astype(int) - expected).max())


# --- formats and modes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.jpg", {"quality": 95, "subsampling": 0}, 4),
        ("a.png", {}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.tif", {}, 0),
        ("a.TIFF", {"compression": "tiff_lzw"}, 0),
        ("a.bmp", {}, 0),
        ("a.ppm", {}, 0),
        ("a.heic", {"quality": 95, "chroma": 444}, 6),
    ],
)
def test_reads_every_format(tmp_path: Path, name: str, options: dict[str, Any], tolerance: int) -> None:
    expected = gradient(WIDTH, HEIGHT)
    path = save(pil(expected), tmp_path / name, **options)
    assert level_error(path, expected) <= tolerance
    assert load_image(str(path)).path == path


def test_format_is_told_by_content_and_paths_may_be_any(tmp_path: Path) -> None:
    folder = tmp_path / "фото с пробелом 写真"
    folder.mkdir()
    expected = gradient(WIDTH, HEIGHT)
    path = write(folder / "é.jpg", save(pil(expected), tmp_path / "a.png").read_bytes())
    assert level_error(path, expected) == 0
    deep = write(folder / "深.png", cv2.imencode(".png", expected[..., ::-1].astype(np.uint16) * 257)[1].tobytes())
    assert level_error(deep, expected) == 0


def test_one_pixel(tmp_path: Path) -> None:
    path = save(pil(np.full((1, 1, 3), 7, np.uint8)), tmp_path / "a.png")
    assert load_image(path).pixels.tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("size", [(1100, 777), (3, 270_000), (270_000, 3)])
def test_every_pixel_of_a_large_photo(tmp_path: Path, size: tuple[int, int]) -> None:
    """More pixels than are copied at a time, in no whole number of strips."""
    pixels = noise((*size[::-1], 3))
    assert np.array_equal(load_image(save(pil(pixels), tmp_path / "a.bmp")).pixels, pixels)


def test_grey_and_one_bit(tmp_path: Path) -> None:
    grey = gradient(WIDTH, HEIGHT)[..., 0]
    assert level_error(save(pil(grey), tmp_path / "l.png"), np.dstack([grey] * 3)) == 0
    bit = grey > 128
    assert level_error(save(pil(bit), tmp_path / "1.png"), np.dstack([bit * 255] * 3)) == 0
    assert level_error(save(pil(bit), tmp_path / "1.tif"), np.dstack([bit * 255] * 3)) == 0


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (51, 224)])  # 100 at 51/255 over white: 224
def test_transparency_is_laid_on_white(tmp_path: Path, alpha: int, expected: int) -> None:
    white = np.full((2, 2, 3), expected)
    colour = np.full((2, 2, 4), 100, np.uint8)
    colour[..., 3] = alpha
    assert level_error(save(pil(colour), tmp_path / "rgba.png"), white) == 0
    assert level_error(save(pil(colour), tmp_path / "a.tif"), white) == 0
    assert level_error(save(pil(colour), tmp_path / "a.webp", lossless=True, exact=True), white) == 0
    assert level_error(save(pil(colour[..., 2:]), tmp_path / "la.png"), white) == 0
    deep = cv2.imencode(".png", colour.astype(np.uint16) * 257)[1].tobytes()
    assert level_error(write(tmp_path / "deep.png", deep), white) == 0


def test_a_transparent_value_of_a_sixteen_bit_grey_png_is_white(tmp_path: Path) -> None:
    picture = pil(np.array([[1000, 1001, 65535]], np.uint16))
    path = save(picture, tmp_path / "a.png", transparency=1000)
    assert load_image(path).pixels[0, :, 0].tolist() == [255, 4, 255]
    assert load_image(path, levels=(1000, 2000)).pixels[0, :, 0].tolist() == [255, 0, 255]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    picture = pil(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    path = save(picture, tmp_path / "p.png", transparency=transparency)
    assert load_image(path).pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_cmyk_jpeg_with_adobe_inversion(tmp_path: Path) -> None:
    # Pillow writes the Adobe marker and inverted values; a reader that ignored it would see the negative.
    cmyk = PilImage.new("CMYK", (16, 16), (0, 255, 255, 0))
    path = save(cmyk, tmp_path / "a.jpg", quality=100)
    assert b"Adobe" in path.read_bytes()
    assert level_error(path, np.full((16, 16, 3), (255, 0, 0))) <= 2


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    first = gradient(WIDTH, HEIGHT)
    more = {"save_all": True, "append_images": [pil(255 - first)]}
    for name in ("a.webp", "a.png", "a.tif"):
        options = more | ({"lossless": True} if name == "a.webp" else {})
        assert level_error(save(pil(first), tmp_path / name, **options), first) == 0


# --- more than 8 bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_use_the_full_range(tmp_path: Path, suffix: str, channels: int) -> None:
    deep = noise((HEIGHT, WIDTH, 3), np.uint16)[..., :channels]
    deep[0, :3] = [[0], [65535], [32768]]  # 32768 / 257 = 127.50…: the high byte would be 128, 32640 / 257 = 127
    path = write(tmp_path / f"a{suffix}", cv2.imencode(suffix, deep[..., ::-1])[1].tobytes())
    expected = np.broadcast_to(np.rint(deep / 257), (HEIGHT, WIDTH, 3))
    assert level_error(path, expected) == 0


def test_big_endian_and_twelve_bit_greys(tmp_path: Path) -> None:
    deep = noise((4, 6), np.uint16)
    big = tiff_bytes(deep.tobytes(), (6, 4), (16,), 1)
    assert level_error(write(tmp_path / "a.tif", big), np.dstack([np.rint(deep / 257)] * 3)) == 0
    picture = PilImage.frombytes("I;16B", (6, 4), deep.astype(">u2").tobytes())
    assert level_error(save(picture, tmp_path / "b.tif"), np.dstack([np.rint(deep / 257)] * 3)) == 0

    twelve = tiff_bytes(bytes.fromhex("000fff800801"), (4, 1), (12,), 1)  # 0, 4095, 2048, 2049
    assert load_image(write(tmp_path / "c.tif", twelve)).pixels[0, :, 0].tolist() == [0, 255, 128, 128]


@pytest.mark.parametrize("white", [65535, 4095])
def test_pgm_of_more_than_8_bits(tmp_path: Path, white: int) -> None:
    deep = noise((4, 6), np.uint16) // (65536 // (white + 1))
    path = write(tmp_path / "a.pgm", b"P5\n6 4\n%d\n" % white + deep.astype(">u2").tobytes())
    assert level_error(path, np.dstack([np.rint(deep.astype(float) * 255 / white)] * 3)) <= (0 if white == 65535 else 1)


def test_white_is_zero(tmp_path: Path) -> None:
    eight = tiff_bytes(bytes([0, 255]), (2, 1), (8,), 0)
    sixteen = tiff_bytes(struct.pack("<2H", 0, 65535), (2, 1), (16,), 0)
    for content in (eight, sixteen):
        assert load_image(write(tmp_path / "a.tif", content)).pixels[0, :, 0].tolist() == [255, 0]
    dark = write(tmp_path / "a.tif", tiff_bytes(struct.pack("<2H", 1000, 2000), (2, 1), (16,), 0))
    assert load_image(dark, levels=(1000, 2000)).pixels[0, :, 0].tolist() == [255, 0]


def test_planes_are_read_or_refused_never_scrambled(tmp_path: Path) -> None:
    for dtype, bits in ((np.uint8, 8), (np.uint16, 16)):
        pixels = noise((4, 6, 3), dtype)
        content = tiff_bytes(np.moveaxis(pixels, -1, 0).tobytes(), (6, 4), (bits,) * 3, 2, planes=3)
        path = write(tmp_path / f"{bits}.tif", content)
        if bits == 8:
            assert level_error(path, pixels) == 0
        else:
            with pytest.raises(ImageReadError, match=r"16\.tif.*16-bit TIFF.*got planes"):
                load_image(path)


def test_sixteen_bit_cmyk_tiff(tmp_path: Path) -> None:
    cyan = np.broadcast_to(np.array([65535, 0, 0, 0], np.uint16), (4, 6, 4))
    path = write(tmp_path / "a.tif", tiff_bytes(cyan.tobytes(), (6, 4), (16,) * 4, 5))
    assert level_error(path, np.full((4, 6, 3), (0, 255, 255))) <= 1


@pytest.mark.parametrize(("dtype", "sample_format"), [(np.float32, 3), (np.int16, 2), (np.uint32, 1)])
def test_values_without_a_known_white_are_refused(tmp_path: Path, dtype: type, sample_format: int) -> None:
    data = np.ones((4, 6), dtype)
    path = write(tmp_path / "a.tif", tiff_bytes(data.tobytes(), (6, 4), (data.itemsize * 8,), 1, 1, sample_format))
    with pytest.raises(ImageReadError, match=r"a\.tif.*whose white is not known"):
        load_image(path)


def test_signed_values_have_levels_however_many_they_use(tmp_path: Path) -> None:
    data = np.linspace(-20_000, 20_000, 64 * 48).astype(np.int16)
    path = write(tmp_path / "a.tif", tiff_bytes(data.tobytes(), (64, 48), (16,), 1, 1, 2))
    levels = common_levels([path])
    assert levels is not None and levels[1] - levels[0] > 30_000
    assert load_image(path, levels=levels).pixels[-1, -1, 0] == 255


def test_float_colour_is_refused(tmp_path: Path) -> None:
    data = np.ones((4, 6, 3), np.float32)
    path = write(tmp_path / "a.tif", tiff_bytes(data.tobytes(), (6, 4), (32, 32, 32), 2, 1, 3))
    with pytest.raises(ImageReadError, match=r"a\.tif.*unusual"):
        load_image(path)


# --- orientation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.heic"])
def test_all_orientations_come_upright(tmp_path: Path, name: str, orientation: int) -> None:
    upright = gradient(WIDTH, HEIGHT)
    stored = pil(stored_for(upright, orientation))
    exif = camera_exif(orientation, stored.size)
    options = {"a.jpg": {"quality": 95, "subsampling": 0}, "a.webp": {"lossless": True}, "a.heic": {"quality": 95}}
    path = save(stored, tmp_path / name, exif=exif.tobytes(), **options.get(name, {}))
    assert level_error(path, upright) <= {"a.jpg": 4, "a.heic": 8}.get(name, 0)
    with open_photo(path, WIDTH * HEIGHT) as opened:
        assert upright_size(opened) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_of_sixteen_bits_come_upright(tmp_path: Path, orientation: int) -> None:
    upright = noise((HEIGHT, WIDTH, 3), np.uint16)
    stored = stored_for(upright, orientation)
    size = stored.shape[1], stored.shape[0]
    colour = tiff_bytes(stored.tobytes(), size, (16, 16, 16), 2, orientation)
    assert level_error(write(tmp_path / "colour.tif", colour), np.rint(upright / 257)) == 0
    grey = tiff_bytes(stored[..., 0].tobytes(), size, (16,), 1, orientation)
    assert level_error(write(tmp_path / "grey.tif", grey), np.dstack([np.rint(upright[..., 0] / 257)] * 3)) == 0

    # Pillow writes no 16-bit colour: put an eXIf chunk (PNG, third edition, 11.3.4.5) behind the header.
    png = cv2.imencode(".png", stored[..., ::-1])[1].tobytes()
    body = b"eXIf" + camera_exif(orientation, size).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    assert level_error(write(tmp_path / "a.png", png[:33] + chunk + png[33:]), np.rint(upright / 257)) == 0


def png_with(picture: PilImage.Image, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk, between its pixels and its end."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    end = len(file.getvalue()) - 12
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return file.getvalue()[:end] + chunk + file.getvalue()[end:]


def test_a_png_is_decoded_for_its_orientation_only_where_something_follows(tmp_path: Path) -> None:
    picture = pil(gradient(WIDTH, HEIGHT))
    exif = camera_exif(6, picture.size).tobytes().removeprefix(b"Exif\0\0")
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"/>'
    for kind, body, orientation in ((b"eXIf", exif, 6), (b"iTXt", xmp, 6), (b"tEXt", b"date:create\0now", 1)):
        path = write(tmp_path / "a.png", png_with(picture, kind, body))
        with open_photo(path, WIDTH * HEIGHT) as opened:
            assert orientation_of(opened) == orientation
            assert bool(opened.tile) == (orientation == 1)  # what is left to decode
        assert load_image(path).size == ((WIDTH, HEIGHT) if orientation == 1 else (HEIGHT, WIDTH))


def test_heic_is_turned_by_its_container_alone(tmp_path: Path) -> None:
    # Rewrite the EXIF orientation inside of a HEIC that needs no turning: it must not count.
    content = save(pil(gradient(WIDTH, HEIGHT)), tmp_path / "a.heic", exif=camera_exif(1, (WIDTH, HEIGHT)).tobytes())
    entry = struct.pack(">HHIH", 274, 3, 1, 1)
    assert content.read_bytes().count(entry) == 1
    write(content, content.read_bytes().replace(entry, struct.pack(">HHIH", 274, 3, 1, 6)))
    assert load_image(content).size == (WIDTH, HEIGHT)


def test_damaged_exif_and_unknown_orientation_leave_the_photo_alone(tmp_path: Path) -> None:
    upright = pil(gradient(WIDTH, HEIGHT))
    for exif in (camera_exif(9, upright.size).tobytes(), b"Exif\0\0MM\0*\xff\xff", b"Exif\0\0garbage"):
        assert load_image(save(upright, tmp_path / "a.jpg", exif=exif)).size == (WIDTH, HEIGHT)


# --- what cannot be read ---------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more than it holds."""

    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(header) + chunk(b"IDAT" + zlib.compress(b"\0" * 100)) + chunk(b"IEND")


def test_enormous_photos_are_refused_by_their_header(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.png", png_header(30_000, 30_000))
    with pytest.raises(ImageReadError, match=r"bomb\.png.*200,000,000 pixels, got 30000 x 30000 = 900,000,000"):
        load_image(path)
    with pytest.raises(ImageReadError, match="truncated"):  # the limit let it pass: now the missing pixels show
        load_image(write(tmp_path / "a.png", png_header(300, 300)))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.heic"])
def test_the_limit_is_the_one_given(tmp_path: Path, name: str) -> None:
    path = save(pil(gradient(WIDTH, HEIGHT)), tmp_path / name)
    assert load_image(path, max_pixels=WIDTH * HEIGHT).size == (WIDTH, HEIGHT)
    with pytest.raises(ImageReadError, match=f"at most {WIDTH * HEIGHT - 1:,} pixels, got {WIDTH} x {HEIGHT}"):
        load_image(path, max_pixels=WIDTH * HEIGHT - 1)
    with pytest.raises(InvalidValueError, match="max_pixels"):
        load_image(path, max_pixels=0)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.bmp", "lzw.tif"])
def test_pillows_own_limit_is_neither_asked_nor_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    path = save(pil(gradient(WIDTH, HEIGHT)), tmp_path / name, **options)
    for limit in (1000, 100):  # Pillow would warn of 1,536 pixels at the first, and raise at the second
        monkeypatch.setattr(PilImage, "MAX_IMAGE_PIXELS", limit)
        assert load_image(path).size == (WIDTH, HEIGHT)
        assert limit == PilImage.MAX_IMAGE_PIXELS
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it, in KiB")
def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    row = zlib.compressobj(9)
    body = b"".join(row.compress(b"\0" * 3751) for _ in range(30_000)) + row.flush()  # 30,000² of 1 bit, whole

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0))
    path = write(tmp_path / "a.png", b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    script = (
        "import resource, sys; from lightmatch.errors import ImageReadError; from lightmatch.images import load_image\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: load_image(sys.argv[1])\n"
        "except ImageReadError: print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000  # KiB; the decoded pixels alone would be 900,000


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.heic", "lzw.tif", "deep.png"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_photos_raise(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    if name == "deep.png":
        write(path, cv2.imencode(".png", noise((64, 64, 3), np.uint16))[1].tobytes())
    else:
        save(pil(noise((64, 64, 3))), path, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    content = path.read_bytes()
    write(path, content[: int(len(content) * kept)])
    with pytest.raises(ImageReadError, match=name):
        load_image(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.heic", "deep.png"])
def test_damaged_headers_raise_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "deep.png":
        write(path, cv2.imencode(".png", noise((16, 16, 3), np.uint16))[1].tobytes())
    else:
        save(pil(noise((16, 16, 3))), path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags Pillow may warn; here only the kind of error counts
        for _ in range(60):
            damaged = content.copy()
            damaged[random.integers(12, min(200, len(content)), 4)] = random.integers(0, 256, 4)
            try:
                load_image(write(path, damaged.tobytes()), max_pixels=1_000_000)
            except ImageReadError as error:
                refused += 1
                assert str(path) in str(error)
                assert "\n" not in str(error)
    assert refused > 0


def test_what_is_no_photo_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"missing\.jpg: there is no such file"):
        load_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageReadError, match="got a folder"):
        load_image(tmp_path)
    with pytest.raises(ImageReadError, match=r"empty\.jpg.*got an empty file"):
        load_image(write(tmp_path / "empty.jpg", b""))
    with pytest.raises(ImageReadError, match=r"text\.jpg.*expected a JPEG"):
        load_image(write(tmp_path / "text.jpg", b"no photo at all"))
    with pytest.raises(ImageReadError, match="embedded null"):
        load_image("a\0.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageReadError, match="got a pipe"):  # to open it would wait for ever
        load_image(tmp_path / "pipe.jpg")


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(pil(gradient(4, 4)), tmp_path / "a.png")

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", deny)  # by mode bits it would not hold for root
    with pytest.raises(ImageReadError, match=r"a\.png: permission denied"):
        load_image(path)


def test_many_threads_read_the_same(tmp_path: Path) -> None:
    arrays = [noise((64, 64, 3), seed=seed) for seed in range(8)]
    paths = [save(pil(array), tmp_path / f"{i}.png") for i, array in enumerate(arrays)]
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(load_image, paths * 4))
    assert all(np.array_equal(image.pixels, array) for image, array in zip(images, arrays * 4, strict=True))


# --- sizes -----------------------------------------------------------------------------------------


def test_an_image_that_fits_is_returned_itself() -> None:
    image = Image(gradient(WIDTH, HEIGHT))
    assert resize_to_fit(image, WIDTH) is image
    assert resize_to_fit(image, 10_000) is image
    with pytest.raises(InvalidValueError, match="long_side"):
        resize_to_fit(image, 0)


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [((400, 300), 100, (100, 75)), ((300, 400), 100, (75, 100)), ((1000, 3), 10, (10, 1)), ((7, 5), 3, (3, 2))],
)
def test_resize_keeps_the_aspect(size: tuple[int, int], long_side: int, expected: tuple[int, int]) -> None:
    image = Image(gradient(*size), Path("a.jpg"))
    smaller = resize_to_fit(image, long_side)
    assert smaller.size == expected
    assert smaller.path == image.path


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(301, 202), (251, 399), (129, 128), (1002, 1008)])
def test_a_jpeg_decoded_small_has_the_size_of_any_other(
    tmp_path: Path, size: tuple[int, int], orientation: int
) -> None:
    path = save(pil(gradient(*size)), tmp_path / "a.jpg", exif=camera_exif(orientation, size).tobytes())
    whole = load_image(path)
    for long_side in (*range(20, 90), 100):
        assert load_shrunk(path, long_side).size == resize_to_fit(whole, long_side).size


def test_a_heic_decoded_small_is_the_photo_and_not_its_thumbnail(tmp_path: Path) -> None:
    path = save(pil(noise((96, 128, 3))), tmp_path / "a.heic", quality=90, thumbnails=[64])
    assert np.array_equal(load_shrunk(path, 64).pixels, resize_to_fit(load_image(path), 64).pixels)


def test_resize_takes_the_mean_of_the_area() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[::2, ::2] = 200  # a quarter of every 2 x 2 block; without antialiasing it would be all or nothing
    assert resize_to_fit(Image(pixels), 2).pixels.tolist() == [[[50] * 3] * 2] * 2


@pytest.mark.parametrize("long_side", [213, 160, 100, 77])
def test_keypoints_follow_the_pixels_through_a_resize(long_side: int) -> None:
    size, centre, sigma = (320, 240), torch.tensor([133.3, 91.7], dtype=torch.float64), 9.0
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    blob = 250 * np.exp(-((x - centre[0].item()) ** 2 + (y - centre[1].item()) ** 2) / (2 * sigma**2))
    smaller = resize_to_fit(Image(np.dstack([np.rint(blob).astype(np.uint8)] * 3)), long_side)

    weight = smaller.pixels[..., 0].astype(float)
    x, y = np.meshgrid(np.arange(smaller.size[0]), np.arange(smaller.size[1]))
    found = torch.tensor([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    assert torch.dist(keypoints_to_size(found, smaller.size, size), centre) < 0.05
    # The map without half pixels is off by half a pixel of the smaller image, less half of a large one.
    naive = found * torch.tensor([large / small for large, small in zip(size, smaller.size, strict=True)])
    assert torch.dist(naive, centre) > 0.2


def test_corners_map_to_corners() -> None:
    corners = torch.tensor([[-0.5, -0.5], [639.5, 479.5], [319.5, 239.5]])
    expected = torch.tensor([[-0.5, -0.5], [63.5, 119.5], [31.5, 59.5]])
    torch.testing.assert_close(keypoints_to_size(corners, (640, 480), (64, 120)), expected)


@pytest.mark.parametrize("shape", [(2,), (0, 2), (7, 2), (2, 3, 5, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keypoints_come_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    keypoints = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 3000
    there = keypoints_to_size(keypoints, (4032, 3024), (1024, 768))
    assert there.dtype == dtype
    torch.testing.assert_close(keypoints_to_size(there, (1024, 768), (4032, 3024)), keypoints)
    assert torch.equal(keypoints_to_size(keypoints, (640, 480), (640, 480)), keypoints)


def test_bad_keypoints_are_refused() -> None:
    for bad in (torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int64), torch.tensor(1.0)):
        with pytest.raises(InvalidValueError, match="keypoints"):
            keypoints_to_size(bad, (4, 4), (2, 2))
    with pytest.raises(InvalidValueError, match="sizes"):
        keypoints_to_size(torch.zeros(1, 2), (4, 4), (0, 2))


# --- folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.jpg", "B.JPEG", "c.Png", "d.webp", "e.tif", "f.tiff", "g.bmp", "j.ppm", "h.HEIC", "i.heif"]
)
def test_photos_are_known_by_suffix(name: str) -> None:
    assert is_image_file(Path("x", name))


@pytest.mark.parametrize("name", ["a.txt", "a", "jpg", ".a.jpg", "._a.jpg", ".jpg", "a.jpg.part", "a.gif", "a.mp4"])
def test_other_files_are_not(name: str) -> None:
    assert not is_image_file(Path("x", name))


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]


def test_folders_are_listed_in_one_order(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.JPG", "a.png", "b.jpg", "b-c/x.heic", ".hidden/x.jpg", "b/._1.jpg", "b/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.jpg").mkdir()
    assert names(tmp_path) == ["a.png", "b-c/x.heic", "b.jpg", "b/1.JPG", "b/2.jpg"]
    assert list_images(tmp_path / "folder.jpg") == []


def test_links_are_followed_once(tmp_path: Path) -> None:
    photos, other = tmp_path / "photos", tmp_path / "other"
    (photos / "in").mkdir(parents=True)
    other.mkdir()
    for path in (photos / "a.jpg", photos / "in" / "b.jpg", other / "c.jpg"):
        path.touch()
    (photos / "in" / "loop").symlink_to(photos)
    (photos / "linked").symlink_to(other)
    (photos / "linked twice").symlink_to(other)
    (photos / "broken.jpg").symlink_to(photos / "nowhere.jpg")
    assert names(photos) == ["a.jpg", "in/b.jpg", "linked/c.jpg"]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"cannot list .*missing"):
        list_images(tmp_path / "missing")
    with pytest.raises(ImageReadError, match="cannot list"):
        list_images(write(tmp_path / "a.jpg", b""))


# --- real photos -----------------------------------------------------------------------------------


def test_real_photos_load(real_data: Path) -> None:
    paths = list_images(real_data)
    assert paths
    for path in paths[:: max(1, len(paths) // 40)]:
        with PilImage.open(io.BytesIO(path.read_bytes())) as picture:
            assert sorted(load_image(path).size) == sorted(picture.size)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_a_video_is_called_one(name: str, tmp_path: Path) -> None:
    encode_video(tmp_path / name, pan([0, 5, 10]))
    with pytest.raises(ImageReadError, match="expected a photo, got a video"):
        load_image(tmp_path / name)


def thermal(path: Path, low: float, high: float, dtype: type = np.uint16) -> np.ndarray:
    """A photo of one channel whose values lie between two; returns where, 0…1."""
    part = np.linspace(0, 1, 64 * 48).reshape(48, 64)
    cv2.imwrite(str(path), (low + part * (high - low)).astype(dtype))
    return part


@pytest.mark.parametrize(("name", "dtype"), [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.float32)])
def test_thermal_photos_are_stretched_alike(name: str, dtype: type, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, second = tmp_path / name, tmp_path / "other" / name
    part = thermal(first, 29500, 30000, dtype)
    thermal(second, 29700, 30400, dtype)
    levels = common_levels([first, second, tmp_path / "absent.png"])
    assert levels is not None
    assert levels == pytest.approx((29500, 30400), abs=60)  # of every fourth pixel
    values = load_image(first, levels=levels).pixels[..., 0].astype(float)
    wanted = np.clip((29500 + part * 500 - levels[0]) / (levels[1] - levels[0]), 0, 1) * 255
    assert np.abs(values - wanted).max() <= 1 and values.max() < 150  # the second is the brighter one
    assert common_levels([first]) != levels


def test_photos_that_use_their_bits_are_left_alone(tmp_path: Path) -> None:
    thermal(tmp_path / "wide.png", 1000, 50000)
    cv2.imwrite(str(tmp_path / "eight.png"), np.full((8, 8, 3), 40, np.uint8))
    assert common_levels([tmp_path / "wide.png", tmp_path / "eight.png"]) is None
    # Of a set, all together: one that is dark throughout does not make the others brighter.
    thermal(tmp_path / "dark.png", 900, 1000)
    assert common_levels([tmp_path / "wide.png", tmp_path / "dark.png"]) is None
    eight = load_image(tmp_path / "eight.png", levels=(0.0, 10.0)).pixels
    assert (eight == 40).all()  # levels are for deep ones


def test_a_photo_of_one_value_has_no_levels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((8, 8), 30000, np.uint16))
    assert common_levels([tmp_path / "flat.png"]) is None
