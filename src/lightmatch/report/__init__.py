"""Pictures of results."""

from lightmatch.report.matches import draw_matches, write_picture
from lightmatch.report.overview import draw_overview

__all__ = ["draw_matches", "draw_overview", "write_picture"]
