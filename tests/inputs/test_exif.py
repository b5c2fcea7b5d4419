"""What photos say of themselves, whole and damaged."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from lightmatch.inputs import GeoPosition, Gimbal, PhotoFacts, gps_position, read_facts
from lightmatch.inputs.exif import taken_at

WritePhoto = Callable[..., Path]
Tag, Gps = ExifTags.Base, ExifTags.GPS

PARIS: dict[int, Any] = {
    Gps.GPSLatitudeRef: "N",
    Gps.GPSLatitude: (48.0, 51.0, 29.988),
    Gps.GPSLongitudeRef: "E",
    Gps.GPSLongitude: (2.0, 17.0, 40.2),
    Gps.GPSAltitudeRef: b"\0",
    Gps.GPSAltitude: 35.5,
}


def block(gps: dict[int, Any] | None = None, camera: dict[int, Any] | None = None, **tags: Any) -> PilImage.Exif:
    exif = PilImage.Exif()
    for name, value in tags.items():
        exif[Tag[name]] = value
    if camera:
        exif[ExifTags.IFD.Exif] = camera
    if gps:
        exif[ExifTags.IFD.GPSInfo] = gps
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".heic"])
def test_all_formats_say_it(tmp_path: Path, write_photo: WritePhoto, suffix: str) -> None:
    camera: dict[int, Any] = {
        Tag.DateTimeOriginal: "2024:02:29 13:14:15",
        Tag.SubsecTimeOriginal: "25",
        Tag.OffsetTimeOriginal: "-03:30",
        Tag.FocalLength: 4.25,
        Tag.FocalLengthIn35mmFilm: 26,
        Tag.LensModel: "a lens",
    }
    exif = block(PARIS, camera, Make="Maker", Model="Phone 7", Orientation=6)
    path = write_photo(tmp_path / f"a{suffix}", exif=exif.tobytes())
    facts = read_facts(path)
    assert facts.gps is not None
    assert facts.gps.latitude_deg == pytest.approx(48.85833, abs=1e-6)
    assert facts.gps.longitude_deg == pytest.approx(2.2945, abs=1e-6)
    assert facts.gps.altitude_m == pytest.approx(35.5, abs=1e-3)
    zone = timezone(-timedelta(hours=3, minutes=30))
    assert facts.taken == datetime(2024, 2, 29, 13, 14, 15, 250000, zone)
    assert (facts.camera, facts.lens) == ("Maker Phone 7", "a lens")
    assert (facts.focal_mm, facts.focal_35mm, facts.orientation) == (4.25, 26, 6)


def test_places_agree_with_colmap_s(tmp_path: Path, write_photo: WritePhoto) -> None:
    import pycolmap

    rng = random.Random(0)
    for number in range(12):
        gps = dict(PARIS)
        gps[Gps.GPSLatitudeRef], gps[Gps.GPSLongitudeRef] = rng.choice("NS"), rng.choice("EW")
        gps[Gps.GPSLatitude] = (rng.randrange(90), rng.randrange(60), rng.random() * 59)
        gps[Gps.GPSLongitude] = (rng.randrange(180), rng.randrange(60), rng.random() * 59)
        path = write_photo(tmp_path / f"{number}.jpg", exif=block(gps))
        found = read_facts(path).gps
        bitmap = pycolmap.Bitmap.read(str(path), True)
        assert bitmap is not None and found is not None
        theirs = (bitmap.exif_latitude(), bitmap.exif_longitude(), bitmap.exif_altitude())
        assert (found.latitude_deg, found.longitude_deg, found.altitude_m) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({Gps.GPSLatitudeRef: "S", Gps.GPSLongitudeRef: "W"}, (-48.85833, -2.2945, 35.5)),
        ({Gps.GPSLatitudeRef: "North"}, (48.85833, 2.2945, 35.5)),
        ({Gps.GPSLatitudeRef: "s\0"}, (-48.85833, 2.2945, 35.5)),
        ({Gps.GPSLatitude: (48.85833, 0, 0)}, (48.85833, 2.2945, 35.5)),
        ({Gps.GPSLatitude: (48, 51.4998)}, (48.85833, 2.2945, 35.5)),
        ({Gps.GPSLatitude: 48.85833}, (48.85833, 2.2945, 35.5)),
        ({Gps.GPSLatitude: (0, 0, 0)}, (0, 2.2945, 35.5)),  # on the equator
        ({Gps.GPSAltitudeRef: b"\1"}, (48.85833, 2.2945, -35.5)),
        ({Gps.GPSAltitudeRef: 3}, (48.85833, 2.2945, -35.5)),
        ({Gps.GPSAltitudeRef: "1"}, (48.85833, 2.2945, -35.5)),
        ({Gps.GPSAltitudeRef: None}, (48.85833, 2.2945, 35.5)),
        ({Gps.GPSAltitude: (35.5, 1)}, (48.85833, 2.2945, 35.5)),
        ({Gps.GPSAltitude: ()}, (48.85833, 2.2945, None)),
        ({Gps.GPSAltitude: IFDRational(1, 0)}, (48.85833, 2.2945, None)),
        ({Gps.GPSAltitude: 4294967295.0}, (48.85833, 2.2945, None)),
        ({Gps.GPSAltitude: "high"}, (48.85833, 2.2945, None)),
    ],
)
def test_ways_to_write_a_place(change: dict[int, Any], expected: tuple[float | None, ...]) -> None:
    place = gps_position(PARIS | change)
    assert place is not None
    assert (place.latitude_deg, place.longitude_deg) == pytest.approx(expected[:2], abs=1e-5)
    assert place.altitude_m == expected[2]


@pytest.mark.parametrize(
    "change",
    [
        {Gps.GPSLatitudeRef: None},
        {Gps.GPSLongitudeRef: ""},
        {Gps.GPSLatitudeRef: "E"},
        {Gps.GPSLatitude: None},
        {Gps.GPSLatitude: ()},
        {Gps.GPSLatitude: (1, 2, 3, 4)},
        {Gps.GPSLatitude: (90, 0, 1)},
        {Gps.GPSLongitude: (180, 1, 0)},
        {Gps.GPSLongitude: (2, 61, 0)},
        {Gps.GPSLongitude: (-2, 17, 0)},
        {Gps.GPSLatitude: (IFDRational(48, 0), 51, 0)},
        {Gps.GPSLatitude: (48, 51, IFDRational(0, 0))},
        {Gps.GPSLatitude: (float("nan"), 0, 0)},
        {Gps.GPSLatitude: "48.85"},
        {Gps.GPSLatitude: b"\xff\xfe"},
        {Gps.GPSLatitude: (0, 0, 0), Gps.GPSLongitude: (0, 0, 0)},
    ],
)
def test_places_that_cannot_be(change: dict[int, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "lightmatch.inputs")
    assert gps_position(PARIS | change) is None
    assert "no place in GPS block" in caplog.text


def test_the_receiver_s_guess_of_its_error() -> None:
    place = gps_position({**PARIS, Gps.GPSHPositioningError: 4.5})
    assert isinstance(place, GeoPosition) and place.accuracy_m == 4.5


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({Tag.DateTimeOriginal: "2024:01:02 03:04:05"}, datetime(2024, 1, 2, 3, 4, 5)),
        ({Tag.DateTimeOriginal: "2024-01-02T03:04:05.5"}, datetime(2024, 1, 2, 3, 4, 5, 500000)),
        ({Tag.DateTimeOriginal: b"2024:01:02 03:04:05\0"}, datetime(2024, 1, 2, 3, 4, 5)),
        (
            {Tag.DateTimeOriginal: "2024:01:02 03:04:05", Tag.SubsecTimeOriginal: "012345678 "},
            datetime(2024, 1, 2, 3, 4, 5, 12345),
        ),
        (
            {Tag.DateTimeOriginal: "2024:01:02 03:04:05", Tag.OffsetTimeOriginal: "Z"},
            datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        (
            {Tag.DateTimeOriginal: "2024:01:02 03:04:05", Tag.OffsetTimeOriginal: "+24:00"},
            datetime(2024, 1, 2, 3, 4, 5),
        ),
        (
            {Tag.DateTimeOriginal: "0000:00:00 00:00:00", Tag.DateTime: "2020:01:02 03:04:05", Tag.SubsecTime: "x"},
            datetime(2020, 1, 2, 3, 4, 5),
        ),
        ({Tag.DateTimeOriginal: "2023:02:31 00:00:00"}, None),
        ({Tag.DateTimeOriginal: "    :  :     :  :  "}, None),
        ({Tag.DateTimeOriginal: 17}, None),
        ({}, None),
    ],
)
def test_times(tags: dict[int, Any], expected: datetime | None) -> None:
    assert taken_at(tags) == expected
    if expected is not None:
        found = taken_at(tags)
        assert found is not None and found.tzinfo == expected.tzinfo


def test_cameras_and_lenses_that_are_not_known(tmp_path: Path, write_photo: WritePhoto) -> None:
    for number, (make, model, expected) in enumerate(
        [
            ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
            ("NIKON CORPORATION", "NIKON D90\0\0 ", "NIKON D90"),
            ("Apple", "iPhone 12", "Apple iPhone 12"),
            ("  ", "X100", "X100"),
            ("Maker", "", "Maker"),
            ("", "", None),
        ]
    ):
        exif = block(camera={Tag.FocalLengthIn35mmFilm: 0, Tag.FocalLength: IFDRational(0, 0)}, Make=make, Model=model)
        facts = read_facts(write_photo(tmp_path / f"{number}.jpg", exif=exif))
        assert facts == PhotoFacts(camera=expected)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of Pillow
def test_nothing_damaged_is_ever_raised(tmp_path: Path, write_photo: WritePhoto) -> None:
    """Every byte of a whole EXIF block, changed or cut off."""
    whole = block(PARIS, {Tag.DateTimeOriginal: "2024:02:29 13:14:15", Tag.FocalLength: 4.25}, Make="Maker").tobytes()
    photo = write_photo(tmp_path / "a.jpg", exif=whole)
    content, path = photo.read_bytes(), tmp_path / "b.jpg"
    start = content.index(b"Exif\0\0") + 6
    assert read_facts(photo).gps is not None
    for place in range(start, start + len(whole) - 6):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        facts = read_facts(path)
        assert facts.gps is None or (abs(facts.gps.latitude_deg) <= 90 and abs(facts.gps.longitude_deg) <= 180)
    for length in range(0, start + len(whole), 7):
        path.write_bytes(content[:length])
        read_facts(path)
    assert read_facts(tmp_path / "absent.jpg") == read_facts(tmp_path) == PhotoFacts()
    assert read_facts(write_photo(tmp_path / "plain.png")) == PhotoFacts()


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" {}</rdf:Description></rdf:RDF></x:xmpmeta>"""
ATTRIBUTES = XMP.format(
    'drone-dji:GimbalRollDegree="+0.00" drone-dji:GimbalYawDegree="-112.50" drone-dji:GimbalPitchDegree="-89.90">'
)
ELEMENTS = XMP.format(
    "><drone-dji:GimbalPitchDegree>-30</drone-dji:GimbalPitchDegree>"
    "<drone-dji:GimbalRollDegree> 1.5 </drone-dji:GimbalRollDegree>"
    "<drone-dji:GimbalYawDegree>+7.0</drone-dji:GimbalYawDegree>"
)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".heic"])
def test_how_a_drone_held_its_camera(tmp_path: Path, write_photo: WritePhoto, suffix: str) -> None:
    def gimbal(packet: str) -> Gimbal | None:
        options: dict[str, Any] = {"xmp": packet.encode()}
        if suffix == ".tif":
            options = {"tiffinfo": {700: packet.encode()}}
        elif suffix == ".png":
            options = {"pnginfo": PngInfo()}
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet)
        return read_facts(write_photo(tmp_path / f"a{suffix}", **options)).gimbal

    assert gimbal(ATTRIBUTES) == Gimbal(-89.9, 0, -112.5)
    assert gimbal(ELEMENTS) == Gimbal(-30, 1.5, 7)
    assert gimbal(ATTRIBUTES.replace("GimbalYaw", "FlightYaw")) is None
    assert gimbal(ATTRIBUTES.replace("-89.90", "nan")) is None
    assert gimbal(ATTRIBUTES.replace("-89.90", "-899.0")) is None


@pytest.mark.parametrize(
    ("gimbal", "down"),
    [
        (Gimbal(0, 0, 123), (0, 1, 0)),  # level
        (Gimbal(-90, 0, 0), (0, 0, 1)),  # straight down
        (Gimbal(90, 0, 0), (0, 0, -1)),
        (Gimbal(0, 90, 0), (1, 0, 0)),  # its right side down
        (Gimbal(0, 180, 0), (0, -1, 0)),  # upside down
        (Gimbal(-30, 0, 0), (0, 0.75**0.5, 0.5)),
    ],
)
def test_where_down_is(gimbal: Gimbal, down: tuple[float, float, float]) -> None:
    assert gimbal.down_in_camera() == pytest.approx(down, abs=1e-12)


def test_real_photos_know_where_they_were_taken(real_data: Path) -> None:
    photos = sorted((real_data / "eval/sfm_opensfm_lund").rglob("*.jpg"))
    places = [read_facts(photo).gps for photo in photos]
    assert len(places) == 29 and None not in places
    for place in places:
        assert place is not None and place.altitude_m is not None
        assert (place.latitude_deg, place.longitude_deg) == pytest.approx((55.698, 13.195), abs=0.002)
