"""Pair selection by name: `--pairs`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.pairing.loops import loop_candidates
from lightmatch.pairing.order import OVERLAP, exhaustive, sequential
from lightmatch.pairing.retrieval import nearest_pairs
from lightmatch.pairing.spatial import Position, spatial

Pairing = Literal["auto", "exhaustive", "sequential", "retrieval", "spatial"]

EXHAUSTIVE_LIMIT = 60  # photos, 1770 pairs: "auto" takes all pairs up to it
NUM_NEIGHBORS = 20


def needs_descriptors(pairing: Pairing, num_images: int) -> bool:
    """Whether `choose_pairs` needs descriptors; "sequential" and "spatial" are better with them."""
    return pairing == "retrieval" or (pairing == "auto" and num_images > EXHAUSTIVE_LIMIT)


def choose_pairs(
    pairing: Pairing,
    num_images: int,
    *,
    descriptors: np.ndarray | None = None,
    positions: Sequence[Position | None] | None = None,
    sequences: Sequence[Sequence[int]] = (),
    num_neighbors: int = NUM_NEIGHBORS,
) -> list[tuple[int, int]]:
    """The pairs to match: sorted, each (i, j) with i < j once.

    descriptors: (n, d) of `describe`. positions: by photo, None where unknown. sequences: the photos of each video, in
    the order of its frames; photos in none of them are a set without an order. What a pairing gives, and how much
    (`sequential` is about 10 + log₂ n pairs per photo of a sequence, and none for a set):

    exhaustive: all, n (n − 1) / 2.
    sequential: `sequential` within each sequence; the set counts as one in the order of the list. With descriptors
        also 3 loop candidates per photo, in its own sequence and in the others; without, sequences stay unconnected.
    retrieval: num_neighbors that look most alike, about ½ to 1 times num_neighbors pairs per photo; and `sequential`.
    spatial: num_neighbors that were taken nearest, as many; and `sequential`.
    auto: exhaustive up to 60 photos, beyond that retrieval.

    Raises InvalidValueError for another name, for what a pairing needs and is not given, and for values that do not
    fit the number of photos.
    """
    _check(pairing, num_images, descriptors, positions)
    runs = _check_sequences(sequences, num_images)
    if pairing == "exhaustive" or (pairing == "auto" and num_images <= EXHAUSTIVE_LIMIT):
        return exhaustive(num_images)
    if pairing == "sequential":
        alone = sorted(set(range(num_images)).difference(*runs))
        runs = [run for run in [*runs, alone] if run]
        loops = [] if descriptors is None else loop_candidates(descriptors, _places(runs, num_images), OVERLAP)
        return sorted({*_in_order(runs), *loops})
    if pairing == "spatial":
        assert positions is not None  # checked
        return sorted({*_in_order(runs), *spatial(positions, num_neighbors, descriptors=descriptors)})
    assert descriptors is not None  # checked
    return sorted({*_in_order(runs), *nearest_pairs(descriptors, num_neighbors)})


def _in_order(runs: Iterable[Sequence[int]]) -> set[tuple[int, int]]:
    steps = ((run[i], run[j]) for run in runs for i, j in sequential(len(run), OVERLAP))
    return {(min(pair), max(pair)) for pair in steps}


def _places(runs: Sequence[Sequence[int]], num_images: int) -> list[int]:
    """Of each photo its place in its run, the runs so far apart that none is within reach of another."""
    places, start = [0] * num_images, 0
    for run in runs:
        for step, photo in enumerate(run):
            places[photo] = start + step
        start += len(run) + OVERLAP
    return places


def _check(pairing: str, num_images: int, descriptors: np.ndarray | None, positions: Sequence | None) -> None:
    known = get_args(Pairing)
    if pairing not in known:
        raise InvalidValueError(f"pairs: expected one of {', '.join(known)}; got {pairing!r}")
    for name, given in (("descriptors", descriptors), ("positions", positions)):
        if given is not None and len(given) != num_images:
            raise InvalidValueError(
                f"choose_pairs.{name}: expected one for each of {num_images} photos, got {len(given)}"
            )
    if descriptors is None and needs_descriptors(pairing, num_images):  # type: ignore[arg-type]
        raise InvalidValueError(
            f"pairs {pairing!r}: expected descriptors of the {num_images} photos, got none; give those of `describe`"
        )
    if pairing == "spatial" and (positions is None or all(position is None for position in positions)) and num_images:
        raise InvalidValueError(
            "pairs 'spatial': expected photos with a GPS position, found none; use 'retrieval' or 'sequential'"
        )


def _check_sequences(sequences: Sequence[Sequence[int]], num_images: int) -> list[list[int]]:
    members = [photo for run in sequences for photo in run]
    if len(set(members)) < len(members) or not all(0 <= photo < num_images for photo in members):
        raise InvalidValueError(
            f"choose_pairs.sequences: expected each photo, 0…{num_images - 1}, in at most one place, got {sequences}"
        )
    return [list(run) for run in sequences]
