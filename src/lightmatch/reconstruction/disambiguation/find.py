"""Visual disambiguation: doppelgängers are pairs of photos of different places that look alike.

Their matches pass geometric verification, so the evidence is in their surroundings. If two photos show the same place
from similar directions, then points of one photo that other photos confirm must also be visible in the other photo,
unless they are outside its frame or occluded; and vice versa. In a pair of doppelgängers whole areas are missing that
nothing can occlude.
Sources of the idea: Zach et al. 2008 ("What can missing correspondences tell us about 3D structure and motion?") for
triplets, Heinly et al. 2014 ("Correcting for duplicate scene structure in sparse 3D reconstruction") for finished
models, Wilson and Snavely 2013 ("Network principles for SfM: disambiguating repeated structures with local context")
for tracks. Here pairs are classified before mapping, and pairs without evidence of their own are classified by loop
consistency (Zach et al. 2010).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.reconstruction.disambiguation.evidence import Absence, absences, is_sound
from lightmatch.reconstruction.disambiguation.loops import (
    contradicted_by_detours,
    open_loops,
    propagate_beliefs,
    triple_loops,
)
from lightmatch.reconstruction.disambiguation.views import Views, views_of_database

_MISSING_CELLS, _MISSING_SHARE = 5, 0.12  # of both photos together, unoccluded: a doppelgänger pair
_MISSING_BOTH_WAYS = 3  # or this many in each photo
_LACKING_CELLS = 3  # in both photos, but possibly occluded: no evidence
_MANY_CELLS = 12  # decisive cells in each photo, to trust a pair without missing cells
_DOPPELGANGER = -6.0  # log-odds of a pair in which whole areas are missing in both photos
_MIN_DOPPELGANGERS = 2  # such pairs needed to drop any: a single one may be a photo with wrong depths
_DETOUR = 2.0  # log-odds subtracted from a pair that contradicts a detour
_DROP_BELOW = -0.5
_SUSPECT_BELOW = 0.0
_OPEN_SHARE = 0.01  # of loops; 0 in ordinary sets, 0.014 to 0.24 in scenes of repeated objects
_SHOWN = 5  # pairs named in the warning


@dataclass(frozen=True)
class DoppelgangerPair:
    """A verified pair of photos that may show two different places."""

    names: tuple[str, str]
    num_matches: int  # verified matches
    probability: float  # that it shows two places; not calibrated
    absence: tuple[Absence, Absence] | None  # first photo to second, and back; None: classified by loops alone
    num_open_loops: int  # loops with two trusted pairs that do not close
    detour: bool  # whether the pose composed along a path of trusted pairs contradicts the pair
    drop: bool

    @property
    def direct(self) -> bool:
        """Whether the missing correspondences of the pair itself are sufficient evidence, without loops."""
        return self.absence is not None and _evidence(self.absence) == _DOPPELGANGER

    def __str__(self) -> str:
        parts = []
        if self.absence is not None:
            lacks = [f"{side.missing} of {side.in_view} areas" for side in self.absence]
            parts.append(f"{lacks[0]} of the first are missing in the second, {lacks[1]} the other way round")
        if self.num_open_loops:
            parts.append(f"{self.num_open_loops} loops with trusted pairs do not close")
        elif self.detour:
            parts.append("the path over trusted pairs ends at another place")
        reason = "; ".join(parts) or "consistent with pairs that are doppelgängers"
        return f"{self.names[0]} – {self.names[1]}: {self.num_matches} matches, but {reason}"


@dataclass(frozen=True)
class DoppelgangerReport:
    """Result of visual disambiguation; pairs in the order of their names."""

    num_pairs: int  # verified pairs
    num_classified: int  # of these, pairs with enough expected matches to be classified by missing ones
    num_loops: int  # of three pairs, that clearly close or clearly do not
    num_open_loops: int  # of these, those that do not
    suspicious: tuple[DoppelgangerPair, ...]

    @property
    def is_ambiguous(self) -> bool:
        """Whether places may look alike: pairs are to be dropped, or loops do not close. Of ordinary sets none is open.

        Says so by fewer matches than it takes to tell which pairs are false.
        """
        return bool(self.dropped) or self.num_open_loops > _OPEN_SHARE * self.num_loops

    @property
    def dropped(self) -> tuple[tuple[str, str], ...]:
        """Names of the pairs to drop, for `drop_pairs`."""
        return tuple(pair.names for pair in self.suspicious if pair.drop)

    def warning(self) -> str | None:
        """One sentence for the user; None where no pair is to be dropped."""
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


def find_doppelgangers(
    database: Path, first_keypoints: Mapping[tuple[str, str], int] | None = None
) -> DoppelgangerReport:
    """Verified pairs that probably show two places that look alike, and which of them to drop.

    database: of COLMAP, after geometric verification; it is only read. The same database gives the same report.
    first_keypoints: of pairs of which only the first keypoints of either photo were matched, their number.
    Nothing is dropped unless whole unoccluded areas are missing in at least two pairs; pairs with a wide viewing
    angle are classified by the loops they form with such pairs.
    """
    return doppelgangers_of_views(views_of_database(database, first_keypoints))


def doppelgangers_of_views(views: Views) -> DoppelgangerReport:
    """`find_doppelgangers` for views that were read before."""
    sound = [is_sound(pair) for pair in views.pairs]
    lacking = absences(views)
    own = np.array([_evidence(absence) if fits else 0.0 for absence, fits in zip(lacking, sound, strict=True)])
    num_classified = sum(absence is not None for absence in lacking)
    loops = triple_loops(views, sound)
    counts = (len(views.pairs), num_classified, len(loops.closes), int((~loops.closes).sum()))
    if (own == _DOPPELGANGER).sum() < _MIN_DOPPELGANGERS:
        return DoppelgangerReport(*counts, ())
    belief = propagate_beliefs(own, loops)
    opened = open_loops(belief, loops)
    against = contradicted_by_detours(views, sound, belief)
    belief = belief - _DETOUR * against
    suspicious = [
        DoppelgangerPair(
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
    return DoppelgangerReport(*counts, tuple(suspicious))


def drop_pairs(database: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Delete the verified geometries of pairs of photos, so that the mapper ignores the pairs.

    Their raw matches stay in the table `matches`: `MatchDatabase.verify` verifies pairs without a geometry, which
    restores them. All pairs or none are deleted. A pair that was not verified is ignored.
    Raises InvalidValueError where a photo is not in the database.
    """
    with open_database(database, write=True) as opened:
        opened.drop_verified(pairs)


def _evidence(absence: tuple[Absence, Absence] | None) -> float:
    """Log-odds from the missing correspondences of a pair: `_DOPPELGANGER` where whole visible areas are missing."""
    if absence is None:
        return 0.5  # consistent poses: most such pairs are true
    missing, in_view = sum(side.missing for side in absence), sum(side.in_view for side in absence)
    enough = missing >= _MISSING_CELLS or min(side.missing for side in absence) >= _MISSING_BOTH_WAYS
    if enough and missing >= _MISSING_SHARE * in_view:
        return _DOPPELGANGER
    fewest, most = sorted(side.lacking for side in absence)
    if fewest >= _LACKING_CELLS:
        return -0.5 if missing < _LACKING_CELLS else -1.5
    if most <= 1:
        return 2.0 if min(side.decisive for side in absence) >= _MANY_CELLS else 1.0
    return (0.5, 0.0, -1.0)[fewest]
