"""A tracked camera of exact values: forty frames on a circle, some of them blank, and six keyframes."""

import numpy as np
from page_example import NAMES, NUM_CAMERAS, SIZE, example_model, jpeg

from lightmatch.report.page import FrameStatus, PageData, PageFigure, PageFrame, PagePhoto, TrackPageData

NUM_FRAMES = 40
STEP_S = 0.1
KEYFRAMES = (4, 8, 12, 22, 30, 39)
BLANK = range(14, 22)  # the last three of them lost
LOOP = (0, 5)


def status_and_reason(row: int) -> tuple[FrameStatus, str]:
    if row < 4:
        return (
            "starting",
            "the first frame" if not row else f"parallax of 0.{row}°: the camera turned more than it moved",
        )
    if row in BLANK:
        return "coasting" if row < BLANK[5] else "lost", "the frame is blank"
    return "tracking", ""


def pose_on_circle(angle: float) -> np.ndarray:
    """(3, 4) of a camera as `example_model` has them, that looks at the middle."""
    center = 4 * np.array([np.sin(angle), 0, -np.cos(angle)])
    forward, down = -center / 4, np.array([0.0, 1.0, 0.0])
    rotation = np.stack((np.cross(down, forward), down, forward))
    return np.column_stack((rotation, -rotation @ center))


def example_track() -> TrackPageData:
    frames = []
    for row in range(NUM_FRAMES):
        status, reason = status_and_reason(row)
        name = NAMES[0] if row == 10 else f"frame{row:04d}"
        milliseconds = 300.0 if row in KEYFRAMES else 12.0
        frames.append(PageFrame(name, STEP_S * row, status, 0 if reason else 100 + row, milliseconds, reason))
    measured = [row for row, frame in enumerate(frames) if frame.status == "tracking"]
    photos = tuple(PagePhoto(frames[row].name, SIZE, jpeg(96, 40 * i)) for i, row in enumerate(KEYFRAMES))
    return TrackPageData(
        page=PageData(
            "<Walk> & 'Co'",
            photos,
            (example_model(),),
            figures=(PageFigure("Frames", "40"), PageFigure("Path length", "12.3", "m")),
            unit="m",
        ),
        frames=tuple(frames),
        measured=np.array(measured),
        cam_from_world=np.stack([pose_on_circle(2 * np.pi * row / NUM_FRAMES) for row in measured]),
        keyframes=np.array(KEYFRAMES),
        loops=(LOOP,),
    )


assert len(KEYFRAMES) == NUM_CAMERAS
