"""Frame after frame: where the camera is now."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.geometry.poses import composed, relative
from lightmatch.matchers import Matcher, create_matcher
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.flow import follow
from lightmatch.tracking.frames import CameraFrame, problem_of
from lightmatch.tracking.keyframe_choice import drop_redundant, has_moved_away, thinned_out
from lightmatch.tracking.keyframes import FollowedPoints
from lightmatch.tracking.loops import Loop
from lightmatch.tracking.map import Keyframe, Map
from lightmatch.tracking.mapping import Mapper, Source
from lightmatch.tracking.pose import refine_pose
from lightmatch.tracking.relocalization import relocalize
from lightmatch.tracking.start import Start
from lightmatch.tracking.trajectory import Trajectory
from lightmatch.tracking.values import Status, TrackedFrame, TrackerConfig
from lightmatch.types import Image

_START_POINTS = 100  # with a depth
_SURE = 0.2  # of the points that are followed: with fewer that agree, the camera is looked for in the map
_WAITED_FOR = 0.75  # of the points of a keyframe that is being made: a frame that still shows fewer waits for it
_YOUNG = 3  # keyframes, at most, of a map that is given up
_GIVEN_UP = 30  # frames without a measured pose, after which it is
_LONGEST_STEP = 3.0  # times the last step in time: beyond, its motion says little, and the camera is guessed to stop


@dataclass(frozen=True, eq=False)
class _Placed:
    """A measured pose, and what it was measured by."""

    cam_from_world: np.ndarray  # (3, 4)
    covariance: np.ndarray  # (6, 6)
    points: np.ndarray  # (n,) numbers
    places: np.ndarray  # (n, 2) px of the image
    keyframe: int  # that the pose is relative to
    is_doubtful: bool = False  # whether most of what was followed is gone at once, as when the camera was carried
    is_found: bool = False  # in the map, and not by following


class Tracker:
    """Tracks a camera through the images that `step` is given, and maps what it sees.

    With depths or right images a map is there from the first frame, in metres; one camera alone has to move first, and
    its unit is the median depth of the first map. The camera's axes are x right, y down, z forward; the world is the
    first keyframe's camera. Points of the map are followed from frame to frame by optical flow and give the pose
    (robust Gauss–Newton); keyframes are matched with LightGlue, make points, and are adjusted with those around them;
    one that shows a place from before closes a loop. The structure is that of Mur-Artal & Tardós, ORB-SLAM2, 2017, with
    learned features and matches.

    `close` ends the thread of `config.background`; a `with` block does. That thread alone changes the map; `step` reads
    it meanwhile.
    """

    def __init__(self, camera: TrackedCamera, config: TrackerConfig | None = None, earlier: Map | None = None) -> None:
        """earlier: a map to go on with, of the same features (`tracking.earlier`); the camera is looked for in it."""
        self.config = config or TrackerConfig()
        self._extractor: Extractor = create_extractor(
            self.config.features, max_keypoints=self.config.max_keypoints, device=self.config.device
        )
        self._matcher: Matcher = create_matcher(
            self.config.matcher, self._extractor.kind, device=self.config.device, precision="auto"
        )
        self._start = Start(camera, self._extractor, self._matcher, self.config.seed)
        self._mapper = Mapper(camera, self.config, self._extractor, self._matcher, earlier)
        self._source: Source | None = None
        self._poses: list[tuple[float, np.ndarray]] = []  # the last two measured: time, cam_from_world
        self._trajectory = Trajectory()
        self.loops: list[tuple[int, int]] = []  # keyframes that show one place: the older and the newer of each
        self._without = 0  # frames since the last measured pose
        self._begun_with = np.zeros((0, 2))  # px of the points of the last keyframe, or when the map was last asked
        self._last: float | None = None
        self._early: list[float] = []  # times of the last frames, where these lie before `_last` but rise
        self._may_begin_anew = earlier is None and self.config.mapping

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what runs in the background, and take it into the map."""
        try:
            while not self._mapper.is_idle:
                self._take()
        finally:
            self._mapper.close()

    @property
    def camera(self) -> TrackedCamera:
        """As given, but for the yaw of a pair, which is learned."""
        return self._mapper.camera

    @property
    def map(self) -> Map:
        """Keyframes and points."""
        return self._mapper.map

    @property
    def is_mapping(self) -> bool:
        """Whether a keyframe is being made in the background."""
        return not (self._mapper.is_idle or self._mapper.is_done)

    @property
    def keyframes(self) -> dict[int, Keyframe]:
        """By number: those that are in the map with their points, all but one that is being made in the background."""
        return self._mapper.keyframes

    @property
    def tracked_places(self) -> np.ndarray:
        """(n, 2) px: where the last frame with a measured pose shows points of the map; empty before there is one."""
        return np.zeros((0, 2)) if self._source is None else self._source.places

    @property
    def times_needed(self) -> set[float]:
        """The times of the frames so far that may still become keyframes."""
        return {when for when in (self._start.since, self._mapper.time_of_frame, self._last) if when is not None}

    def trajectory(self) -> list[tuple[float, np.ndarray]]:
        """Time and cam_from_world (3, 4) of all frames with a measured pose, as the map knows them now.

        Adjustments and loops have moved keyframes since `step` gave the poses of frames, and so these too.
        """
        return self._trajectory.poses(self.map)

    def _nearest(self, points: np.ndarray) -> int:
        """The keyframe that sees most of these points."""
        seen = self.map.seen_by(points.tolist())
        return max(seen, key=lambda number: (seen[number], number))

    def skip(self, timestamp: float, reason: str) -> TrackedFrame:
        """A frame that could not be read. reason: why."""
        return self._guessed(timestamp, reason, time.perf_counter())

    def step(
        self,
        image: Image | np.ndarray,
        timestamp: float,
        *,
        depth: np.ndarray | None = None,
        right: Image | np.ndarray | None = None,
    ) -> TrackedFrame:
        """Where the camera is at this moment.

        image: RGB or grey, uint8, of the camera's size. timestamp: s, later than the last. depth: (h, w) m, 0 where
        unknown. right: the rectified right image. Both need a baseline of the camera. What is wrong with one frame (its
        size, its time, nothing to see) is said in `reason`, and the frame is passed over. Raises InvalidValueError for
        arrays of another kind.
        """
        begun = time.perf_counter()
        if (depth is not None or right is not None) and self.camera.baseline is None:
            raise InvalidValueError("expected a camera with a baseline for depths and right images, got one without")
        self._watch_clock(timestamp)
        problem = problem_of(self.camera.image_size, self._last, image, timestamp, depth, right)
        if problem is not None:
            return self._guessed(timestamp, problem, begun)
        self._last = timestamp
        frame = CameraFrame.of(image, timestamp, depth, right)
        if self.map.keyframes:
            return self._track(frame, begun)
        return self._begin(frame, begun)

    def _watch_clock(self, timestamp: float) -> None:
        """Take a clock for right that more than `coast_frames` frames in a row agree on: it was set back.

        Or one time was far ahead.
        """
        if self._last is None or not timestamp <= self._last:
            self._early = []
            return
        rises = self._early and timestamp > self._early[-1]
        self._early = [*self._early, timestamp] if rises else [timestamp]
        if len(self._early) > self.config.coast_frames:
            self._last, self._early = self._early[-2], []
            self._poses = [(self._last, pose) for _, pose in self._poses[-1:]]

    # The first map.

    def _begin(self, frame: CameraFrame, begun: float) -> TrackedFrame:
        why_not = self._make_first_map(frame)
        if why_not:
            return self._answer(frame, begun, "starting", reason=why_not)
        return self._begun(frame, begun)

    def _make_first_map(self, frame: CameraFrame) -> str:
        """A map of this frame, and of one before where there are no depths, in place of that there is; or why not."""
        if self.camera.baseline is not None:
            keyframe = self._mapper.keyframe(frame, np.eye(3, 4))
            if np.isfinite(keyframe.right_x).sum() < _START_POINTS:
                return "too few keypoints with a depth to start"
            self.map.replace_with(Map())
            self._mapper.add(keyframe, _NOTHING)
            return ""
        found = self._start.step(frame.timestamp, frame.image, frame.flow)
        if isinstance(found, str):
            return found
        self.map.replace_with(found)
        self._mapper.adjust([self.map.latest])
        return ""

    def _begun(self, frame: CameraFrame, begun: float, reason: str = "") -> TrackedFrame:
        """The answer to the last frame of a first map. reason: why there is another one than before."""
        self._trajectory, self.loops, self._without = Trajectory(), [], 0
        self._adopt(self._mapper.source_of(self.map.latest))
        pose = self.map.keyframes[self.map.latest].cam_from_world
        self._poses = [(frame.timestamp, pose)]
        for number, keyframe in self.map.keyframes.items():
            self._trajectory.add(keyframe.timestamp, keyframe.cam_from_world, self.map, number)
        source, covariance = self._source, np.zeros((6, 6))  # the first frame is the world
        assert source is not None
        if self.camera.baseline is None:
            places = self.camera.ideal(source.places)
            fit = refine_pose(pose, self.map.xyz[source.points], places, self.camera, self.config.max_error_px)
            covariance = covariance if fit is None else fit.covariance
        tracked = len(source.points)
        return self._answer(
            frame, begun, "tracking", pose, tracked=tracked, covariance=covariance, keyframe=True, reason=reason
        )

    def _begin_anew(self, frame: CameraFrame, begun: float) -> TrackedFrame | None:
        """Make another map in place of a young one in which the camera is not found: it left, or the map is wrong.

        So does the implementation of ORB-SLAM2 with up to five keyframes. None as long as that cannot be.
        """
        num_keyframes = len(self.map.keyframes)
        is_due = self._without >= _GIVEN_UP and num_keyframes <= _YOUNG
        if not (self._may_begin_anew and is_due and self._mapper.is_idle) or self._make_first_map(frame):
            return None
        reason = f"not found for {self._without} frames in a map of {num_keyframes} keyframes: another begins here"
        return self._begun(frame, begun, reason)

    # A frame with a map.

    def _track(self, frame: CameraFrame, begun: float) -> TrackedFrame:
        if self._mapper.is_done:
            self._take()
        placed = self._follow(frame)
        if placed is not None and self._mapper.time_of_frame is not None and self._runs_ahead(placed):
            self._take()
            placed = self._follow(frame) or placed
        if placed is None or placed.is_doubtful or (not self.config.mapping and self._is_thin(placed.places)):
            placed = self._look_again(frame, placed)
        if placed is None:
            anew = self._begin_anew(frame, begun)
            return anew or self._guessed(frame.timestamp, "too few points of the map are seen", begun)
        self._source = Source(frame.flow, placed.points, placed.places, placed.keyframe, placed.is_doubtful)
        self._measured(frame.timestamp, placed)
        made = self.config.mapping and self._mapper.is_idle and self._needs_keyframe(placed)
        if made:
            self._map(frame, placed.cam_from_world)
        pose = self._poses[-1][1]
        self._trajectory.add(frame.timestamp, pose, self.map, self._source.keyframe)
        tracked = len(placed.points)
        return self._answer(
            frame, begun, "tracking", pose, tracked=tracked, covariance=placed.covariance, keyframe=made
        )

    def _follow(self, frame: CameraFrame) -> _Placed | None:
        """By the points of the map that were seen in the image before."""
        source = self._source
        if source is None:
            return None
        known = np.array([point in self.map for point in source.points.tolist()], bool)
        points = source.points[known]
        xyz = self.map.xyz[points]
        before = source.places[known]
        for guess in (self._expected(frame.timestamp), self._poses[-1][1]):
            seen, depth = self.camera.project(xyz, guess)
            where = np.where((depth > 0)[:, None], self.camera.real(seen), np.nan)
            found, good = follow(source.flow, frame.flow, before, where)
            ideal = self.camera.ideal(found[good])
            usable = np.isfinite(ideal).all(1)
            fit = refine_pose(guess, xyz[good][usable], ideal[usable], self.camera, self.config.max_error_px)
            if fit is not None and fit.inliers.sum() >= max(self.config.min_tracked, 0.3 * len(fit.inliers)):
                agree = points[good][usable][fit.inliers], found[good][usable][fit.inliers]
                is_doubtful = source.is_doubtful or len(agree[0]) < _SURE * len(points)
                return _Placed(fit.cam_from_world, fit.covariance, *agree, source.keyframe, is_doubtful)
        return None

    def _runs_ahead(self, placed: _Placed) -> bool:
        """Whether a keyframe that is being made would come too late, as where frames come faster than their time."""
        return len(placed.places) < _WAITED_FOR * len(self._begun_with)

    def _is_thin(self, places: np.ndarray) -> bool:
        return thinned_out(self.camera, places, self._begun_with)

    def _needs_keyframe(self, placed: _Placed) -> bool:
        if self._is_thin(placed.places):
            moved = relative(placed.cam_from_world, self.map.keyframes[self.map.latest].cam_from_world)
            return bool(np.abs(moved - np.eye(3, 4)).max() > 1e-3)
        return has_moved_away(self.map, self.camera, placed.cam_from_world, placed.points)

    def _look_again(self, frame: CameraFrame, placed: _Placed | None) -> _Placed | None:
        """The better of a pose and what the map says, which is not asked while it is changed in the background.

        For a keyframe that is being made a frame without a pose waits: it shows what this one sees.
        """
        if placed is None and self._mapper.time_of_frame is not None:
            self._take()
            placed = self._follow(frame)
        if not self._mapper.is_idle or (placed is not None and not placed.is_doubtful and self.config.mapping):
            return placed
        found = self._relocalize(frame)
        if placed is not None and (found is None or len(found.points) < len(placed.points)):
            if not placed.is_doubtful:
                self._begun_with = placed.places  # the map has no more: not asked again until these grow thin
            return replace(placed, is_doubtful=False)
        if found is not None:
            self._begun_with = found.places
        return found

    def _relocalize(self, frame: CameraFrame) -> _Placed | None:
        """By the keyframes that look most like the frame."""
        features = self._extractor(frame.image)
        found = relocalize(self.map, self.camera, self._matcher, features, self.config.min_tracked, self.config.seed)
        if found is None:
            return None
        places = features.keypoints.numpy().astype(np.float64)[found.keypoints]
        keyframe = self._nearest(found.points)
        return _Placed(found.cam_from_world, found.covariance, found.points, places, keyframe, is_found=True)

    def _guessed(self, timestamp: float, reason: str, begun: float) -> TrackedFrame:
        """A frame without a measured pose."""
        seconds = time.perf_counter() - begun
        if not self.map.keyframes:
            return TrackedFrame(timestamp, "starting", None, None, 0, False, reason, seconds)
        self._without += 1
        if self._without > self.config.coast_frames or not self._poses:
            return TrackedFrame(timestamp, "lost", None, None, 0, False, reason, seconds)
        pose = self._expected(timestamp)
        return TrackedFrame(timestamp, "coasting", pose, None, 0, False, reason, seconds)

    # Motion.

    def _expected(self, timestamp: float) -> np.ndarray:
        """The pose if the camera goes on as it did."""
        if len(self._poses) < 2:
            return self._poses[-1][1]
        (time0, pose0), (time1, pose1) = self._poses
        ratio = (timestamp - time1) / (time1 - time0)
        if not ratio > 0:  # NaN too
            return pose1
        ratio = min(ratio, _LONGEST_STEP)
        moved = relative(pose1, pose0)
        turn = cv2.Rodrigues(cv2.Rodrigues(moved[:, :3])[0] * ratio)[0]
        return composed(np.column_stack((turn, moved[:, 3] * ratio)), pose1)

    def _measured(self, timestamp: float, placed: _Placed) -> None:
        before = [] if self._without or placed.is_found else self._poses[-1:]
        self._poses = [*before, (timestamp, placed.cam_from_world)]
        self._without = 0

    # The map.

    def _map(self, frame: CameraFrame, pose: np.ndarray) -> None:
        """Make a keyframe of the frame, here or in the background."""
        assert self._source is not None
        followed = FollowedPoints(self._source.points, self.camera.ideal(self._source.places))
        self._begun_with = self._source.places
        if (source := self._mapper.make(frame, pose, followed)) is not None:
            self._adopt(source)
            self._poses[-1] = (frame.timestamp, self.map.keyframes[self.map.latest].cam_from_world)

    def _take(self) -> None:
        """What was done in the background: a keyframe, or all of the map adjusted."""
        if (source := self._mapper.take()) is not None:
            self._adopt(source)

    def _adopt(self, source: Source) -> None:
        """Follow the points of a new keyframe from now on."""
        drop_redundant(self.map, self._trajectory, source.keyframe, [source.loop.old] if source.loop else ())
        if source.loop is not None:
            source = self._close(source.loop)
        self._source = source
        self._begun_with = source.places

    def _close(self, loop: Loop) -> Source:
        """Correct the map, and the last poses with it."""
        source = self._mapper.close_loop(loop)
        self._poses = [(when, loop.correction.pose(pose)) for when, pose in self._poses]
        self.loops.append((loop.old, loop.new))
        return source

    def _answer(
        self,
        frame: CameraFrame,
        begun: float,
        status: Status,
        pose: np.ndarray | None = None,
        *,
        tracked: int = 0,
        covariance: np.ndarray | None = None,
        keyframe: bool = False,
        reason: str = "",
    ) -> TrackedFrame:
        seconds = time.perf_counter() - begun
        return TrackedFrame(frame.timestamp, status, pose, covariance, tracked, keyframe, reason, seconds)


_NOTHING = FollowedPoints(np.zeros(0, int), np.zeros((0, 2)))
