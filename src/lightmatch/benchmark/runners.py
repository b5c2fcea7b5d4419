"""What `lightmatch benchmark` times: matchers by their specifications, and rows that a family brings of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightmatch.errors import InvalidValueError
from lightmatch.matchers import (
    MatcherSpec,
    available_matchers,
    create_matcher,
    matcher_family,
    parse_matcher,
    takes_images,
)
from lightmatch.runtime.discovery import resolve
from lightmatch.types import Features

Call = Callable[[], Any]
ANYWHERE = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Runner:
    """One row of the tables."""

    name: str
    what: str  # in words
    needs: tuple[str, ...]  # packages that may be missing
    adaptive: bool  # whether it does less on easy pairs
    devices: tuple[str, ...]  # where it runs
    prepare: Callable[[Features, Features, str], Call]  # (features of image 0, of image 1, device) → one matching

    @property
    def installed(self) -> bool:
        """Whether its packages are there."""
        return all(importlib.util.find_spec(name) is not None for name in self.needs)


def default_runners() -> tuple[Runner, ...]:
    """The rows that the families bring: ours in several settings, and peers that may not be installed here."""
    brought = (matcher_family(name).runners for name in available_matchers())
    return tuple(runner for reference in brought if reference for runner in resolve(reference))


def create_runner(name: str) -> Runner:
    """The row called `name`: one that a family brings, else the matcher of that specification (see `parse_matcher`).

    Raises InvalidValueError for other names, and for a matcher of images.
    """
    known = {runner.name: runner for runner in default_runners()}
    if name in known:
        return known[name]
    try:
        spec = parse_matcher(name)
    except InvalidValueError as error:
        raise InvalidValueError(f"runner: expected one of {', '.join(known)}, or a matcher; {error}") from error
    if takes_images(spec):
        raise InvalidValueError(f"runner: expected a matcher of features, got {name!r}, which matches images")
    return spec_runner(spec, "as specified")


def spec_runner(matcher: str | MatcherSpec, what: str) -> Runner:
    """The row of a matcher of features. what: in words."""
    spec = parse_matcher(matcher)
    adaptive = matcher_family(spec.family).adaptive(spec)
    return Runner(str(spec), what, (), adaptive, ANYWHERE, _OfSpec(spec))


@dataclass(frozen=True)
class _OfSpec:
    """Prepares the matcher of a specification. A class, for other processes are to receive it."""

    spec: MatcherSpec

    def __call__(self, features0: Features, features1: Features, device: str) -> Call:
        matcher = create_matcher(self.spec, features0.kind, device=device)
        features0, features1 = features0.to(device), features1.to(device)
        return lambda: matcher(features0, features1)
