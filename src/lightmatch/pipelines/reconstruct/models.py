"""Extractors and matchers by their specification, so that a job carries a few words and each process loads them once.

The functions of one run share a model; another run, which might find other weights in a file of the same name, makes
its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from lightmatch.extractors import Extractor, create_extractor
from lightmatch.matchers import (
    DEFAULT_MATCHER,
    ImageMatcher,
    Matcher,
    create_image_matcher,
    create_matcher,
    takes_images,
)
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.runtime.executor import forget, remembered
from lightmatch.types import FeatureKind


class ExtractorSource(Protocol):
    """A picklable value that an extractor is made from."""

    def load(self) -> Extractor:
        """The extractor, the same one for all threads of a process."""
        ...


@dataclass(frozen=True)
class NamedExtractor:
    """An extractor as `create_extractor` makes it."""

    name: str
    max_keypoints: int
    device: str
    run: str  # tells runs apart

    def load(self) -> Extractor:
        """The extractor, the same one for all threads of a process."""
        return remembered(
            self.run, self, lambda: create_extractor(self.name, max_keypoints=self.max_keypoints, device=self.device)
        )


@dataclass(frozen=True)
class NamedMatcher:
    """A matcher as `create_matcher` makes it."""

    specification: str  # such as lightglue, or nearest:0.8
    kind: FeatureKind
    device: str
    precision: str
    run: str  # tells runs apart

    def load(self) -> Matcher:
        """The matcher, the same one for all threads of a process."""
        return remembered(
            self.run,
            self,
            lambda: create_matcher(self.specification, self.kind, device=self.device, precision=self.precision),
        )


@dataclass(frozen=True)
class NamedImageMatcher:
    """A matcher of images as `create_image_matcher` makes it."""

    specification: str
    max_keypoints: int
    device: str
    run: str  # tells runs apart

    def load(self) -> ImageMatcher:
        """The matcher, the same one for all threads of a process."""
        return remembered(
            self.run,
            self,
            lambda: create_image_matcher(self.specification, max_keypoints=self.max_keypoints, device=self.device),
        )


@dataclass(frozen=True)
class Models:
    """What extracts and matches in a run."""

    extractor: NamedExtractor
    matcher: NamedMatcher
    run: str  # tells runs apart
    of_images: NamedImageMatcher | None  # matches instead of `matcher`, which then only places photos left out


@contextmanager
def loaded_models(config: ReconstructConfig, *, matching: bool = True) -> Iterator[Models]:
    """The models of a run, made before any work, so that a wrong name ends it at once; their memory is free after.

    matching: whether matchers are needed too.
    """
    run = uuid4().hex
    extractor = NamedExtractor(config.features, config.extracted_keypoints, config.device, run)
    try:
        kind = extractor.load().kind
        of_images = None
        if matching and takes_images(config.matcher):
            of_images = NamedImageMatcher(config.matcher, config.max_keypoints, config.device, run)
            of_images.load()
        # Where images are matched, features are for choosing pairs alone.
        name = DEFAULT_MATCHER if of_images else config.matcher
        matcher = NamedMatcher(name, kind, config.device, config.precision, run)
        if matching:
            matcher.load()
        yield Models(extractor, matcher, run, of_images)
    finally:
        forget(run)
