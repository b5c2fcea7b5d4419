"""Which photos are mirrored, by their matches: geometry alone cannot tell.

A mirrored photo of a place is a photo of the mirrored place: where something is alike on both sides, such as a facade,
it fits a model of the place, from a side it was not taken from. But mirrored back it matches the others far better.
Pairs are tested along the spanning tree of those with most matches: one pair for each photo, and mostly both photos of
a pair are mirrored or none is, for the mirrored ones match each other too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lightmatch.errors import listed
from lightmatch.extractors import Extractor
from lightmatch.extractors.sift import SIFT, mirror_sift
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.images import ANY_NUMBER, load_image
from lightmatch.images.rotation import flip_features, flip_image
from lightmatch.matchers import Matcher
from lightmatch.pipelines.reconstruct import first_pass
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.matching import MatchedPairs
from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName, Gathered
from lightmatch.reconstruction import LeftOut
from lightmatch.runtime.store import digest
from lightmatch.types import Features, Matches

_BETTER = 2.0  # times the verified matches: of ordinary sets 1.2 times at most, of mirrored photos 2.9 and more
_LEAST = 50  # verified matches that say anything
_SHARE = 0.12  # of the keypoints, of a pair that is called mirrored: two sides of a temple, photos far apart, reach 0.1
_TRIES = 3  # undecided pairs of a photo, before no more of its pairs are tested
_LARGE = 3  # photos: two groups of so many and more are taken for mirrored once two pairs between them say so
_MAX_KEYPOINTS = 1024  # keypoints of a photo, the strongest
_THRESHOLD_PX = 4.0  # of a match from its epipolar line; COLMAP's
_ENOUGH = 1 / _BETTER  # of the keypoints matched: mirrored back, there cannot be so many more


def find_mirrored(
    run: Run, pictures: Sequence[Picture], matched: MatchedPairs, extractor: Extractor, matcher: Matcher
) -> frozenset[str]:
    """Names of the photos that are mirrored against the others; of two kinds the fewer are.

    All frames of a video, and all views of a panorama, are or none is.
    """
    features = FeaturesByName.of(run, pictures, _MAX_KEYPOINTS)

    def alikeness(pair: Pair) -> int:
        most = first_pass.KEYPOINTS if pair in matched.by_few else _MAX_KEYPOINTS  # as it is, and mirrored
        features0, features1 = (features[name].strongest(most) for name in pair)
        as_is = matched.of(pair).matches
        as_is = as_is.subset((as_is.indices < most).all(1))
        if len(as_is) >= _ENOUGH * min(len(features0), len(features1)):
            return 1
        mirrored = _flipped(features0, run.layout.images / pair[0], extractor)
        found = matcher(mirrored, features1)
        if max(len(as_is), len(found)) < _LEAST:
            return 0
        num_as_is = _num_verified(features0, features1, as_is)
        num_mirrored = _num_verified(mirrored, features1, found) if len(found) >= _BETTER * num_as_is else 0
        if num_mirrored >= max(_BETTER * num_as_is, _SHARE * min(len(features0), len(features1)), _LEAST):
            return -1
        return 1 if num_as_is >= max(num_mirrored, _LEAST) else 0

    def make() -> frozenset[str]:
        names = [picture.name for picture in pictures]
        counts = {pair: len(found.matches) for pair, found in matched.read()}
        with run.progress.stage("mirrored", len(names)) as step:
            return frozenset(mirrored_photos(names, counts, alikeness, _together(pictures), step))

    key = digest("mirrored", [[picture.name, picture.key] for picture in pictures], list(matched.keys))
    return run.cache.value(run.stage_name("mirrored"), key, frozenset[str], make)


def photos_among(pictures: Sequence[Picture], names: Collection[str]) -> list[Picture]:
    """The pictures of these names that are photos: only those can be flipped, frames and views are made by this run."""
    return [
        picture for picture in pictures if picture.name in names and picture.video is None and picture.view_of is None
    ]


def without_mirrored(gathered: Gathered, left_out: Collection[str], flipped: Collection[str]) -> Gathered:
    """Without the mirrored pictures that are left out, each with its reason; warnings name these and the flipped ones.

    left_out, flipped: names of pictures.
    """
    gone = [picture.shown for picture in gathered.pictures if picture.name in left_out]
    back = [picture.shown for picture in gathered.pictures if picture.name in flipped]
    warnings = []
    if gone:
        warnings.append(f"mirrored against the others, and left out: {listed(gone)}")
    if back:
        warnings.append(f"mirrored against the others, and flipped back: {listed(back)}")
    return replace(
        gathered,
        pictures=tuple(picture for picture in gathered.pictures if picture.name not in left_out),
        set_aside=tuple(picture for picture in gathered.pictures if picture.name in left_out),
        left_out=(*gathered.left_out, *(LeftOut.mirrored(shown) for shown in gone)),
        warnings=(*gathered.warnings, *warnings),
    )


def _flipped(features: Features, photo: Path, extractor: Extractor) -> Features:
    """The same keypoints in the photo with left and right exchanged, described there."""
    if features.kind == SIFT:
        return mirror_sift(features)
    flipped = flip_features(features)
    return extractor.describe(
        flip_image(load_image(photo, ANY_NUMBER)),
        flipped.keypoints,
        scores=flipped.scores,
        scales=flipped.scales,
        orientations=flipped.orientations,
    )


def mirrored_photos(
    names: Sequence[str],
    counts: Mapping[Pair, int],
    alikeness: Callable[[Pair], int],
    together: Sequence[Sequence[str]] = (),
    step: Callable[[], None] = lambda: None,
) -> set[str]:
    """The photos that are mirrored against most of those they hang together with.

    counts: matches of each pair, as the photos are. alikeness: of a pair, −1 where one of the two is mirrored, 1 where
    both or none is, 0 where that is undecided. together: groups of photos of which all or none are. step: called
    as often as there are names.
    """
    group_of = {name: number for number, name in enumerate(names)}
    members = {number: [name] for number, name in enumerate(names)}
    sign = dict.fromkeys(names, 1)  # against the others of its group

    def join(pair: Pair, alike: int) -> None:
        kept, gone = sorted((group_of[name] for name in pair), key=lambda group: -len(members[group]))
        turn = alike * sign[pair[0]] * sign[pair[1]]
        for name in members[gone]:
            group_of[name] = kept
            sign[name] *= turn
        members[kept] += members.pop(gone)
        step()

    for group in together:
        for name in group[1:]:
            if group_of[name] != group_of[group[0]]:
                join((group[0], name), 1)
    tries = dict.fromkeys(names, 0)  # undecided pairs
    between: dict[frozenset[int], int] = {}  # two large groups → what one pair says, until a second one agrees

    def smaller(pair: Pair) -> list[str]:
        """The photos of a pair that are in the smaller group, both where they are equal."""
        sizes = [len(members[group_of[name]]) for name in pair]
        return [name for name, size in zip(pair, sizes, strict=True) if size == min(sizes)]

    for pair in sorted(counts, key=lambda pair: (-counts[pair], pair)):
        groups = frozenset(group_of[name] for name in pair)
        if len(groups) == 1 or max(tries[name] for name in smaller(pair)) >= _TRIES:
            continue
        alike = alikeness(pair)
        if not alike:
            for name in smaller(pair):
                tries[name] += 1
        elif alike < 0 and min(len(members[group]) for group in groups) >= _LARGE and between.get(groups) != alike:
            between[groups] = alike
        else:
            join(pair, alike)
    place = {name: number for number, name in enumerate(names)}
    found: set[str] = set()
    for group in members.values():
        step()
        first = min(group, key=place.__getitem__)
        sides = [[name for name in group if sign[name] == side] for side in (sign[first], -sign[first])]
        found.update(min(reversed(sides), key=len))  # of two equal ones, that without the first photo
    return found


def _num_verified(features0: Features, features1: Features, matches: Matches) -> int:
    return estimate_fundamental(
        *matches.points(features0, features1), SearchOptions(threshold_px=_THRESHOLD_PX)
    ).num_inliers


def _together(pictures: Sequence[Picture]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for picture in pictures:
        source = picture.video or (picture.view_of.panorama if picture.view_of else None)
        if source is not None:
            groups.setdefault(source, []).append(picture.name)
    return list(groups.values())
