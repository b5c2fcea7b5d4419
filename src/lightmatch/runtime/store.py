"""Features and matches on disk, so that no finished work is done twice.

A record is one immutable file of tensors, named by a digest of everything it was made from (a photo's bytes, an
extractor and its settings): whoever asks for the same thing again finds it, and changed settings make new records
beside the old ones. Records are written under another name and renamed when they are whole. Each carries a digest of
its content: one that is damaged is removed, told of, and counts as absent.

The files are safetensors with JSON in their metadata.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lightmatch.runtime.files import replacing
from lightmatch.types import FeatureKind, Features, Matches

logger = logging.getLogger(__name__)

_SUFFIX = ".safetensors"
_FORMAT = 2  # of the records: goes into every key, so that older files are simply not asked for


def digest(*parts: str | bytes | int | float | Sequence[Any] | Mapping[str, Any] | None) -> str:
    """SHA-256 of values that JSON can hold, or bytes: equal for equal values only. 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, ensure_ascii=False).encode()
        sha.update(f"{type(part).__name__ if isinstance(part, bytes) else 'json'} {len(content)} ".encode())
        sha.update(content)
    return sha.hexdigest()


class Records:
    """A folder of immutable records by key."""

    def __init__(self, folder: Path) -> None:
        """folder: made when the first record is written."""
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the record of `key` lies, or would lie."""
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def keys(self) -> Iterator[str]:
        """The keys of all records, sorted."""
        yield from (path.name.removesuffix(_SUFFIX) for path in sorted(self.folder.glob(f"??/*{_SUFFIX}")))

    def write(self, key: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a record, whole or not at all. facts: what JSON can hold."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        said = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        metadata = {"key": key, "facts": said, "digest": _content_digest(key, tensors, said)}
        with replacing(self.path(key)) as partial:
            save_file(tensors, partial, metadata)

    def facts(self, key: str) -> dict[str, Any] | None:
        """The facts of a record alone, their tensors neither read nor checked; None where there is no such record."""
        return self._read(key, with_tensors=False)[1]

    def read(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A record's tensors and facts; None where there is none, or a damaged one (which is removed)."""
        tensors, facts = self._read(key, with_tensors=True)
        return None if facts is None else (tensors, facts)

    def _read(self, key: str, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        path = self.path(key)
        if not path.is_file():
            return {}, None
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                said = metadata["facts"]
                tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
            if metadata["key"] != key or (with_tensors and metadata["digest"] != _content_digest(key, tensors, said)):
                raise ValueError("its content is not what was written")
            return tensors, json.loads(said)
        except (SafetensorError, ValueError, KeyError) as error:
            logger.warning("%s: a damaged record is made again (%s)", path, error)
            path.unlink(missing_ok=True)
            return {}, None


def _content_digest(key: str, tensors: Mapping[str, Tensor], facts: str) -> str:
    sha = hashlib.sha256(f"{key} {len(facts.encode())} {facts}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return sha.hexdigest()


@dataclass(frozen=True)
class StoredFeatures:
    """Features of one photo, and what else was found out when it was read (as JSON has it)."""

    features: Features
    facts: dict[str, Any]


class FeatureStore:
    """Features by key, on disk."""

    def __init__(self, folder: Path) -> None:
        self._records = Records(folder)

    def key(self, photo: str, extractor: str, mask: str | None = None) -> str:
        """The key of a photo's features. photo, mask: digests of the files. extractor: everything it depends on."""
        return digest(_FORMAT, "features", photo, extractor, mask)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def write(self, key: str, features: Features, facts: Mapping[str, Any]) -> None:
        """Keep the features of a photo, and facts about it that JSON can hold."""
        tensors = {
            name: getattr(features, name)
            for name in ("keypoints", "scores", "descriptors", "scales", "orientations")
            if getattr(features, name) is not None
        }
        own = {"kind": asdict(features.kind), "image_size": features.image_size, "count": len(features)}
        self._records.write(key, tensors, {"features": own, "facts": dict(facts)})

    def read(self, key: str) -> StoredFeatures | None:
        """What was kept; None where nothing was, or it is damaged."""
        found = self._records.read(key)
        if found is None:
            return None
        tensors, said = found
        own = said["features"]
        width, height = own["image_size"]
        return StoredFeatures(
            Features(image_size=(width, height), kind=FeatureKind(**own["kind"]), **tensors), said["facts"]
        )


@dataclass(frozen=True)
class StoredMatches:
    """Matches of one pair, and what they say of it before any geometry."""

    matches: Matches
    probability: float | None  # that the photos overlap, 0…1; None for matchers of images, which do not tell
    worth_verifying: bool


class MatchStore:
    """Matches by key, on disk: the pairs of one block in one file, so that thousands of pairs are few files."""

    def __init__(self, folder: Path) -> None:
        """Reads which pairs are there already: the headers of the files alone."""
        self._records = Records(folder)
        self._places: dict[str, tuple[str, int]] = {}  # key of a pair → key of its record, row in it
        for key in self._records.keys():  # noqa: SIM118
            facts = self._records.facts(key)
            if facts is not None:
                self._enter(key, facts["pairs"])

    def _enter(self, record: str, pairs: Sequence[str]) -> None:
        self._places.update({pair: (record, row) for row, pair in enumerate(pairs)})

    def key(self, features0: str, features1: str, matcher: str) -> str:
        """The key of a pair. features0, features1: their keys, in this order. matcher: all it depends on."""
        return digest(_FORMAT, "matches", features0, features1, matcher)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def write(self, keys: Sequence[str], found: Sequence[StoredMatches]) -> None:
        """Keep the matches of several pairs in one file."""
        counts = [len(value.matches) for value in found]
        stops = [value.matches.stop_layer for value in found]
        tensors = {
            "indices": torch.cat(
                [torch.empty(0, 2, dtype=torch.int32)] + [v.matches.indices.cpu().int() for v in found]
            ),
            "scores": torch.cat([torch.empty(0)] + [value.matches.scores.cpu() for value in found]),
        }
        facts = {
            "pairs": list(keys),
            "counts": counts,
            "stop_layers": stops,
            "probabilities": [value.probability for value in found],
            "worth_verifying": [value.worth_verifying for value in found],
        }
        record = digest(_FORMAT, "block", list(keys))
        self._records.write(record, tensors, facts)
        self._enter(record, keys)

    def read(self, keys: Sequence[str]) -> dict[str, StoredMatches]:
        """The matches of these pairs, each file read once; pairs that are absent or in a damaged file are left out.

        After a damaged file its pairs are no longer `in` the store.
        """
        rows: dict[str, list[tuple[str, int]]] = {}
        for key in keys:
            if key in self._places:
                record, row = self._places[key]
                rows.setdefault(record, []).append((key, row))
        found: dict[str, StoredMatches] = {}
        for record, wanted in rows.items():
            content = self._records.read(record)
            if content is None:
                self._places = {key: place for key, place in self._places.items() if place[0] != record}
                continue
            tensors, facts = content
            starts = torch.tensor([0, *facts["counts"]]).cumsum(0).tolist()
            for key, row in wanted:
                part = slice(starts[row], starts[row + 1])
                matches = Matches(
                    tensors["indices"][part].long(), tensors["scores"][part].clone(), facts["stop_layers"][row]
                )
                found[key] = StoredMatches(matches, facts["probabilities"][row], facts["worth_verifying"][row])
        return found
