"""Finished stages of a run, so that one that was stopped goes on where it was.

Each is a file or a folder whose name ends with a digest of all it depends on, this package's version too; it is whole,
or it is not there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightmatch.runtime.files import replacing
from lightmatch.runtime.store import digest

_DIGITS = 24  # of the digest: enough to tell a few stages apart


class Stages:
    """The finished stages in one folder; of each name the latest is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = version("lightmatch")  # what another version made is made again

    def values(self, name: str, key: str, make: Callable[[], Any]) -> Any:
        """What JSON can hold: as it was made before for the same `key`, or made now."""
        path = self.folder / f"{name}-{self._suffix(key)}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or damaged
            values = make()
        with replacing(path) as partial:
            partial.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        self._forget_others(name, path)
        return json.loads(path.read_text(encoding="utf-8"))  # tuples are lists, now and the next time

    def folder_of(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """A folder of files: as it was made before for the same `key`, or made now; `make` fills an empty one."""
        path = self.folder / f"{name}-{self._suffix(key)}"
        if not path.is_dir():
            partial = self.folder / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            make(partial)
            partial.rename(path)
            self._forget_others(name, path)
        return path

    def _suffix(self, key: str) -> str:
        return digest(self._version, key)[:_DIGITS]

    def forget(self, name: str) -> None:
        """Let a stage be made again."""
        self._forget_others(name, None)

    def _forget_others(self, name: str, kept: Path | None) -> None:
        for path in self.folder.glob(f"{name}-*"):
            if path != kept and len(path.stem) == len(name) + 1 + _DIGITS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
