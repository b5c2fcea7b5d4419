"""The page of a run: one HTML file with cloud, cameras, photos, matches and numbers."""

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
from lightmatch.report.page.pictures import encode_pictures
from lightmatch.report.page.writer import write_page

__all__ = [
    "PageData",
    "PageDoppelganger",
    "PageFigure",
    "PageLens",
    "PageModel",
    "PagePairs",
    "PagePhoto",
    "PageStep",
    "encode_pictures",
    "write_page",
]
