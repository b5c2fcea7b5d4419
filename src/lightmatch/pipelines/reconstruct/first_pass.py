"""Which pairs need all their keypoints, once all pairs were matched by a few: those a model gains from, and no others.

A pair of a quarter of the keypoints takes a sixth of the time. A picture that matches several others well is placed
by these; what all keypoints add to its other pairs, guided matching finds later for a fraction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.runtime.store import StoredMatches

KEYPOINTS = 512  # of a picture in the first pass, the strongest
COST = 6  # of a pair by all keypoints, in pairs of the first pass
_MANY_PAIRS = 16  # of a picture; with fewer, nearly all would be matched again
_PARTNERS = 6  # good ones of a picture, matched by all keypoints
_FAR_PARTNERS = 1  # of a picture, that its good ones do not lead to: they close loops
_AGAIN = 5  # pairs for each picture, that are matched by all keypoints; for an estimate
_GOOD_MATCHES, _GOOD_PROBABILITY = 60, 0.9  # of a good pair in the first pass


def is_worthwhile(num_pictures: int, num_pairs: int, max_keypoints: int) -> bool:
    """Whether a first pass saves more than it takes. max_keypoints: of a picture, otherwise."""
    return max_keypoints > KEYPOINTS and 2 * num_pairs >= _MANY_PAIRS * num_pictures


def expected_share(num_pictures: int, num_pairs: int) -> float:
    """Of the time that all pairs take by all keypoints, what both passes take."""
    again = min(1.0, _AGAIN * num_pictures / num_pairs)
    return (1 + COST * again) / (1 + COST)


def pairs_to_match_again(
    found: Iterable[tuple[Pair, StoredMatches]], num_keypoints: Mapping[str, int]
) -> frozenset[Pair]:
    """Pairs of the first pass that are to be matched by all keypoints.

    Of each picture its best pairs, and the best with a picture that no good partner of a good partner is; where it has
    too few good pairs, all, those without a match too. found: of the first pass. num_keypoints: of each picture; pairs
    of no more than the first pass took are done.
    """
    counts: dict[Pair, int] = {}
    partners: dict[str, set[str]] = defaultdict(set)
    own: dict[str, list[Pair]] = defaultdict(list)
    for pair, stored in found:
        counts[pair] = len(stored.matches) if stored.worth_verifying else 0
        good = counts[pair] >= _GOOD_MATCHES and (stored.probability or 0.0) >= _GOOD_PROBABILITY
        for name, other in (pair, pair[::-1]):
            own[name].append(pair)
            if good:
                partners[name].add(other)
    again: set[Pair] = set()
    for name, pairs in own.items():
        if len(partners[name]) < _PARTNERS:
            again.update(pairs)
            continue
        best = sorted((pair for pair in pairs if counts[pair]), key=lambda pair: (-counts[pair], pair))
        near = {name}.union(partners[name], *(partners[other] for other in partners[name]))
        again.update([pair for pair in best if partners[name].intersection(pair)][:_PARTNERS])
        again.update([pair for pair in best if not near.issuperset(pair)][:_FAR_PARTNERS])
    return frozenset(pair for pair in again if max(num_keypoints[name] for name in pair) > KEYPOINTS)
