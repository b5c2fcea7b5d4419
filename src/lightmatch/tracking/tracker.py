"""Frame after frame: where the camera is now."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.matchers import Matcher, create_matcher
from lightmatch.tracking.adjustment import adjust_map
from lightmatch.tracking.camera import TrackedCamera
from lightmatch.tracking.depths import right_of_depth_map, right_of_stereo
from lightmatch.tracking.flow import FlowImage, follow
from lightmatch.tracking.frames import CameraFrame, problem_of
from lightmatch.tracking.keyframes import AddedKeyframe, FollowedPoints, add_keyframe, place_again
from lightmatch.tracking.loops import Loop, close_loop, find_loop
from lightmatch.tracking.map import Keyframe, Map
from lightmatch.tracking.pair_yaw import PairYaw
from lightmatch.tracking.pose import PoseFit, center_of, composed, refine_pose, relative
from lightmatch.tracking.relocalization import Relocalized, relocalize
from lightmatch.tracking.start import Start
from lightmatch.tracking.values import TrackedFrame, TrackerConfig
from lightmatch.types import Image

_FEWER = 0.5  # of the points that the last keyframe began with: with fewer followed, a new one is made
_MOVED = 0.12  # of the median depth, from the last keyframe
_TURNED_DEG = 20.0
_SPARSE = 0.5  # of the cells of the image that show a point, of those that did at the last keyframe
_CELLS = (8, 6)
_LOOP_ITERATIONS = 30
_START_POINTS = 100  # with a depth
_LEAST_SHIFT_PX = 0.1  # of disparities, to be worth correcting
_LONGEST_STEP = 3.0  # times the last step in time: beyond, its motion says little


@dataclass(eq=False)
class _Source:
    """Points of the map in the image that they are followed from."""

    flow: FlowImage
    points: np.ndarray  # (n,) numbers
    places: np.ndarray  # (n, 2) px of the image
    keyframe: int  # that poses are told by
    loop: Loop | None = None  # that this keyframe closes, and that is still open


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

    def __init__(self, camera: TrackedCamera, config: TrackerConfig | None = None) -> None:
        self.camera, self.config = camera, config or TrackerConfig()
        self._extractor: Extractor = create_extractor(
            self.config.features, max_keypoints=self.config.max_keypoints, device=self.config.device
        )
        self._matcher: Matcher = create_matcher(
            self.config.matcher, self._extractor.kind, device=self.config.device, precision="auto"
        )
        self._start = Start(camera, self._extractor, self._matcher, self.config.seed)
        self.map = Map()
        self._source: _Source | None = None
        self._poses: list[tuple[float, np.ndarray]] = []  # the last two measured: time, cam_from_world
        self._yaw = PairYaw()
        self._history: list[tuple[float, int, np.ndarray]] = []  # time, keyframe, and cam_from_keyframe
        self.loops: list[tuple[int, int]] = []  # keyframes that show one place: the older and the newer of each
        self._without = 0  # frames since the last measured pose
        self._begun_with = (0, 0)  # points and cells of the last keyframe
        self._last: float | None = None
        self._mapped: float | None = None  # time of the frame that is made a keyframe
        self._worker = ThreadPoolExecutor(1, "mapping") if self.config.background else None
        self._pending: Future[_Source] | None = None
        self._num_before = 0  # keyframes, when the pending one was begun

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what runs in the background."""
        if self._worker is not None:
            self._worker.shutdown()

    @property
    def is_mapping(self) -> bool:
        """Whether a keyframe is being made in the background."""
        return self._pending is not None and not self._pending.done()

    @property
    def num_adjusted(self) -> int:
        """Keyframes that are in the map with their points: all but one that is being made in the background."""
        return self._num_before if self.is_mapping else len(self.map.keyframes)

    @property
    def tracked_places(self) -> np.ndarray:
        """(n, 2) px: where the last frame with a measured pose shows points of the map; empty before there is one."""
        return np.zeros((0, 2)) if self._source is None else self._source.places

    @property
    def oldest_needed(self) -> float | None:
        """The time of the oldest frame that may still become a keyframe; None where none will."""
        if not self.map.keyframes:
            return self._start.since
        return self._mapped if self._pending is not None else self._last

    def trajectory(self) -> list[tuple[float, np.ndarray]]:
        """Time and cam_from_world (3, 4) of all frames with a measured pose, as the map knows them now.

        Adjustments and loops have moved keyframes since `step` gave the poses of frames, and so these too.
        """
        if not self._history:
            return []
        times, numbers, poses = zip(*self._history, strict=True)
        world = np.stack([self.map.keyframes[number].cam_from_world for number in numbers])
        turn, shift = np.split(np.stack(poses), [3], axis=2)
        moved = np.concatenate((turn @ world[:, :, :3], turn @ world[:, :, 3:] + shift), axis=2)
        return list(zip(times, moved, strict=True))

    def _nearest(self, points: np.ndarray) -> int:
        """The keyframe that sees most of these points."""
        seen = Counter(number for point in points.tolist() for number in self.map.observers(point))
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
        size, its time, nothing to see) is said in `reason`, and the frame is passed over.
        """
        begun = time.perf_counter()
        if (depth is not None or right is not None) and self.camera.baseline is None:
            raise InvalidValueError("expected a camera with a baseline for depths and right images, got one without")
        problem = problem_of(self.camera.image_size, self._last, image, timestamp, depth, right)
        if problem is not None:
            return self._guessed(timestamp, problem, begun)
        self._last = timestamp
        frame = CameraFrame.of(image, timestamp, depth, right)
        if self.map.keyframes:
            return self._track(frame, begun)
        return self._begin(frame, begun)

    # The first map.

    def _begin(self, frame: CameraFrame, begun: float) -> TrackedFrame:
        if self.camera.baseline is not None:
            keyframe = self._keyframe(frame, np.eye(3, 4))
            if np.isfinite(keyframe.right_x).sum() < _START_POINTS:
                return self._answer(frame, begun, "starting", reason="too few keypoints with a depth to start")
            add_keyframe(self.map, self.camera, self._matcher, keyframe, _NOTHING, self.config.max_error_px)
        else:
            found = self._start.step(frame.timestamp, frame.image, frame.flow)
            if isinstance(found, str):
                return self._answer(frame, begun, "starting", reason=found)
            self.map = found
            adjust_map(self.map, self.camera, [1], self.config.max_error_px)
        self._adopt(self._source_of(len(self.map.keyframes) - 1))
        pose = self.map.keyframes[-1].cam_from_world
        self._poses = [(frame.timestamp, pose)]
        for number, keyframe in enumerate(self.map.keyframes):
            self._history.append((keyframe.timestamp, number, np.eye(3, 4)))
        assert self._source is not None
        return self._answer(
            frame, begun, "tracking", pose, tracked=len(self._source.points), covariance=np.zeros((6, 6)), keyframe=True
        )

    # A frame with a map.

    def _track(self, frame: CameraFrame, begun: float) -> TrackedFrame:
        if self._pending is not None and self._pending.done():
            self._adopt(self._pending.result())
            self._pending = None
        expected = self._expected(frame.timestamp)
        fit, points, places = self._follow(frame, expected)
        if fit is not None:
            pose, covariance = fit.cam_from_world, fit.covariance
        else:
            found, places = self._relocalize(frame)
            if found is None:
                return self._guessed(frame.timestamp, "too few points of the map are seen", begun)
            pose, covariance, points = found.cam_from_world, found.covariance, found.points
        keyframe = self._source.keyframe if fit is not None and self._source is not None else self._nearest(points)
        self._source = _Source(frame.flow, points, places, keyframe)
        self._measured(frame.timestamp, pose)
        made = self._pending is None and self._needs_keyframe(pose, places)
        if made:
            self._map(frame, pose)
        self._history.append(
            (frame.timestamp, keyframe, relative(self._poses[-1][1], self.map.keyframes[keyframe].cam_from_world))
        )
        return self._answer(
            frame, begun, "tracking", self._poses[-1][1], tracked=len(points), covariance=covariance, keyframe=made
        )

    def _follow(self, frame: CameraFrame, expected: np.ndarray) -> tuple[PoseFit | None, np.ndarray, np.ndarray]:
        """The pose, and the points that agree with it and their places (n, 2) px of the image."""
        source = self._source
        nothing = np.zeros(0, int), np.zeros((0, 2))
        if source is None:
            return None, *nothing
        known = np.array([point in self.map for point in source.points.tolist()], bool)
        points = source.points[known]
        xyz = self.map.xyz[points]
        before = source.places[known]
        for guess in (expected, self._poses[-1][1]):
            seen, depth = self.camera.project(xyz, guess)
            where = np.where((depth > 0)[:, None], self.camera.real(seen), np.nan)
            found, good = follow(source.flow, frame.flow, before, where)
            ideal = self.camera.ideal(found[good])
            usable = np.isfinite(ideal).all(1)
            fit = refine_pose(guess, xyz[good][usable], ideal[usable], self.camera, self.config.max_error_px)
            if fit is not None and fit.inliers.sum() >= max(self.config.min_tracked, 0.3 * len(fit.inliers)):
                return fit, points[good][usable][fit.inliers], found[good][usable][fit.inliers]
        return None, *nothing

    def _needs_keyframe(self, pose: np.ndarray, places: np.ndarray) -> bool:
        last = self.map.keyframes[-1]
        points, cells = self._begun_with
        if len(places) < _FEWER * points or _num_cells(places, self.camera.image_size) < _SPARSE * cells:
            moved = relative(pose, last.cam_from_world)
            return bool(np.abs(moved - np.eye(3, 4)).max() > 1e-3)
        xyz = self.map.xyz[self.map.points_of(len(self.map.keyframes) - 1)]
        depth = float(np.median(self.camera.project(xyz, pose)[1])) if len(xyz) else 1.0
        distance = float(np.linalg.norm(center_of(pose) - center_of(last.cam_from_world)))
        turn = np.degrees(np.linalg.norm(cv2.Rodrigues(relative(pose, last.cam_from_world)[:, :3])[0]))
        return bool(distance > _MOVED * abs(depth) or turn > _TURNED_DEG)

    def _relocalize(self, frame: CameraFrame) -> tuple[Relocalized | None, np.ndarray]:
        """Look for the place in the map: what was found, and the places (m, 2) px of the points that agree."""
        if self._pending is not None:
            self._adopt(self._pending.result())
            self._pending = None
        features = self._extractor(frame.image)
        found = relocalize(self.map, self.camera, self._matcher, features, self.config.min_tracked, self.config.seed)
        keypoints = np.zeros(0, int) if found is None else found.keypoints
        return found, features.keypoints.numpy().astype(np.float64)[keypoints]

    def _guessed(self, timestamp: float, reason: str, begun: float) -> TrackedFrame:
        """A frame without a measured pose."""
        seconds = time.perf_counter() - begun
        if not self.map.keyframes:
            return TrackedFrame(timestamp, "starting", None, None, 0, False, reason, seconds)
        self._without += 1
        if self._without > self.config.coast_frames:
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
        if not 0 < ratio <= _LONGEST_STEP:
            return pose1
        moved = relative(pose1, pose0)
        turn = cv2.Rodrigues(cv2.Rodrigues(moved[:, :3])[0] * ratio)[0]
        return composed(np.column_stack((turn, moved[:, 3] * ratio)), pose1)

    def _measured(self, timestamp: float, pose: np.ndarray) -> None:
        self._poses = [*self._poses[-1:], (timestamp, pose)] if not self._without else [(timestamp, pose)]
        self._without = 0

    # The map.

    def _keyframe(self, frame: CameraFrame, pose: np.ndarray) -> Keyframe:
        features = self._extractor(frame.image)
        pixels = features.keypoints.numpy().astype(np.float64)
        places = self.camera.ideal(pixels)
        right_x = np.full(len(pixels), np.nan)
        if frame.right is not None:
            right_x = right_of_stereo(self.camera, frame.flow, frame.right, pixels)
        elif frame.depth is not None:
            right_x = right_of_depth_map(self.camera, pixels, places, frame.depth)
        return Keyframe(frame.timestamp, pose, features, places, right_x, frame.flow)

    def _map(self, frame: CameraFrame, pose: np.ndarray) -> None:
        """Make a keyframe of the frame, here or in the background."""
        assert self._source is not None
        followed = FollowedPoints(self._source.points, self.camera.ideal(self._source.places))
        if self._worker is not None:
            self._mapped = frame.timestamp
            self._num_before = len(self.map.keyframes)
            self._pending = self._worker.submit(self._insert, frame, pose, followed)
            return
        self._adopt(self._insert(frame, pose, followed))
        self._poses[-1] = (frame.timestamp, self.map.keyframes[-1].cam_from_world)

    def _insert(self, frame: CameraFrame, pose: np.ndarray, followed: FollowedPoints) -> _Source:
        keyframe = self._keyframe(frame, pose)
        added = add_keyframe(self.map, self.camera, self._matcher, keyframe, followed, self.config.max_error_px)
        number = added.number
        window = [number, *self.map.covisible(number)[: self.config.window - 1]]
        if frame.right is not None and not self._yaw.is_known and self._learn_yaw(added):
            window = list(range(number + 1))
        adjust_map(self.map, self.camera, window, self.config.max_error_px)
        loop = find_loop(self.map, self.camera, self._matcher, number, self.config.seed) if self.config.loops else None
        return replace(self._source_of(number), loop=loop)

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

    def _source_of(self, number: int) -> _Source:
        """The points of a keyframe, where its keypoints are."""
        keyframe = self.map.keyframes[number]
        assert keyframe.image is not None
        places = keyframe.features.keypoints.numpy().astype(np.float64)[keyframe.seen]
        return _Source(keyframe.image, keyframe.points[keyframe.seen], places, number)

    def _adopt(self, source: _Source) -> None:
        """Follow the points of a new keyframe from now on."""
        if source.loop is not None:
            source = self._close(source.loop)
        self._source = source
        self._begun_with = len(source.points), _num_cells(source.places, self.camera.image_size)

    def _close(self, loop: Loop) -> _Source:
        """Correct the map, here and not in the background: points that `step` follows must not move meanwhile."""
        close_loop(self.map, loop)
        everything = range(len(self.map.keyframes))
        adjust_map(self.map, self.camera, everything, self.config.max_error_px, _LOOP_ITERATIONS)
        self._poses = [(when, loop.correction.pose(pose)) for when, pose in self._poses]
        self.loops.append((loop.old, loop.new))
        return self._source_of(loop.new)

    def _answer(
        self,
        frame: CameraFrame,
        begun: float,
        status: str,
        pose: np.ndarray | None = None,
        *,
        tracked: int = 0,
        covariance: np.ndarray | None = None,
        keyframe: bool = False,
        reason: str = "",
    ) -> TrackedFrame:
        seconds = time.perf_counter() - begun
        return TrackedFrame(frame.timestamp, status, pose, covariance, tracked, keyframe, reason, seconds)  # type: ignore[arg-type]


_NOTHING = FollowedPoints(np.zeros(0, int), np.zeros((0, 2)))


def _num_cells(places: np.ndarray, size: tuple[int, int]) -> int:
    """How many cells of a grid over the image have a point."""
    columns, rows = _CELLS
    column = np.clip(places[:, 0] * columns / size[0], 0, columns - 1).astype(int)
    row = np.clip(places[:, 1] * rows / size[1], 0, rows - 1).astype(int)
    return len(np.unique(row * columns + column))
