"""`track`: camera (given, of the map, or estimated) and earlier map → tracker → keyframes, trajectory,
statuses, page.
"""

from lightmatch.pipelines.track.keyframes import MODEL
from lightmatch.pipelines.track.run import FRAMES, REPORT, TRAJECTORY, TrackConfig, TrackSummary, track

__all__ = ["FRAMES", "MODEL", "REPORT", "TRAJECTORY", "TrackConfig", "TrackSummary", "track"]
