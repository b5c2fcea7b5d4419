"""Immutable records by key: tensors and a typed value, each with a digest of its content.

One that is damaged is removed with a warning, and counts as absent. The value lies as JSON in the metadata of the file
(see `codec`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from lightmatch.runtime import codec
from lightmatch.runtime.places import SUFFIX, place_of

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Records:
    """Records of one kind, in a folder or under an address of object storage."""

    def __init__(self, where: Path | str) -> None:
        """where: made when the first record is written. Raises InvalidValueError for an address that is none."""
        self._place = place_of(where)

    def __contains__(self, key: str) -> bool:
        return _name(key) in self._place

    def keys(self) -> Iterator[str]:
        """The keys of all records, sorted."""
        yield from (name.rpartition("/")[2].removesuffix(SUFFIX) for name in self._place.names())

    def write(self, key: str, tensors: Mapping[str, Tensor], facts: object = None) -> None:
        """Write a record, whole or not at all. facts: a value that the codec can write."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        said = codec.dumps(facts)
        self._place.write(
            _name(key), tensors, {"key": key, "facts": said, "digest": _content_digest(key, tensors, said)}
        )

    def remove(self, key: str) -> None:
        """Remove a record, where it is there."""
        self._place.remove(_name(key))

    def facts(self, key: str, kind: type[T]) -> T | None:
        """The facts of a record alone, their tensors neither read nor checked; None where there is no such record."""
        found = self._read(key, kind, with_tensors=False)
        return None if found is None else found[1]

    def read(self, key: str, kind: type[T]) -> tuple[dict[str, Tensor], T] | None:
        """A record's tensors and facts; None where there is none, or a damaged one (which is removed)."""
        return self._read(key, kind, with_tensors=True)

    def _read(self, key: str, kind: type[T], with_tensors: bool) -> tuple[dict[str, Tensor], T] | None:
        name = _name(key)
        if name not in self._place:
            return None
        try:
            tensors, metadata = self._place.read(name) if with_tensors else ({}, self._place.metadata(name))
            said = metadata["facts"]
            if metadata["key"] != key or (with_tensors and metadata["digest"] != _content_digest(key, tensors, said)):
                raise ValueError("its content is not what was written")
            return tensors, codec.loads(kind, said, "facts")
        except FileNotFoundError:  # removed by another process meanwhile
            return None
        except (SafetensorError, ValueError, KeyError) as error:
            logger.warning("%s: a damaged record is made again (%s)", self._place.shown(name), error)
            self._place.remove(name)
            return None


def _name(key: str) -> str:
    return f"{key[:2]}/{key}{SUFFIX}"


def _content_digest(key: str, tensors: Mapping[str, Tensor], facts: str) -> str:
    sha = hashlib.sha256(f"{key} {len(facts.encode())} {facts}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return sha.hexdigest()
