"""Lists of pairs of photos as text: two names on a line, as `colmap matches_importer` and hloc read them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from lightmatch.errors import InvalidValueError
from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.runtime.files import replacing


def check_names(names: Iterable[str]) -> None:
    """Raise InvalidValueError for a name with white space, which no list of pairs can hold."""
    for name in names:
        if len(name.split()) != 1:
            raise InvalidValueError(
                f"expected names of photos without spaces, for lists of pairs; got {name!r}: rename it"
            )


def write_pair_list(path: Path, pairs: Sequence[Pair]) -> None:
    """Write the pairs; a file that is there is replaced. Names have no white space: see `check_names`."""
    with replacing(path) as partial:
        partial.write_text("".join(f"{name0} {name1}\n" for name0, name1 in pairs), encoding="utf-8")


def read_pair_list(path: Path, names: Collection[str]) -> list[Pair]:
    """The pairs, each once, in the order of the file; empty lines and lines that begin with # are skipped.

    names: of the photos that there are. Raises InvalidValueError for other lines, other names, or no pair at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{path}: expected a text file of pairs, could not read it ({error})") from error
    pairs: dict[frozenset[str], Pair] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] == words[1]:
            raise InvalidValueError(f"{path}:{number}: expected the names of two photos, got {line.strip()!r}")
        unknown = [name for name in words if name not in names]
        if unknown:
            raise InvalidValueError(
                f"{path}:{number}: expected names of photos relative to their folder, got {unknown[0]!r}, which is none"
                " that can be read"
            )
        pairs.setdefault(frozenset(words), (words[0], words[1]))
    if not pairs:
        raise InvalidValueError(f"{path}: expected at least one pair of photos, found none")
    return list(pairs.values())
