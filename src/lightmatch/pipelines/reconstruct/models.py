"""Extractors and matchers by their specification, so that a job carries a few words and each process loads them once.

The functions of one run share a model; another run, which might find other weights in a file of the same name, makes
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, ParamSpec, Protocol, TypeVar
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

M = TypeVar("M")
P = ParamSpec("P")
T = TypeVar("T", covariant=True)


class ModelSource(Protocol[T]):
    """A picklable value that a model is loaded from."""

    def load(self) -> T:
        """The model, the same one for all threads of a process."""
        ...


@dataclass(frozen=True)
class SharedModel(Generic[M]):
    """A model by the function that makes it and its arguments, which are hashable and picklable."""

    run: str  # tells runs apart
    make: Callable[..., M]  # a top-level function
    arguments: tuple[Hashable, ...]
    options: tuple[tuple[str, Hashable], ...]

    @classmethod
    def of(cls, run: str, make: Callable[P, M], *arguments: P.args, **options: P.kwargs) -> SharedModel[M]:
        """What `make(*arguments, **options)` will give."""
        return SharedModel(run, make, arguments, tuple(sorted(options.items())))

    def load(self) -> M:
        """The model, the same one for all threads of a process."""
        return remembered(self.run, self, lambda: self.make(*self.arguments, **dict(self.options)))


@dataclass(frozen=True)
class Models:
    """What extracts and matches in a run."""

    extractor: SharedModel[Extractor]
    matcher: SharedModel[Matcher]
    run: str  # tells runs apart
    image_matcher: SharedModel[ImageMatcher] | None  # matches instead of `matcher`, which only places photos left out


@contextmanager
def loaded_models(config: ReconstructConfig, *, matching: bool = True) -> Generator[Models]:
    """The models of a run, made before any work, so that a wrong name ends it at once; their memory is free after.

    matching: whether matchers are needed too.
    """
    run = uuid4().hex
    extractor = SharedModel.of(
        run, create_extractor, config.features, max_keypoints=config.extracted_keypoints, device=config.device
    )
    try:
        kind = extractor.load().kind
        image_matcher = None
        if matching and takes_images(config.matcher):
            image_matcher = SharedModel.of(
                run, create_image_matcher, config.matcher, max_keypoints=config.max_keypoints, device=config.device
            )
            image_matcher.load()
        # Where images are matched, features are for choosing pairs alone.
        name = DEFAULT_MATCHER if image_matcher else config.matcher
        matcher = SharedModel.of(run, create_matcher, name, kind, device=config.device, precision=config.precision)
        if matching:
            matcher.load()
        yield Models(extractor, matcher, run, image_matcher)
    finally:
        forget(run)
