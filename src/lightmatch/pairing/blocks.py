"""Blocks of pairs that share photos, so that work for one photo is done few times."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def share_images(pairs: Sequence[tuple[Name, Name]], most: int) -> list[list[tuple[Name, Name]]]:
    """The pairs in blocks, each of pairs between at most `most` photos and at most `most` others.

    A block of all pairs between two times k photos holds k² pairs, but each photo once.
    """
    place: dict[Name, int] = {}
    for pair in pairs:
        for name in pair:
            place.setdefault(name, len(place))
    blocks: dict[tuple[int, int], list[tuple[Name, Name]]] = {}
    for first, second in pairs:
        blocks.setdefault((place[first] // most, place[second] // most), []).append((first, second))
    return list(blocks.values())
