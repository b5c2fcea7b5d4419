import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from images_data import camera_exif, gradient, noise, stored_for, tiff_bytes
from PIL import ExifTags
from PIL import Image as PilImage
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from PIL.TiffImagePlugin import IFDRational

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.images import list_images, load_image
from lightmatch.images.working_copies import write_working_copy
from lightmatch.types import Image

pytestmark = pytest.mark.filterwarnings("error")

WIDTH, HEIGHT = 48, 32
FOCAL_PX = 28 / np.hypot(36, 24) * np.hypot(WIDTH, HEIGHT)  # 28 mm as on 36 x 24 mm film, by the diagonal


def photo(path: Path, orientation: int = 1, **camera: Any) -> Path:
    """A photo of a known camera, upright `WIDTH` x `HEIGHT`."""
    stored = PilImage.fromarray(stored_for(gradient(WIDTH, HEIGHT), orientation))
    exif = camera_exif(orientation, stored.size, **camera).tobytes()
    if path.suffix == ".heic":
        import pillow_heif

        pillow_heif.from_pillow(stored).save(path, exif=exif, quality=95)
    else:
        options: dict[str, Any] = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}
        stored.save(path, exif=exif, **options.get(path.suffix, {}))
    return path


def copy_of(source: Path, folder: Path) -> Path:
    return write_working_copy(source, load_image(source), folder / source.name)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.jpg", gradient(WIDTH, HEIGHT)),
        ("a.JPEG", gradient(WIDTH, HEIGHT)[..., 0]),
        ("a.png", gradient(WIDTH, HEIGHT)),
        ("grey.png", gradient(WIDTH, HEIGHT)[..., 0]),
    ],
)
def test_what_colmap_reads_as_it_is_stays_byte_for_byte(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    source = tmp_path / name
    PilImage.fromarray(pixels).save(source)
    written = copy_of(source, tmp_path / "copies" / "deeper")
    assert written == tmp_path / "copies" / "deeper" / name
    assert written.read_bytes() == source.read_bytes()


def rgba(path: Path) -> None:
    PilImage.fromarray(noise((HEIGHT, WIDTH, 4))).save(path)


def one_colour_transparent(path: Path) -> None:
    PilImage.fromarray(gradient(WIDTH, HEIGHT)).save(path, transparency=(40, 30, 200))


def palette(path: Path) -> None:
    PilImage.fromarray(gradient(WIDTH, HEIGHT)).convert("P").save(path)


def one_bit(path: Path) -> None:
    PilImage.fromarray(gradient(WIDTH, HEIGHT)[..., 0] > 128).save(path)


def sixteen_bit(path: Path) -> None:
    path.write_bytes(cv2.imencode(".png", gradient(WIDTH, HEIGHT).astype(np.uint16) * 257)[1].tobytes())


def sixteen_bit_tiff(path: Path) -> None:
    path.write_bytes(tiff_bytes(noise((HEIGHT, WIDTH), np.uint16).tobytes(), (WIDTH, HEIGHT), (16,), 1))


def cmyk(path: Path) -> None:
    PilImage.fromarray(gradient(WIDTH, HEIGHT)).convert("CMYK").save(path)


def plain(path: Path) -> None:
    PilImage.fromarray(gradient(WIDTH, HEIGHT)).save(path)


def misnamed(path: Path) -> None:
    PilImage.fromarray(gradient(WIDTH, HEIGHT)).save(path, format="PNG")


def misnamed_jpeg(path: Path) -> None:
    PilImage.fromarray(gradient(WIDTH, HEIGHT)).save(path, format="JPEG", quality=95)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rgba.png", rgba),
        ("trns.png", one_colour_transparent),
        ("palette.png", palette),
        ("bit.png", one_bit),
        ("deep.png", sixteen_bit),
        ("deep.tif", sixteen_bit_tiff),
        ("cmyk.jpg", cmyk),
        ("a.webp", plain),
        ("a.bmp", plain),
        ("a.tif", plain),
        ("png.jpg", misnamed),
        ("jpeg.PNG", misnamed_jpeg),
    ],
)
def test_all_else_is_encoded_under_its_name_where_that_says_jpeg_or_png(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    source = tmp_path / name
    make(source)
    written = copy_of(source, tmp_path / "copies")
    keeps = source.suffix.lower() in (".jpg", ".png")
    assert written == tmp_path / "copies" / (name if keeps else f"{name}.jpg")
    with PilImage.open(written) as picture:
        kind = "PNG" if source.suffix.lower() == ".png" else "JPEG"
        assert (picture.format, picture.mode, picture.size) == (kind, "RGB", (WIDTH, HEIGHT))
        if isinstance(picture, JpegImageFile):
            assert get_sampling(picture) == 0  # 4:4:4: no channel is subsampled
    expected = load_image(source).pixels.astype(int)
    assert np.abs(load_image(written).pixels - expected).mean() < 5


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_turned_photos_come_upright_with_their_camera(tmp_path: Path, name: str, orientation: int) -> None:
    written = copy_of(photo(tmp_path / name, orientation), tmp_path / "copies")
    assert written.name == (name if name in ("a.jpg", "a.png") else f"{name}.jpg")
    with PilImage.open(written) as picture:
        assert np.abs(np.asarray(picture).astype(int) - gradient(WIDTH, HEIGHT)).max() <= 8
        exif = picture.getexif()
        camera, gps = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    tag = ExifTags.Base
    assert (exif[tag.Orientation], exif[tag.Make], exif[tag.Model]) == (1, "Maker", "Model 1")
    assert (camera[tag.ExifImageWidth], camera[tag.ExifImageHeight]) == (WIDTH, HEIGHT)
    assert (float(camera[tag.FocalLength]), camera[tag.FocalLengthIn35mmFilm]) == (4.5, 28)
    assert [float(part) for part in gps[ExifTags.GPS.GPSLatitude]] == [48, 51, 24]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.heic"])
def test_colmap_reads_size_and_focal_length(tmp_path: Path, name: str, orientation: int) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    written = copy_of(photo(tmp_path / name, orientation), tmp_path / "copies")
    camera = pycolmap.infer_camera_from_image(written)
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    assert camera.has_prior_focal_length
    assert camera.mean_focal_length() == pytest.approx(FOCAL_PX, rel=1e-3)
    bitmap = pycolmap.Bitmap.read(written, as_rgb=True)
    assert np.abs(bitmap.to_array().astype(int) - load_image(written).pixels).max() <= 1


def test_focal_plane_resolutions_turn_with_the_pixels(tmp_path: Path) -> None:
    tag = ExifTags.Base
    for name, orientation, expected in (
        ("a.webp", 3, (100, 200)),
        ("a.webp", 6, (200, 100)),
        ("a.heic", 6, (200, 100)),
    ):
        source = photo(tmp_path / name, orientation, FocalPlaneXResolution=100.0, FocalPlaneYResolution=200.0)
        with PilImage.open(copy_of(source, tmp_path / "copies")) as picture:
            camera = picture.getexif().get_ifd(ExifTags.IFD.Exif)
        assert (camera[tag.FocalPlaneXResolution], camera[tag.FocalPlaneYResolution]) == expected


def test_odd_tags_and_long_maker_notes_do_not_cost_the_focal_length(tmp_path: Path) -> None:
    tag, unknown = ExifTags.Base, IFDRational(0, 0)  # what cameras write for a value they do not know
    odd = {"LensSpecification": (unknown, unknown, unknown, unknown), "FNumber": unknown, "MakerNote": b"x" * 60_000}
    source = photo(tmp_path / "a.jpg", 6, **odd)
    with PilImage.open(copy_of(source, tmp_path / "copies")) as picture:
        camera = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    assert camera[tag.FocalLengthIn35mmFilm] == 28
    assert repr(camera[tag.FNumber]) == repr(unknown)
    assert tag.MakerNote not in camera


def test_a_tag_that_cannot_be_written_is_left_out_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(tmp_path / "a.jpg", 6, SubjectDistance=1.0)
    real = PilImage.Exif.get_ifd

    def get_ifd(exif: PilImage.Exif, directory: int) -> dict[int, Any]:
        mixed = {ExifTags.Base.LensSpecification: (4.5, "x", b"y")} if directory == ExifTags.IFD.Exif else {}
        return real(exif, directory) | mixed

    image = load_image(source)
    with monkeypatch.context() as patch:
        patch.setattr(PilImage.Exif, "get_ifd", get_ifd)
        written = write_working_copy(source, image, tmp_path / "b.jpg")
    with PilImage.open(written) as picture:
        camera = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    assert camera[ExifTags.Base.FocalLengthIn35mmFilm] == 28
    assert ExifTags.Base.LensSpecification not in camera


def test_damaged_exif_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "a.webp"
    PilImage.fromarray(gradient(WIDTH, HEIGHT)).save(source, exif=b"Exif\0\0garbage")
    with caplog.at_level(logging.WARNING, logger="lightmatch"):
        written = copy_of(source, tmp_path / "copies")
    assert "EXIF block is left out" in caplog.text
    assert load_image(written).size == (WIDTH, HEIGHT)


def test_two_sources_never_meet(tmp_path: Path) -> None:
    sources = [tmp_path / name for name in ("a.jpg", "a.png", "a.webp", "a.bmp")]
    for source in sources:
        plain(source)
    assert len({copy_of(source, tmp_path / "copies") for source in sources}) == len(sources)


def test_an_older_copy_is_replaced_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(tmp_path / "a.webp")
    written = copy_of(source, tmp_path / "copies")
    before = written.read_bytes()
    assert copy_of(source, tmp_path / "copies").read_bytes() == before

    def fail(picture: PilImage.Image, path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    image = load_image(source)
    monkeypatch.setattr(PilImage.Image, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        write_working_copy(source, image, tmp_path / "copies" / source.name)
    assert os.listdir(tmp_path / "copies") == [written.name]  # noqa: PTH208
    assert written.read_bytes() == before


def test_bad_input(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.jpg", 6)
    with pytest.raises(InvalidValueError, match=r"a\.jpg in its full size"):
        write_working_copy(source, Image(gradient(8, 8)), tmp_path / "b.jpg")
    with pytest.raises(ImageReadError, match="no such file"):
        write_working_copy(tmp_path / "missing.jpg", Image(gradient(8, 8)), tmp_path / "b.jpg")
    assert not (tmp_path / "b.jpg").exists()


def test_real_photos_keep_the_focal_length_colmap_reads(real_data: Path, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    paths = [path for path in list_images(real_data) if path.suffix.lower() == ".jpg"]
    with_focal_length = 0
    for path in paths[:: max(1, len(paths) // 40)]:
        turned = tmp_path / "turned.webp"  # not read by COLMAP as it is: the copy must be encoded anew
        with PilImage.open(path) as picture:
            picture.resize((64, 48)).save(turned, exif=picture.getexif().tobytes())
        image = load_image(turned)
        camera, known = (
            pycolmap.infer_camera_from_image(file) for file in (write_working_copy(turned, image, turned), path)
        )
        assert camera.has_prior_focal_length == known.has_prior_focal_length
        assert (camera.width, camera.height) == image.size
        with_focal_length += camera.has_prior_focal_length
    assert with_focal_length > 0
