"""Loop candidates: pairs of photos far apart in a sequence that look alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.pairing.retrieval import similarities

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
    place = torch.tensor(places, dtype=torch.int64)
    pairs: set[tuple[int, int]] = set()
    for photos, alike in similarities(descriptors, range(0, len(place), every) if num_loops else []):
        for photo, likeness in zip(photos, alike, strict=True):
            likeness[(place - place[photo]).abs() <= apart] = 0
            for _ in range(num_loops):
                best = int(likeness.argmax())
                if likeness[best] <= 0:
                    break
                pairs.add((min(photo, best), max(photo, best)))
                likeness[(place - place[best]).abs() <= apart] = 0
    return sorted(pairs)
