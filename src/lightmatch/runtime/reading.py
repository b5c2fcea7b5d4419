"""What every reader needs: a sentence for a bad file, values read when needed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lightmatch.errors import InvalidValueError

K = TypeVar("K")
V = TypeVar("V")


@contextmanager
def reading(path: Path, what: str, *errors: type[Exception]) -> Generator[None]:
    """Turn what goes wrong while `path` is read into an InvalidValueError that begins with its name.

    what: what the file should be, as after "expected". errors: what its library raises on damaged files.
    """
    if not path.is_file():
        raise InvalidValueError(f"{path}: expected {what}, found no such file; check its name")
    try:
        yield
    except InvalidValueError as error:
        raise InvalidValueError(f"{path}: {error}") from error
    except errors as error:
        raise InvalidValueError(f"{path}: expected {what}, could not read it ({error}); write it again") from error


class LazyMapping(Mapping[K, V]):
    """A mapping whose values are read from their file each time they are looked up, and not kept."""

    def __init__(self, readers: Mapping[K, Callable[[], V]]) -> None:
        self._readers = readers

    def __getitem__(self, key: K) -> V:
        return self._readers[key]()

    def __contains__(self, key: object) -> bool:
        return key in self._readers

    def __iter__(self) -> Iterator[K]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


class LazyPairs(LazyMapping[tuple[str, str], V]):
    """Values by pair of image names, which may be looked up in either order; listed in the file's."""

    def __init__(self, readers: Mapping[tuple[str, str], Callable[[], V]], swap: Callable[[V], V]) -> None:
        super().__init__(readers)
        self._swap = swap

    def __getitem__(self, key: tuple[str, str]) -> V:
        other = (key[1], key[0])
        if key not in self._readers and other in self._readers:
            return self._swap(super().__getitem__(other))
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and (key in self._readers or key[::-1] in self._readers)
