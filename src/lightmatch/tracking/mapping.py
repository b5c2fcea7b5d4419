"""Keyframes of frames: matched, adjusted, compared with places from before; in a thread of their own where asked."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np

from lightmatch.extractors import Extractor
from lightmatch.geometry.poses import relative
from lightmatch.matchers import Matcher
from lightmatch.tracking.adjustment import adjust_map
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.depths import right_of_depth_map, right_of_stereo
from lightmatch.tracking.flow import FlowImage
from lightmatch.tracking.frames import CameraFrame
from lightmatch.tracking.keyframes import AddedKeyframe, FollowedPoints, add_keyframe, place_again
from lightmatch.tracking.loops import Loop, close_loop, find_loop
from lightmatch.tracking.map import Keyframe, Map
from lightmatch.tracking.pair_yaw import PairYaw
from lightmatch.tracking.values import TrackerConfig

_LOOP_ITERATIONS = 30
_LEAST_SHIFT_PX = 0.1  # of disparities, to be worth correcting


@dataclass(eq=False)
class Source:
    """Points of the map in the image that they are followed from."""

    flow: FlowImage
    points: np.ndarray  # (n,) numbers
    places: np.ndarray  # (n, 2) px of the image
    keyframe: int  # that poses are relative to
    is_doubtful: bool = False  # whether most of what was followed was gone at once, and the map was not asked since
    loop: Loop | None = None  # that this keyframe closes, and that is still open


class Mapper:
    """Changes the map: by new keyframes, and by adjusting all of it.

    With `config.background` a thread does, one thing at a time: what it made is there once `take` gives it. Others may
    read the map meanwhile.
    """

    def __init__(
        self, camera: TrackedCamera, config: TrackerConfig, extractor: Extractor, matcher: Matcher, earlier: Map | None
    ) -> None:
        """earlier: a map to go on with; an empty one by default."""
        self.camera = camera  # with a pair of cameras, its yaw is learned from keyframes
        self.map = Map() if earlier is None else earlier
        self.time_of_frame: float | None = None  # that is being made a keyframe
        self._config, self._extractor, self._matcher = config, extractor, matcher
        self._yaw = PairYaw(is_known=earlier is not None or camera.shift_px != 0)
        self._worker = ThreadPoolExecutor(1, "mapping") if config.background else None
        self._pending: Future[Source | None] | None = None
        self._before = -1  # the latest keyframe, when the pending one was begun

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being made, and nothing made waits to be taken."""
        return self._pending is None

    @property
    def is_done(self) -> bool:
        """Whether `take` would not wait."""
        return self._pending is not None and self._pending.done()

    @property
    def keyframes(self) -> dict[int, Keyframe]:
        """By number: those that are in the map with their points, all but one that is being made."""
        keyframes = dict(self.map.keyframes)
        if self.is_idle or self.is_done:
            return keyframes
        return {number: keyframe for number, keyframe in keyframes.items() if number <= self._before}

    def take(self) -> Source | None:
        """Wait for what is being made: the points of a new keyframe; None where all of the map was adjusted."""
        if self._pending is None:
            return None
        wait([self._pending])  # Ctrl-C here leaves it to be taken
        done, self._pending, self.time_of_frame = self._pending, None, None
        return done.result()

    def close(self) -> None:
        """End the thread; what it made must have been taken."""
        if self._worker is not None:
            self._worker.shutdown()

    def keyframe(self, frame: CameraFrame, pose: np.ndarray) -> Keyframe:
        """One that is not in the map yet. pose: cam_from_world (3, 4)."""
        features = self._extractor(frame.image)
        pixels = features.keypoints.numpy().astype(np.float64)
        places = self.camera.ideal(pixels)
        right_x = np.full(len(pixels), np.nan)
        if frame.right is not None:
            right_x = right_of_stereo(self.camera, frame.flow, frame.right, pixels, places)
        elif frame.depth is not None:
            right_x = right_of_depth_map(self.camera, pixels, places, frame.depth)
        return Keyframe(frame.timestamp, pose, features, places, right_x, frame.flow)

    def add(self, keyframe: Keyframe, followed: FollowedPoints) -> AddedKeyframe:
        """Match a keyframe with those of the map, and give the map its points."""
        return add_keyframe(self.map, self.camera, self._matcher, keyframe, followed, self._config.max_error_px)

    def make(self, frame: CameraFrame, pose: np.ndarray, followed: FollowedPoints) -> Source | None:
        """Make a keyframe of a frame, and adjust those around it; None where that goes on in the background."""
        if self._worker is None:
            return self._make(frame, pose, followed)
        self.time_of_frame, self._before = frame.timestamp, self.map.latest
        self._pending = self._worker.submit(self._make, frame, pose, followed)
        return None

    def adjust(self, keyframes: list[int]) -> None:
        """Adjust these keyframes and their points."""
        adjust_map(self.map, self.camera, keyframes, self._config.max_error_px)

    def close_loop(self, loop: Loop) -> Source:
        """Correct the map, at once: points that are followed must not move far meanwhile. Then adjust all of it.

        In the background where there is a thread. Returns the points of the loop's newer keyframe.
        """
        close_loop(self.map, loop)
        if self._worker is None:
            self._adjust_all()
            return self.source_of(loop.new)
        source = self.source_of(loop.new)
        self._before = self.map.latest  # all keyframes are whole
        self._pending = self._worker.submit(self._adjust_all)
        return source

    def source_of(self, number: int) -> Source:
        """The points of a keyframe, where its keypoints are."""
        keyframe = self.map.keyframes[number]
        assert keyframe.image is not None
        places = keyframe.features.keypoints.numpy().astype(np.float64)[keyframe.seen]
        return Source(keyframe.image, keyframe.points[keyframe.seen], places, number)

    def _make(self, frame: CameraFrame, pose: np.ndarray, followed: FollowedPoints) -> Source:
        added = self.add(self.keyframe(frame, pose), followed)
        number, config = added.number, self._config
        window = [number, *self.map.covisible(number)[: config.window - 1]]
        if frame.right is not None and not self._yaw.is_known and self._learn_yaw(added):
            window = list(self.map.keyframes)
        self.adjust(window)
        loop = find_loop(self.map, self.camera, self._matcher, number, config.seed) if config.loops else None
        return replace(self.source_of(number), loop=loop)

    def _learn_yaw(self, added: AddedKeyframe) -> bool:
        """Whether the shift of disparities has changed by two keyframes more, and the map's points with it."""
        before, keyframe = next(iter(added.matched)), self.map.keyframes[added.number]
        other, (first, second) = self.map.keyframes[before], added.matched[before].T
        start = relative(keyframe.cam_from_world, other.cam_from_world)
        self._yaw.add(self.camera, other.places[first], other.right_x[first], keyframe.places[second], start)
        if abs(self._yaw.shift_px - self.camera.shift_px) < _LEAST_SHIFT_PX:
            return False
        self.camera = replace(self.camera, shift_px=self._yaw.shift_px)
        place_again(self.map, self.camera)
        return True

    def _adjust_all(self) -> None:
        adjust_map(self.map, self.camera, list(self.map.keyframes), self._config.max_error_px, _LOOP_ITERATIONS)
