import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from video_clips import encode_video, pan

from lightmatch.errors import InvalidValueError
from lightmatch.inputs import Inputs, PhotoInput, VideoInput, at_most, expected_frames, rig_frames, rig_gaps
from lightmatch.inputs.share import evenly, proportional_shares


def inputs(*videos: str, **folders: int) -> Inputs:
    names = [f"{folder}/{number:04}.jpg" for folder, count in folders.items() for number in range(count)]
    return Inputs(
        tuple(PhotoInput(Path(name), name, name) for name in sorted(names)),
        tuple(VideoInput(Path(f"{name}.mp4"), name, f"{name}.mp4") for name in videos),
    )


def counts(found: Inputs) -> dict[str, int]:
    return dict(Counter(str(PurePosixPath(photo.name).parent) for photo in found.photos))


def test_an_even_choice() -> None:
    assert evenly(10, 5) == [1, 3, 5, 7, 9]
    assert evenly(10, 1) == [5] and evenly(3, 7) == [0, 1, 2] and evenly(0, 2) == []
    for count in range(1, 40):
        for number in range(1, count + 1):
            places = evenly(count, number)
            steps = [after - before for before, after in zip([-1, *places], [*places, count], strict=True)]
            assert len(set(places)) == number and places == sorted(places) and places[0] >= 0 and places[-1] < count
            assert max(steps[1:-1], default=0) - min(steps[1:-1], default=0) <= 1


def test_shares_keep_their_promises() -> None:
    assert proportional_shares([30, 60, 10], 10) == [3, 6, 1]
    assert proportional_shares([5, 5], 100) == [5, 5] and proportional_shares([], 5) == []
    assert proportional_shares([1, 9, 9, 3], 2) == [0, 1, 1, 0]
    rng = random.Random(0)
    for _ in range(500):
        sizes = [rng.randint(1, 50) for _ in range(rng.randint(1, 8))]
        total = rng.randint(2, 120)
        shares = proportional_shares(sizes, total)
        assert all(share <= size for share, size in zip(shares, sizes, strict=True))
        assert sum(shares) <= total
        if sum(sizes) > total > len(sizes):
            assert min(shares) >= 1
            assert len(set(zip(sizes, shares, strict=True))) == len(set(sizes))  # equal sizes, equal parts
            most_alike = max(sizes.count(size) for size in sizes)
            assert total - sum(shares) < most_alike


def test_photos_of_every_folder_stay() -> None:
    few = at_most(inputs(a=80, b=20, c=2), 20)
    assert counts(few) == {"a": 15, "b": 4, "c": 1} and len(few.not_chosen) == 82
    assert few.photos[0].name == "a/0002.jpg" and few.photos[14].name == "a/0077.jpg"
    assert {photo.shown for photo in few.photos}.isdisjoint(few.not_chosen)
    assert at_most(inputs(a=80, b=20, c=2), 20) == few


def test_fewer_than_asked_for_are_left_alone() -> None:
    all_of_them = inputs(a=5, b=3)
    assert at_most(all_of_them, 8) == all_of_them


def test_the_frames_of_a_rig_stay_whole() -> None:
    chosen = at_most(inputs(left=30, right=30, top=30), 20)
    frames = rig_frames([photo.name for photo in chosen.photos])
    assert len(frames) == 6 and rig_gaps(frames) == []


def test_videos_get_a_share() -> None:
    frames = {"clip": 300, "short": 30}

    def chosen(limit: int) -> tuple[dict[str, int], dict[str, int | None]]:
        found = at_most(inputs("clip", "short", a=70), limit, lambda video: frames[video.folder])
        return counts(found), {video.folder: video.max_frames for video in found.videos}

    assert chosen(40) == ({"a": 7}, {"clip": 30, "short": 3})
    assert chosen(400) == ({"a": 70}, {"clip": 300, "short": 30})
    assert chosen(730) == ({"a": 70}, {"clip": 600, "short": 60})  # more may turn out to be useful
    assert chosen(2) == ({"a": 1}, {"clip": 1})
    assert at_most(inputs("clip", "short", a=70), 2, lambda video: frames[video.folder]).not_chosen[-1] == "short.mp4"


def test_the_length_of_a_video_counts(tmp_path: Path, write_movie: Callable[..., Path]) -> None:
    long, broken = write_movie(tmp_path / "long.mp4", 60), tmp_path / "broken.mp4"
    broken.write_bytes(b"?")
    unknown = encode_video(tmp_path / "unknown.h264", pan(range(3)))  # a bare stream
    assert [expected_frames(VideoInput(path, "v", "v")) for path in (long, unknown, broken)] == [120, 100, 0]


def test_a_video_that_cannot_be_read_takes_no_share_and_stays_to_be_reported() -> None:
    for limit, max_frames in ((20, 10), (400, 390), (2, 1)):
        few = at_most(inputs("broken", "clip", a=10), limit, lambda video: 10 if video.folder == "clip" else 0)
        assert [(video.folder, video.max_frames) for video in few.videos] == [("broken", None), ("clip", max_frames)]
        assert len(few.photos) == min(10, limit - 1) and "broken.mp4" not in few.not_chosen
    assert len(at_most(inputs("broken", a=100), 50, lambda video: 0).photos) == 50


def test_too_few_to_ask_for() -> None:
    with pytest.raises(InvalidValueError, match="max_images: expected at least 2, got 1"):
        at_most(inputs(a=5), 1)
