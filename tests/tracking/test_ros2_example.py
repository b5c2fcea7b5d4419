"""examples/ros2_track_node.py: what it publishes, with stand-ins for ROS's modules, which PyPI does not have."""

import runpy
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
from passed_wall import DEPTH_M, FOCAL_PX, SIZE, STEP_M, K, wall_frames

import lightmatch as lm
from lightmatch.geometry.poses import composed
from lightmatch.tracking import TrackedCamera, TrackedFrame, Tracker
from lightmatch.tracking.pose import refine_pose

EXAMPLE = Path(__file__).parents[2] / "examples" / "ros2_track_node.py"
POSE = np.column_stack((pycolmap.Rotation3d(np.array([0.4, -0.7, 0.2])).matrix(), [0.3, -0.2, 0.5]))
MAP_FROM_WORLD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # forward, left, up from right, down, forward


class Message(SimpleNamespace):
    """Any message: fields are made when they are first asked for."""

    def __getattr__(self, name: str) -> Any:
        setattr(self, name, Message())
        return getattr(self, name)


class Publisher(list[Any]):
    """The messages that were published."""

    publish = list.append

    def get_subscription_count(self) -> int:
        return 1


class Node:
    """What the example uses of rclpy's."""

    def __init__(self, name: str) -> None:
        self.topics: dict[str, Callable[[Any], None]] = {}
        self.logged: list[str] = []

    def create_publisher(self, kind: type, topic: str, qos: object) -> Publisher:
        return Publisher()

    def create_subscription(self, kind: type, topic: str, callback: Callable[[Any], None], qos: object) -> None:
        self.topics[topic] = callback

    def get_logger(self) -> Any:
        return SimpleNamespace(info=self._log, warning=self._log)

    def _log(self, text: str, throttle_duration_sec: float) -> None:
        self.logged.append(text)


class Time:
    """rclpy's: nanoseconds."""

    def __init__(self, nanoseconds: int) -> None:
        self.nanoseconds = nanoseconds

    def to_msg(self) -> Message:
        return Message(sec=self.nanoseconds // 10**9, nanosec=self.nanoseconds % 10**9)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the example."""
    modules: dict[str, dict[str, Any]] = {
        "rclpy": {},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {"qos_profile_sensor_data": object()},
        "rclpy.time": {"Time": Time},
        "geometry_msgs.msg": dict.fromkeys(
            ["Point", "Pose", "PoseStamped", "PoseWithCovarianceStamped", "Quaternion"], Message
        ),
        "nav_msgs.msg": {"Path": Message},
        "sensor_msgs.msg": {"CameraInfo": Message, "Image": Message},
        "std_msgs.msg": {"Header": Message},
    }
    for name, values in modules.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return runpy.run_path(str(EXAMPLE))


def info(K: np.ndarray = K, lens: tuple[float, ...] = (), model: str = "plumb_bob") -> Message:
    return Message(k=K.ravel(), d=list(lens), distortion_model=model, width=SIZE[0], height=SIZE[1])


def image(pixels: np.ndarray, time_s: float = 0.0, encoding: str = "rgb8", padding: int = 0) -> Message:
    rows = pixels.reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    return Message(
        header=Message(stamp=Time(round(1e9 * time_s)).to_msg()),
        height=len(pixels),
        width=pixels.shape[1],
        step=padded.shape[1],
        encoding=encoding,
        data=array("B", padded.tobytes()),
    )


def matrix_of(pose: Message) -> np.ndarray:
    """(3, 4) map_from_cam of a Pose."""
    turn, place = pose.orientation, pose.position
    rotation = pycolmap.Rotation3d(np.array([turn.x, turn.y, turn.z, turn.w])).matrix()
    return np.column_stack((rotation, [place.x, place.y, place.z]))


def test_the_pose_is_that_of_the_camera_in_the_map(example: dict[str, Any]) -> None:
    assert np.allclose(
        composed(matrix_of(example["pose_of"](POSE)), POSE), np.column_stack((MAP_FROM_WORLD, np.zeros(3)))
    )
    ahead = example["pose_of"](np.column_stack((np.eye(3), [0, 0, -2.0])))  # two metres along the optical axis
    assert np.allclose(matrix_of(ahead)[:, 3], [2, 0, 0])
    right_and_down = example["pose_of"](np.column_stack((np.eye(3), [-1.0, -3, 0])))
    assert np.allclose(matrix_of(right_and_down)[:, 3], [0, -1, -3])
    assert np.allclose(matrix_of(ahead)[:, 2], [1, 0, 0])  # the optical axis, z of the camera, is x of the map


def test_the_covariance_is_that_of_the_published_poses(example: dict[str, Any]) -> None:
    """Poses from noisy pixels: their places and rotations vary as the covariance says, also the one with the other.

    Points on a plane: a step aside and a turn look almost alike there, so the two go together.
    """
    camera, rng = TrackedCamera.pinhole(K, SIZE), np.random.default_rng(0)
    local = np.column_stack((rng.uniform(-1.5, 1.5, (60, 2)), np.full(60, DEPTH_M)))
    points = (local - POSE[:, 3]) @ POSE[:, :3]
    exact = camera.project(points, POSE)[0]
    true, errors, stated = matrix_of(example["pose_of"](POSE)), [], []
    for _ in range(300):
        fit = refine_pose(POSE, points, exact + rng.normal(0, 0.5, exact.shape), camera, 3.0)
        assert fit is not None
        found = matrix_of(example["pose_of"](fit.cam_from_world))
        turned = cv2.Rodrigues(found[:, :3] @ true[:, :3].T)[0].ravel()  # about the axes of the map
        errors.append(np.concatenate((found[:, 3] - true[:, 3], turned)))
        stated.append(np.reshape(example["covariance_of"](fit.cam_from_world, fit.covariance), (6, 6)))
    measured, mean = np.cov(np.array(errors).T), np.mean(stated, 0)
    scale = np.sqrt(np.diag(measured))
    ratio = np.sqrt(np.diag(mean)) / scale
    assert ratio.max() / ratio.min() < 1.3 and 0.6 < ratio.mean() < 1.7
    correlation, expected = measured / np.outer(scale, scale), mean / np.outer(ratio * scale, ratio * scale)
    assert np.abs(expected[:3, 3:]).max() > 0.8
    assert np.abs(correlation - expected).max() < 0.2


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_images_are_read(example: dict[str, Any], encoding: str, padding: int) -> None:
    rgb = wall_frames(1)[0].pixels
    sent = {"rgb8": rgb, "bgr8": rgb[..., ::-1], "mono8": rgb[..., 1]}[encoding]
    read = example["pixels_of"](image(sent, encoding=encoding, padding=padding))
    assert np.array_equal(read, rgb[..., 1] if encoding == "mono8" else rgb)
    tracker = Tracker(TrackedCamera.pinhole(K, SIZE))
    assert tracker.step(read, 0.0).reason == "the first frame"  # it takes such an array


def test_the_lens_of_a_camera_info_is_that_of_opencv(example: dict[str, Any]) -> None:
    points = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 4], (50, 3))
    nothing = np.zeros(3)
    rational = (-0.3, 0.1, 0.001, -0.002, 0.02, 0.05, -0.01, 0.003)
    for model, lens in (("plumb_bob", (-0.2, 0.05, 0.001, -0.002, 0.01)), ("rational_polynomial", rational)):
        seen = cv2.projectPoints(points, nothing, nothing, K, np.array(lens))[0][:, 0]
        camera = example["camera_of"](info(lens=lens, model=model))
        assert np.allclose(camera.real(points[:, :2] / points[:, 2:] @ K[:2, :2] + K[:2, 2]), seen, atol=1e-6)
    fisheye = (0.02, -0.01, 0.003, -0.001)
    seen = cv2.fisheye.projectPoints(points[:, None], nothing, nothing, K, np.array(fisheye))[0][:, 0]
    camera = example["camera_of"](info(lens=fisheye, model="equidistant"))
    assert np.allclose(camera.real(points[:, :2] / points[:, 2:] @ K[:2, :2] + K[:2, 2]), seen, atol=1e-6)


def test_only_measured_poses_are_published(example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    covariance = np.diag([1.0, 2, 3, 4, 5, 6])
    answers = [
        TrackedFrame(0.0, "starting", None, None, 0, False, "no parallax", 0.0),
        TrackedFrame(0.1, "tracking", POSE, covariance, 90, True, "", 0.0),
        TrackedFrame(0.2, "tracking", POSE, covariance, 80, False, "", 0.0),
        TrackedFrame(0.3, "coasting", POSE, None, 0, False, "too few points", 0.0),
        TrackedFrame(0.4, "lost", None, None, 0, False, "too few points", 0.0),
    ]

    class Scripted:
        def __init__(self, camera: TrackedCamera, config: lm.TrackerConfig) -> None:
            assert config.background

        def step(self, pixels: np.ndarray, timestamp: float) -> TrackedFrame:
            answer = answers[round(10 * timestamp)]
            assert abs(answer.timestamp - timestamp) < 1e-6
            return answer

        def trajectory(self) -> list[tuple[float, np.ndarray]]:
            return [(0.05, np.eye(3, 4)), (0.1, POSE)]

    monkeypatch.setattr(lm, "Tracker", Scripted)
    node = example["TrackNode"]()
    pixels = wall_frames(1)[0].pixels
    node.topics["image"](image(pixels))  # before the camera is known
    node.topics["camera_info"](info(np.zeros((3, 3))))
    assert node.tracker is None and "expected a calibrated camera_info" in node.logged[-1]
    node.topics["camera_info"](info())
    node.topics["image"](image(pixels, encoding="bayer_rggb8"))
    assert node.logged[-1].endswith("one of rgb8, bgr8, mono8, got bayer_rggb8")
    for answer in answers:
        node.topics["image"](image(pixels, answer.timestamp))
    assert [message.header.stamp.nanosec for message in node.poses] == [100_000_000, 200_000_000]
    assert {message.header.frame_id for message in node.poses} == {"map"}
    published = node.poses[0].pose
    assert np.allclose(matrix_of(published.pose), matrix_of(example["pose_of"](POSE)))
    assert published.covariance == example["covariance_of"](POSE, covariance) and len(published.covariance) == 36
    assert np.allclose(np.reshape(published.covariance, (6, 6))[:3, :3], np.diag([6, 4, 5]))  # z, x, y of the world
    assert len(node.paths) == 1  # with the keyframe
    assert [pose.header.stamp.nanosec for pose in node.paths[0].poses] == [50_000_000, 100_000_000]
    assert np.allclose(matrix_of(node.paths[0].poses[1].pose), matrix_of(published.pose))
    assert node.logged[-2:] == ["coasting: too few points", "lost: too few points"]


def test_a_camera_that_passes_a_wall_moves_to_the_right(example: dict[str, Any]) -> None:
    """With the tracker itself: the steps are equal, and to the right is minus y."""
    node = example["TrackNode"]()
    node.topics["camera_info"](info())
    for number, frame in enumerate(wall_frames(10)):
        node.topics["image"](image(frame.pixels, 1_700_000_000 + 0.1 * number))
    node.tracker.close()
    places = np.array([matrix_of(message.pose.pose)[:, 3] for message in node.poses])
    assert len(places) >= 5
    steps = np.diff(places, axis=0)
    assert np.abs(steps[:, [0, 2]]).max() < 0.1 * np.abs(steps[:, 1]).min()
    assert np.allclose(steps[:, 1], -STEP_M / DEPTH_M, rtol=0.1)  # the unit is the depth of the wall
    assert node.poses[0].header.stamp.sec == 1_700_000_000
    assert abs(FOCAL_PX - node.tracker.camera.K[0, 0]) < 1e-9
