"""The page of a run: one HTML file with cloud, cameras, photos, matches and numbers; of a tracked camera, with time."""

from lightmatch.report.page.data import (
    PageData,
    PageDoppelganger,
    PageFigure,
    PageLens,
    PageModel,
    PagePairs,
    PagePhoto,
    PageStep,
)
from lightmatch.report.page.pictures import encode_pictures, encode_thumbnail
from lightmatch.report.page.track_data import FrameStatus, PageFrame, TrackPageData
from lightmatch.report.page.writer import write_page, write_track_page

__all__ = [
    "FrameStatus",
    "PageData",
    "PageDoppelganger",
    "PageFigure",
    "PageFrame",
    "PageLens",
    "PageModel",
    "PagePairs",
    "PagePhoto",
    "PageStep",
    "TrackPageData",
    "encode_pictures",
    "encode_thumbnail",
    "write_page",
    "write_track_page",
]
