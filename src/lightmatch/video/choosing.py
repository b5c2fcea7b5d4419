"""Keyframe selection: sharp frames of a video with enough motion between neighbours for matching.

Not one in N: while the camera rests there is nothing new to see, and while it swings every frame may be needed. So the
view is what counts the frames. How far it has moved since the last chosen frame is measured in steps, from the corners
that were followed: their median displacement, the part of them that got lost, or their parallax, whichever says most
(an orbit about a subject moves the picture little and the viewpoint much). A camera that turns on the spot makes steps
too, for its frames must overlap; one that stands makes none, whatever walks past it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.video.measuring import (
    MIN_TRACKS,
    SHARPNESS_SIDE_PX,
    FrameMeasure,
    SharedCorners,
    measure_frames,
    shared_corners,
)
from lightmatch.video.reading import VideoFacts, open_video

_MIN_TRACKS_AT_START = 2 * MIN_TRACKS  # a view that is just about to be lost is no start
_SETTLE_S = 0.5  # for how long after a cut the first good frame is looked for
_AROUND = 15  # frames before and after, to which sharpness is compared
_BLURRED = 0.3  # of the median sharpness around
_NEARLY_AS_SHARP = 0.85  # as the sharpest: what the noise of a camera makes of equal frames
_MUCH_LESS_SHARP = 0.5
_REST = 0.25  # steps: less is a hand that trembles
_FRESH, _FEW_LEFT = 0.9, 0.5  # of the corners of a frame: fewer, and others are followed, in a rest and in a move

Why = Literal["start", "change", "overlap", "cut"]


@dataclass(frozen=True)
class FrameChoiceConfig:
    """Motion between chosen frames, and the largest number of frames."""

    step: float = 0.08  # median displacement of the corners, in parts of the diagonal, that makes a step
    loss_step: float = 0.2  # part of the corners that has left the view or is hidden: as good as a step
    parallax_step: float = 0.025  # what no homography explains, in parts of the diagonal: as good as a step
    low: float = 0.6  # steps between two chosen frames: at least
    high: float = 1.5  # at most, where the frames in between are sharp enough
    most: float = 2.5  # at most in any case, if the video has a frame there: matching needs what is left of overlap
    max_frames: int | None = None  # more than these, and the step is raised until they suffice

    def __post_init__(self) -> None:
        if min(self.step, self.loss_step, self.parallax_step) <= 0 or not 0 < self.low < 1 < self.high <= self.most:
            raise InvalidValueError(
                f"FrameChoiceConfig: expected steps above 0 and 0 < low < 1 < high <= most, got {self}"
            )
        if self.max_frames is not None and self.max_frames < 1:
            raise InvalidValueError(f"FrameChoiceConfig.max_frames: expected at least 1, got {self.max_frames}")


@dataclass(frozen=True)
class ChosenFrame:
    """A frame worth matching."""

    index: int
    time_s: float
    sharpness: float  # as measured at 960 px or less; compare only with frames that see much the same
    steps: float  # how far the view has moved since the chosen frame before; 0 where that is not known
    why: Why  # "start" of the video, after a "cut", for "change" of view, or to keep the "overlap" in a fast move


@dataclass(frozen=True)
class FrameChoice:
    """The frames chosen of a video."""

    facts: VideoFacts
    frames: tuple[ChosenFrame, ...]
    num_read: int  # frames that could be decoded
    damage: tuple[str, ...]  # a sentence on each damage of the video


def choose_frames(
    path: str | Path,
    config: FrameChoiceConfig | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> FrameChoice:
    """The frames of a video that are worth matching, in the order of presentation; at least one.

    on_progress: called with the part of the video that has been read, 0…1, now and then.
    Memory: about two kilobytes for each frame of the video. The same video and config give the same choice.
    Raises ImageReadError as `open_video` does.
    """
    with open_video(path) as video:
        start_s, duration_s = 0.0, video.facts.duration_s

        def greys() -> Iterator[tuple[int, float, np.ndarray]]:
            nonlocal start_s
            for frame in video.decode():
                start_s = start_s if frame.index else frame.time_s
                yield frame.index, frame.time_s, video.grey(frame, SHARPNESS_SIDE_PX)
                if on_progress and duration_s:
                    on_progress(min(max((frame.time_s - start_s) / duration_s, 0.0), 1.0))

        measures = list(measure_frames(greys()))
        chosen = choose(measures, config)
        return FrameChoice(video.facts, tuple(chosen), len(measures), video.damage)


def choose(measures: Sequence[FrameMeasure], config: FrameChoiceConfig | None = None) -> list[ChosenFrame]:
    """The frames worth matching of those measured: in their order, at least one where there is any.

    After each chosen frame the next is looked for among those that lie `low` to `high` steps away: of the nearly
    sharpest, the one nearest to one step. Where all of them are much less sharp than others up to `most` steps away,
    those count too. Where a move is so fast that no frame lies there, the last before it and the first after it are
    taken. Where the corners are lost at once, at a cut, it starts anew with the first good frame.
    """
    config = config or FrameChoiceConfig()
    walk = _Walk(measures, config)
    chosen = walk.run()
    if config.max_frames is not None and len(chosen) > config.max_frames:
        return _thinned(measures, walk.positions, chosen[0], config.max_frames)
    return chosen


class _Walk:
    """A selection of frames, from each chosen one to the next."""

    def __init__(self, measures: Sequence[FrameMeasure], config: FrameChoiceConfig) -> None:
        self.measures = measures
        self.config = config
        self.positions = np.zeros(len(measures))  # steps gone since the first chosen frame; never falls
        self._chosen: list[ChosenFrame] = []

    def run(self) -> list[ChosenFrame]:
        place = self._start(0)
        while place is not None:
            place = self._next(place)
        if not self._chosen and self.measures:  # blank from beginning to end
            best = max(range(len(self.measures)), key=lambda place: self.measures[place].sharpness)
            self._choose(best, 0.0, "start", [])
        return self._chosen

    def _choose(self, place: int, steps: float, why: Why, between: Sequence[tuple[int, float]]) -> int:
        measure = self.measures[place]
        before = self.positions[place]  # as the last chosen frame left it
        for other, gone in between:
            self.positions[other:] = max(self.positions[other], before + min(gone, steps))
        self.positions[place:] = before + (1.0 if why == "cut" else steps)
        self._chosen.append(ChosenFrame(measure.index, measure.time_s, measure.sharpness, round(steps, 4), why))
        return place

    def _start(self, place: int) -> int | None:
        """Choose the first good frame from `place` on: not blank, and not blurred for where it stands."""
        while place < len(self.measures):
            if len(self.measures[place].tracks) >= _MIN_TRACKS_AT_START:
                near = [(place, 0.0)]
                for other, steps in self._steps_after(place):
                    if (
                        steps >= self.config.low
                        or self.measures[other].time_s > self.measures[place].time_s + _SETTLE_S
                    ):
                        break
                    near.append((other, steps))
                best = self._pick(near, 0.0)[0]
                near_best = self.measures[max(0, best - _AROUND) : best + _AROUND + 1]
                around = [m.sharpness for m in near_best if len(m.tracks) >= MIN_TRACKS]  # blank ones do not count
                if self.measures[best].sharpness >= _BLURRED * float(np.median(around)):
                    return self._choose(best, 0.0, "cut" if self._chosen else "start", [])
                place = near[-1][0]
            place += 1
        return None

    def _next(self, last: int) -> int | None:
        """Choose the next frame after the chosen one at the place `last`; None at the end of the video."""
        config = self.config
        near: list[tuple[int, float]] = []  # until `high` is passed for the first time
        far: list[tuple[int, float]] = []  # and from there until `most` is
        beyond: tuple[int, float] | None = None
        farthest = 0.0
        for place, steps in self._steps_after(last):
            if steps > config.most:
                beyond = place, steps
                break
            farthest = max(farthest, steps)
            if steps < config.low <= farthest and steps < farthest - _REST:
                break  # the view comes back: what was seen out there counts, not where it goes next
            (far if far or steps > config.high else near).append((place, steps))
        good = [found for found in near if found[1] >= config.low]
        between = near + far
        if good and self._sharpest(good) >= _MUCH_LESS_SHARP * self._sharpest(good + far):
            return self._choose(*self._pick(good, 1.0), "change", between)
        if good:
            return self._choose(*self._pick(good + far, 1.0), "change", between)
        end = last + len(between) + 1
        if far or beyond or end < len(self.measures):  # a fast move or a cut
            edge = [found for found in near if found[1] >= config.low / 2]
            if edge:
                return self._choose(*self._pick(edge, 1.0), "overlap", between)
            if far:
                return self._choose(*self._pick(far, 1.0), "overlap", between)
            if beyond:
                return self._choose(*beyond, "overlap", between)
            return self._start(end)
        return None

    def _steps_after(self, first: int) -> Iterator[tuple[int, float]]:
        """The places after `first`, and how many steps the view has moved, until the corners are lost."""
        reference, gone = first, 0.0
        for place in range(first + 1, len(self.measures)):
            shared = shared_corners(self.measures[reference], self.measures[place])
            if len(shared) < MIN_TRACKS:
                return
            steps = self._steps(shared, gone)
            yield place, steps
            # Corners get lost in a rest too, which is no change of view: those seen here are followed from here on.
            if shared.share < (_FRESH if steps < _REST else _FEW_LEFT):
                reference, gone = place, steps

    def _steps(self, shared: SharedCorners, gone: float) -> float:
        """Steps to the place whose corners are `shared`, on top of those `gone` to where they were seen first."""
        config = self.config
        moved = shared.displacement / config.step
        # Loss and parallax count while most of the picture moves: else it is noise, or somebody who walks past.
        if _REST < gone + moved < config.most:
            moved = max(moved, (1 - shared.share) / config.loss_step, shared.parallax / config.parallax_step)
        return gone + moved

    def _sharpest(self, found: Sequence[tuple[int, float]]) -> float:
        return max(self.measures[place].sharpness for place, _ in found)

    def _pick(self, found: Sequence[tuple[int, float]], target: float) -> tuple[int, float]:
        """Of the nearly sharpest, the one nearest to `target` steps: noise in sharpness makes no uneven steps."""
        enough = _NEARLY_AS_SHARP * self._sharpest(found)
        sharp = [(place, steps) for place, steps in found if self.measures[place].sharpness >= enough]
        return min(sharp, key=lambda one: (abs(one[1] - target), one[0]))


def _thinned(
    measures: Sequence[FrameMeasure], positions: np.ndarray, first: ChosenFrame, max_frames: int
) -> list[ChosenFrame]:
    """At most `max_frames` frames, their steps alike and as small as that allows."""
    start = next(place for place, measure in enumerate(measures) if measure.index == first.index)
    step = 1.0
    while True:
        places = _evenly(measures, positions, start, step)
        if len(places) <= max_frames:
            break
        step *= 1.02
    chosen = [first]
    for before, place in pairwise(places):
        measure, steps = measures[place], float(positions[place] - positions[before])
        chosen.append(ChosenFrame(measure.index, measure.time_s, measure.sharpness, round(steps, 4), "change"))
    return chosen


def _evenly(measures: Sequence[FrameMeasure], positions: np.ndarray, start: int, step: float) -> list[int]:
    """Places about `step` apart, each the sharpest within half a step of the usual size, or near if all are blurred."""

    def around(target: float, reach: float) -> range:
        left = int(np.searchsorted(positions, target - reach))
        return range(left, max(int(np.searchsorted(positions, target + reach, side="right")), left + 1))

    def sharpest(window: range) -> float:
        return max(measures[place].sharpness for place in window)

    places = [start]
    while True:
        target = positions[places[-1]] + step
        window, wider = around(target, 0.5), around(target, 0.75)
        if window.start >= len(measures):
            return places
        if sharpest(window) < _MUCH_LESS_SHARP * sharpest(wider):
            window = wider
        enough = _NEARLY_AS_SHARP * sharpest(window)
        sharp = (place for place in window if measures[place].sharpness >= enough)
        places.append(min(sharp, key=lambda place: (abs(positions[place] - target), place)))
