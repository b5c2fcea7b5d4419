"""Twins: pairs of photos that agree, though they show two places that only look the same.

A façade's twin matches it as well as itself: geometry cannot tell. What stands around them can. If two photos show one
place from nearly one direction, then what one of them shows, and other photos confirm, must be in the other as well,
unless it lies outside the frame or something nearer stands in its place; and the other way round. Of twins, whole areas
are missing where nothing can hide them.
Sources of the idea: Zach et al. 2008 ("What can missing correspondences tell us about 3D structure and motion?"),
Heinly et al. 2014 ("Correcting for duplicate scene structure in sparse 3D reconstruction"), which look for it in
triplets and in finished models; Wilson and Snavely 2013 for reading it from tracks. Here it is read from pairs before
a model is made, and what cannot be judged so follows from what can by consistent triplets (Zach et al. 2010).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.reconstruction.disambiguation.evidence import Absence, absences, is_sound
from lightmatch.reconstruction.disambiguation.loops import believe, detours_against, open_loops, triple_loops
from lightmatch.reconstruction.disambiguation.views import Views, views_of_database

_MISSING_CELLS, _MISSING_SHARE = 5, 0.12  # of both sides together, in plain view: twins
_MISSING_BOTH_WAYS = 3  # or so many on each side
_LACKING_CELLS = 3  # on both sides, but they may be hidden: a pair of which nothing is known
_MANY_CELLS = 12  # decisive ones on either side, to trust a pair that lacks nothing
_TWINS = -6.0  # log-odds of a pair that lacks whole areas both ways
_FEWEST_TWINS = 2  # such pairs, to believe in twins at all: one may be one photo's wrong depths
_DETOUR = 2.0  # log-odds by which a detour speaks against a pair
_DROP_BELOW = -0.5
_SUSPECT_BELOW = 0.0
_SHOWN = 5  # pairs named in the warning


@dataclass(frozen=True)
class TwinPair:
    """A pair of photos that may show two places."""

    names: tuple[str, str]
    num_matches: int  # verified ones
    probability: float  # that it shows two places, as the model of evidence below has it; not calibrated
    absence: tuple[Absence, Absence] | None  # from the first photo to the second, and back; None: judged by loops alone
    num_open_loops: int  # loops with two trusted pairs that do not lead back
    detour: bool  # whether a way over trusted pairs leads elsewhere
    drop: bool

    @property
    def direct(self) -> bool:
        """Whether the pair shows it by itself, and not by the loops it is in."""
        return self.absence is not None and _evidence(self.absence) == _TWINS

    def __str__(self) -> str:
        parts = []
        if self.absence is not None:
            lacks = [f"{side.missing} of {side.in_view} areas" for side in self.absence]
            parts.append(f"{lacks[0]} of the first are missing in the second, {lacks[1]} the other way round")
        if self.num_open_loops:
            parts.append(f"contradicts {self.num_open_loops} pairs of trusted pairs")
        elif self.detour:
            parts.append("trusted pairs lead elsewhere")
        reason = "; ".join(parts) or "claims the same as pairs that are twins"
        return f"{self.names[0]} – {self.names[1]}: {self.num_matches} matches, but {reason}"


@dataclass(frozen=True)
class TwinReport:
    """What the check found; pairs in the order of their names."""

    num_pairs: int  # verified ones
    num_judged: int  # those near enough to be judged by what is missing
    suspicious: tuple[TwinPair, ...]

    @property
    def dropped(self) -> tuple[tuple[str, str], ...]:
        """Names of the pairs to drop, for `drop_pairs`."""
        return tuple(pair.names for pair in self.suspicious if pair.drop)

    def warning(self) -> str | None:
        """One sentence for the user, None where nothing is to be dropped."""
        pairs = sorted(
            (pair for pair in self.suspicious if pair.drop), key=lambda pair: (-pair.num_matches, pair.names)
        )
        if not pairs:
            return None
        shown = ", ".join(f"{pair.names[0]} – {pair.names[1]}" for pair in pairs[:_SHOWN])
        more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
        return (
            f"{len(pairs)} pairs of photos match but seem to show different places that look alike: {shown}{more};"
            " they are left out of the model"
        )


def find_twins(database: Path) -> TwinReport:
    """Verified pairs that seem to show two places that look alike, and which of them to drop.

    database: of COLMAP, after geometric verification; it is only read. The same database gives the same report.
    Nothing is dropped unless at least two pairs lack whole areas in plain view themselves; pairs seen from too
    different sides are judged by the loops they close with such pairs.
    """
    return report_twins(views_of_database(database))


def report_twins(views: Views) -> TwinReport:
    """`find_twins` of views that are there."""
    sound = [is_sound(pair) for pair in views.pairs]
    lacking = absences(views)
    own = np.array([_evidence(absence) if fits else 0.0 for absence, fits in zip(lacking, sound, strict=True)])
    num_judged = sum(absence is not None for absence in lacking)
    if (own == _TWINS).sum() < _FEWEST_TWINS:
        return TwinReport(len(views.pairs), num_judged, ())
    loops = triple_loops(views, sound)
    belief = believe(own, loops)
    opened = open_loops(belief, loops)
    against = detours_against(views, sound, belief)
    belief = belief - _DETOUR * against
    suspicious = [
        TwinPair(
            (views.photos[pair.photos[0]].name, views.photos[pair.photos[1]].name),
            len(pair.matches),
            float(1 / (1 + np.exp(belief[n]))),
            lacking[n],
            int(opened[n]),
            bool(against[n]),
            bool(belief[n] < _DROP_BELOW),
        )
        for n, pair in enumerate(views.pairs)
        if belief[n] < _SUSPECT_BELOW
    ]
    return TwinReport(len(views.pairs), num_judged, tuple(suspicious))


def drop_pairs(database: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Delete the verified geometries of pairs of photos, so that the mapper does not see them.

    Their raw matches stay in the table `matches`: `MatchDatabase.verify` verifies pairs that have no geometry, and so
    brings them back. All or nothing. Raises InvalidValueError where a photo is not in the database; a pair that was
    not verified is left as it is.
    """
    with open_database(database, write=True) as opened:
        opened.drop_verified(pairs)


def _evidence(absence: tuple[Absence, Absence] | None) -> float:
    """Log-odds from a pair's own absences: `_TWINS` where whole areas in plain view are missing."""
    if absence is None:
        return 0.5  # it fits, and most pairs are true
    missing, in_view = sum(side.missing for side in absence), sum(side.in_view for side in absence)
    enough = missing >= _MISSING_CELLS or min(side.missing for side in absence) >= _MISSING_BOTH_WAYS
    if enough and missing >= _MISSING_SHARE * in_view:
        return _TWINS
    fewest, most = sorted(side.lacking for side in absence)
    if fewest >= _LACKING_CELLS:
        return -0.5 if missing < _LACKING_CELLS else -1.5
    if most <= 1:
        return 2.0 if min(side.decisive for side in absence) >= _MANY_CELLS else 1.0
    return (0.5, 0.0, -1.0)[fewest]
