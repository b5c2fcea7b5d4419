"""Which of ten pictures of a desk show one place: the loop of slambook's chapter 11, as the tracker's parts find it.

The pictures (Gao & Zhang, Introduction to Visual SLAM) are too far apart to be tracked, and have no poses. The first
and the last show the desk from one side, and this pair is the truth: it must look most alike, and be found by matching;
no pair that shows other things may be.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

from lightmatch.extractors import create_extractor
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.images import load_image
from lightmatch.matchers import create_matcher
from lightmatch.tracking import TrackerConfig
from lightmatch.tracking.loops import INLIERS, SHARE
from lightmatch.tracking.map import alikeness, signature

SET = "slambook_loop_ch11"
LOOP = (1, 10)
ALSO = ((2, 10), (5, 7))  # show the same things from elsewhere, by eye

_APART = 2  # pictures: neighbours show the same without a loop
_ERROR_PX = 2.0


def measure_places(data: Path) -> dict[str, Any]:
    """Each pair that is not of neighbours: how much alike, how many matches, and how many one geometry explains."""
    config = TrackerConfig()
    extractor = create_extractor(config.features, max_keypoints=config.max_keypoints)
    matcher = create_matcher(config.matcher, extractor.kind)
    features = {n: extractor(load_image(data / SET / f"{n}.png")) for n in range(1, 11)}
    signatures = {n: signature(f) for n, f in features.items()}
    pairs: list[dict[str, Any]] = []
    for first, second in combinations(features, 2):
        if second - first < _APART:
            continue
        indices = matcher(features[first], features[second]).indices
        inliers = 0
        if len(indices) >= INLIERS:
            places = (features[n].keypoints[indices[:, side]] for side, n in enumerate((first, second)))
            inliers = estimate_fundamental(*places, options=SearchOptions(_ERROR_PX, seed=0)).num_inliers
        alike = alikeness(signatures[second], signatures[first])
        pairs.append({"pair": [first, second], "alike": alike, "matches": len(indices), "inliers": inliers})
    pairs.sort(key=lambda pair: -pair["alike"])
    found = [one["pair"] for one in pairs if one["inliers"] >= max(INLIERS, SHARE * one["matches"])]
    false = [pair for pair in found if tuple(pair) not in (LOOP, *ALSO)]
    return {"found": found, "false": false, "pairs": pairs}
