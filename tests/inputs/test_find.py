"""What the user names → what is to be reconstructed."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from images_data import camera_exif
from PIL import Image as PilImage

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.images import load_image
from lightmatch.images.working_copies import write_working_copy
from lightmatch.inputs import Duplicate, Inputs, find_inputs, mask_path, read_facts, read_mask, too_few, write_mask

WritePhoto = Callable[..., Path]
WriteMovie = Callable[..., Path]


def is_output(folder: Path) -> bool:
    return (folder / ".run").is_file()


def find(paths: Path | Sequence[Path], output: Path | None = None, masks: Path | None = None) -> Inputs:
    given = [paths] if isinstance(paths, Path) else paths
    return find_inputs(given, output=output or Path("/nowhere/out"), masks=masks, is_output=is_output)


def names(inputs: Inputs) -> list[str]:
    return [photo.name for photo in inputs.photos]


def touch(*paths: Path) -> None:
    """Files that are recognized by their names alone, each with bytes of its own."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(path))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def test_a_messy_folder(photos: Path, write_photo: WritePhoto, write_movie: WriteMovie) -> None:
    write_photo(photos / "IMG_1.HEIC", 1, exif=camera_exif(6, (48, 32)).tobytes())
    write_photo(photos / "phone/turned.jpg", 2, exif=camera_exif(6, (48, 32)))
    write_photo(photos / "phone/copy of turned.jpg", 2, exif=camera_exif(6, (48, 32)))
    write_photo(photos / "left/view.png", 3)
    write_photo(photos / "right/view.png", 4)
    write_photo(photos / "фото/写真.png", 5)
    write_photo(photos / ".thumbnails/view.png", 6)
    write_photo(photos / "left/._view.png", 7)
    write_photo(photos / "masks/left/view.png", 8)
    write_photo(photos / "old run/images/a.png", 9)
    touch(photos / "old run/.run", photos / "notes.txt", photos / "DSC_7.NEF", photos / "funny.gif")
    write_movie(photos / "IMG_1.MOV", 2.9)
    write_movie(photos / "phone/walk.mp4", 30)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")

    found = find(photos)
    assert names(found) == [
        "IMG_1.HEIC",
        "broken.jpg",  # reported when it is read
        "left/view.png",
        "phone/copy of turned.jpg",
        "right/view.png",
        "фото/写真.png",
    ]
    assert [photo.shown for photo in found.photos] == names(found)
    assert [(video.folder, video.shown) for video in found.videos] == [("phone/walk", "phone/walk.mp4")]
    assert found.duplicates == (Duplicate("phone/turned.jpg", "phone/copy of turned.jpg"),)
    assert {each.shown: (each.kind, each.lost) for each in found.ignored} == {
        "DSC_7.NEF": ("raw", True),
        "funny.gif": ("format", True),
        "IMG_1.MOV": ("live photo", False),
    }
    assert "export it as JPEG" in next(each.reason for each in found.ignored if each.kind == "raw")
    masked = {photo.name: photo.mask for photo in found.photos if photo.mask is not None}
    assert masked == {"left/view.png": photos / "masks/left/view.png"}
    assert read_mask(photos / "masks/left/view.png", (48, 32)).shape == (32, 48)
    assert [read_facts(photo.path).orientation for photo in found.photos if "turned" in photo.name] == [6]


def test_the_folder_s_own_name_does_not_matter_and_its_spelling_neither(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(photos / "sub/a.jpg", photos / "clip.mp4")
    monkeypatch.chdir(photos / "sub")
    for spelled in (photos, photos / "sub/..", Path("..")):
        found = find(spelled)
        assert names(found) == ["sub/a.jpg"] and [video.folder for video in found.videos] == ["clip"]
    assert names(find(Path())) == ["a.jpg"]


def test_several_sources_get_a_folder_each(tmp_path: Path) -> None:
    touch(tmp_path / "day1/cam/a.jpg", tmp_path / "day2/cam/a.jpg", tmp_path / "clip.mp4", tmp_path / "day2/clip.mp4")
    found = find([tmp_path / "day1/cam", tmp_path / "day2/cam", tmp_path / "clip.mp4", tmp_path / "day2/clip.mp4"])
    assert names(found) == ["cam/a.jpg", "cam~2/a.jpg"]
    assert [video.folder for video in found.videos] == ["clip", "clip~2"]
    assert [photo.shown for photo in found.photos] == [str(tmp_path / f"day{n}/cam/a.jpg") for n in (1, 2)]


def test_photos_named_one_by_one_are_as_their_folder(photos: Path, tmp_path: Path) -> None:
    touch(photos / "b.jpg", photos / "a.jpg", photos / "notes.txt", tmp_path / "c.jpg")
    found = find([photos / "b.jpg", photos / "a.jpg", photos / "notes.txt"])
    assert names(found) == ["a.jpg", "b.jpg"]
    assert [(each.kind, each.lost) for each in found.ignored] == [("other", False)]
    assert names(find([photos / "b.jpg", tmp_path / "c.jpg", photos / "a.jpg"])) == [
        "photos/a.jpg",
        "photos/b.jpg",
        f"{tmp_path.name}/c.jpg",
    ]


def test_a_file_named_twice_is_used_once(photos: Path, tmp_path: Path) -> None:
    touch(photos / "sub/a.jpg", photos / "b.jpg")
    (tmp_path / "link").symlink_to(photos / "sub")
    found = find([photos, photos / "sub", photos / "b.jpg", tmp_path / "link", photos])
    assert names(found) == ["b.jpg", "sub/a.jpg"] and not found.duplicates


def test_a_video_alone(tmp_path: Path) -> None:
    touch(tmp_path / "clip.MP4")
    found = find(tmp_path / "clip.MP4")
    assert not found.photos and [video.folder for video in found.videos] == ["clip"]


def test_frames_meet_no_photo(photos: Path) -> None:
    touch(photos / "clip.mp4", photos / "Clip.mov", photos / "clip/a.jpg", photos / "a.jpg.mp4", photos / "a.jpg")
    touch(photos / "tour.mp4", photos / "tour/inner.mp4")
    folders = [video.folder for video in find(photos).videos]
    assert folders == ["Clip~2", "a.jpg~2", "clip~3", "tour/inner", "tour~2"]


def test_the_longest_name_leaves_room_for_its_mask(photos: Path, tmp_path: Path, write_photo: WritePhoto) -> None:
    write_photo(photos / f"{'a' * 251}.jpg")
    (photo,) = find(photos).photos
    copy = write_working_copy(photo.path, load_image(photo.path), tmp_path / "images" / photo.name)
    write_mask(np.ones((32, 48), bool), mask_path(tmp_path / "masks", copy.name))


def test_names_that_are_no_text_or_hold_line_breaks_are_left_out(photos: Path) -> None:
    touch(photos / "a.jpg", photos / "two\nlines.jpg")
    try:
        touch(photos / "bad\udcff.png")
    except OSError:
        pytest.skip("this disk takes only names in UTF-8")
    found = find(photos)
    assert names(found) == ["a.jpg"]
    reasons = {each.shown: each.reason for each in found.ignored if each.lost}
    assert "expected a name in UTF-8" in reasons["bad?.png"]
    assert "expected a name on one line" in reasons["two\nlines.jpg"]


def test_a_folder_whose_name_is_no_text_still_names_its_photos(tmp_path: Path) -> None:
    try:
        touch(tmp_path / "bad\udcff/a.jpg")
    except OSError:
        pytest.skip("this disk takes only names in UTF-8")
    touch(tmp_path / ".hidden/a.jpg")
    assert names(find([tmp_path / "bad\udcff", tmp_path / ".hidden"])) == ["bad_/a.jpg", "hidden/a.jpg"]


def test_a_raw_file_is_no_loss_beside_its_jpeg(photos: Path) -> None:
    touch(photos / "a.CR2", photos / "a.JPG", photos / "b.CR2", photos / "b.MP4")
    assert {each.shown: each.lost for each in find(photos).ignored} == {"a.CR2": False, "b.CR2": True}


def test_a_link_to_nothing_is_told(photos: Path) -> None:
    touch(photos / "a.jpg")
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    assert [(each.shown, each.kind, each.lost) for each in find(photos).ignored] == [("gone.jpg", "link", True)]


def test_links_to_folders_are_followed_and_known_by_their_own_names(photos: Path, tmp_path: Path) -> None:
    touch(tmp_path / "disk/set/a.jpg", photos / "b.jpg")
    (photos / "day1").symlink_to(tmp_path / "disk/set")
    assert names(find(photos)) == ["b.jpg", "day1/a.jpg"]
    assert names(find([photos / "day1", photos / "b.jpg"])) == ["day1/a.jpg", "photos/b.jpg"]


def test_loops_of_links_end(photos: Path) -> None:
    touch(photos / "sub/a.jpg")
    (photos / "sub/up").symlink_to(photos)
    assert names(find(photos)) == ["sub/a.jpg"]


def test_outputs_among_the_photos_are_not_read(photos: Path) -> None:
    touch(photos / "a.jpg", photos / "out/images/b.jpg", photos / "earlier/images/c.jpg", photos / "earlier/.run")
    for output in (photos / "out", photos / "sub/../out"):
        assert names(find(photos, output)) == ["a.jpg"]


@pytest.mark.parametrize("where", [".", "..", "../.."])
def test_an_output_that_holds_the_photos_is_refused(photos: Path, where: str) -> None:
    touch(photos / "a.jpg")
    with pytest.raises(ReconstructionError, match="does not contain the photos"):
        find(photos, photos / where)
    with pytest.raises(ReconstructionError, match="does not contain the photos"):
        find(photos / "a.jpg", photos / where)


def test_a_link_into_the_output_is_refused(photos: Path, tmp_path: Path) -> None:
    touch(photos / "a.jpg", tmp_path / "out/images/b.jpg")
    (photos / "b.jpg").symlink_to(tmp_path / "out/images/b.jpg")
    with pytest.raises(ReconstructionError, match="is a link into"):
        find(photos, tmp_path / "out")


def test_results_of_a_run_are_no_photos_but_its_copies_are(tmp_path: Path) -> None:
    touch(tmp_path / "run/images/a.jpg", tmp_path / "run/overview.png", tmp_path / "run/.run")
    with pytest.raises(ReconstructionError, match=r"results of an earlier run; give .*run/images"):
        find(tmp_path / "run")
    assert names(find(tmp_path / "run/images")) == ["a.jpg"]


def test_too_little_to_work_with(photos: Path, tmp_path: Path) -> None:
    photos.mkdir()
    with pytest.raises(InvalidValueError, match="at least one folder"):
        find([])
    with pytest.raises(ReconstructionError, match="found none in it"):
        find(photos)
    with pytest.raises(ReconstructionError, match="expected a folder of photos, found nothing"):
        find(tmp_path / "absent")
    with pytest.raises(ReconstructionError, match=r"cannot be opened \(File name too long\)"):
        find(tmp_path / ("a" * 300))
    touch(photos / "a.dng", photos / "b.dng", tmp_path / "notes.txt")
    with pytest.raises(ReconstructionError, match=r"found none in it but 2 .* a\.dng: a camera's raw file"):
        find(photos)
    with pytest.raises(ReconstructionError, match=r"found none but 1 .* neither a photo nor a video"):
        find(tmp_path / "notes.txt")


def test_the_sentence_for_too_few() -> None:
    sentence = too_few(["photos"], 1, ["b.jpg: damaged"], num_duplicates=3)
    assert "photos: expected at least two readable photos, got 1 (1 unreadable; the first: b.jpg: damaged;" in sentence
    assert "3 the same as another" in sentence
    assert too_few(["a", "b", "c", "d"], 0, []).startswith(
        "a and 3 more: expected at least two readable photos, got 0;"
    )


class TestMasks:
    def masks(self, inputs: Inputs, root: Path) -> dict[str, str]:
        photos = {photo.name: photo.mask for photo in inputs.photos}
        videos = {video.folder: video.masks for video in inputs.videos}
        return {name: mask.relative_to(root).as_posix() for name, mask in (photos | videos).items() if mask}

    def test_beside_the_photos_as_colmap_has_them(self, tmp_path: Path) -> None:
        touch(tmp_path / "images/a.jpg", tmp_path / "images/left/b.jpg", tmp_path / "images/c.jpg")
        touch(tmp_path / "masks/a.jpg.png", tmp_path / "masks/left/b.png")
        expected = {"a.jpg": "masks/a.jpg.png", "left/b.jpg": "masks/left/b.png"}
        assert self.masks(find(tmp_path / "images"), tmp_path) == expected
        named = find([tmp_path / "images", tmp_path / "masks"])  # as the shell makes of project/*
        assert self.masks(named, tmp_path) == expected and names(named) == ["a.jpg", "c.jpg", "left/b.jpg"]
        around = self.masks(find(tmp_path), tmp_path)
        assert around == {f"images/{name}": mask for name, mask in expected.items()}

    def test_inside_and_nearest_first(self, photos: Path) -> None:
        touch(photos / "a.jpg", photos / "left/a.jpg", photos / "right/a.jpg")
        touch(photos / "masks/a.png", photos / "masks/left/a.png", photos / "left/masks/A.JPG.PNG")
        assert self.masks(find(photos), photos) == {"a.jpg": "masks/a.png", "left/a.jpg": "left/masks/A.JPG.PNG"}
        assert self.masks(find([photos / "left/a.jpg"]), photos) == {"a.jpg": "left/masks/A.JPG.PNG"}

    def test_a_mask_of_one_folder_is_not_that_of_another(self, photos: Path) -> None:
        touch(photos / "left/a.jpg", photos / "right/a.jpg", photos / "masks/a.png")
        with pytest.raises(ReconstructionError, match=r"such as left/a\.jpg\.png, found none among its 1 files"):
            find(photos)
        touch(photos / "a.jpg")
        assert self.masks(find(photos), photos) == {"a.jpg": "masks/a.png"}
        assert self.masks(find(photos / "left"), photos) == {}

    def test_an_empty_folder_of_masks_is_none(self, photos: Path) -> None:
        touch(photos / "a.jpg")
        (photos / "masks").mkdir()
        assert self.masks(find(photos), photos) == {}

    def test_beside_by_the_name_of_the_folder(self, photos: Path) -> None:
        touch(photos / "left/a.jpg", photos / "right/a.jpg", photos / "masks/a.png", photos / "masks/left/a.png")
        assert self.masks(find(photos / "left"), photos) == {"a.jpg": "masks/left/a.png"}
        shutil.rmtree(photos / "right")
        assert self.masks(find(photos), photos) == {"left/a.jpg": "masks/left/a.png"}

    def test_named_by_the_user(self, photos: Path, tmp_path: Path) -> None:
        touch(photos / "a.heic", photos / "b.jpg", tmp_path / "more/b.jpg", photos / "masks/b.png")
        touch(tmp_path / "cut/a.heic.jpg.png", tmp_path / "cut/photos/b.png")
        found = find([photos, tmp_path / "more"], masks=tmp_path / "cut")
        assert names(found) == ["more/b.jpg", "photos/a.heic", "photos/b.jpg"]
        expected = {"photos/a.heic": "cut/a.heic.jpg.png", "photos/b.jpg": "cut/photos/b.png"}
        assert self.masks(found, tmp_path) == expected

    def test_a_named_folder_among_the_photos_holds_no_photos(self, photos: Path) -> None:
        touch(photos / "a.jpg", photos / "cut/a.png")
        found = find(photos, masks=photos / "cut")
        assert names(found) == ["a.jpg"] and self.masks(found, photos) == {"a.jpg": "cut/a.png"}
        shell = find(sorted(photos.iterdir()), masks=photos / "cut")  # of photos/*
        assert names(shell) == ["a.jpg"] and self.masks(shell, photos) == {"a.jpg": "cut/a.png"}

    def test_folders_of_masks_that_several_sources_share(self, photos: Path) -> None:
        touch(photos / "sub/a.jpg", photos / "b.jpg", photos / "masks/b.png", photos / "sub/masks/a.png")
        for given in ([photos / "sub", photos], [photos, photos / "sub"], [photos, photos]):
            found = find(given)
            assert sorted(self.masks(found, photos).values()) == ["masks/b.png", "sub/masks/a.png"]
            assert not found.ignored

    def test_of_a_video(self, photos: Path) -> None:
        touch(photos / "one.mp4", photos / "many.mp4", photos / "masks/one.png")
        touch(photos / "masks/many/000001.png", photos / "masks/many/000002.jpg.png")
        assert self.masks(find(photos), photos) == {"one": "masks/one.png", "many": "masks/many"}

    def test_of_the_other_of_two_equal_files(self, photos: Path) -> None:
        touch(photos / "a.jpg", photos / "masks/b.jpg.png")
        shutil.copy(photos / "a.jpg", photos / "b.jpg")
        found = find(photos)
        assert self.masks(found, photos) == {"a.jpg": "masks/b.jpg.png"} and not found.ignored

    def test_files_that_are_no_mask_are_told(self, photos: Path, tmp_path: Path) -> None:
        touch(photos / "a.jpg", photos / "masks/a.png", photos / "masks/b.png", photos / "masks/c.jpg")
        (masks,) = find(photos).ignored
        assert masks.kind == "masks" and masks.reason.startswith("2 of 3 files are no photo's mask, the first: b.png")
        (photos / "masks/a.png").unlink()
        with pytest.raises(ReconstructionError, match=r"none among its 2 files; .* give the folder another name"):
            find(photos)
        shutil.move(photos / "masks", tmp_path / "cut")
        touch(tmp_path / "masks/other.png")  # beside, and of something else
        assert not find(photos).ignored

    @pytest.mark.parametrize("name", ["a.jpg", "A.JPG.png", "a_mask.png", "a_mask.jpg", "a.mask.png", "a-Mask.PNG"])
    def test_named_as_other_programs_name_them(self, name: str, photos: Path) -> None:
        touch(photos / "a.jpg", photos / "b.jpg", photos / "masks" / name)
        found = find(photos)
        assert self.masks(found, photos) == {"a.jpg": f"masks/{name}"} and not found.ignored

    @pytest.mark.parametrize("name", ["a_mask.png", "a_mask.JPG", "A.mask.png", "a-mask.jpeg"])
    def test_beside_each_photo(self, name: str, photos: Path) -> None:
        touch(photos / "left/a.jpg", photos / "left/b.jpg", photos / "left" / name)
        found = find(photos)
        assert names(found) == ["left/a.jpg", "left/b.jpg"]
        assert self.masks(found, photos) == {"left/a.jpg": f"left/{name}"}

    def test_beside_all_photos_and_videos_of_its_name(self, photos: Path) -> None:
        touch(photos / "a.jpg", photos / "a.png", photos / "a_mask.png", photos / "clip.mp4", photos / "clip_mask.png")
        found = find(photos)
        assert names(found) == ["a.jpg", "a.png"]
        expected = {"a.jpg": "a_mask.png", "a.png": "a_mask.png", "clip": "clip_mask.png"}
        assert self.masks(found, photos) == expected

    def test_what_only_sounds_like_a_mask_is_a_photo(self, photos: Path) -> None:
        touch(photos / "a.jpg", photos / "gas_mask.jpg", photos / "_mask.jpg")
        assert names(find(photos)) == ["_mask.jpg", "a.jpg", "gas_mask.jpg"]

    def test_bad_folders(self, photos: Path, tmp_path: Path) -> None:
        touch(photos / "a.jpg", tmp_path / "cut/b.png")
        for bad, message in [
            (tmp_path / "absent", "expected a folder of masks, found nothing"),
            (photos / "a.jpg", "expected a folder of masks, found a file"),
            (photos, "got that of the photos"),
            (tmp_path / "cut", r"such as a\.jpg\.png, found none among its 1 files"),
        ]:
            with pytest.raises(ReconstructionError, match=message):
                find(photos, masks=bad)

    def test_photos_of_masks_can_be_named(self, tmp_path: Path) -> None:
        touch(tmp_path / "masks/a.jpg", tmp_path / "masks/a.png")
        found = find(tmp_path / "masks")
        assert names(found) == ["a.jpg", "a.png"] and self.masks(found, tmp_path) == {}


def test_working_copies_do_not_meet(photos: Path, tmp_path: Path, write_photo: WritePhoto) -> None:
    """a.webp is copied as a.webp.jpg, which is another photo's name."""
    for number, name in enumerate(["a.webp", "a.webp.jpg", "A.WEBP", "b.webp/c.png", "d.png"]):
        try:
            write_photo(photos / name, number)
        except FileExistsError:
            pytest.skip("this disk does not tell a from A")
    found = find(photos)
    copies = [
        write_working_copy(photo.path, load_image(photo.path), tmp_path / "images" / photo.name)
        for photo in found.photos
    ]
    assert len({str(copy).casefold() for copy in copies}) == 5
    for photo, copy in zip(found.photos, copies, strict=True):
        with PilImage.open(copy) as picture:
            assert picture.size == (48, 32)
        assert abs(load_image(copy).pixels.astype(int) - load_image(photo.path).pixels).mean() < 12
