"""What all matchers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from lightmatch.errors import InvalidValueError
from lightmatch.types import FeatureKind, Features, Matches


class Matcher(ABC):
    """Features of two images in, matches out.

    Any number of keypoints is welcome on either side; none gives no matches. The result lies on the
    device of the first features.
    """

    @abstractmethod
    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of each pair, equal to its own single call whatever stands beside it in the list."""

    def __call__(self, features0: Features, features1: Features) -> Matches:
        """Matches of one pair."""
        return self.match_batch([(features0, features1)])[0]


def no_matches(device: torch.device) -> Matches:
    """The empty result."""
    return Matches(torch.empty((0, 2), dtype=torch.int64, device=device), torch.empty(0, device=device))


class MatcherFactory(Protocol):
    """Makes a matcher by its name."""

    def __call__(self, kind: FeatureKind, device: str, dtype: torch.dtype | None, value: str) -> Matcher:
        """For features of `kind`; dtype: None is its own choice; value: what stands behind the colon of the name."""
        ...


_REGISTERED: dict[str, MatcherFactory] = {}


def register(name: str) -> Callable[[MatcherFactory], MatcherFactory]:
    """Decorator of a factory: makes its matcher available to `create_matcher` as `name`."""

    def add(factory: MatcherFactory) -> MatcherFactory:
        if name in _REGISTERED:
            raise InvalidValueError(f"register: expected a new matcher name, got {name!r}, which is taken")
        _REGISTERED[name] = factory
        return factory

    return add


def registrations() -> dict[str, MatcherFactory]:
    """What the modules imported so far have registered, by name."""
    return dict(_REGISTERED)
