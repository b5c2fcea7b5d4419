"""Features and matches on disk, so that no finished work is done twice.

A record is one immutable file of tensors, named by a digest of everything it was made from (a photo's bytes, an
extractor and its settings): whoever asks for the same thing again finds it, and changed settings make new records
beside the old ones.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from lightmatch.runtime.records import Records
from lightmatch.types import FeatureKind, Features, Matches

P = TypeVar("P")
T = TypeVar("T")

_FORMAT = 3  # of the records: part of every key, so that older files are not found
_PAIRS_IN_RECORD = 256


def digest(*parts: str | bytes | int | float | Sequence[Any] | Mapping[str, Any] | None) -> str:
    """SHA-256 of values that JSON can hold, or bytes: equal for equal values only. 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, ensure_ascii=False).encode()
        sha.update(f"{type(part).__name__ if isinstance(part, bytes) else 'json'} {len(content)} ".encode())
        sha.update(content)
    return sha.hexdigest()


@dataclass(frozen=True)
class StoredFeatures(Generic[T]):
    """Features of one photo, and what else was found out when it was read."""

    features: Features
    facts: T


@dataclass(frozen=True)
class _FeatureFacts(Generic[T]):
    kind: FeatureKind
    image_size: tuple[int, int]
    facts: T


class FeatureStore:
    """Features by key, in a folder or under an address of object storage."""

    def __init__(self, where: Path | str) -> None:
        self._records = Records(where)

    def key(self, photo: str, extractor: str, mask: str | None = None) -> str:
        """The key of a photo's features. photo, mask: digests of the files. extractor: everything it depends on."""
        return digest(_FORMAT, "features", photo, extractor, mask)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def write(self, key: str, features: Features, facts: object = None) -> None:
        """Keep the features of a photo, and facts about it: a value that the codec can write."""
        tensors = {
            name: getattr(features, name)
            for name in ("keypoints", "scores", "descriptors", "scales", "orientations")
            if getattr(features, name) is not None
        }
        self._records.write(key, tensors, _FeatureFacts(features.kind, features.image_size, facts))

    def remove(self, key: str) -> None:
        """Remove the features of a photo, where they are there."""
        self._records.remove(key)

    def read(self, key: str) -> Features | None:
        """The features; None where there are none, or they are damaged."""
        found = self.read_with(key, object)
        return None if found is None else found.features

    def read_with(self, key: str, kind: type[T]) -> StoredFeatures[T] | None:
        """The features and the facts, which are of type `kind`; None where there are none, or they are damaged."""
        found = self._records.read(key, _FeatureFacts[kind])
        if found is None:
            return None
        tensors, own = found
        return StoredFeatures(Features(image_size=own.image_size, kind=own.kind, **tensors), own.facts)


@dataclass(frozen=True)
class StoredMatches:
    """Matches of one pair, and what they say of it before any geometry."""

    matches: Matches
    probability: float | None  # that the photos overlap, 0…1; None for matchers of images, which do not tell
    worth_verifying: bool


@dataclass(frozen=True)
class _BlockFacts:
    """Of the pairs of one block, in their order."""

    pairs: tuple[str, ...]  # keys
    counts: tuple[int, ...]  # matches
    stop_layers: tuple[int | None, ...]
    probabilities: tuple[float | None, ...]
    worth_verifying: tuple[bool, ...]


class MatchStore:
    """Matches by key, on disk: the pairs of one block in one file, so that thousands of pairs are few files."""

    def __init__(self, where: Path | str) -> None:
        """Which pairs are there already is read when first asked for: the headers of the files alone."""
        self._records = Records(where)
        self._lock = threading.Lock()
        self._index: dict[str, tuple[str, int]] | None = None  # key of a pair → key of its record, row in it

    @property
    def _places(self) -> dict[str, tuple[str, int]]:
        with self._lock:
            if self._index is None:
                self._index = {}
                for key in self._records.keys():  # noqa: SIM118
                    facts = self._records.facts(key, _BlockFacts)
                    if facts is not None:
                        self._index.update({pair: (key, row) for row, pair in enumerate(facts.pairs)})
            return self._index

    def enter(self, keys: Sequence[str]) -> None:
        """Take note of pairs that one call of `write` has kept, perhaps in another process."""
        record = _block_key(keys)
        with self._lock:
            if self._index is not None:
                self._index.update({pair: (record, row) for row, pair in enumerate(keys)})

    def key(self, features0: str, features1: str, matcher: str) -> str:
        """The key of a pair. features0, features1: their keys, in this order. matcher: all it depends on."""
        return digest(_FORMAT, "matches", features0, features1, matcher)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def write(self, keys: Sequence[str], found: Sequence[StoredMatches]) -> None:
        """Keep the matches of several pairs in one file."""
        tensors = {
            "indices": torch.cat(
                [torch.empty(0, 2, dtype=torch.int32)] + [v.matches.indices.cpu().int() for v in found]
            ),
            "scores": torch.cat([torch.empty(0)] + [value.matches.scores.cpu() for value in found]),
        }
        facts = _BlockFacts(
            tuple(keys),
            tuple(len(value.matches) for value in found),
            tuple(value.matches.stop_layer for value in found),
            tuple(value.probability for value in found),
            tuple(value.worth_verifying for value in found),
        )
        self._records.write(_block_key(keys), tensors, facts)
        self.enter(keys)

    def write_missing(self, keys: Mapping[P, str], make: Callable[[P], StoredMatches]) -> None:
        """Keep the matches of pairs by their keys, in blocks; a block that is there as a whole is not made again."""
        pairs = list(keys)
        for start in range(0, len(pairs), _PAIRS_IN_RECORD):
            block = pairs[start : start + _PAIRS_IN_RECORD]
            if any(keys[pair] not in self for pair in block):
                self.write([keys[pair] for pair in block], [make(pair) for pair in block])

    def read(self, keys: Sequence[str]) -> dict[str, StoredMatches]:
        """The matches of these pairs, each file read once; pairs that are absent or in a damaged file are left out.

        After a damaged file its pairs are no longer `in` the store.
        """
        rows: dict[str, list[tuple[str, int]]] = {}
        places = self._places
        for key in keys:
            if key in places:
                record, row = places[key]
                rows.setdefault(record, []).append((key, row))
        found: dict[str, StoredMatches] = {}
        for record, wanted in rows.items():
            content = self._records.read(record, _BlockFacts)
            if content is None:
                with self._lock:
                    self._index = {key: place for key, place in places.items() if place[0] != record}
                places = self._places
                continue
            tensors, facts = content
            starts = torch.tensor([0, *facts.counts]).cumsum(0).tolist()
            for key, row in wanted:
                part = slice(starts[row], starts[row + 1])
                matches = Matches(
                    tensors["indices"][part].long(), tensors["scores"][part].clone(), facts.stop_layers[row]
                )
                found[key] = StoredMatches(matches, facts.probabilities[row], facts.worth_verifying[row])
        return found


def _block_key(keys: Sequence[str]) -> str:
    return digest(_FORMAT, "block", list(keys))
