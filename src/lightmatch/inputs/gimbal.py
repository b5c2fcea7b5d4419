"""Attitude of a drone's camera from the XMP of DJI's photos."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from PIL import ImageFile

from lightmatch.inputs.xmp import xmp_packet

_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_ANGLES = ("Pitch", "Roll", "Yaw")


@dataclass(frozen=True)
class Gimbal:
    """The camera's attitude against the horizon and north."""

    pitch_deg: float  # up is positive: 0 looks at the horizon, −90 straight down
    roll_deg: float  # clockwise, seen from behind the camera
    yaw_deg: float  # where it looks, clockwise from north

    def down_in_camera(self) -> tuple[float, float, float]:
        """The unit vector of gravity in the camera's frame: x right, y down in the photo, z the way it looks.

        Of the photo as stored, which is as shown only where its EXIF orientation is 1.
        """
        pitch, roll = math.radians(self.pitch_deg), math.radians(self.roll_deg)
        return math.cos(pitch) * math.sin(roll), math.cos(pitch) * math.cos(roll), -math.sin(pitch)


def gimbal_of(picture: ImageFile.ImageFile) -> Gimbal | None:
    """The angles in the opened photo's XMP packet; None where one is missing or out of range.

    The packet is searched, not parsed: the angles stand in it as attributes or as elements of one name.
    """
    text = xmp_packet(picture)
    found = [re.search(rf"drone-dji:Gimbal{angle}Degree\s*(?:=\s*[\"']|>)\s*({_NUMBER})", text) for angle in _ANGLES]
    angles = [float(match[1]) for match in found if match is not None]
    if len(angles) < len(_ANGLES) or any(abs(angle) > 360 for angle in angles):
        return None
    return Gimbal(*angles)
