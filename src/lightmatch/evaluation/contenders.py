"""Who is compared: matchers by the names the command line gives them.

A contender is a matcher that proposes all it can, and the score above which its proposals count. So nearest
neighbours are matched once, whatever the ratios compared, and the same proposals give the whole curve of precision
and recall.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.features import short_hash
from lightmatch.matchers import LightGlue, Matcher, NearestNeighbor, SuperGlue
from lightmatch.types import FeatureKind
from lightmatch.weights import matcher_weights

_FULL = ",full"


@dataclass(frozen=True, eq=False)
class Contender:
    """One row of the tables."""

    name: str
    matcher: Matcher  # proposes matches of any score
    min_score: float  # those above it count
    fingerprint: str  # changes with everything the proposals depend on; equal where they are the same
    device: str = "cpu"


def create_contender(name: str, kind: FeatureKind, *, device: str = "cpu") -> Contender:
    """The contender called `name`, for features of `kind`.

    mutual: mutual nearest neighbours. ratio:0.8: the same with a ratio test in both directions. oneway:0.8: each
    keypoint of image 0 takes its nearest that passes the ratio test, whomever that one would take (Lowe 2004).
    lightglue: the weights in the package, or its authors'; lightglue:FILE: a checkpoint; ",full" behind either
    switches off what adapts depth and width. superglue:FILE: a checkpoint of SuperGlue. "@0.8" at the end of a learned
    one: only matches with a higher score count, instead of its own threshold.
    Raises InvalidValueError for other names, WeightsError or FeatureMismatchError where weights are missing or unfit.
    """
    base, threshold = _split_threshold(name)
    if threshold is not None:
        contender = create_contender(base, kind, device=device)
        if isinstance(contender.matcher, NearestNeighbor):
            raise InvalidValueError(f"matcher {name!r}: expected a score threshold behind a learned matcher alone")
        return replace(contender, name=name, min_score=threshold)
    form, _, value = name.removesuffix(_FULL).partition(":")
    full = name.endswith(_FULL)
    if form == "lightglue":
        return _lightglue(name, Path(value) if value else matcher_weights("lightglue", kind.name), kind, full, device)
    if form == "superglue" and value and not full:
        return _superglue(name, Path(value), kind, device)
    if form == "mutual" and not value and not full:
        return _nearest(name, None, True, device)
    if form in ("ratio", "oneway") and not full:
        try:
            return _nearest(name, float(value), form == "ratio", device)
        except ValueError as error:
            reason = f" ({error})"
    else:
        reason = ""
    raise InvalidValueError(
        "matcher: expected mutual, ratio:R or oneway:R with 0 < R ≤ 1, superglue:FILE, lightglue or lightglue:FILE,"
        f" the last two also with {_FULL} behind, all learned ones also with @SCORE, got {name!r}{reason}"
    )


def _split_threshold(name: str) -> tuple[str, float | None]:
    match = re.fullmatch(r"(.+)@(0?\.\d+)", name)
    return (match[1], float(match[2])) if match else (name, None)


def _nearest(name: str, ratio: float | None, mutual: bool, device: str) -> Contender:
    NearestNeighbor(ratio)  # refuses a ratio out of range
    # A match passes the ratio test where its score, 1 − nearest/second distance, is above 1 − ratio.
    min_score = -math.inf if ratio is None else 1 - ratio
    matcher = NearestNeighbor(ratio=None, mutual=mutual, device=device)
    return Contender(name, matcher, min_score, "nearest" if mutual else "nearest-oneway", device)


def _lightglue(name: str, path: Path, kind: FeatureKind, full: bool, device: str) -> Contender:
    matcher = LightGlue.from_checkpoint(path, kind.name, device=device)
    if full:
        matcher.config = replace(matcher.config, depth_confidence=None, width_confidence=None)
    return _learned(name, matcher, path, device)


def _superglue(name: str, path: Path, kind: FeatureKind, device: str) -> Contender:
    return _learned(name, SuperGlue.from_checkpoint(path, kind.name, device=device), path, device)


def _learned(name: str, matcher: LightGlue | SuperGlue, path: Path, device: str) -> Contender:
    min_score = matcher.config.filter_threshold
    matcher.config = replace(matcher.config, filter_threshold=0.0)
    fingerprint = f"{type(matcher).__name__.lower()}-{short_hash(path.read_bytes(), repr(matcher.config))}"
    return Contender(name, matcher, min_score, fingerprint, device)
