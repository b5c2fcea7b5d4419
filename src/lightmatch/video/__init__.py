"""Any video → upright frames with their times, and keyframe selection for matching."""

from lightmatch.video.choosing import ChosenFrame, FrameChoice, FrameChoiceConfig, choose_frames
from lightmatch.video.reading import (
    VIDEO_SUFFIXES,
    Frame,
    Video,
    VideoFacts,
    is_video_file,
    open_video,
    read_facts,
    read_frames,
)
from lightmatch.video.writing import frame_name, write_frames

__all__ = [
    "VIDEO_SUFFIXES",
    "ChosenFrame",
    "Frame",
    "FrameChoice",
    "FrameChoiceConfig",
    "Video",
    "VideoFacts",
    "choose_frames",
    "frame_name",
    "is_video_file",
    "open_video",
    "read_facts",
    "read_frames",
    "write_frames",
]
