"""Reads any photo as an upright 8-bit RGB `Image`; resizing, and its inverse for keypoints.

No global setting of Pillow or OpenCV is read or changed, so photos load safely from many threads
and the pixel limit is the one given here. Formats are detected by content, not by file name.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np
import torch
from PIL import ExifTags, ImageFile, ImageOps
from PIL import Image as PilImage
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor

from lightmatch.errors import ImageReadError, InvalidValueError, LightmatchError
from lightmatch.images.rotation import stored_size
from lightmatch.images.walk import list_files
from lightmatch.types import Image

MAX_PIXELS = 200_000_000
"""The largest photo `load_image` decodes by default: 200 megapixels, up to 2 GB while loading."""
ANY_NUMBER = 1 << 62
"""No limit in practice: for photos whose size was checked before."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif", ".ppm", ".pgm"}
)

_UPRIGHT = {  # EXIF orientation → what makes the stored pixels upright (CIPA DC-008, section 4.6.5, tag 274)
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}

_Tag = ExifTags.Base  # names both EXIF and TIFF tags


class _TiffFile(TiffImageFile):
    """Pillow's TIFF reader without its own pixel limit: a global one, below ours, that also warns."""

    def load_prepare(self) -> None:
        stored_size = (self.tag_v2[_Tag.ImageWidth], self.tag_v2[_Tag.ImageLength])
        self.im = PilImage.core.new(self.mode, stored_size)
        super().load_prepare()


class _PngFile(PngImageFile):
    """Pillow's PNG reader; it decodes the pixels to look for metadata behind them only where there are any."""

    def getexif(self) -> PilImage.Exif:
        if self.tile and self.fp is not None and not _metadata_behind_pixels(self.fp):
            return PilImage.Image.getexif(self)
        return super().getexif()


def _metadata_behind_pixels(file: IO[bytes]) -> bool:
    """Whether a PNG has EXIF or XMP behind its pixels (PNG, third edition, section 5.3)."""
    place, behind = file.tell(), False
    file.seek(8)
    try:
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            keyword = file.read(min(int.from_bytes(head[:4]), 17))
            behind |= head[4:] == b"IDAT"
            named = head[4:] in (b"tEXt", b"zTXt", b"iTXt") and keyword.startswith(
                (b"XML:com.adobe.xmp", b"Raw profile")
            )
            if behind and (head[4:] == b"eXIf" or named):
                return True
            file.seek(int.from_bytes(head[:4]) - len(keyword) + 4, 1)
        return False
    finally:
        file.seek(place)


Levels = tuple[float, float]
"""The values of a photo of one channel, of 16 bits or of floats, that are black and white."""


def load_image(path: str | Path, max_pixels: int = MAX_PIXELS, levels: Levels | None = None) -> Image:
    """Read a photo as an upright (EXIF orientation applied) 8-bit RGB image.

    path: JPEG, PNG, WebP, TIFF, BMP, HEIC or PPM/PGM, whatever its name. Animations give their first frame.
    max_pixels: width times height that may be decoded; checked from the header, before decoding.

    levels: see `common_levels`; the values of black and white for photos of one channel with 16 bits or floats.

    Without levels 16-bit values are divided by 257 and rounded, 12-bit greys by 4095/255. Transparent pixels are
    blended with white. CMYK is converted without a colour profile; RGB keeps the numbers of its own colour space.
    Raises ImageReadError where the file is missing, unreadable, empty, truncated, no photo, over the
    limit, or of values with no known white (float, 32-bit) without levels; InvalidValueError where max_pixels < 1.
    """
    if max_pixels < 1:
        raise InvalidValueError(f"max_pixels: expected at least 1, got {max_pixels}")
    path = Path(path)
    with open_photo(path, max_pixels) as picture:
        return Image(_to_array(_decode(picture, path, levels)), path)


def load_shrunk(path: str | Path, long_side: int, max_pixels: int = MAX_PIXELS, levels: Levels | None = None) -> Image:
    """As `load_image`, shrunk to `long_side` px and to the size that `resize_to_fit` gives.

    A JPEG is decoded at a half, a quarter or an eighth of its size where that is no smaller, in less time; its values
    then differ a little from those of the whole photo shrunk.
    """
    path = Path(path)
    with open_photo(path, max_pixels) as picture:
        stored = picture.size
        if isinstance(picture, JpegImageFile):  # of a HEIC `draft` would take another picture, the embedded thumbnail
            picture.draft(None, fitting_size(stored, long_side))
        is_smaller = picture.size != stored
        image = Image(_to_array(_decode(picture, path, levels)), path)
        size = stored_size(stored, orientation_of(picture)) if is_smaller else image.size
        return _shrunk(image, fitting_size(size, long_side))


def common_levels(paths: Iterable[str | Path], max_pixels: int = MAX_PIXELS) -> Levels | None:
    """What is black and white in photos of one channel, thermal ones mostly, that use little of 16 bits or have floats.

    One stretch for all of them, from the least 0.5 % to the most 99.5 % of any, so that equal values stay equal. None
    where there is no such photo, or where they use a quarter of 16 bits or more. What cannot be read does not count.
    """
    found = [levels for path in paths if (levels := _own_levels(Path(path), max_pixels)) is not None]
    if not found:
        return None
    low, high = min(levels.low for levels in found), max(levels.high for levels in found)
    known_white = all(levels.known_white for levels in found)
    return None if high <= low or (known_white and high - low >= _ENOUGH_OF_16_BITS) else (low, high)


_ENOUGH_OF_16_BITS = 65536 / 4


class _OwnLevels(NamedTuple):
    low: float
    high: float
    known_white: bool  # of unsigned integers


def _own_levels(path: Path, max_pixels: int) -> _OwnLevels | None:
    try:
        with open_photo(path, max_pixels) as picture:
            if not _is_deep_grey(picture):
                return None
            known_white = _has_known_white(picture)
            picture.load()
            values = np.asarray(picture)[::4, ::4]
            low, high = np.percentile(values[np.isfinite(values)], (0.5, 99.5))
    except (ImageReadError, IndexError):  # or no finite value
        return None
    return _OwnLevels(float(low), float(high), known_white)


def _is_deep_grey(picture: ImageFile.ImageFile) -> bool:
    """Whether it has one channel of more than 8 bits, or of floats."""
    return picture.mode.startswith("I;16") or picture.mode in ("I", "F")


def _has_known_white(picture: ImageFile.ImageFile) -> bool:
    """Whether the values of its one channel are unsigned, of 12 or 16 bits; Pillow brings those of PGM to 16."""
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))


def resize_to_fit(image: Image, long_side: int) -> Image:
    """Shrink `image` until its longer side is `long_side` px; an image that fits is returned itself.

    The aspect is kept to within rounding to whole pixels (at least 1), each new pixel being the mean
    of the area it covers. `keypoints_to_size` takes keypoints back, exactly.
    Raises InvalidValueError where long_side < 1.
    """
    return _shrunk(image, fitting_size(image.size, long_side))


def fitting_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The (width, height) px that `resize_to_fit` gives an image of `size`."""
    if long_side < 1:
        raise InvalidValueError(f"long_side: expected at least 1 px, got {long_side}")
    longest = max(size)
    if longest <= long_side:
        return size
    width, height = (max(1, round(side * long_side / longest)) for side in size)
    return width, height


def _shrunk(image: Image, size: tuple[int, int]) -> Image:
    if image.size == size:
        return image
    return Image(np.asarray(cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)), image.path)


def keypoints_to_size(keypoints: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """The same points of one photo at another resolution.

    keypoints: (..., 2) floating, (x, y) px, the centre of the first pixel being (0, 0).
    from_size, to_size: (width, height) px. Returns (..., 2): x' = (x + ½) · W'/W − ½, because the
    resolutions share the photo's corner (−½, −½) and not its first pixel's centre.
    Raises InvalidValueError on another shape, an integer dtype or a size that is not positive.
    """
    if keypoints.ndim < 1 or keypoints.shape[-1] != 2 or not keypoints.is_floating_point():
        raise InvalidValueError(
            "keypoints: expected a floating tensor of shape (..., 2),"
            f" got shape {tuple(keypoints.shape)} and {keypoints.dtype}"
        )
    if min(*from_size, *to_size) < 1:
        raise InvalidValueError(f"sizes: expected (width, height) of at least 1 px, got {from_size} and {to_size}")
    if from_size == to_size:
        return keypoints
    ratios = [to / start for to, start in zip(to_size, from_size, strict=True)]
    scale = torch.tensor(ratios, dtype=keypoints.dtype, device=keypoints.device)
    return (keypoints + 0.5) * scale - 0.5


def is_image_file(path: Path) -> bool:
    """Whether the name of `path` is a photo's: a known suffix in any case, and not hidden (nor macOS '._')."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """All photos under `folder` by `is_image_file`, sorted by their path relative to it (with '/').

    Hidden folders are left out, linked ones followed, as by `list_files`.
    Raises ImageReadError where `folder`, or a folder below it, is missing or cannot be listed.
    """
    return [path for path in list_files(folder) if is_image_file(path) and path.is_file()]


@contextmanager
def open_photo(path: Path, max_pixels: int) -> Generator[ImageFile.ImageFile]:
    """The photo with its header read and its size checked, its pixels not yet decoded.

    Any failure, inside the block too, becomes an ImageReadError of one sentence with the path.
    """
    try:
        if path.is_dir():
            raise ImageReadError(f"cannot read {path}: expected a photo, got a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise ImageReadError(f"cannot read {path}: expected a photo, got a pipe or device; copy it to a file")
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0)
            reader = _reader_for(head, path)
            picture = reader(file)
            width, height = picture.size
            if width * height > max_pixels:
                raise ImageReadError(
                    f"cannot read {path}: expected at most {max_pixels:,} pixels, got {width} x {height} ="
                    f" {width * height:,}; shrink the photo, or allow more with max_pixels (--max-pixels)"
                )
            yield picture
    except LightmatchError:
        raise
    except FileNotFoundError as error:
        raise ImageReadError(f"cannot read {path}: there is no such file; check the path") from error
    except PermissionError as error:
        raise ImageReadError(f"cannot read {path}: permission denied; change the file's permissions") from error
    except Exception as error:  # decoders raise nearly everything on damaged bytes: struct.error, IndexError, cv2.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageReadError(
            f"cannot read {path}: expected a whole photo, got damaged, truncated or unusual data ({reason});"
            " copy it again or save it as JPEG or PNG"
        ) from error


def _reader_for(head: bytes, path: Path) -> type[ImageFile.ImageFile]:
    """The reader of the format that `head`, the first bytes of the file, belongs to.

    Readers are called by class, not by PIL.Image.open: that one holds Pillow's global pixel limit,
    warns of it, and asks the plugins that other code has registered.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImageFile
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PngFile
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WebPImageFile
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _TiffFile
    if head.startswith(b"BM"):
        return BmpImageFile
    if head.startswith((b"P5", b"P6")):
        return PpmImageFile
    if _is_video(head):
        raise ImageReadError(
            f"cannot read {path}: expected a photo, got a video; save a frame of it as a photo, or give it to"
            " `lightmatch reconstruct`"
        )
    if head[4:8] == b"ftyp":
        from pillow_heif import HeifImageFile

        return HeifImageFile
    got = "other content" if head else "an empty file"
    raise ImageReadError(
        f"cannot read {path}: expected a JPEG, PNG, WebP, TIFF, BMP, HEIC or PPM photo, got {got};"
        " convert it to one of these"
    )


_VIDEO_BRANDS = (b"isom", b"iso", b"mp4", b"mp7", b"avc", b"qt", b"M4V", b"3g", b"MSNV", b"f4v", b"dash", b"XAVC")


def _is_video(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an MP4 or QuickTime, Matroska or WebM, or AVI film."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    atoms = head[4:8] in (b"moov", b"mdat", b"wide", b"skip")
    return brand.startswith(_VIDEO_BRANDS) or atoms or head.startswith(b"\x1a\x45\xdf\xa3") or head[8:12] == b"AVI "


def orientation_of(picture: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1…8, of the pixels as decoded; 1 (upright) without one.

    A damaged EXIF block counts as none. The reader of HEIC applies the rotation of the container and sets the EXIF
    orientation to 1; Pillow rotates TIFF on loading, so call this afterwards.
    """
    try:
        orientation = picture.getexif().get(_Tag.Orientation)
    except Exception:  # the EXIF parser, too, raises nearly any exception on damaged bytes
        return 1
    return orientation if orientation in _UPRIGHT else 1


def upright_size(picture: ImageFile.ImageFile) -> tuple[int, int]:
    """(width, height) px of the photo as `load_image` gives it. Call it before the pixels are loaded."""
    size = picture.size
    if isinstance(picture, TiffImageFile):  # whose `size` is the upright one in newer versions of Pillow
        size = picture.tag_v2[_Tag.ImageWidth], picture.tag_v2[_Tag.ImageLength]
    return stored_size(size, orientation_of(picture))


def bits_per_channel(picture: ImageFile.ImageFile) -> int:
    """Bits of one channel in the file, 8 where fewer or a palette. Call it before the pixels are loaded."""
    if isinstance(picture, TiffImageFile):
        return max(8, *picture.tag_v2.get(_Tag.BitsPerSample, (1,)))
    stored = str(picture.tile[0][3]) if isinstance(picture, PngImageFile) else picture.mode
    return 16 if "16" in stored or (isinstance(picture, PpmImageFile) and stored == "I") else 8


def _decode(picture: ImageFile.ImageFile, path: Path, levels: Levels | None) -> PilImage.Image:
    """The opened photo as an upright RGB picture of 8 bits."""
    bits = bits_per_channel(picture)
    deep_colour = _is_deep_colour(picture, bits, path)
    picture.load()  # also where OpenCV gives the pixels: Pillow is the one to notice every truncation
    pixels: PilImage.Image = picture
    if deep_colour:
        pixels = _to_8_bits(_decode_with_opencv(path), 65535)
    elif _is_deep_grey(picture):
        if levels is not None:
            pixels = _stretched(np.asarray(picture), levels)
        elif _has_known_white(picture):
            pixels = _to_8_bits(np.asarray(picture), 2**bits - 1)
        else:
            raise ImageReadError(
                f"cannot read {path}: expected channels of 8 or 16 bits, got signed, 32-bit or float values, whose"
                " white is not known; scale it to 16 bits first"
            )
        if isinstance(picture, TiffImageFile) and picture.tag_v2.get(_Tag.PhotometricInterpretation) == 0:
            pixels = ImageOps.invert(pixels)  # "white is zero": Pillow inverts it for 8 bits only
        if (transparent := picture.info.get("transparency")) is not None:  # the one value, as PNG has it
            pixels.putalpha(PilImage.fromarray(np.asarray(picture) != transparent).convert("L"))
    if pixels.has_transparency_data:
        pixels = pixels.convert("RGBA")
        pixels = PilImage.alpha_composite(PilImage.new("RGBA", pixels.size, "white"), pixels)
    if pixels.mode != "RGB":  # where it is, convert would copy 4 bytes a pixel for nothing
        pixels = pixels.convert("RGB")
    turn = _UPRIGHT.get(orientation_of(picture))
    return pixels if turn is None else pixels.transpose(turn)


def _to_array(picture: PilImage.Image) -> np.ndarray:
    """(h, w, 3) of an RGB picture, by strips: for a large one the copies that Pillow makes take as long as decoding."""
    width, height = picture.size
    pixels, step = np.empty((height, width, 3), np.uint8), max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels


_STRIP_PIXELS = 1 << 16  # what stays in the cache, and in memory that is used again


def _is_deep_colour(picture: ImageFile.ImageFile, bits: int, path: Path) -> bool:
    """Whether OpenCV must decode the file because Pillow would drop the low byte of its 16 bits.

    Of TIFFs only RGB: OpenCV misreads CMYK and premultiplied alpha, where Pillow's high byte is at
    most one level off. Channels in planes of their own both misread, without a word.
    """
    if isinstance(picture, TiffImageFile):
        depths = picture.tag_v2.get(_Tag.BitsPerSample, (1,))
        if bits > 8 and len(depths) > 1 and picture.tag_v2.get(_Tag.PlanarConfiguration, 1) != 1:
            raise ImageReadError(
                f"cannot read {path}: expected the channels of a {bits}-bit TIFF pixel by pixel, got planes;"
                " save it as PNG or with interleaved channels"
            )
        return depths == (16, 16, 16) and picture.tag_v2.get(_Tag.PhotometricInterpretation) == 2
    return isinstance(picture, PngImageFile) and bits == 16 and not picture.mode.startswith("I")


def _decode_with_opencv(path: Path) -> np.ndarray:
    """(h, w, 3 or 4) in RGB(A) order at the file's own depth; by way of bytes, as paths need not be ASCII."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint16:
        raise ValueError("OpenCV cannot decode it")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _stretched(values: np.ndarray, levels: Levels) -> PilImage.Image:
    """Values between both levels as 0…255; those beyond, and NaN, as the nearer end, and black."""
    low, high = levels
    part = np.nan_to_num((values.astype(np.float32) - low) / (high - low), nan=0.0)
    return PilImage.fromarray(np.rint(np.clip(part, 0, 1) * 255).astype(np.uint8))


def _to_8_bits(values: np.ndarray, white: int) -> PilImage.Image:
    """Unsigned `values` of 0…white as the nearest of 0…255, by way of a table: no larger copy in between."""
    table = np.rint(np.arange(white + 1) * (255 / white)).astype(np.uint8)
    return PilImage.fromarray(table[values])
