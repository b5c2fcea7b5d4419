"""Loop consistency of triplets of pairs: the poses of three true pairs compose to the identity.

Source of the idea: Zach, Klopschitz and Pollefeys 2010, "Disambiguating visual relations using loop constraints".
There the loops are of rotations; here of similarities, since doppelgängers may differ by a translation alone.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import numpy as np

from lightmatch.reconstruction.disambiguation.views import Placement, ViewPair, Views, predict

_PARTNERS = 24  # of each photo: those with most matches form loops
_CLOSED_DEG = 12.0
_CLOSED_DISTANCE = 0.2  # of the depth of the scene
_LOOPS_THAT_COUNT = 6.0
_RARE = 0.05  # probability that a loop closes with one false pair, or does not with none
_ALL_FALSE = 0.5  # weight of loops of three false pairs: they need three copies
_ROUNDS = 40
_MOST = 8.0  # log-odds
_TRUSTED = 1.0  # log-odds
_LONGEST_DETOUR = 6  # pairs
_DETOUR_OFF, _DETOUR_DRIFT = 0.05, 0.02  # of the longer side: constant, and per pair on the path
_NO_MOVE = (np.eye(3), np.zeros(3), 1.0)


class Loops(NamedTuple):
    """Triplets of sound pairs; a pair is its number in views.pairs."""

    pairs: np.ndarray  # (t, 3)
    closes: np.ndarray  # (t,) bool, whether the composed poses are near the identity


def triple_loops(views: Views, sound: list[bool]) -> Loops:
    """Loops of three sound pairs, over the partners with which each pair of photos shares most matches.

    sound: for each of `views.pairs`, see `is_sound`. Loops that neither clearly close nor clearly do not are left out.
    """
    number = {pair.photos: n for n, pair in enumerate(views.pairs) if sound[n]}
    partners: list[list[tuple[int, int]]] = [[] for _ in views.photos]
    for (first, second), n in number.items():
        partners[first].append((-len(views.pairs[n].matches), second))
        partners[second].append((-len(views.pairs[n].matches), first))
    strongest = [{other for _, other in sorted(few)[:_PARTNERS]} for few in partners]
    loops: set[tuple[int, int, int]] = set()
    for first, second in number:
        for third in strongest[first] & strongest[second]:
            a, b, c = sorted((first, second, third))
            loops.add((number[a, b], number[b, c], number[a, c]))
    triplets = np.array(sorted(loops), int).reshape(-1, 3)
    if not len(triplets):
        return Loops(triplets, np.zeros(0, bool))
    moves = [_move(pair) if fits else _NO_MOVE for pair, fits in zip(views.pairs, sound, strict=True)]
    rotation, centre, unit = (np.array(part) for part in zip(*moves, strict=True))
    ab, bc, ac = triplets.T
    around = rotation[bc] @ rotation[ab]
    trace = np.einsum("nij,nij->n", around, rotation[ac])
    turn_deg = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    gap = centre[ab] + unit[ab, None] * np.einsum("nji,nj->ni", rotation[ab], centre[bc]) - centre[ac]
    far = np.array([np.nanmedian(photo.depth) if np.isfinite(photo.depth).any() else np.nan for photo in views.photos])
    start = np.array([views.pairs[n].photos[0] for n in ab], int)
    off = np.linalg.norm(gap, axis=1) / far[start]
    with np.errstate(invalid="ignore"):
        closes = (turn_deg < _CLOSED_DEG) & (off < _CLOSED_DISTANCE)
        opens = (turn_deg > 2 * _CLOSED_DEG) | (off > 2 * _CLOSED_DISTANCE)
    clear = closes | opens
    return Loops(triplets[clear], closes[clear])


def _move(pair: ViewPair) -> tuple[np.ndarray, np.ndarray, float]:
    place = pair.placed[0]
    assert place is not None
    return place.rotation, -place.rotation.T @ place.translation, place.unit


def propagate_beliefs(own: np.ndarray, loops: Loops) -> np.ndarray:
    """Log-odds (p,) that each pair shows one place, from its own evidence and from its loops.

    own: (p,) log-odds without loops. Belief propagation (Pearl 1988) with loops as factors: a loop that closes does
    not have exactly one false pair, a loop that does not close has at least one. The loops of a pair are not
    independent, so their messages are weighted down to those of a few loops.
    """
    if not len(loops.closes):
        return own
    pairs = loops.pairs
    times = np.bincount(pairs.ravel(), minlength=len(own))
    weight = np.minimum(1.0, _LOOPS_THAT_COUNT / np.maximum(times, 1))[pairs]
    message = np.zeros(pairs.shape)
    belief = own
    for _ in range(_ROUNDS):
        true = 1 / (1 + np.exp(weight * message - np.clip(belief, -_MOST, _MOST)[pairs]))
        update = np.empty_like(message)
        for one, (two, three) in enumerate(((1, 2), (0, 2), (0, 1))):
            both = true[:, two] * true[:, three]
            none = (1 - true[:, two]) * (1 - true[:, three])
            mixed = 1 - both - none
            if_true = np.where(loops.closes, both + _RARE * mixed + none, _RARE * both + 1 - both)
            if_false = np.where(loops.closes, _RARE * both + mixed + _ALL_FALSE * none, 1.0)
            update[:, one] = np.log(if_true / if_false)
        message = (message + update) / 2  # damped: full steps can oscillate
        belief = own + np.bincount(pairs.ravel(), (weight * message).ravel(), minlength=len(own))
    return belief


def open_loops(belief: np.ndarray, loops: Loops) -> np.ndarray:
    """For each pair (p,), the number of loops that do not close although both other pairs are trusted."""
    counted = np.zeros(len(belief), int)
    for one, two, three in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        others = (belief[loops.pairs[:, [two, three]]] > _TRUSTED).all(1)
        np.add.at(counted, loops.pairs[~loops.closes & others, one], 1)
    return counted


def contradicted_by_detours(views: Views, sound: list[bool], belief: np.ndarray) -> np.ndarray:
    """(p,) bool: pairs that contradict the shortest path of trusted pairs between their photos.

    A loop of any length, for pairs that are not trusted: their matched points are projected with the pose composed
    along the path, and are far from their matches. Pairs without a path of at most six pairs are not tested.
    """
    trusted = np.array(sound, bool) & (belief > _TRUSTED)
    steps: list[list[tuple[int, Placement]]] = [[] for _ in views.photos]
    for pair, good in zip(views.pairs, trusted, strict=True):
        for side, place in enumerate(pair.placed) if good else ():
            if place is not None and np.isfinite(place.unit):
                steps[pair.photos[side]].append((pair.photos[1 - side], place))
    tested: list[dict[int, int]] = [{} for _ in views.photos]
    for n, pair in enumerate(views.pairs):
        if not trusted[n]:
            tested[pair.photos[0]][pair.photos[1]] = n
    against = np.zeros(len(belief), bool)
    for start, ends in enumerate(tested):
        if not ends:
            continue
        paths = _paths(steps, start, ends.keys())
        for end, n in ends.items():
            if end in paths:
                length, place = paths[end]
                off = _off(views, views.pairs[n], place)
                against[n] = off > _DETOUR_OFF + _DETOUR_DRIFT * length
    return against


def _paths(steps: list[list[tuple[int, Placement]]], start: int, ends: Set[int]) -> dict[int, tuple[int, Placement]]:
    """For photos within `_LONGEST_DETOUR` pairs of `start`: the length of the path and the composed pose.

    No farther than needed for those that are wanted, `ends`.
    """
    paths = {start: (0, Placement(np.eye(3), np.zeros(3), 0.0, 1.0))}
    border = [start]
    for length in range(1, _LONGEST_DETOUR + 1):
        reached = []
        for photo in border:
            here = paths[photo][1]
            for other, step in steps[photo]:
                if other not in paths:
                    rotation = step.rotation @ here.rotation
                    translation = step.rotation @ here.translation + here.unit * step.translation
                    paths[other] = (length, Placement(rotation, translation, 0.0, here.unit * step.unit))
                    reached.append(other)
        border = reached
        if ends <= paths.keys():
            break
    return paths


def _off(views: Views, pair: ViewPair, place: Placement) -> float:
    """Median distance between matches and projections with `place`, relative to the longer side; 0 without depths."""
    first, second = (views.photos[number] for number in pair.photos)
    known = pair.matches[np.isfinite(first.depth[pair.matches[:, 0]])]
    if not len(known):
        return 0.0
    pixels, _, _ = predict(first, second, place)
    distance = np.linalg.norm(pixels[known[:, 0]] - second.keypoints[known[:, 1]], axis=1)
    return float(np.median(np.nan_to_num(distance, nan=np.inf))) / second.size_px
