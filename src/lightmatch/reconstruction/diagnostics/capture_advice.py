"""What a whole set of photos lacks: gaps in the ring of views, links that hang on one photo, parts seen only twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.colmap.models import ModelArrays

if TYPE_CHECKING:
    import networkx

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
        if _best_across(model.names, angles, float(angles[before]), float(angles[after]), verified) >= _BRIDGED:
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
    names: list[str], angles: np.ndarray, start: float, end: float, verified: Mapping[tuple[str, str], int]
) -> int:
    """The most verified matches between a photo at one side of a gap and one at the other."""
    before = {names[row] for row in np.flatnonzero((start - angles) % 360 <= _ACROSS_DEG)}
    after = {names[row] for row in np.flatnonzero((angles - end) % 360 <= _ACROSS_DEG)}
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

    graph: neighbours of each photo. A part larger than half of what the point's component holds beside it counts as
    the rest, and all others are the part. The largest parts come first; `most` of them.
    """
    import networkx

    network = networkx.Graph((a, b) for a, others in graph.items() for b in others)
    sizes = _sizes_of_parts(network)
    parts: dict[str, tuple[str, ...]] = {}
    for point in sorted(sizes, key=lambda point: (-sizes[point], point))[:most]:
        others = network.subgraph(networkx.node_connected_component(network, point) - {point})
        largest = max(networkx.connected_components(others), key=lambda part: (len(part), min(part)))
        part = largest if 2 * len(largest) <= len(others) else set(others) - largest
        parts[point] = tuple(sorted(part))
    return parts


def _sizes_of_parts(network: networkx.Graph) -> dict[str, int]:
    """How many photos hang on each articulation point, by the tree of blocks and articulation points: linear time."""
    import networkx

    blocks = [frozenset(block) for block in networkx.biconnected_components(network)]
    points = frozenset(networkx.articulation_points(network))
    tree = networkx.Graph()
    tree.add_edges_from((block, point) for block in blocks for point in block & points)
    sizes: dict[str, int] = {}
    for component in networkx.connected_components(tree):
        root = next(block for block in blocks if block in component)
        parents = dict(networkx.bfs_predecessors(tree, root))
        below = {node: 1 if node in points else len(node - points) for node in component}
        for node in reversed(parents):
            below[parents[node]] += below[node]
        for point in points.intersection(component):
            around = [below[block] for block in tree[point] if block != parents[point]]
            largest = max(below[root] - below[point], *around)
            sizes[point] = min(largest, below[root] - 1 - largest)
    return sizes


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
