"""Pictures and pages of results."""

from lightmatch.report.matches import check_picture_name, draw_matches, write_picture
from lightmatch.report.overview import draw_overview
from lightmatch.report.speed import draw_speed

__all__ = ["check_picture_name", "draw_matches", "draw_overview", "draw_speed", "write_picture"]
