"""Even selection of pictures where their number is limited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.inputs.live_photos import duration_s
from lightmatch.inputs.values import Inputs, VideoInput

_FRAMES_PER_S = 2.0  # of a video that are about useful
_UNKNOWN_FRAMES = 100  # of a video of unknown length


def at_most(inputs: Inputs, max_images: int, num_frames: Callable[[VideoInput], int] | None = None) -> Inputs:
    """At most `max_images` photos and frames: of each folder and video a share of its size, evenly spread.

    num_frames: how many frames of a video would be used without a limit, by default two for every second; 0 where it
    cannot be read: it stays, to be reported, and takes no share. The other videos get theirs as `max_frames`, which
    they need not use up. Photos left out are listed as `not_chosen`.
    Every folder and video keeps at least one picture, while the limit allows; the same inputs give the same choice.
    Raises InvalidValueError where max_images < 2, for fewer pictures make no model.
    """
    if max_images < 2:
        raise InvalidValueError(f"max_images: expected at least 2, got {max_images}")
    folders: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(inputs.photos):
        folders[str(PurePosixPath(photo.name).parent)].append(index)
    expected = {video: (num_frames or expected_frames)(video) for video in inputs.videos}
    readable = [video for video in inputs.videos if expected[video]]
    frames = [expected[video] for video in readable]
    if len(inputs.photos) + sum(frames) <= max_images:  # more frames than expected may turn out to be useful
        frames = _with_room(frames, max_images - len(inputs.photos))
    shares = proportional_shares([*map(len, folders.values()), *frames], max_images)

    chosen: set[int] = set()
    for indices, share in zip(folders.values(), shares[: len(folders)], strict=True):
        chosen.update(indices[place] for place in evenly(len(indices), share))
    share_of = dict(zip(readable, shares[len(folders) :], strict=True))
    videos = [replace(video, max_frames=share_of.get(video)) for video in inputs.videos if share_of.get(video) != 0]
    without = [video.shown for video, share in share_of.items() if share == 0]
    return replace(
        inputs,
        photos=tuple(photo for index, photo in enumerate(inputs.photos) if index in chosen),
        videos=tuple(videos),
        not_chosen=(*(photo.shown for i, photo in enumerate(inputs.photos) if i not in chosen), *without),
    )


def expected_frames(video: VideoInput) -> int:
    """Expected number of frames to use of a video, by its length; 0 where it cannot be read."""
    try:
        seconds = duration_s(video.path)
    except ImageReadError:
        return 0
    return _UNKNOWN_FRAMES if seconds is None else max(2, round(seconds * _FRAMES_PER_S))


def evenly(count: int, number: int) -> list[int]:
    """`number` places of 0…count−1, each in the middle of an equal part; all of them where there are no more."""
    if number >= count:
        return list(range(count))
    return [(2 * part + 1) * count // (2 * number) for part in range(number)]


def proportional_shares(sizes: Sequence[int], total: int) -> list[int]:
    """Parts of `total` in proportion to `sizes`, none larger than its size, at least 1 each while there is enough.

    Equal sizes get equal parts where each gets any, so that the frames of a rig, which has a folder for each camera,
    stay whole: the parts may add up to a little less than `total`.
    Source: Hamilton's method of largest remainders, after sizes whose part would be less than 1 got 1.
    """
    count = len(sizes)
    if sum(sizes) <= total:
        return list(sizes)
    if count >= total:  # one each for the largest, the first of equal ones
        largest = sorted(range(count), key=lambda i: -sizes[i])[:total]
        return [int(i in largest) for i in range(count)]
    shares = dict.fromkeys(sizes, 1)
    rest, left = list(sizes), total
    while small := [size for size in rest if size * left < sum(rest)]:
        rest, left = [size for size in rest if size not in small], left - len(small)
    remainders = {size: size * left % sum(rest) for size in rest}
    shares |= {size: size * left // sum(rest) for size in rest}
    left -= sum(shares[size] for size in rest)
    for size in sorted(remainders, key=lambda size: (-remainders[size], size)):
        alike = rest.count(size)
        if alike <= left:
            shares[size] += 1
            left -= alike
    return [shares[size] for size in sizes]


def _with_room(frames: Sequence[int], room: int) -> list[int]:
    """The numbers of frames, raised in proportion to fill `room`."""
    return [number * room // sum(frames) for number in frames] if frames else []
