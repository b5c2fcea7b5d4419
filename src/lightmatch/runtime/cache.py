"""What a run keeps on disk, so that one that was stopped goes on where it was.

Values and folders of finished stages, features and matches: each has a name that ends with a digest of all it depends
on, this package's version too, and is whole, or is not there. Features and matches may lie elsewhere, in object
storage; a file in the folder says where.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from lightmatch.errors import InvalidValueError
from lightmatch.runtime import codec
from lightmatch.runtime.places import Objects
from lightmatch.runtime.records import Records
from lightmatch.runtime.store import FeatureStore, MatchStore, digest

T = TypeVar("T")

_ADDRESS = "address.txt"  # of object storage
_VALUE = "value.json"  # of a folder
_DIGITS = 24  # of the digest: enough to tell a few stages apart


class Cache:
    """Everything in one folder. Of a stage's value or folder the latest is kept, of features and matches all.

    Several threads may share it. Pickled it is the name of the folder: another process opens the same files.
    """

    def __init__(self, root: Path) -> None:
        """root: made when something is written."""
        self.root = root
        self.stages = root / "stages"  # values and folders; also for scratch files of theirs
        self.features = FeatureStore(self._records("features"))
        self.matches = MatchStore(self._records("matches"))
        self._version = version("lightmatch")  # what another version made is made again

    @classmethod
    def with_records_at(cls, root: Path, address: str | None) -> Cache:
        """address: of object storage for features and matches from now on; None for where they are now.

        Raises InvalidValueError where it is none.
        """
        if address is not None:
            Objects(address)
            root.mkdir(parents=True, exist_ok=True)
            (root / _ADDRESS).write_text(address, encoding="utf-8")
        return cls(root)

    def _records(self, name: str) -> Path | str:
        """Where records of one kind lie."""
        try:
            return f"{(self.root / _ADDRESS).read_text(encoding='utf-8').rstrip('/')}/{name}"
        except FileNotFoundError:
            return self.root / name

    def __reduce__(self) -> tuple[type[Cache], tuple[Path]]:
        return Cache, (self.root,)

    @cached_property
    def points(self) -> Records:
        """Matched places of pairs, by matchers that take images."""
        return Records(self._records("points"))

    def value(self, name: str, key: str, kind: type[T], make: Callable[[], T]) -> T:
        """A value that the codec can write: as it was made before for the same `key`, or made now."""
        path = self.stages / f"{name}-{self._suffix(key)}.json"
        found = _read(kind, path)
        if found is None:
            self.forget(name)  # what `make` does outside the cache no longer fits an older value
            found = make()
            codec.write(path, found)
        return found

    def folder(self, name: str, key: str, kind: type[T], make: Callable[[Path], T]) -> tuple[Path, T]:
        """A folder of files and a value: as they were made before for the same `key`, or made now.

        make: fills an empty folder and returns the value, which is kept in the folder.
        """
        path = self.stages / f"{name}-{self._suffix(key)}"
        found = _read(kind, path / _VALUE)
        if found is None:
            partial = self.stages / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            found = make(partial)
            codec.write(partial / _VALUE, found)
            shutil.rmtree(path, ignore_errors=True)  # one whose value is damaged
            partial.rename(path)
            self._forget_others(name, path)
        return path, found

    def scratch(self, name: str, key: str) -> Path:
        """A folder for what a stage has done so far, to go on with after a stop; those of other keys are removed."""
        path = self.stages / f"{name}-{self._suffix(key)}"
        path.mkdir(parents=True, exist_ok=True)
        self._forget_others(name, path)
        return path

    def _suffix(self, key: str) -> str:
        return digest(self._version, key)[:_DIGITS]

    def forget(self, name: str) -> None:
        """Let a stage be made again."""
        self._forget_others(name, None)

    def _forget_others(self, name: str, kept: Path | None) -> None:
        for path in self.stages.glob(f"{name}-*"):
            if path != kept and len(path.stem) == len(name) + 1 + _DIGITS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read(kind: type[T], path: Path) -> T | None:
    """The value, or None where it is not there, damaged, or of another type; stages never make None."""
    try:
        return codec.read(kind, path)
    except (OSError, InvalidValueError):
        return None
