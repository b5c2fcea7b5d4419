"""Keypoints and matched pairs of a COLMAP database, as much as the page shows of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from lightmatch.pipelines.reconstruct.verification import PairSummary
from lightmatch.report.page import PagePairs
from lightmatch.report.page.limits import MAX_LINES, MAX_LINES_OF_PAIR, MAX_PAIRS, evenly
from lightmatch.runtime.reading import reading

_PAIR_BASE = 2**31 - 1  # COLMAP numbers a pair of images _PAIR_BASE · id0 + id1
_FEWEST_LINES = 5


@dataclass(frozen=True, eq=False)
class Keypoints:
    """The keypoints of one photo."""

    places: np.ndarray  # (n, 2) float32, COLMAP's px
    image_id: int | None = None  # in the database, where it is there


@dataclass
class _Pair:
    """What is known of two photos, by their rows."""

    num_matches: int = 0
    num_inliers: int = 0
    probability: float = float("nan")
    is_dropped: bool = False


def read_keypoints(path: Path) -> dict[str, Keypoints]:
    """Keypoints by photo, in the order of names; empty where there is no database.

    Raises InvalidValueError where it is damaged.
    """
    if not path.is_file():
        return {}
    query = "SELECT name, image_id, rows, cols, data FROM images LEFT JOIN keypoints USING (image_id) ORDER BY name"
    with _opened(path) as database:
        return {
            name: Keypoints(_table(rows or 0, columns or 2, data, np.float32)[:, :2].copy(), image_id)
            for name, image_id, rows, columns, data in database.execute(query)
        }


def read_pairs(
    path: Path,
    rows: Mapping[str, int],
    keypoints: Mapping[str, Keypoints],
    sizes: Mapping[str, tuple[int, int]],
    matched: Iterable[PairSummary],
    doppelgangers: Iterable[tuple[int, int]],
) -> PagePairs | None:
    """Pairs with verified matches, and those that were dropped as doppelgängers; None where nothing is known of any.

    path: the database. rows: of each photo on the page. sizes: (width, height) px. matched: pairs as summary.json has
    them; they go before the database. doppelgangers: pairs of rows. Of too many pairs those with most inliers are kept;
    lines are an even sample of the inliers.
    Raises InvalidValueError where the database is damaged.
    """
    pairs: dict[tuple[int, int], _Pair] = {}
    ids = {keypoint.image_id: name for name, keypoint in keypoints.items() if keypoint.image_id is not None}

    def pair_of(row0: int, row1: int) -> _Pair:
        return pairs.setdefault((min(row0, row1), max(row0, row1)), _Pair())

    if path.is_file():
        with _opened(path) as database:
            for field, table in (("num_matches", "matches"), ("num_inliers", "two_view_geometries")):
                for pair_id, count in database.execute(f"SELECT pair_id, rows FROM {table} ORDER BY pair_id"):
                    id0, id1 = divmod(pair_id, _PAIR_BASE)
                    setattr(pair_of(rows[ids[id0]], rows[ids[id1]]), field, count)
    for known_pair in matched:
        if known_pair.name0 in rows and known_pair.name1 in rows:
            pair = pair_of(rows[known_pair.name0], rows[known_pair.name1])
            pair.num_matches, pair.num_inliers = known_pair.num_matches, known_pair.num_inliers
            if known_pair.probability is not None:
                pair.probability = known_pair.probability
    for row0, row1 in doppelgangers:
        pair_of(row0, row1).is_dropped = True

    known = {key: pair for key, pair in pairs.items() if pair.num_inliers or pair.is_dropped}
    if not known:
        return None
    strongest = sorted(known, key=lambda key: (not known[key].is_dropped, -known[key].num_inliers, key))
    shown = sorted(strongest[:MAX_PAIRS])
    lines = _read_lines(path, shown, rows, keypoints, sizes)
    return PagePairs(
        photos=np.array(shown, np.int64),
        num_matches=np.array([max(known[key].num_matches, known[key].num_inliers) for key in shown], np.int64),
        num_inliers=np.array([known[key].num_inliers for key in shown], np.int64),
        starts=np.cumsum([0, *map(len, lines)]),
        lines=np.concatenate([np.zeros((0, 4)), *lines]),
        probability=np.array([known[key].probability for key in shown], np.float64),
        num_found=len(known),
    )


def _read_lines(
    path: Path,
    pairs: Sequence[tuple[int, int]],
    rows: Mapping[str, int],
    keypoints: Mapping[str, Keypoints],
    sizes: Mapping[str, tuple[int, int]],
) -> list[np.ndarray]:
    """For each pair of rows (k, 4): x0 y0 x1 y1 of a sample of its inliers, as shares of the photos' sides."""
    if not path.is_file():
        return [np.zeros((0, 4)) for _ in pairs]
    limit = min(MAX_LINES_OF_PAIR, max(_FEWEST_LINES, MAX_LINES // len(pairs)))
    names = {row: name for name, row in rows.items()}
    with _opened(path) as database:
        return [_lines(database, names[row0], names[row1], keypoints, sizes, limit) for row0, row1 in pairs]


def _lines(
    database: sqlite3.Connection,
    name0: str,
    name1: str,
    keypoints: Mapping[str, Keypoints],
    sizes: Mapping[str, tuple[int, int]],
    limit: int,
) -> np.ndarray:
    none = np.zeros((0, 4))
    if not all(name in keypoints and name in sizes for name in (name0, name1)):
        return none
    id0, id1 = keypoints[name0].image_id, keypoints[name1].image_id
    if id0 is None or id1 is None:
        return none
    pair_id = _PAIR_BASE * min(id0, id1) + max(id0, id1)
    query = "SELECT rows, cols, data FROM two_view_geometries WHERE pair_id = ?"
    found = database.execute(query, (pair_id,)).fetchone()
    if found is None or not found[0]:
        return none
    num_rows, num_columns, data = found
    inliers = _table(num_rows, num_columns, data, np.uint32)[:, :: 1 if id0 < id1 else -1]
    chosen = inliers[evenly(len(inliers), limit)]
    ends = [keypoints[name].places[chosen[:, side]] / sizes[name] for side, name in enumerate((name0, name1))]
    return np.concatenate(ends, 1)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database for reading alone: not a byte of it changes, as pycolmap would do on opening it."""
    # A journal beside it holds what a killed run wrote last; without one the file is all there is.
    journal = path.with_name(path.name + "-wal").exists()
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'' if journal else '&immutable=1'}"
    with (
        reading(path, "a COLMAP database", sqlite3.Error, ValueError, IndexError, KeyError),
        closing(sqlite3.connect(address, uri=True)) as database,
    ):
        yield database


def _table(rows: int, columns: int, data: bytes | None, dtype: type[np.generic]) -> np.ndarray:
    return np.frombuffer(data or b"", np.dtype(dtype).newbyteorder("<")).reshape(rows, columns)
