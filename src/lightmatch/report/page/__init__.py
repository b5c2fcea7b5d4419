"""The page of a run: one HTML file with cloud, cameras, photos, matches and numbers."""

from lightmatch.report.page.data import (
    PageData,
    PageFigure,
    PageLens,
    PageModel,
    PagePairs,
    PagePhoto,
    PageStep,
    PageTwin,
)
from lightmatch.report.page.pictures import encode_pictures
from lightmatch.report.page.writer import write_page

__all__ = [
    "PageData",
    "PageFigure",
    "PageLens",
    "PageModel",
    "PagePairs",
    "PagePhoto",
    "PageStep",
    "PageTwin",
    "encode_pictures",
    "write_page",
]
