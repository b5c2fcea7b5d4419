"""Whether two views may share a geometry at all: a quick search, before a thorough one is worth its time.

Among matches that have none, a thorough search makes all its trials: ten times the time of a pair that has one.
"""

from __future__ import annotations

import cv2
import numpy as np

from lightmatch.geometry.chance import log10_false_alarms_of_matches
from lightmatch.geometry.ransac import SearchOptions

_TRIALS = 2000  # for a fundamental matrix, and half as many for a homography
_LEAST_DOUBT = 2.0  # log10 of false alarms beyond which nothing is expected of a thorough search


def may_share_geometry(points0: np.ndarray, points1: np.ndarray, max_error_px: float, seed: int, least: int) -> bool:
    """Whether a quick search finds about as many matches that agree with one geometry as chance allows, or more.

    points0, points1: (k, 2) px of the matches. least: matches that a geometry needs. A fundamental matrix or a
    homography will do, so pictures must not be distorted by much. Of 1692 verified pairs (14 runs on eight sets of
    photos) it lost 17, of 30 matches at most; verification took 56 instead of 132 core seconds.
    """
    if len(points0) < max(least, 8):
        return len(points0) >= least
    for plane in (False, True):
        options = SearchOptions(max_error_px, seed, max_iterations=_TRIALS // 2 if plane else _TRIALS).opencv()
        options.score, options.final_polisher = cv2.SCORE_METHOD_MSAC, cv2.NONE_POLISHER
        options.loMethod, options.loIterations, options.loSampleSize = cv2.LOCAL_OPTIM_INNER_LO, 5, 14
        search = cv2.findHomography if plane else cv2.findFundamentalMat
        try:
            agrees = search(points0, points1, options)[1]
        except cv2.error:  # USAC asserts on some inputs instead of giving an answer: the thorough search decides
            return True
        count = 0 if agrees is None else int(np.count_nonzero(agrees))
        if count >= least:
            doubt = log10_false_alarms_of_matches(points0, points1, count, max_error_px, plane=plane)
            if doubt <= _LEAST_DOUBT:
                return True
    return False
