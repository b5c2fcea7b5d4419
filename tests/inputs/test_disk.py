import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from images_data import camera_exif

from lightmatch.errors import ReconstructionError
from lightmatch.images import load_image
from lightmatch.images.working_copies import write_working_copy
from lightmatch.inputs import (
    DiskEstimate,
    PhotoInput,
    PictureSize,
    VideoInput,
    bytes_per_keypoint,
    check_disk,
    estimate_disk,
    frame_sizes,
    free_bytes,
    picture_size,
)
from lightmatch.inputs.disk import readable_bytes
from lightmatch.types import FeatureKind

SIFT = FeatureKind("sift", 128, has_scale_orientation=True)
GB = 10**9
TEN = DiskEstimate(copies=6 * GB, features=1 * GB, matches=1 * GB, models=1 * GB, splat=1 * GB)


def test_bytes_of_a_keypoint() -> None:
    assert bytes_per_keypoint(SIFT) == 5 * 4 + 128 * 4 + 8
    assert bytes_per_keypoint(FeatureKind("xfeat", 64), bytes_per_number=2) == 3 * 4 + 64 * 2 + 8


def test_the_estimate_is_a_sum() -> None:
    pictures = [PictureSize(1000, 700), PictureSize.encoded((40, 50)), PictureSize(0, 0)]
    estimate = estimate_disk(pictures, num_pairs=3, max_keypoints=100, keypoint_bytes=500, matched_share=0.5)
    assert estimate.copies == 700 + 1200
    assert estimate.features == 2 * 100 * 500  # the last one cannot be read
    assert estimate.matches == 3 * 50 * 36
    assert estimate.splat == 600 + 1200
    assert estimate.total == sum([1900, 100_000, 5400, 34_000, 1800])
    assert estimate_disk(pictures, num_pairs=3, max_keypoints=100, keypoint_bytes=500, splat=False).splat == 0
    deep = estimate_disk(pictures, num_pairs=3, max_keypoints=100, keypoint_bytes=500, depth_maps=True)
    assert deep.splat == estimate.splat + sum(min(4 * picture.num_pixels, 4 * 800 * 800) for picture in pictures)
    assert estimate_disk([], num_pairs=0, max_keypoints=100, keypoint_bytes=500).total == 0


def test_working_copies_take_what_was_said(tmp_path: Path, write_photo: Callable[..., Path]) -> None:
    kept = [write_photo(tmp_path / "a.jpg"), write_photo(tmp_path / "b.png")]
    encoded = [write_photo(tmp_path / "c.webp"), write_photo(tmp_path / "d.jpg", exif=camera_exif(6, (48, 32)))]
    for path in kept:
        copy = write_working_copy(path, load_image(path), tmp_path / "copies" / path.name)
        assert picture_size(PhotoInput(path, path.name, path.name)) == PictureSize(48 * 32, copy.stat().st_size)
    for path in encoded:
        assert picture_size(PhotoInput(path, path.name, path.name)) == PictureSize.encoded((48, 32))
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    assert picture_size(PhotoInput(tmp_path / "broken.jpg", "broken.jpg", "broken.jpg")) == PictureSize(0, 0)


def test_frames_of_videos_count(tmp_path: Path, write_movie: Callable[..., Path]) -> None:
    path, frame = write_movie(tmp_path / "a.mov", 10), PictureSize.encoded((16, 16))
    for most, number in ((None, 20), (6, 6), (1000, 20)):
        assert frame_sizes(VideoInput(path, "a", "a.mov", max_frames=most)) == [frame] * number
    path.write_bytes(b"no video")
    assert frame_sizes(VideoInput(path, "a", "a.mov")) == []


def test_a_disk_that_is_too_small(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ReconstructionError) as stopped:
        check_disk(TEN, tmp_path, free=9 * GB)
    assert "expected about 10.0 GB free on its disk (copies 6.0 GB, features 1.0 GB" in str(stopped.value)
    assert "found 9.0 GB" in str(stopped.value) and "--max-images" in str(stopped.value)
    assert not caplog.records
    check_disk(TEN, tmp_path, free=9 * GB, written=2 * GB)
    assert "may get tight" in caplog.text
    caplog.clear()
    check_disk(TEN, tmp_path, free=15 * GB)
    check_disk(TEN, tmp_path, free=0, written=11 * GB)
    assert not caplog.records
    check_disk(TEN, tmp_path, free=15 * GB - 1)
    assert "may get tight" in caplog.text


def test_the_disk_that_is_asked_is_the_output_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = os.statvfs(tmp_path)
    assert free_bytes(tmp_path / "not/there/yet") == pytest.approx(stats.f_bavail * stats.f_frsize, rel=0.1)
    paths: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: paths.append(path) or SimpleNamespace(free=7))
        assert free_bytes(tmp_path / "not/there/yet") == 7
    assert paths == [tmp_path]
    check_disk(DiskEstimate(1, 0, 0, 0, 0), tmp_path / "out")
    with pytest.raises(ReconstructionError):
        check_disk(DiskEstimate(10**18, 0, 0, 0, 0), tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1234, "1.2 kB"),
        (12_345_678, "12.3 MB"),
        (10**11, "100 GB"),
    ],
)
def test_bytes_in_words(number: int, text: str) -> None:
    assert readable_bytes(number) == text
