"""`track`: camera (given, of the map, or estimated) and earlier map → tracker → keyframes, trajectory, statuses."""

from lightmatch.pipelines.track.keyframes import MODEL
from lightmatch.pipelines.track.run import FRAMES, TRAJECTORY, TrackConfig, TrackSummary, track

__all__ = ["FRAMES", "MODEL", "TRAJECTORY", "TrackConfig", "TrackSummary", "track"]
