"""What a family of matchers registers once, and how it is found by name.

A family is one file of this folder. Its name is read from the source; the file is imported when the family is used.
"""

from __future__ import annotations

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from lightmatch.errors import InvalidValueError
from lightmatch.matchers.spec import GRAMMAR, MatcherSpec, family_name, split_spec
from lightmatch.runtime.discovery import registered_names

if TYPE_CHECKING:
    import torch

    from lightmatch.matchers.base import ImageMatcher, Matcher

_PACKAGE = "lightmatch.matchers"


@dataclass(frozen=True)
class MatcherSetup:
    """What a matcher is made for, whatever its family."""

    features: str | None = None  # name of their kind; None: those that the weights name, or the family's default
    device: str = "cpu"  # as `pick_device` gives it
    dtype: torch.dtype | None = None  # where the specification names no precision; None: the family's own choice
    max_keypoints: int = 2048  # for matchers of images that find keypoints first


@dataclass(frozen=True, eq=False)
class Proposals:
    """A matcher that proposes matches of any score, and the score above which they count.

    So that matchers which differ in their threshold alone are run once, and one set of proposals gives the whole curve
    of precision and recall.
    """

    matcher: Matcher | ImageMatcher
    min_score: float  # matches that score higher count
    fingerprint: str  # changes with everything the proposals depend on; equal where they are the same


class MatcherFamily(ABC):
    """What its specifications mean, and which parts it has for the verbs.

    The parts are references, "module:attribute", which are imported when a verb needs them; None: it has no such part.
    """

    name: str  # set by `register`
    usage: str  # how its specifications look, for help and errors
    takes: Literal["features", "images"] = "features"  # of two images
    options: tuple[str, ...] = ()  # words that may stand behind a comma
    takes_min_score: bool = False  # whether @SCORE may stand at the end

    config: str | None = None  # frozen dataclass of the network: table [NAME] of a recipe
    objective: str | None = None  # (network, its config, recipe's [objective]) → module that gives losses of a batch
    runners: str | None = None  # rows of `lightmatch benchmark`: tuple of lightmatch.benchmark.Runner

    @abstractmethod
    def create(self, spec: MatcherSpec, setup: MatcherSetup) -> Matcher | ImageMatcher:
        """The matcher of a checked specification; an ImageMatcher where the family takes images.

        Raises WeightsError or FeatureMismatchError where weights are missing or made for other features.
        """

    def check(self, spec: MatcherSpec) -> None:  # noqa: B027  # most have nothing to do
        """Raise InvalidValueError where source and options do not fit the family; nothing is read for it."""

    def propose(self, spec: MatcherSpec, setup: MatcherSetup) -> Proposals:
        """The matcher for an evaluation. Here: as `create` makes it, all its matches count."""
        return Proposals(self.create(spec, setup), float("-inf"), re.sub(r"[^\w.,-]", "_", str(spec)))

    def adaptive(self, spec: MatcherSpec) -> bool:
        """Whether it does less on easy pairs, so that a benchmark times it on each kind of pair."""
        return False

    def refuse(self, spec: MatcherSpec, got: str) -> InvalidValueError:
        """The error about a specification of this family."""
        return InvalidValueError(f"matcher {str(spec)!r}: expected {self.usage}, got {got}")


_FAMILIES: dict[str, MatcherFamily] = {}
_F = TypeVar("_F", bound=MatcherFamily)


def register(name: str) -> Callable[[type[_F]], type[_F]]:
    """Class decorator of a family: makes its matchers available as `name`, a string literal.

    Raises InvalidValueError where the name is taken.
    """

    def add(family_type: type[_F]) -> type[_F]:
        if name in _FAMILIES:
            raise InvalidValueError(f"register: expected a new matcher name, got {name!r}, which is taken")
        family = family_type()
        family.name = name
        _FAMILIES[name] = family
        return family_type

    return add


def available_matchers() -> list[str]:
    """The names of all families, sorted. Imports none of them."""
    return sorted(_modules())


def matcher_family(name: str) -> MatcherFamily:
    """The family `name`; its file is imported. Raises InvalidValueError where there is none."""
    if name not in _FAMILIES:
        modules = _modules()
        if name not in modules:
            raise InvalidValueError(
                f"matcher: expected {GRAMMAR} with a family among {', '.join(sorted(modules))}, got {name!r}"
            )
        importlib.import_module(modules[name])
    return _FAMILIES[name]


def parse_matcher(text: str | MatcherSpec) -> MatcherSpec:
    """The specification that a text means, checked by its family: the one parser of all verbs.

    text: FAMILY[:SOURCE][,OPTION…][@SCORE], such as lightglue, lightglue:FILE,full@0.8, nearest:0.8,oneway,
    superglue:FILE or vismatch:NAME; docs/matchers.md has all. A MatcherSpec comes back as it is.
    Raises InvalidValueError, in one sentence: what was expected, what came.
    """
    if isinstance(text, MatcherSpec):
        return text
    family = matcher_family(family_name(text))
    spec = split_spec(text, family.options)
    if spec.min_score is not None and not family.takes_min_score:
        raise family.refuse(spec, f"a score, @{spec.min_score:g}; leave it out")
    family.check(spec)
    return spec


def takes_images(text: str | MatcherSpec) -> bool:
    """Whether the matcher looks at both images, instead of features of each."""
    return matcher_family(parse_matcher(text).family).takes == "images"


def _modules() -> dict[str, str]:
    return registered_names(_PACKAGE, importlib.import_module(_PACKAGE).__path__)
