"""Keypoints and matched pairs of a COLMAP database, as much as the page shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightmatch.colmap.database_files import (
    VerifiedPair,
    count_colmap_matches,
    list_colmap_images,
    read_colmap_keypoints,
    read_colmap_verified,
)
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.pipelines.reconstruct.verification import PairSummary
from lightmatch.report.page import PagePairs
from lightmatch.report.page.limits import MAX_LINES, MAX_LINES_OF_PAIR, MAX_PAIRS, evenly

_FEWEST_LINES = 5


@dataclass(frozen=True, eq=False)
class Keypoints:
    """The keypoints of one photo."""

    places: np.ndarray  # (n, 2) float32, COLMAP's px


@dataclass
class _Pair:
    """What is known of two photos, by their rows."""

    num_matches: int = 0
    num_verified: int = 0
    num_inliers: int = 0
    probability: float = float("nan")
    is_dropped: bool = False


def read_keypoints(path: Path) -> dict[str, Keypoints]:
    """Keypoints by photo, in the order of names; empty where there is no database.

    Raises InvalidValueError where it is damaged.
    """
    if not path.is_file():
        return {}
    stored, none = read_colmap_keypoints(path), np.zeros((0, 2), np.float32)
    return {
        name: Keypoints(colmap_from_pixels(stored[name].xy).numpy() if name in stored else none)
        for name in list_colmap_images(path)
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
    them, from before guided matching; where there is no database, their inliers are all that is known. doppelgangers:
    pairs of rows. Of too many pairs those with most inliers are kept; lines are an even sample of the inliers.
    Raises InvalidValueError where the database is damaged.
    """
    pairs: dict[tuple[int, int], _Pair] = {}

    def pair_of(row0: int, row1: int) -> _Pair:
        return pairs.setdefault((min(row0, row1), max(row0, row1)), _Pair())

    has_database = path.is_file()
    if has_database:
        for (name0, name1), count in count_colmap_matches(path, verified=False).items():
            pair_of(rows[name0], rows[name1]).num_matches = count
        for (name0, name1), count in count_colmap_matches(path, verified=True).items():
            pair = pair_of(rows[name0], rows[name1])
            pair.num_matches, pair.num_verified, pair.num_inliers = max(pair.num_matches, count), count, count
    for known_pair in matched:
        if known_pair.name0 in rows and known_pair.name1 in rows:
            pair = pair_of(rows[known_pair.name0], rows[known_pair.name1])
            pair.num_matches, pair.num_verified = known_pair.num_matches, known_pair.num_inliers
            if not has_database:
                pair.num_inliers = known_pair.num_inliers
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
        num_matches=np.array([known[key].num_matches for key in shown], np.int64),
        num_inliers=np.array([known[key].num_inliers for key in shown], np.int64),
        starts=np.cumsum([0, *map(len, lines)]),
        lines=np.concatenate([np.zeros((0, 4)), *lines]),
        probability=np.array([known[key].probability for key in shown], np.float64),
        num_verified=np.array([known[key].num_verified for key in shown], np.int64),
        num_found=sum(pair.num_inliers > 0 for pair in known.values()),
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
    verified = read_colmap_verified(path)
    return [_lines(verified, (names[row0], names[row1]), keypoints, sizes, limit) for row0, row1 in pairs]


def _lines(
    verified: Mapping[tuple[str, str], VerifiedPair],
    pair: tuple[str, str],
    keypoints: Mapping[str, Keypoints],
    sizes: Mapping[str, tuple[int, int]],
    limit: int,
) -> np.ndarray:
    if pair not in verified or not all(name in keypoints and name in sizes for name in pair):
        return np.zeros((0, 4))
    inliers = verified[pair].matches.indices.numpy()
    chosen = inliers[evenly(len(inliers), limit)]
    ends = [keypoints[name].places[chosen[:, side]] / sizes[name] for side, name in enumerate(pair)]
    return np.concatenate(ends, 1)
