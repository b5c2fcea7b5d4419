"""Loop candidates: pairs of photos far apart in a sequence that look alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.pairing.retrieval import most_alike

NUM_LOOPS = 3


def loop_candidates(
    descriptors: np.ndarray, places: Sequence[int], apart: int, num_loops: int = NUM_LOOPS, every: int = 1
) -> list[tuple[int, int]]:
    """For every `every`-th photo the `num_loops` farther ones that look most like it.

    descriptors: (n, d) of `describe`. places: of each photo, such as the number of its frame. Candidates of a photo
    are more than `apart` places away from it and from each other: a place that is passed again is one candidate, for
    its neighbours in the order are paired with each other anyway. Sorted pairs (i, j), i < j. Photos with nothing in
    common are no candidates; the matcher and the overlap classifier decide whether the others are loops.
    Raises InvalidValueError for apart < 0, num_loops < 0, every < 1, or places of another count.
    """
    if apart < 0 or num_loops < 0 or every < 1 or len(places) != len(descriptors):
        raise InvalidValueError(
            f"loops: expected apart ≥ 0, num_loops ≥ 0, every ≥ 1 and a place for each of {len(descriptors)} photos,"
            f" got {apart}, {num_loops}, {every} and {len(places)} places"
        )
    place = np.array(places, np.int64)
    pairs: set[tuple[int, int]] = set()
    for photo, others, _ in most_alike(descriptors, range(0, len(place), every) if num_loops else []):
        taken = [place[photo]]
        for other in others.tolist():
            if len(taken) > num_loops:
                break
            if np.abs(place[other] - taken).min() > apart:
                taken.append(place[other])
                pairs.add((min(photo, other), max(photo, other)))
    return sorted(pairs)
