"""Points carried from one image to another by optical flow: what most frames between keyframes are placed by."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_WINDOW = (21, 21)  # px
_LEVELS = 3  # of the pyramid, each of half the size
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.02)
_BACK_PX = 1.0  # there and back again: as far off at most
_TEXTURE = 1e-3  # least eigenvalue of a window
_CONTRAST, _TILES = 2.0, (8, 8)  # of the equalised image: exposure may jump


@dataclass(frozen=True, eq=False)
class FlowImage:
    """An image ready for optical flow."""

    grey: np.ndarray  # (h, w) uint8, contrast equalised

    @classmethod
    def of(cls, grey: np.ndarray) -> FlowImage:
        """grey: (h, w) uint8."""
        return cls(cv2.createCLAHE(_CONTRAST, _TILES).apply(grey))


def follow(
    source: FlowImage, target: FlowImage, points: np.ndarray, expected: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where points (n, 2) px of one image are in another, and which of them were found: (n, 2), (n,) bool.

    expected: (n, 2) where they may be, to start from; not finite where that is not known.
    Pyramidal Lucas–Kanade (Bouguet 2000), there and back again.
    """
    if not len(points):
        return np.zeros((0, 2)), np.zeros(0, bool)
    start = points.astype(np.float32)
    guess = start.copy()
    if expected is not None:
        known = np.isfinite(expected).all(1)
        guess[known] = expected[known]
    found, ahead = _lucas_kanade(source.grey, target.grey, start, guess)
    back, behind = _lucas_kanade(target.grey, source.grey, found, start.copy())
    height, width = target.grey.shape
    inside = (found >= 0).all(1) & (found[:, 0] <= width - 1) & (found[:, 1] <= height - 1)
    good = ahead & behind & inside & (np.linalg.norm(back - start, axis=1) < _BACK_PX)
    return found.astype(np.float64), good


def _lucas_kanade(
    source: np.ndarray, target: np.ndarray, points: np.ndarray, guess: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where points are found, searching from the guess, which is overwritten; and which were, (n,) bool."""
    flag = cv2.OPTFLOW_USE_INITIAL_FLOW
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        source, target, points, guess, None, None, _WINDOW, _LEVELS, _STOP, flag, _TEXTURE
    )
    return found, status[:, 0] == 1
