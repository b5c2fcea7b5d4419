"""How long the stages of a run take on the machine of docs/scale.md."""

from __future__ import annotations

from collections.abc import Sequence

from lightmatch.runtime.threads import num_threads

_USUAL_KEYPOINTS = 1300  # of a picture there


def expected_seconds(
    sizes: Sequence[tuple[int, int]], num_pairs: int, num_keypoints: float, match_share: float = 1.0
) -> dict[str, float]:
    """Seconds of the stages of `reconstruct`, by name.

    sizes: (width, height) px of each picture. num_pairs: that are matched. num_keypoints: of a picture, on average.
    match_share: of the time to match all pairs by all keypoints, what is expected.
    `Forecast` corrects what is different here: the machine, features, matcher.
    """
    count, threads = len(sizes), num_threads()
    megapixels = sum(width * height for width, height in sizes) / 1e6
    crowded = num_keypoints / _USUAL_KEYPOINTS
    shared = {  # by all threads
        "extract": 0.05 * count + 0.09 * megapixels,
        "match": 0.1 * num_pairs * crowded**1.5 * match_share,
        "verify": 0.02 * num_pairs * crowded,
    }
    return {
        **{stage: seconds / threads for stage, seconds in shared.items()},
        "describe": 0.035 * count * crowded,
        "mirrored": 0.02 * count,
        "map": 0.3 * count**1.15 * crowded,
        "refine": 0.4 * count**1.1 * crowded,
        "write": 0.01 * count,
        "report": 0.02 * count,
    }
