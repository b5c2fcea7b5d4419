"""A fast pass over all frames: sharpness, and corners tracked from frame to frame.

What is kept of a frame is about two kilobytes: enough to compute later how much the view has changed between any two,
whichever of them get chosen, without a second look at the pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from lightmatch.video.reading import reduce_to

TRACKING_SIDE_PX = 320  # the long side that corners are followed at
SHARPNESS_SIDE_PX = 960  # and sharpness is taken at: a blur of 4 px in full HD is gone at 320 px, and plain here

_SMOOTHING_PX = 1.0

MAX_TRACKS = 128
MIN_TRACKS = 12  # with fewer, a frame is blank: its corners do not describe the view
_REFILL_TRACKS = 96
_CORNER_QUALITY = 0.01  # of the strongest corner's measure
_CORNER_CONTRAST = 1e-4  # the least smallest eigenvalue of a corner, of an image in 0…1: no corners in a lens cap
_CORNER_GAP_PX = 8
_WINDOW_PX = (15, 15)
_PYRAMID_LEVELS = 4  # on top of the first: steps of up to about 100 px
_ROUND_TRIP_PX = 0.7  # how near a corner must come back to where it was, followed forth and back


@dataclass(frozen=True, eq=False)
class FrameMeasure:
    """One frame, measured."""

    index: int
    time_s: float
    sharpness: float  # variance of the Laplacian by mean brightness squared; compare only frames that see much the same
    tracks: np.ndarray  # (n,) int32, rising: the numbers of the corners that are seen here
    places: np.ndarray  # (n, 2) float32: where, in parts of the image's diagonal


def measure_frames(frames: Iterable[tuple[int, float, np.ndarray]]) -> Iterator[FrameMeasure]:
    """Measure frames in their order.

    frames: (index, time_s, grey), grey (h, w) uint8 with its long side at SHARPNESS_SIDE_PX or less, all of one size.
    Corners are found by Shi and Tomasi (1994) and followed by the pyramidal method of Lucas and Kanade (Bouguet 2001)
    from each frame to the next and back; those that do not come back to where they were are given up
    (Kalal et al. 2010). New ones replace them.
    """
    follower = _Follower()
    for index, time_s, grey in frames:
        deviation = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0])
        brightness = max(float(grey.mean()), 1.0)  # a frame is not sharper for a longer exposure
        # Smoothed a little, as the noise of a blank wall has corners of its own.
        tracks, places = follower.follow(cv2.GaussianBlur(reduce_to(grey, TRACKING_SIDE_PX), (0, 0), _SMOOTHING_PX))
        yield FrameMeasure(index, time_s, (deviation / brightness) ** 2, tracks, places)


@dataclass(frozen=True, eq=False)
class SharedCorners:
    """The corners that are seen in two frames."""

    share: float  # part of the earlier frame's corners, 0…1
    places0: np.ndarray  # (n, 2) float32, parts of the diagonal
    places1: np.ndarray  # (n, 2) float32

    def __len__(self) -> int:
        return len(self.places0)

    @property
    def displacement(self) -> float:
        """Median displacement of the corners, as a share of the diagonal; of at least one."""
        return float(np.median(np.linalg.norm(self.places1 - self.places0, axis=1)))

    @property
    def parallax(self) -> float:
        """Upper quartile of the residuals of a homography, as a share of the diagonal.

        0 for a camera that turns on the spot, and before a plane. OpenCV's RANSAC starts from the same seed each time.
        """
        # In thousandths of the diagonal, as OpenCV's refinement stops at an absolute size of step.
        places0, places1 = 1000 * self.places0, 1000 * self.places1
        H, _ = cv2.findHomography(places0, places1, cv2.RANSAC, 5.0)
        if H is None:
            return 0.0
        residuals = np.linalg.norm(cv2.perspectiveTransform(places0[None], H)[0] - places1, axis=1)
        return float(np.quantile(residuals, 0.75)) / 1000


def shared_corners(earlier: FrameMeasure, later: FrameMeasure) -> SharedCorners:
    """The corners that were followed all the way from one frame to another."""
    _, rows0, rows1 = np.intersect1d(earlier.tracks, later.tracks, assume_unique=True, return_indices=True)
    return SharedCorners(len(rows0) / max(len(earlier.tracks), 1), earlier.places[rows0], later.places[rows1])


class _Follower:
    """Follows corners from frame to frame."""

    def __init__(self) -> None:
        self._grey: np.ndarray | None = None
        self._tracks = np.zeros(0, np.int32)
        self._points = np.zeros((0, 2), np.float32)  # px
        self._next_track = 0

    def follow(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The corners seen in `grey`, those of the frame before first: numbers (n,), places (n, 2)."""
        if self._grey is not None and len(self._points):
            kept, points = _followed(self._grey, grey, self._points)
            self._tracks, self._points = self._tracks[kept], points[kept]
        if len(self._points) < _REFILL_TRACKS:
            self._refill(grey)
        self._grey = grey
        diagonal = np.float32(np.hypot(*grey.shape))
        return self._tracks, self._points / diagonal

    def _refill(self, grey: np.ndarray) -> None:
        free = np.full(grey.shape, 255, np.uint8)
        for x, y in np.rint(self._points).astype(int).tolist():
            cv2.circle(free, (x, y), _CORNER_GAP_PX, 0, -1)
        wanted = MAX_TRACKS - len(self._points)
        found = cv2.goodFeaturesToTrack(grey, wanted, _CORNER_QUALITY, _CORNER_GAP_PX, mask=free)
        if found is None:
            return
        new = found.reshape(-1, 2)
        strength = cv2.cornerMinEigenVal(grey, 3)
        columns, rows = np.rint(new).astype(int).T
        new = new[strength[rows, columns] > _CORNER_CONTRAST]
        numbers = np.arange(self._next_track, self._next_track + len(new), dtype=np.int32)
        self._next_track += len(new)
        self._tracks = np.concatenate([self._tracks, numbers])
        self._points = np.concatenate([self._points, new])


def _followed(grey0: np.ndarray, grey1: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the points (n, 2) are found again, (n,) bool, and where, (n, 2)."""
    forth, good_forth = _flow(grey0, grey1, points)
    back, good_back = _flow(grey1, grey0, forth)
    height, width = grey1.shape
    inside = ((forth >= 0) & (forth <= (width - 1, height - 1))).all(1)
    returned = np.linalg.norm(back - points, axis=1) < _ROUND_TRIP_PX
    return good_forth & good_back & inside & returned, forth


def _flow(grey0: np.ndarray, grey1: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        grey0, grey1, points, points.copy(), winSize=_WINDOW_PX, maxLevel=_PYRAMID_LEVELS
    )
    return moved, status.ravel() == 1
