"""Where records lie: files of tensors in a folder, or objects in a bucket.

A file is safetensors: eight bytes of length, a JSON header with the metadata, the tensors. Each is written as a whole
or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from lightmatch.errors import InvalidValueError, import_optional
from lightmatch.runtime.files import replacing

SUFFIX = ".safetensors"

_LENGTH_BYTES = 8
_TURNS = [Lock() for _ in range(64)]  # threads that write the same file take turns
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit

Metadata = dict[str, str]


class Place(Protocol):
    """Files of tensors by name, such as "ab/abcdef.safetensors"."""

    def __contains__(self, name: str) -> bool: ...

    def names(self) -> Iterator[str]:
        """Of all files, sorted."""
        ...

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Metadata) -> None:
        """Write a file, in place of an older one. Raises OSError, or SafetensorError."""
        ...

    def metadata(self, name: str) -> Metadata:
        """Of a file whose tensors are not read. Raises SafetensorError or ValueError where it is damaged."""
        ...

    def read(self, name: str) -> tuple[dict[str, Tensor], Metadata]:
        """A file. Raises SafetensorError or ValueError where it is damaged."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        ...

    def shown(self, name: str) -> str:
        """A file's whole name, for messages."""
        ...


def place_of(where: Path | str) -> Place:
    """A folder, or what fsspec calls by an address such as s3://bucket/prefix."""
    return Objects(where) if isinstance(where, str) and "://" in where else Folder(Path(where))


class Folder:
    """A folder of this machine, or one that it shares with others."""

    def __init__(self, folder: Path) -> None:
        """folder: made when the first file is written."""
        self._folder = folder

    def __contains__(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def names(self) -> Iterator[str]:
        """As `Place.names`."""
        yield from (path.relative_to(self._folder).as_posix() for path in sorted(self._folder.glob(f"??/*{SUFFIX}")))

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Metadata) -> None:
        """As `Place.write`."""
        with _TURNS[hash(name) % len(_TURNS)], replacing(self._folder / name) as partial:
            save_file(dict(tensors), partial, metadata)

    def metadata(self, name: str) -> Metadata:
        """As `Place.metadata`."""
        with safe_open(self._folder / name, "pt") as file:
            return file.metadata() or {}

    def read(self, name: str) -> tuple[dict[str, Tensor], Metadata]:
        """As `Place.read`."""
        with safe_open(self._folder / name, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118

    def remove(self, name: str) -> None:
        """As `Place.remove`."""
        (self._folder / name).unlink(missing_ok=True)

    def shown(self, name: str) -> str:
        """As `Place.shown`."""
        return str(self._folder / name)


class Objects:
    """Objects under an address: a bucket of S3, Google Cloud, Azure, or another of fsspec's file systems."""

    def __init__(self, address: str) -> None:
        """Raises InvalidValueError where it names no file system, or one that is not installed."""
        fsspec = import_optional("fsspec", "cluster")
        try:
            if "://" not in address:  # fsspec takes it for a folder here
                raise ValueError("it has no ://")
            self._files, self._root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise InvalidValueError(
                f"{address}: expected the address of object storage, such as s3://bucket/prefix; {error}"
            ) from error
        self._address = address

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def __contains__(self, name: str) -> bool:
        return bool(self._files.isfile(self._path(name)))

    def names(self) -> Iterator[str]:
        """As `Place.names`."""
        start = len(self._root.rstrip("/")) + 1
        yield from (path[start:] for path in sorted(self._files.glob(self._path(f"??/*{SUFFIX}"))))

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Metadata) -> None:
        """As `Place.write`."""
        path = self._path(name)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, save(dict(tensors), metadata))

    def metadata(self, name: str) -> Metadata:
        """As `Place.metadata`."""
        length = int.from_bytes(self._part(name, 0, _LENGTH_BYTES), "little")
        if length > _LONGEST_HEADER:
            raise ValueError("its header is too long")
        return _metadata(self._part(name, _LENGTH_BYTES, _LENGTH_BYTES + length))

    def read(self, name: str) -> tuple[dict[str, Tensor], Metadata]:
        """As `Place.read`."""
        content = self._files.cat_file(self._path(name))
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        return load(content), _metadata(content[_LENGTH_BYTES : _LENGTH_BYTES + length])

    def remove(self, name: str) -> None:
        """As `Place.remove`."""
        if name in self:
            self._files.rm_file(self._path(name))

    def shown(self, name: str) -> str:
        """As `Place.shown`."""
        return f"{self._address.rstrip('/')}/{name}"

    def _part(self, name: str, start: int, end: int) -> bytes:
        return self._files.cat_file(self._path(name), start=start, end=end)


def _metadata(header: bytes) -> Metadata:
    found: dict[str, Any] = json.loads(header)
    return found.get("__metadata__", {})
