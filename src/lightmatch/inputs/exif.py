"""Metadata of a photo (EXIF, XMP): where, when and by which camera it was taken."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from PIL import ExifTags, ImageFile
from PIL import Image as PilImage

from lightmatch.images import open_photo, orientation_of
from lightmatch.inputs.gimbal import Gimbal, gimbal_of

_Tag, _Gps = ExifTags.Base, ExifTags.GPS

_HIGHEST_M = 100_000.0  # higher altitudes are damaged entries, mostly 2³² − 1

_TIMES = (  # when the shutter opened, when it was digitised, when the file was changed; with sub-seconds and zone
    (_Tag.DateTimeOriginal, _Tag.SubsecTimeOriginal, _Tag.OffsetTimeOriginal),
    (_Tag.DateTimeDigitized, _Tag.SubsecTimeDigitized, _Tag.OffsetTimeDigitized),
    (_Tag.DateTime, _Tag.SubsecTime, _Tag.OffsetTime),
)
_TIME = re.compile(r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})[ T](\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d+))?")
_DIGITS = re.compile(r"\d+")
_ZONE = re.compile(r"([+-])(\d{1,2}):?(\d{2})")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeoPosition:
    """A place on the earth, WGS 84."""

    latitude_deg: float  # −90…90, north is positive
    longitude_deg: float  # −180…180, east is positive
    altitude_m: float | None = None  # above sea level, or above the ellipsoid: cameras mix them up
    accuracy_m: float | None = None  # horizontal, as estimated by the receiver


@dataclass(frozen=True)
class PhotoFacts:
    """Metadata of a photo; None where an entry is missing or implausible."""

    gps: GeoPosition | None = None
    taken: datetime | None = None  # local time of the camera; with a zone only where the photo names one
    camera: str | None = None  # maker and model
    lens: str | None = None
    focal_mm: float | None = None
    focal_35mm: float | None = None  # mm, of a lens with the same view on 36 x 24 mm film
    digital_zoom: float | None = None  # times, after the lens
    orientation: int = 1  # 1…8 as in EXIF: the rotation from the stored to the upright pixels
    gimbal: Gimbal | None = None  # how a drone held its camera


def read_facts(path: Path) -> PhotoFacts:
    """The metadata of a photo: JPEG, PNG, WebP, TIFF or HEIC.

    Damaged entries count as missing, one by one, and are logged for debugging; a file that is no photo has no facts.
    Never raises: nothing here is worth losing a photo for.
    Source: CIPA DC-008 (EXIF 3.0), sections 4.6.5 and 4.6.6.
    """
    try:
        with open_photo(path, max_pixels=sys.maxsize) as picture:
            return _facts(picture)
    except Exception as error:
        _logger.debug("%s: no facts (%s)", path, error)
        return PhotoFacts()


def gps_position(tags: Mapping[int, Any]) -> GeoPosition | None:
    """The place in an EXIF GPS block, by tag number; None where it is not whole or cannot be.

    Latitude 0, longitude 0 counts as none: it is what receivers write that know nothing. A missing hemisphere is not
    guessed. Never raises.
    """
    try:
        latitude = _angle_deg(tags.get(_Gps.GPSLatitude), tags.get(_Gps.GPSLatitudeRef), "NS", 90)
        longitude = _angle_deg(tags.get(_Gps.GPSLongitude), tags.get(_Gps.GPSLongitudeRef), "EW", 180)
        if latitude == 0 and longitude == 0:
            raise ValueError("latitude and longitude are 0")
    except Exception as error:
        _logger.debug("no place in GPS block %s (%s)", dict(tags), error)
        return None
    altitude = _number(tags.get(_Gps.GPSAltitude))
    if altitude is not None and _below(tags.get(_Gps.GPSAltitudeRef)):
        altitude = -abs(altitude)
    if altitude is not None and abs(altitude) > _HIGHEST_M:
        altitude = None
    accuracy = _number(tags.get(_Gps.GPSHPositioningError))
    return GeoPosition(latitude, longitude, altitude, accuracy if accuracy is not None and accuracy > 0 else None)


def taken_at(tags: Mapping[int, Any]) -> datetime | None:
    """When a photo was taken, from the tags of both EXIF directories; the first of three times that is one."""
    for time, fraction, zone in _TIMES:
        found = _TIME.search(_text(tags.get(time)) or "")
        if found is None:
            continue
        digits = _DIGITS.match(_text(tags.get(fraction)) or found[7] or "")
        try:
            year, month, day, hour, minute, second = (int(number) for number in found.groups()[:6])
            whole = datetime(year, month, day, hour, minute, second)
        except ValueError:  # 0000:00:00, or a 31st of February
            _logger.debug("no time: %r", found.group())
            continue
        microsecond = int(digits.group().ljust(6, "0")[:6]) if digits else 0
        return whole.replace(microsecond=microsecond, tzinfo=_zone(_text(tags.get(zone))))
    return None


def _facts(picture: ImageFile.ImageFile) -> PhotoFacts:
    exif = picture.getexif()
    tags = {**exif, **_directory(exif, ExifTags.IFD.Exif)}
    gps = _directory(exif, ExifTags.IFD.GPSInfo)
    return PhotoFacts(
        gps=gps_position(gps) if gps else None,
        taken=taken_at(tags),
        camera=_camera(_text(tags.get(_Tag.Make)), _text(tags.get(_Tag.Model))),
        lens=_text(tags.get(_Tag.LensModel)),
        focal_mm=_positive(tags.get(_Tag.FocalLength)),
        focal_35mm=_positive(tags.get(_Tag.FocalLengthIn35mmFilm)),
        digital_zoom=_positive(tags.get(_Tag.DigitalZoomRatio)),
        # HEIC is rotated outside of EXIF; its reader keeps the EXIF entry.
        orientation=picture.info.get("original_orientation") or orientation_of(picture),
        gimbal=gimbal_of(picture),
    )


def _directory(exif: PilImage.Exif, directory: ExifTags.IFD) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(directory)
    except Exception as error:  # the EXIF parser raises nearly everything on damaged bytes
        _logger.debug("EXIF directory %s cannot be read (%s)", directory.name, error)
        return {}


def _angle_deg(value: Any, reference: Any, signs: str, most: int) -> float:
    """Degrees from degrees, minutes and seconds; the last ones may be missing. Raises ValueError."""
    parts = [_number(part) for part in (value if isinstance(value, Sequence) else [value])]
    if not 1 <= len(parts) <= 3 or any(part is None or part < 0 for part in parts):
        raise ValueError(f"expected degrees, minutes and seconds, got {value!r}")
    if any(part > 60 for part in parts[1:] if part is not None):
        raise ValueError(f"expected at most 60 minutes and seconds, got {value!r}")
    angle = sum((part or 0.0) / 60**power for power, part in enumerate(parts))
    sign = (_text(reference) or "").upper()[:1]
    if not sign or sign not in signs:
        raise ValueError(f"expected the hemisphere, one of {signs}, got {reference!r}")
    if angle > most:
        raise ValueError(f"expected at most {most} degrees, got {angle}")
    return angle if sign == signs[0] else -angle


def _number(value: Any) -> float | None:
    """The value as a finite number, if it is one; of several the first."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None  # 0 means unknown


def _text(value: Any) -> str | None:
    """A text entry without the zeros and blanks that fill it up."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    return value.partition("\0")[0].strip() or None


def _below(reference: Any) -> bool:
    """Whether an altitude is below sea level (1) or below the ellipsoid (3): a byte, or what some write for one."""
    if isinstance(reference, bytes):
        return reference[:1] in (b"\1", b"\3", b"1", b"3")
    return str(reference) in ("1", "3")


def _camera(make: str | None, model: str | None) -> str | None:
    if make and model and not model.casefold().startswith(make.split()[0].casefold()):
        return f"{make} {model}"
    return model or make


def _zone(text: str | None) -> timezone | None:
    """A zone from +02:00; some write Z for +00:00."""
    if text in ("Z", "z"):
        return UTC
    found = _ZONE.fullmatch(text or "")
    if found is None:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(-offset if found[1] == "-" else offset) if offset < timedelta(hours=24) else None
