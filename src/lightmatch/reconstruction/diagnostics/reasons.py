"""Why photos were left out of a model, and what to photograph next."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from lightmatch.inputs.image_quality import Flaw, PictureQuality, find_flaws
from lightmatch.reconstruction.diagnostics.capture_advice import STRONG_MATCHES
from lightmatch.reconstruction.mapping.mappers import ORDINARY

LeftOutKind = Literal[
    "unreadable",
    "duplicate",
    "dark",
    "overexposed",
    "blank",
    "blurred",
    "no overlap",
    "matches outside",
    "few matches",
    "doppelgänger",
    "only rotated",
    "mirrored",
    "other model",
    "not fixed",
    "outlier camera",
    "no pose",
    "other",
]

_FEW_KEYPOINTS = 50
_ENOUGH_TO_START = ORDINARY.init_min_num_inliers  # fewer may do: later attempts ask for less, COLMAP halves it too

_FLAWS: dict[Flaw, tuple[str, str]] = {
    "dark": ("too dark", "retake it with more light, or a longer exposure on a stand"),
    "overexposed": ("overexposed", "retake it with less exposure: most of it is plain white"),
    "blank": ("hardly any texture", "step back until edges, corners or patterns are in the picture"),
    "blurred": ("blurred", "retake it sharp: hold still, focus, or shorten the exposure with more light"),
}


@dataclass(frozen=True)
class LeftOut:
    """A photo that is not in the model."""

    name: str
    reason: str  # a sentence for people
    kind: LeftOutKind = "other"
    advice: str = ""  # what to photograph next; empty where nothing helps or nothing is missing

    @classmethod
    def unreadable(cls, name: str, problem: str) -> LeftOut:
        """A photo that cannot be read. problem: what was expected and what came."""
        return cls(name, f"unreadable: {problem}", "unreadable")

    @property
    def problem(self) -> str:
        """Of a photo that cannot be read what was expected and what came; else the reason."""
        return self.reason.removeprefix("unreadable: ")

    @classmethod
    def not_used(cls, name: str, reason: str) -> LeftOut:
        """A file that was named and is no photo that can be used. reason: as `inputs` gives it."""
        return cls(name, reason, "unreadable")

    @classmethod
    def same_file(cls, name: str, first: str) -> LeftOut:
        """A file with the bytes of another. first: that which is used."""
        return cls(name, f"the same file as {first}", "duplicate")

    @classmethod
    def same_picture(cls, name: str, first: str) -> LeftOut:
        """A photo with the pixels of another in another file. first: that which is used."""
        return cls(name, f"the same picture as {first}", "duplicate")

    @classmethod
    def mirrored(cls, name: str) -> LeftOut:
        """A photo that is mirrored against the others."""
        return cls(
            name,
            "mirrored: it matches the others far better with left and right exchanged",
            "mirrored",
            "run again with --mirrored flip-back, or with --mirrored keep if it is not mirrored; flip a video or a"
            " panorama before the run",
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run knows of its photos, all by the names in the model; what was not computed is empty."""

    num_keypoints: Mapping[str, int]  # of every photo that was read
    verified: Mapping[tuple[str, str], int]  # matches by pair
    quality: Mapping[str, PictureQuality] = field(default_factory=dict)
    cameras: Sequence[Sequence[str]] = ()  # groups of photos of one camera: sharpness is compared within them
    doppelgangers: Collection[tuple[str, str]] = ()  # pairs that were dropped: two places that look alike
    only_rotated: Collection[str] = ()  # photos of a camera that did not change its place
    outlier_cameras: Collection[str] = ()  # photos that were placed, and removed for lying where they cannot be
    are_poses_given: bool = False  # only photos with one are in the model then


def explain_left_out(
    evidence: Evidence,
    registered: Collection[str],
    elsewhere: Mapping[str, int],
    sources: Mapping[str, str] | None = None,
) -> tuple[LeftOut, ...]:
    """A reason and an advice for each photo that the model lacks, in the order of `evidence.num_keypoints`.

    registered: photos in the model. elsewhere: number of the other model that a photo is in. sources: how to call the
    left-out photos; their names by default.
    """
    inside = frozenset(registered)
    near = _Near(evidence.verified, inside, elsewhere)
    flaws = find_flaws(evidence.quality, evidence.cameras)
    found = []
    for name in evidence.num_keypoints:
        if name not in inside:
            shown = (sources or {}).get(name, name)
            found.append(LeftOut(shown, *_explain(name, evidence, near, flaws.get(name))))
    return tuple(found)


class _Near:
    """What is near the photos that are not in a model; looked up once for all of them."""

    def __init__(
        self, verified: Mapping[tuple[str, str], int], inside: frozenset[str], elsewhere: Mapping[str, int]
    ) -> None:
        """As for `explain_left_out`. inside: photos in the model."""
        self.inside, self.elsewhere = inside, elsewhere
        self.partners: dict[str, dict[str, int]] = defaultdict(dict)  # verified matches by the other photo
        self.links: dict[int, tuple[int, str, str]] = {}  # to each other model the most matches, of which two photos
        self._folders: dict[PurePosixPath, list[str]] = defaultdict(list)  # photos in the model, sorted
        for pair, count in verified.items():
            for here, there in (pair, pair[::-1]):
                self.partners[here][there] = count
                number = elsewhere.get(there)
                if number is not None and here in inside:
                    self.links[number] = max(self.links.get(number, (0, "", "")), (count, here, there))
        for name in sorted(inside):
            self._folders[PurePosixPath(name).parent].append(name)

    def neighbor(self, name: str) -> str | None:
        """The photo in the model likely taken next to it: the nearest in the order of names, of its folder first."""
        beside = self._folders.get(PurePosixPath(name).parent)
        return beside[max(bisect(beside, name) - 1, 0)] if beside else min(self.inside, default=None)


def _explain(name: str, evidence: Evidence, around: _Near, flaw: Flaw | None) -> tuple[str, LeftOutKind, str]:
    """(reason, kind, advice) for one photo."""
    partners = around.partners.get(name, {})
    friends = {other: count for other, count in partners.items() if other in around.inside}
    best = max(friends, key=lambda other: (friends[other], other), default=None)
    near = best or around.neighbor(name)
    if evidence.are_poses_given:
        return "poses are given, and none for this photo", "no pose", "name its pose too, or leave all poses out"
    if name in evidence.outlier_cameras:
        reason = "it was placed where it cannot have been taken, and removed"
        return reason, "outlier camera", _between(name, near, "its matches contradict each other")
    if name in around.elsewhere:
        return _in_another_model(name, around)
    if name in evidence.only_rotated:
        reason = "the camera only rotated here, so no depth can be had"
        return reason, "only rotated", "step aside between photos rather than rotate on the spot"
    if flaw is not None and (best is None or friends[best] < STRONG_MATCHES):
        what, advice = _FLAWS[flaw]
        return f"{what}: {evidence.quality[name].describe(flaw)}", flaw, advice
    if evidence.num_keypoints[name] < _FEW_KEYPOINTS:
        reason = (
            f"only {evidence.num_keypoints[name]} keypoints: blurred, dark or without texture, or"
            " --max-keypoints is too low"
        )
        return reason, "blank", _FLAWS["blank"][1]
    lookalikes = sorted({pair[1 - pair.index(name)] for pair in evidence.doppelgangers if name in pair})
    if lookalikes and (best is None or friends[best] < STRONG_MATCHES):
        reason = f"it looks like {lookalikes[0]} but shows another place: their matches were dropped"
        return (
            reason,
            "doppelgänger",
            "photograph what differs between the two places: step back until their surroundings show",
        )
    if not partners:
        reason = "no verified matches with any photo: it may show something else"
        return reason, "no overlap", _if_one_place(_between(name, near, "neighbours should share more than half of it"))
    if best is None:
        reason = f"matches only photos that are not in the model ({', '.join(sorted(partners)[:3])})"
        return reason, "matches outside", _between(name, near, "to join these photos to the model")
    if friends[best] < STRONG_MATCHES:
        reason = f"too few verified matches: at most {friends[best]} (with {best})"
        return reason, "few matches", f"come closer to where {best} was taken, or take 1–2 photos between it and {name}"
    reason = f"{friends[best]} matches with {best}, but its position could not be fixed"
    return reason, "not fixed", f"step sideways rather than turn on the spot: take 2–3 photos beside {best}"


def _in_another_model(name: str, around: _Near) -> tuple[str, LeftOutKind, str]:
    number = around.elsewhere[name]
    reason = f"placed in another model, sparse/{number}, that shares too little with this one"
    if number in around.links:
        _, here, there = around.links[number]
        return reason, "other model", f"take 2–3 photos between {here} and {there}, where the two models are nearest"
    return reason, "other model", _if_one_place(_between(name, around.neighbor(name), "to join the two models"))


def _if_one_place(advice: str) -> str:
    """For photos that share nothing: they may be of another place, to which there is no way to walk."""
    return advice and f"if it shows the same place, {advice}"


def _between(name: str, other: str | None, why: str) -> str:
    return f"take 2–3 photos between {other} and {name}: {why}" if other else ""


def no_model_reason(num_keypoints: Mapping[str, int], verified: Mapping[tuple[str, str], int]) -> str:
    """Why nothing could be registered, and what to do, in one sentence."""
    poor = [name for name, count in num_keypoints.items() if count < _FEW_KEYPOINTS]
    if len(num_keypoints) - len(poor) < 2:
        return (
            f"{len(poor)} of {len(num_keypoints)} have fewer than {_FEW_KEYPOINTS} keypoints;"
            " take sharp photos of textured things, or raise --max-keypoints"
        )
    if not verified:
        return (
            "no two photos share enough verified matches;"
            " take photos that overlap by half or more, or raise --max-keypoints"
        )
    best = max(verified.values())
    if best < _ENOUGH_TO_START:
        return (
            f"no pair has more than {best} verified matches, and none could start a model ({_ENOUGH_TO_START} or more"
            " make it likely); raise --max-keypoints, or take photos that overlap more"
        )
    return (
        f"photos match (up to {best} matches in a pair), but none could start a model: they may show the same view;"
        " move sideways between photos rather than turning on the spot"
    )
