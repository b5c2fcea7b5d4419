"""Videos of all sorts → upright frames with their times."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_clips import encode_video, pan, texture

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.runtime.threads import use_threads
from lightmatch.video import Frame, choose_frames, is_video_file, open_video, read_facts, read_frames

LOSSLESS = {"crf": "0"}
BT2020_HDR = {"color_primaries": 9, "colorspace": 9, "color_range": 1}


def corners() -> np.ndarray:
    """(48, 64, 3): a colour in each corner, so that no turn and no mirror image looks the same."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:] = (200, 40, 40), (40, 200, 40)
    pixels[24:, :32], pixels[24:, 32:] = (40, 40, 200), (220, 220, 220)
    return pixels


def read_all(path: Path) -> tuple[list[Frame], tuple[str, ...]]:
    with open_video(path) as video:
        frames = [video.upright(frame) for frame in video.decode()]
        return frames, video.damage


def difference(pixels: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference; inf where the shapes differ."""
    return float(np.abs(pixels.astype(int) - expected.astype(int)).mean()) if pixels.shape == expected.shape else np.inf


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_display_matrix_is_applied(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    """`set_display_rotation` turns counter-clockwise, then mirrors left–right: so must the frame."""
    expected = np.rot90(corners(), rotation // 90)
    expected = expected[:, ::-1] if mirrored else expected
    path = encode_video(
        tmp_path / "turned.mp4",
        [corners()],
        options=LOSSLESS,
        set_up=lambda stream: stream.set_display_rotation(rotation, hflip=mirrored),
    )
    facts = read_facts(path)
    (frame,) = read_frames(path)
    assert (facts.width, facts.height) == (expected.shape[1], expected.shape[0])
    assert difference(frame.pixels, expected) < 4
    # The facts say the same: mirror left–right where mirrored, then turn clockwise.
    told = corners()[:, ::-1] if facts.mirrored else corners()
    assert difference(np.rot90(told, -facts.rotation_deg // 90), expected) == 0
    assert facts.mirrored == mirrored


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_times_are_those_of_presentation(tmp_path: Path, name: str) -> None:
    times_ms = [100, 133, 300, 310, 900, 1500]
    path = encode_video(tmp_path / name, [corners()] * 6, times_ms=times_ms)
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.time_s for frame in frames] == pytest.approx([time / 1000 for time in times_ms], abs=1e-4)


def test_streams_without_time_stamps_count_by_their_rate(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "bare.m4v", pan(range(8)), codec="mpeg4", options={"qscale": "2"})
    bare = tmp_path / "bare.h264"
    encode_video(bare, pan(range(8)), options={"bf": "0"})
    for file in (path, bare):
        times = [frame.time_s for frame in read_frames(file)]
        assert len(times) == 8
        assert (np.diff(times) > 0.02).all()


@pytest.mark.parametrize(
    ("tags", "luma_weights"),
    [
        ({"colorspace": 1}, (0.2126, 0.0722)),
        ({"colorspace": 6}, (0.299, 0.114)),
        ({"colorspace": 9}, (0.2627, 0.0593)),
        ({"colorspace": 1, "color_range": 2}, (0.2126, 0.0722)),
        ({}, (0.299, 0.114)),  # untagged and small
    ],
)
def test_colours_follow_the_tags(tmp_path: Path, tags: dict[str, int], luma_weights: tuple[float, float]) -> None:
    """One lossless Y'CbCr value against the equations of ITU-T H.273, section 8.3."""
    y, cb, cr = 120, 90, 180
    planes = np.stack([np.full((48, 64), value, np.uint8) for value in (y, cb, cr)])
    path = encode_video(
        tmp_path / "colour.mkv", [planes], codec="ffv1", pixel_format="yuv444p", source_format="yuv444p", tags=tags
    )
    kr, kb = luma_weights
    scale = (0, 255, 255) if tags.get("color_range") == 2 else (16, 219, 224)
    light, blue, red = (y - scale[0]) / scale[1], (cb - 128) / scale[2], (cr - 128) / scale[2]
    r, b = light + 2 * (1 - kr) * red, light + 2 * (1 - kb) * blue
    expected = 255 * np.array([r, (light - kr * r - kb * b) / (1 - kr - kb), b])
    (frame,) = read_frames(path)
    assert frame.pixels[20, 20] == pytest.approx(expected, abs=1.01)


def test_untagged_hd_is_bt709(tmp_path: Path) -> None:
    planes = np.stack([np.full((720, 1280), value, np.uint8) for value in (120, 90, 180)])
    options: Any = {"codec": "ffv1", "pixel_format": "yuv444p", "source_format": "yuv444p"}
    tagged, untagged = (
        next(read_frames(encode_video(tmp_path / f"{len(tags)}.mkv", [planes], tags=tags, **options))).pixels[0, 0]
        for tags in ({"colorspace": 1}, {})
    )
    assert tagged.tolist() == untagged.tolist()


@pytest.mark.parametrize(("transfer", "number", "paper"), [("pq", 16, 0.5807), ("hlg", 18, 0.75)])
def test_hdr_is_tone_mapped(tmp_path: Path, transfer: str, number: int, paper: float) -> None:
    """White paper, 10 bits, BT.2020: light grey of no hue, where its codes read as sRGB would be 148 or 191."""
    luma = np.full((72, 64), 512, np.uint16)  # yuv420p10le: the chroma planes lie below the luma
    luma[:48] = round(64 + 876 * paper)
    path = encode_video(
        tmp_path / "hdr.mkv",
        [luma],
        codec="ffv1",
        pixel_format="yuv420p10le",
        source_format="yuv420p10le",
        tags=BT2020_HDR | {"color_trc": number},
    )
    assert read_facts(path).transfer == transfer
    (frame,) = read_frames(path)
    assert np.ptp(frame.pixels) <= 1
    assert 200 <= frame.pixels[0, 0, 0] <= 240


@pytest.mark.parametrize(
    ("name", "encoder", "codec"), [("phone.mp4", "libx264", "h264"), ("phone.m2ts", "libx265", "hevc")]
)
def test_ten_bits_of_a_camera(tmp_path: Path, name: str, encoder: str, codec: str) -> None:
    """HLG is known by its tag, in the container or in the stream; ordinary 10 bits are no HDR."""
    from av.codec import codecs_available

    if encoder not in codecs_available:
        pytest.skip(f"this build of FFmpeg has no {encoder}")
    options = {"crf": "1"} | ({"x265-params": "log-level=none"} if codec == "hevc" else {})
    path = tmp_path / name
    for tags in (BT2020_HDR | {"color_trc": 18}, {"colorspace": 1, "color_trc": 1, "color_primaries": 1}):
        encode_video(path, [corners()] * 2, codec=encoder, pixel_format="yuv420p10le", options=options, tags=tags)
        facts = read_facts(path)
        assert (facts.codec, facts.pixel_format) == (codec, "yuv420p10le")
        assert facts.transfer == ("hlg" if tags["color_trc"] == 18 else "sdr")
    assert difference(next(read_frames(path)).pixels, corners()) < 5


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    """Anamorphic DV: 4:3 pixels make 64 × 48 look like 85 × 48."""

    def wide(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = encode_video(tmp_path / "wide.mp4", [corners()], options=LOSSLESS, set_up=wide)
    (frame,) = read_frames(path)
    assert frame.pixels.shape == (48, 85, 3)
    assert frame.pixels[10, 36].tolist() == pytest.approx([200, 40, 40], abs=8)  # stored column 27
    assert (read_facts(path).width, read_facts(path).height) == (85, 48)


def test_interlaced_frames_are_made_whole(tmp_path: Path) -> None:
    """Two fields of a pan comb every edge; what is read is smooth, at the same times."""
    grey = [pixels.mean(axis=2, keepdims=True) for pixels in pan(range(0, 96, 8), (160, 120))]
    steps = [np.repeat(pixels, 3, axis=2).astype(np.uint8) for pixels in grey]
    woven = [np.where((np.arange(120) % 2 == 0)[:, None, None], a, b) for a, b in pairwise(steps)]

    def interlaced(stream: Any) -> None:
        stream.codec_context.flags |= 1 << 18

    path = encode_video(
        tmp_path / "fields.mp4",
        woven[::2],
        options=LOSSLESS | {"x264-params": "tff=1"},
        set_up=interlaced,
    )
    frames, damage = read_all(path)
    assert read_facts(path).interlaced
    assert damage == ()
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 30 for index in range(6)], abs=0.01)

    def combing(pixels: np.ndarray) -> float:
        rows = pixels.astype(float)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    # Untold, the encoder takes the lower field, here the later one, to be the first.
    for before, after, whole in zip(woven[::2], frames, steps[1::2], strict=True):
        assert combing(after.pixels) < 0.6 * combing(before)
        assert difference(after.pixels, whole) < difference(before, whole)


@pytest.fixture(scope="module")
def streamable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames with a key frame every 15 and the index at the beginning, so that a part of the file can be read."""
    path = tmp_path_factory.mktemp("video") / "whole.mp4"
    return encode_video(path, pan(range(0, 120, 2)), options={"g": "15"}, container_options={"movflags": "faststart"})


def test_a_whole_video_is_not_called_damaged(streamable: Path) -> None:
    frames, damage = read_all(streamable)
    assert (len(frames), damage) == (60, ())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_video_cut_off_gives_its_beginning(streamable: Path, tmp_path: Path, threads: int) -> None:
    data = streamable.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) // 2])
    use_threads(threads)
    try:
        frames, damage = read_all(path)
    finally:
        use_threads(1)
    assert 10 < len(frames) < 45
    whole = list(read_frames(streamable, range(len(frames))))
    assert all((a.pixels == b.pixels).all() for a, b in zip(frames, whole, strict=True))
    assert len(damage) == 1
    assert "cut.mp4 is damaged or cut off after" in damage[0]


def test_frames_that_build_on_a_damage_are_left_out(streamable: Path, tmp_path: Path, capfd: Any) -> None:
    """The decoder gives them, grey smears and all; from the next key frame on all is well."""
    data = bytearray(streamable.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    path = tmp_path / "scratched.mp4"
    path.write_bytes(data)
    frames, damage = read_all(path)
    whole = {round(frame.time_s, 3): frame.pixels for frame in read_frames(streamable)}
    assert all((frame.pixels == whole[round(frame.time_s, 3)]).all() for frame in frames)
    assert 45 <= len(frames) < 60
    assert frames[-1].time_s == pytest.approx(59 / 30, abs=0.01)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert len(damage) == 1
    assert "are left out" in damage[0]
    assert capfd.readouterr().err == ""  # FFmpeg's own messages are for nobody


@pytest.mark.parametrize(("size", "num_frames"), [((160, 120), 24), ((240, 320), 12)])
def test_frames_of_another_size_in_one_stream(tmp_path: Path, size: tuple[int, int], num_frames: int) -> None:
    """A recording that changed to half the size is one video; of one turned upright only the beginning is."""
    parts = [
        encode_video(tmp_path / f"{n}.mts", pan(range(0, 24, 2), each)).read_bytes()
        for n, each in enumerate([(320, 240), size])
    ]
    path = tmp_path / "joined.mts"
    path.write_bytes(b"".join(parts))
    frames, damage = read_all(path)
    assert [frame.pixels.shape for frame in frames] == [(240, 320, 3)] * num_frames
    assert [" 240 x 320 px later" in said for said in damage] == [True] * (num_frames == 12)
    assert choose_frames(path).num_read == num_frames


def test_a_silent_cut_is_told_by_the_promised_length(tmp_path: Path) -> None:
    """Matroska just ends where it was cut: nothing fails."""
    whole = encode_video(tmp_path / "whole.mkv", pan(range(0, 120, 2)), options={"g": "15"})
    assert read_all(whole)[1] == ()
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    frames, damage = read_all(cut)
    assert 0 < len(frames) < 60
    assert len(damage) == 1
    assert "cut off" in damage[0]


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4"])
def test_a_late_start_is_no_damage(tmp_path: Path, name: str) -> None:
    path = encode_video(tmp_path / name, pan(range(30)), times_ms=range(5000, 6000, 34))
    frames, damage = read_all(path)
    assert (len(frames), damage) == (30, ())
    assert frames[0].time_s == pytest.approx(5, abs=1e-3)
    assert read_facts(path).duration_s == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["late.flv", "late.mkv"])
def test_a_late_start_is_no_damage_where_only_the_container_has_a_length(tmp_path: Path, name: str) -> None:
    path = encode_video(tmp_path / name, pan(range(30)), times_ms=range(5000, 6000, 34))
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"NO_TRACK"))
    assert read_all(path)[1] == ()
    assert read_facts(path).duration_s == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["sound.flv", "sound.mkv"])
def test_sound_that_outlasts_the_picture_is_no_damage(tmp_path: Path, name: str) -> None:
    import av

    path, pictures = tmp_path / name, encode_video(tmp_path / "silent.mkv", pan(range(15)), options={"bf": "0"})
    with av.open(str(path), "w") as container, av.open(str(pictures)) as silent:
        stream = container.add_stream_from_template(silent.streams.video[0])
        sound: Any = container.add_stream("aac", rate=44100)
        for packet in silent.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
        mux_silence(container, sound, 4)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"NO_TRACK"))
    frames, damage = read_all(path)
    assert (len(frames), damage) == (15, ())


def mux_silence(container: Any, stream: Any, seconds: float) -> None:
    import av

    sound = av.AudioFrame.from_ndarray(np.zeros((1, round(seconds * stream.rate)), np.float32), "fltp", "mono")
    sound.sample_rate, sound.pts = stream.rate, 0
    container.mux(stream.encode(sound))
    container.mux(stream.encode(None))


def sound_only(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        mux_silence(container, container.add_stream("aac", rate=16000), 1)


def no_index(path: Path) -> None:
    """A recording that was interrupted: the index of an MP4 is written last."""
    encode_video(path, pan(range(10)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_whole_frame(path: Path) -> None:
    encode_video(path, pan(range(3)), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "got a folder"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_text("dear diary\n" * 20), "other content"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "other content"),
        (lambda path: path.write_text("ffconcat version 1.0\nfile /etc/other.mp4\n"), "other content"),
        (sound_only, "got only audio"),
        (no_index, "cut off before its end was written"),
        (no_whole_frame, "at least one whole frame"),
    ],
    ids=["missing", "folder", "empty", "text", "noise", "playlist", "sound", "no_index", "no_whole_frame"],
)
def test_what_is_no_video_is_told_in_a_sentence(tmp_path: Path, make: Any, says: str) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    for read in (read_facts, lambda path: list(read_frames(path))):
        with pytest.raises(ImageReadError, match=says) as raised:
            read(path)
        assert str(path) in str(raised.value)


def test_a_name_with_a_colon_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no address, though it is not told by a folder before it."""
    encode_video(tmp_path / "a.mp4", [corners()]).rename(tmp_path / "clip:12:30 50%.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(read_frames("clip:12:30 50%.mp4"))) == 1


def test_single_frames_are_those_of_the_whole(streamable: Path) -> None:
    whole = list(read_frames(streamable))
    some = list(read_frames(streamable, [40, 7, 1000, 41]))
    assert [frame.index for frame in some] == [7, 40, 41]
    assert all((frame.pixels == whole[frame.index].pixels).all() for frame in some)
    assert list(read_frames(streamable, [])) == []


def test_frames_can_be_shrunk(streamable: Path) -> None:
    frame = next(read_frames(streamable, long_side=100))
    assert frame.pixels.shape == (75, 100, 3)
    with pytest.raises(InvalidValueError, match="long_side"):
        read_frames(streamable, long_side=0)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "bgr0"])
def test_grey_is_the_luma(tmp_path: Path, pixel_format: str) -> None:
    """Read from the first plane where that is the luma, 8 bits of it, converted where there is none."""
    picture = texture(160, 120)
    path = encode_video(tmp_path / "grey.mkv", [picture], codec="ffv1", pixel_format=pixel_format)
    with open_video(path) as video:
        (frame,) = video.decode()
        grey, small = video.grey(frame, 1000), video.grey(frame, 40)
    assert (grey.dtype, grey.shape, small.shape) == (np.uint8, (120, 160), (30, 40))
    expected = picture @ np.array([0.299, 0.587, 0.114])
    assert np.corrcoef(grey.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.median(np.abs(grey - (16 + expected * 219 / 255))) < (2 if "yuv" in pixel_format else 20)


def test_videos_are_known_by_name() -> None:
    assert all(is_video_file(Path(name)) for name in ("a.mp4", "b.MOV", "c/d.mkv", "e.webm", "f.MTS"))
    assert not any(is_video_file(Path(name)) for name in ("a.jpg", ".mp4", "._a.mp4", ".a.mov", "mp4", "a.mp4.txt"))
