"""Live poses of a moving camera: where it is now, and a map of what it saw.

sequences → values · camera · frames → flow, pose, depths, triangulation → map → start, keyframes, adjustment,
relocalization, loops → mapping → tracker → export, view.
"""

from lightmatch.tracking.camera import VIRTUAL_BASELINE, TrackedCamera
from lightmatch.tracking.tracker import Tracker
from lightmatch.tracking.values import Status, TrackedFrame, TrackerConfig

__all__ = ["VIRTUAL_BASELINE", "Status", "TrackedCamera", "TrackedFrame", "Tracker", "TrackerConfig"]
