"""Who is compared: matchers by the names the command line gives them.

A method is a matcher that proposes all it can, and the score above which its proposals count. So nearest
neighbours are matched once, whatever the ratios compared, and the same proposals give the whole curve of precision
and recall.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.features import short_hash
from lightmatch.matchers import LightGlue, Matcher, NearestNeighbor, SuperGlue
from lightmatch.runtime.devices import Precision, pick_dtype
from lightmatch.types import FeatureKind
from lightmatch.weights import matcher_weights

# What may stand behind a learned matcher's name.
_FULL = "full"
_PRECISIONS = tuple(name for name in get_args(Precision) if name != "auto")


@dataclass(frozen=True, eq=False)
class Method:
    """One row of the tables."""

    name: str
    matcher: Matcher  # proposes matches of any score
    min_score: float  # those above it count
    fingerprint: str  # changes with everything the proposals depend on; equal where they are the same
    device: str = "cpu"


def create_method(name: str, kind: FeatureKind, *, device: str = "cpu") -> Method:
    """The method called `name`, for features of `kind`.

    mutual: mutual nearest neighbours. ratio:0.8: the same with a ratio test in both directions. oneway:0.8: each
    keypoint of image 0 takes its nearest that passes the ratio test, whomever that one would take (Lowe 2004).
    lightglue: the weights in the package, or its authors'; lightglue:FILE: a checkpoint; ",full" behind either
    switches off what adapts depth and width. superglue:FILE: a checkpoint of SuperGlue. ",bfloat16" and ",float16"
    behind a learned one: in that precision instead of float32. "@0.8" at its end: only matches with a higher score
    count, instead of its own threshold.
    Raises InvalidValueError for other names, WeightsError or FeatureMismatchError where weights are missing or unfit.
    """
    base, threshold = _split_threshold(name)
    if threshold is not None:
        method = create_method(base, kind, device=device)
        if isinstance(method.matcher, NearestNeighbor):
            raise InvalidValueError(f"matcher {name!r}: expected a score threshold behind a learned matcher alone")
        return replace(method, name=name, min_score=threshold)
    bare, options = _split_options(name)
    form, _, value = bare.partition(":")
    full, precisions = _FULL in options, [option for option in options if option != _FULL]
    dtype = pick_dtype(precisions[0] if precisions else "float32")
    assert dtype is not None  # it is "auto" alone that has none
    if form == "lightglue" and len(precisions) < 2:
        path = Path(value) if value else matcher_weights("lightglue", kind.name)
        everything = {"depth_confidence": None, "width_confidence": None} if full else {}
        matcher = LightGlue.from_checkpoint(path, kind.name, device=device, dtype=dtype, **everything)
        return _learned(name, matcher, path, device)
    if form == "superglue" and value and len(precisions) < 2 and not full:
        matcher = SuperGlue.from_checkpoint(Path(value), kind.name, device=device, dtype=dtype)
        return _learned(name, matcher, Path(value), device)
    if form == "mutual" and not value and not options:
        return _nearest(name, None, True, device)
    if form in ("ratio", "oneway") and not options:
        try:
            return _nearest(name, float(value), form == "ratio", device)
        except ValueError as error:
            reason = f" ({error})"
    else:
        reason = ""
    raise InvalidValueError(
        "matcher: expected mutual, ratio:R or oneway:R with 0 < R ≤ 1, superglue:FILE, lightglue or lightglue:FILE,"
        f" the last two also with ,{_FULL} behind, all learned ones also with a precision (,{', ,'.join(_PRECISIONS)})"
        f" and with @SCORE, got {name!r}{reason}"
    )


def _split_threshold(name: str) -> tuple[str, float | None]:
    match = re.fullmatch(r"(.+)@(0?\.\d+)", name)
    return (match[1], float(match[2])) if match else (name, None)


def _split_options(name: str) -> tuple[str, list[str]]:
    """The name without the options behind it: a file's name may have commas too."""
    options: list[str] = []
    while (parts := name.rpartition(","))[2] in (_FULL, *_PRECISIONS):
        name = parts[0]
        options.append(parts[2])
    return name, options


def _nearest(name: str, ratio: float | None, mutual: bool, device: str) -> Method:
    NearestNeighbor(ratio)  # refuses a ratio out of range
    # A match passes the ratio test where its score, 1 − nearest/second distance, is above 1 − ratio.
    min_score = -math.inf if ratio is None else 1 - ratio
    matcher = NearestNeighbor(ratio=None, mutual=mutual, device=device)
    return Method(name, matcher, min_score, "nearest" if mutual else "nearest-oneway", device)


def _learned(name: str, matcher: LightGlue | SuperGlue, path: Path, device: str) -> Method:
    min_score = matcher.config.filter_threshold
    matcher.config = replace(matcher.config, filter_threshold=0.0)
    dtype = "" if matcher.dtype == torch.float32 else str(matcher.dtype)
    fingerprint = f"{type(matcher).__name__.lower()}-{short_hash(path.read_bytes(), repr(matcher.config) + dtype)}"
    return Method(name, matcher, min_score, fingerprint, device)
