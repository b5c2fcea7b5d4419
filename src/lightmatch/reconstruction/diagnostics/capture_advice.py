"""What a whole set of photos lacks: gaps in the ring of views, links that hang on one photo, parts seen only twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.colmap.models import ModelArrays

AdviceKind = Literal["gap", "weak link", "seen twice"]

STRONG_MATCHES = 30  # COLMAP's abs_pose_min_num_inliers: with fewer a pair alone cannot place a photo
_GAP_DEG = 30.0
_CLOSING_GAP_DEG = 120.0  # a ring that is open by more was not meant to close
_BRIDGED = 100  # verified matches across a gap that make it none
_ACROSS_DEG = 10.0  # cameras this near to the edge of a gap speak for that side
_INWARDS = 0.7  # part of the cameras that must look at one place to call it a ring
_TWICE_MATCHES = 60
_TWICE_SHARE = 0.6
_MOST_OF_A_KIND = 5


@dataclass(frozen=True)
class Advice:
    """One thing to photograph next, for the set as a whole."""

    kind: AdviceKind
    sentence: str
    photos: tuple[str, ...]  # that it is about

    def to_json(self) -> dict[str, Any]:
        """Plain values, for summary.json."""
        return asdict(self)


def advise(
    model: ModelArrays,
    up: np.ndarray,
    verified: Mapping[tuple[str, str], int],
    seen_twice: Mapping[tuple[str, str], tuple[int, int]] | None = None,
) -> list[Advice]:
    """Advice for a model's photos, the worst first of each kind, five at most.

    up: (3,) unit, in the model's world. verified: matches by pair of photos. seen_twice: as from `matches_seen_twice`.
    """
    found = [find_gaps(model, up, verified), find_weak_links(model.names, verified), _seen_twice(seen_twice or {})]
    return [advice for kind in found for advice in kind[:_MOST_OF_A_KIND]]


def ring_centre(model: ModelArrays) -> np.ndarray | None:
    """The place (3,) that the cameras look at: nearest to all optical axes; None where they share none.

    The point of least squared distance to the lines c + t f solves Σ (I − f fᵀ)(x − c) = 0.
    """
    forward = model.rotations[:, 2]
    across = np.eye(3) - forward[:, :, None] * forward[:, None]
    total = across.sum(0)
    if len(forward) < 3 or np.linalg.eigvalsh(total)[0] < 0.02 * len(forward):  # axes nearly parallel
        return None
    centre = np.linalg.solve(total, np.einsum("nij,nj->i", across, model.centers))
    towards = centre - model.centers
    distance = np.linalg.norm(towards, axis=1)
    inwards = np.einsum("ni,ni->n", towards, forward) > 0.5 * distance
    return centre if float(inwards.mean()) >= _INWARDS else None


def find_gaps(model: ModelArrays, up: np.ndarray, verified: Mapping[tuple[str, str], int]) -> list[Advice]:
    """Neighbours on a ring of views that are more than 30° apart about its centre and share few matches."""
    centre = ring_centre(model)
    if centre is None:
        return []
    east = np.cross(up, [1.0, 0, 0] if abs(up[0]) < 0.9 else [0, 1.0, 0])
    east /= np.linalg.norm(east)
    offset = model.centers - centre
    angles = np.degrees(np.arctan2(offset @ np.cross(up, east), offset @ east)) % 360
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + 360)
    found: list[tuple[float, Advice]] = []
    for place, gap in enumerate(gaps):
        before, after = order[place], order[(place + 1) % len(order)]
        widest = gap == gaps.max()
        if gap <= _GAP_DEG or (widest and gap > _CLOSING_GAP_DEG):
            continue
        if _best_across(model.names, angles, float(angles[before]), float(gap), verified) >= _BRIDGED:
            continue
        names = model.names[before], model.names[after]
        photos = max(1, math.ceil(gap / 15) - 1)
        sentence = (
            f"no photo within {gap:.0f}° between {names[0]} and {names[1]}, seen from the middle of the scene:"
            f" take {photos} more on the way from one to the other, a step of at most 15° each"
        )
        found.append((gap, Advice("gap", sentence, names)))
    return [advice for _, advice in sorted(found, key=lambda pair: -pair[0])]


def _best_across(
    names: list[str], angles: np.ndarray, start: float, gap: float, verified: Mapping[tuple[str, str], int]
) -> int:
    """The most verified matches between a photo at one side of a gap and one at the other."""
    before = {names[row] for row in np.flatnonzero((start - angles) % 360 <= _ACROSS_DEG)}
    after = {names[row] for row in np.flatnonzero((angles - start - gap) % 360 <= _ACROSS_DEG)}
    return max(
        (count for (a, b), count in verified.items() if (a in before and b in after) or (b in before and a in after)),
        default=0,
    )


def find_weak_links(photos: Collection[str], verified: Mapping[tuple[str, str], int]) -> list[Advice]:
    """Photos that hold parts of the set together alone, by the graph of matches; five at most, the largest part first.

    Photos whose loss would cut the graph of strong pairs (30 matches or more) in two are its articulation points.
    """
    graph: dict[str, set[str]] = {name: set() for name in sorted(photos)}
    for (a, b), count in verified.items():
        if count >= STRONG_MATCHES and a in graph and b in graph:
            graph[a].add(b)
            graph[b].add(a)
    found = []
    for photo, part in hanging_parts(graph, _MOST_OF_A_KIND).items():
        if len(part) == 1:
            sentence = (
                f"{part[0]} matches only {photo}: take 2–3 photos between the two, or more of what {part[0]} shows"
            )
        else:
            sentence = (
                f"{len(part)} photos ({part[0]} to {part[-1]}) hang on {photo} alone:"
                f" take 2–3 more around {photo} that overlap both sides"
            )
        found.append(Advice("weak link", sentence, (photo, *part)))
    return found


def hanging_parts(graph: Mapping[str, Collection[str]], most: int | None = None) -> dict[str, tuple[str, ...]]:
    """Articulation points of an undirected graph: point → the largest part, sorted, that it alone joins to the rest.

    A part larger than half of what it belongs to counts as the rest. The largest parts come first; `most` of them.
    Without recursion, for chains are long. Source: Hopcroft and Tarjan 1973, "Algorithm 447".
    """
    number: dict[str, int] = {}  # in the order of visits
    low: dict[str, int] = {}  # the earliest photo that one visited after it leads back to
    visited: list[str] = []
    cuts: dict[str, tuple[int, range, range]] = {}  # point → size of the part, it in `visited`, all of its component

    for root in graph:
        if root in number:
            continue
        first = len(visited)
        found: list[tuple[str, range]] = []
        stack = [(root, "", iter(sorted(graph[root])))]
        number[root] = low[root] = len(visited)
        visited.append(root)
        while stack:
            node, parent, rest = stack[-1]
            for other in rest:
                if other not in number:
                    number[other] = low[other] = len(visited)
                    visited.append(other)
                    stack.append((other, node, iter(sorted(graph[other]))))
                    break
                if other != parent:
                    low[node] = min(low[node], number[other])
            else:
                stack.pop()
                if parent:
                    low[parent] = min(low[parent], low[node])
                    if low[node] >= number[parent]:
                        found.append((parent, range(number[node], len(visited))))
        component = range(first, len(visited))
        for point, part in found:
            # Where a part is the larger one, what hangs on the point is the rest, without the point itself.
            size = min(len(part), len(component) - 1 - len(part))
            if size > cuts.get(point, (0,))[0]:
                cuts[point] = size, part, component
    parts = {}
    for point, (size, part, component) in sorted(cuts.items(), key=lambda cut: -cut[1][0])[:most]:
        if len(part) != size:
            inside = {number[point], *part}
            part = [place for place in component if place not in inside]
        parts[point] = tuple(sorted(visited[place] for place in part))
    return parts


def matches_seen_twice(database: Path, photos: Collection[str]) -> dict[tuple[str, str], tuple[int, int]]:
    """By pair of `photos` in a verified database: matches that no third photo sees, and all verified matches."""
    with open_database(database) as opened:
        verified = list(opened.verified())
    names = set(photos)
    seen: dict[str, list[np.ndarray]] = defaultdict(list)
    kept: dict[tuple[str, str], np.ndarray] = {}
    for (first, second), geometry in verified:
        if first in names and second in names and len(geometry.inlier_matches):
            kept[first, second] = geometry.inlier_matches
            seen[first].append(geometry.inlier_matches[:, 0])
            seen[second].append(geometry.inlier_matches[:, 1])
    counts = {name: np.bincount(np.concatenate(indices)) for name, indices in seen.items()}
    result = {}
    for (first, second), matches in kept.items():
        alone = (counts[first][matches[:, 0]] == 1) & (counts[second][matches[:, 1]] == 1)
        result[first, second] = int(alone.sum()), len(matches)
    return dict(sorted(result.items()))


def _seen_twice(counts: Mapping[tuple[str, str], tuple[int, int]]) -> list[Advice]:
    found = []
    for (name0, name1), (alone, total) in counts.items():
        if alone >= _TWICE_MATCHES and alone >= _TWICE_SHARE * total:
            sentence = (
                f"most of what {name0} and {name1} share ({alone} of {total} matches) is in no third photo:"
                " take one or two more of it, from other places"
            )
            found.append((alone, Advice("seen twice", sentence, (name0, name1))))
    return [advice for _, advice in sorted(found, key=lambda pair: -pair[0])]
