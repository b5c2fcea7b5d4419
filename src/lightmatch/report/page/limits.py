"""Limits on the content of the page, so that the file of a large run opens quickly.

With these bounds a page stays under 25 MB up to 100 photos, and under 64 MB whatever their number:
base64 makes 4 characters of 3 bytes.
"""

from __future__ import annotations

import numpy as np

MAX_POINTS = 200_000  # 19 bytes each
MAX_OBSERVATIONS = 600_000  # 12 bytes each
MAX_IDLE_KEYPOINTS = 300_000  # 4 bytes each
MAX_IDLE_OF_PHOTO = 400
MAX_PAIRS = 60_000  # 24 bytes each
MAX_LINES = 300_000  # 8 bytes each
MAX_LINES_OF_PAIR = 200
MAX_MODELS = 6  # shown in full; of others only the name
MAX_FRAMES = 100_000  # of a tracked camera: 67 bytes and a name each

_FEW_PHOTOS = 100
_BYTES_OF_FEW = 12_000_000  # of images, as JPEG
_BYTES_OF_ONE_MORE = 40_000
_BYTES_OF_MANY = 26_000_000

_MAX_BYTES_OF_PHOTO = 400_000  # thumbnail and preview of a photo, where there are few photos


def picture_bytes(num_photos: int) -> int:
    """Limit in bytes on thumbnail and preview of one photo together, for `num_photos` photos."""
    total = min(_BYTES_OF_FEW + _BYTES_OF_ONE_MORE * max(0, num_photos - _FEW_PHOTOS), _BYTES_OF_MANY)
    return min(_MAX_BYTES_OF_PHOTO, total // max(1, num_photos))


def evenly(count: int, limit: int) -> np.ndarray:
    """At most `limit` of the numbers 0…count − 1, evenly spread, ascending, first and last included."""
    if count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)


def points_within_limits(track_lengths: np.ndarray, max_points: int, max_observations: int) -> np.ndarray:
    """Rows of points to show: an even sample whose tracks hold at most `max_observations` observations.

    track_lengths: (p,). Returns ascending rows; the same for the same tracks.
    """
    rows = evenly(len(track_lengths), max_points)
    while track_lengths[rows].sum() > max_observations:
        share = max_observations / track_lengths[rows].sum()
        # Slightly below the share: the loop ends after one or two rounds.
        rows = evenly(len(track_lengths), int(len(rows) * share * 0.98))
    return rows
