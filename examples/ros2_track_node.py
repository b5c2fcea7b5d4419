"""Publish where a camera is, as a ROS 2 node: python ros2_track_node.py --ros-args -r image:=/camera/image_raw.

Takes `image` (rgb8, bgr8 or mono8) and `camera_info`. Publishes `pose` for each frame whose pose was measured, and
`path`, the whole way as the map knows it, with each keyframe. They are in the frame `map`: x forward, y left, z up as
the camera stood at first; the pose is that of the optical frame (REP 103). One camera has a unit of its own, no metres.
"""

import numpy as np
import pycolmap
import rclpy
from geometry_msgs.msg import Point, Pose, PoseStamped, PoseWithCovarianceStamped, Quaternion
from nav_msgs.msg import Path
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

import lightmatch as lm

MAP_FROM_WORLD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # the tracker's world is x right, y down, z forward
CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def camera_of(info):
    """The camera of a CameraInfo, with its lens distortion."""
    model, num = ("OPENCV_FISHEYE", 4) if info.distortion_model == "equidistant" else ("FULL_OPENCV", 8)
    (fx, _, cx), (_, fy, cy), _ = np.reshape(info.k, (3, 3)).tolist()
    params = [fx, fy, cx + 0.5, cy + 0.5, *[*info.d, *[0.0] * num][:num]]  # COLMAP's pixels begin half a pixel earlier
    return lm.TrackedCamera(pycolmap.Camera(model=model, width=info.width, height=info.height, params=params))


def pixels_of(message):
    """(h, w, 3) RGB or (h, w) grey uint8 of an Image, whose rows may be padded."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    channels = CHANNELS[message.encoding]
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    if message.encoding == "mono8":
        return pixels[..., 0]
    return pixels if message.encoding == "rgb8" else np.ascontiguousarray(pixels[..., ::-1])


def pose_of(cam_from_world):
    """Where the camera is in the map, and how it is turned."""
    map_from_cam = MAP_FROM_WORLD @ cam_from_world[:, :3].T
    x, y, z = (-map_from_cam @ cam_from_world[:, 3]).tolist()
    qx, qy, qz, qw = pycolmap.Rotation3d(map_from_cam).quat.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def covariance_of(cam_from_world, covariance):
    """36 values: of x, y, z, and of the rotations about the axes of the map.

    The tracker's has the rotation first, of the world about the axes of the camera: the camera turns the other way.
    """
    ours_to_ros = np.zeros((6, 6))
    ours_to_ros[:3, 3:] = MAP_FROM_WORLD
    ours_to_ros[3:, :3] = -MAP_FROM_WORLD @ cam_from_world[:, :3].T
    return (ours_to_ros @ covariance @ ours_to_ros.T).ravel().tolist()


class TrackNode(Node):
    """Tracks the camera of the first `camera_info`."""

    def __init__(self):
        super().__init__("lightmatch_track")
        self.tracker = None
        self.poses = self.create_publisher(PoseWithCovarianceStamped, "pose", 10)
        self.paths = self.create_publisher(Path, "path", 1)
        self.create_subscription(CameraInfo, "camera_info", self.on_camera, qos_profile_sensor_data)
        self.create_subscription(Image, "image", self.on_image, qos_profile_sensor_data)

    def on_camera(self, info):
        """Begin, once the camera is known; one that is not calibrated has zeros."""
        if self.tracker is None and info.k[0] > 0:
            self.tracker = lm.Tracker(camera_of(info), lm.TrackerConfig(background=True))

    def on_image(self, message):
        """Track a frame, and publish its pose where it was measured: a guess would have no covariance."""
        if self.tracker is None or message.encoding not in CHANNELS:
            wanted = f"expected a calibrated camera_info and one of {', '.join(CHANNELS)}, got {message.encoding}"
            self.get_logger().warning(wanted, throttle_duration_sec=5.0)
            return
        stamp = message.header.stamp
        frame = self.tracker.step(pixels_of(message), stamp.sec + 1e-9 * stamp.nanosec)
        if frame.status != "tracking":
            self.get_logger().info(f"{frame.status}: {frame.reason}", throttle_duration_sec=1.0)
            return
        header = Header(stamp=stamp, frame_id="map")
        answer = PoseWithCovarianceStamped(header=header)
        answer.pose.pose = pose_of(frame.cam_from_world)
        answer.pose.covariance = covariance_of(frame.cam_from_world, frame.covariance)
        self.poses.publish(answer)
        if frame.is_keyframe and self.paths.get_subscription_count():
            self.paths.publish(Path(header=header, poses=[stamped(*each) for each in self.tracker.trajectory()]))


def stamped(time_s, cam_from_world):
    """A pose of the path."""
    header = Header(stamp=Time(nanoseconds=round(1e9 * time_s)).to_msg(), frame_id="map")
    return PoseStamped(header=header, pose=pose_of(cam_from_world))


def main():
    """Track until the node is stopped."""
    rclpy.init()
    node = TrackNode()
    try:
        rclpy.spin(node)
    finally:
        if node.tracker is not None:
            node.tracker.close()


if __name__ == "__main__":
    main()
