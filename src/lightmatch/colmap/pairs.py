"""Matches of pairs of images, as other tools have them: made ours, swapped, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.types import Matches


def matches_from(indices: Tensor, scores: Tensor) -> Matches:
    """`Matches` of rows in any order; of several at one keypoint of image 0 the best stays, of equals the first.

    indices: (k, 2) int64. scores: (k,) float32.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[indices[order, 0].argsort(stable=True)]
    indices, scores = indices[order], scores[order]
    first = torch.ones(len(indices), dtype=torch.bool)
    first[1:] = indices[1:, 0] != indices[:-1, 0]
    return Matches(indices[first], scores[first])


def swap_matches(matches: Matches) -> Matches:
    """The matches of the same pair with its images exchanged; see `matches_from` for points that match several."""
    return matches_from(matches.indices.flip(1), matches.scores)


def check_range(matches: Matches, pair: tuple[str, str], counts: tuple[int, int]) -> None:
    """Raise InvalidValueError where matches of `pair` point outside its images' `counts` of keypoints."""
    if len(matches) and any(int(matches.indices[:, side].max()) >= counts[side] for side in (0, 1)):
        raise InvalidValueError(
            f"matches of {pair[0]} – {pair[1]}: expected indices below {counts[0]} and {counts[1]},"
            f" got up to {matches.indices.amax(0).tolist()}; these matches belong to other features"
        )


def checked_pairs(
    matches: Iterable[tuple[tuple[str, str], Matches]], counts: Mapping[str, int]
) -> Iterator[tuple[str, str, Matches]]:
    """Pairs to write, on the CPU: two known images each, no pair twice, matches in range.

    matches: pairs of names and their matches. counts: number of keypoints by image.
    Raises InvalidValueError on others.
    """
    seen: set[frozenset[str]] = set()
    for (name0, name1), found in matches:
        pair = frozenset((name0, name1))
        if len(pair) < 2 or pair in seen:
            raise InvalidValueError(
                f"matches of {name0} – {name1}: expected two images, and every pair once in either order,"
                " got others; leave them out"
            )
        unknown = sorted(pair - counts.keys())
        if unknown:
            raise InvalidValueError(
                f"matches of {name0} – {name1}: expected images whose keypoints are known, got {unknown[0]}; add it"
            )
        seen.add(pair)
        check_range(found, (name0, name1), (counts[name0], counts[name1]))
        yield name0, name1, found.to("cpu")
