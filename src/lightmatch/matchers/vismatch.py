"""The matchers of the package vismatch, by name: two images in, matched points out.

vismatch (github.com/gmberton/vismatch, BSD-3-Clause) has fifty and more published matchers behind one call: dense ones
such as RoMa, and ones for pairs of different kinds such as thermal and colour photos (MINIMA). It fetches their weights
from Hugging Face, each under a licence of its own, many for research only.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightmatch.errors import InvalidValueError, WeightsError, import_optional
from lightmatch.images import keypoints_to_size, resize_to_fit
from lightmatch.matchers.base import ImageMatcher, PointMatches
from lightmatch.matchers.family import MatcherFamily, MatcherSetup, register
from lightmatch.matchers.spec import MatcherSpec
from lightmatch.runtime.devices import pick_device
from lightmatch.types import Image

logger = logging.getLogger(__name__)

NAME = "vismatch"
_PERMISSIVE = ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause")
_OF_OPENCV = ("sift-nn", "orb-nn")  # need no weights; OpenCV is under Apache-2.0


class Vismatch(ImageMatcher):
    """One matcher of vismatch. Not every one gives the same bits twice, or on another number of threads."""

    long_side_px = 1024  # most of these matchers shrink images further
    min_score = float("-inf")  # matches that score higher are given

    def __init__(self, model: str, *, max_keypoints: int = 2048, device: str = "cpu") -> None:
        """model: a name that vismatch knows. max_keypoints: for those that find keypoints first.

        Raises MissingDependencyError without vismatch, InvalidValueError for a name that it does not know, WeightsError
        where it cannot make the matcher, mostly because weights cannot be fetched.
        """
        package: Any = import_optional("vismatch", NAME)
        if model not in package.available_models:
            raise InvalidValueError(
                f"matcher: expected {NAME}:NAME with a NAME of {', '.join(package.available_models)}, got {model!r}"
            )
        try:
            self._matcher = package.get_matcher(model, device=pick_device(device), max_num_keypoints=max_keypoints)
        except Exception as error:  # of fifty models, whatever their code raises
            raise WeightsError(f"{NAME}:{model} could not be made: {error}") from error
        self._matcher.skip_ransac = True
        self.name = f"{NAME}:{model}"
        self.licence = _licence_of(model)
        self.described = f"{self.name} {package.__version__} {max_keypoints} {self.long_side_px}"
        level = logging.INFO if self.licence.lower() in _PERMISSIVE else logging.WARNING
        logger.log(level, "%s: the licence of this model: %s", self.name, self.licence)

    def __call__(self, image0: Image, image1: Image) -> PointMatches:
        """The matches of two images, before any estimation of geometry. Points count as centres of pixels."""
        smaller = [resize_to_fit(image, self.long_side_px) for image in (image0, image1)]
        try:
            found = self._matcher(*(np.moveaxis(image.pixels, 2, 0).astype(np.float32) / 255 for image in smaller))
        except (MemoryError, torch.OutOfMemoryError, OSError):  # another time it may go well
            raise
        except Exception as error:  # some fail on a photo in which they find nothing
            logger.warning("%s failed on a pair, which counts as one without matches: %s", self.name, error)
            return PointMatches(torch.empty(0, 2), torch.empty(0, 2), torch.empty(0))
        points0, points1 = (
            keypoints_to_size(torch.from_numpy(np.asarray(found[key], np.float32)), small.size, image.size)
            for key, small, image in zip(("matched_kpts0", "matched_kpts1"), smaller, (image0, image1), strict=True)
        )
        given = found.get("matched_confidences")
        scores = torch.ones(len(points0)) if given is None else torch.from_numpy(np.asarray(given, np.float32))
        good = (
            torch.isfinite(points0).all(1)
            & torch.isfinite(points1).all(1)
            & torch.isfinite(scores)
            & (scores > self.min_score)
        )
        return PointMatches(points0[good], points1[good], scores[good].clamp(0, 1))


def _licence_of(model: str) -> str:
    """What the card of the model, fetched with its weights, says."""
    if model in _OF_OPENCV:
        return "Apache-2.0"
    try:
        hub: Any = import_optional("huggingface_hub", NAME)
        card = Path(hub.snapshot_download(f"vismatch/{model}", local_files_only=True), "README.md")
        for line in card.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "license" and value.strip():
                return value.strip()
    except Exception as error:
        logger.debug("%s: no card: %s", model, error)
    return f"not stated; see huggingface.co/vismatch/{model}"


@register("vismatch")
class VismatchFamily(MatcherFamily):
    """The matchers of vismatch, by the names it gives them."""

    usage = "vismatch:NAME[@SCORE]"
    takes = "images"
    takes_min_score = True

    def check(self, spec: MatcherSpec) -> None:
        """As in the base class; whether vismatch knows the name is seen when the matcher is made."""
        if not spec.source:
            raise self.refuse(spec, "no NAME; such as vismatch:roma")

    def create(self, spec: MatcherSpec, setup: MatcherSetup) -> Vismatch:
        """As in the base class."""
        matcher = Vismatch(spec.source, max_keypoints=setup.max_keypoints, device=setup.device)
        if spec.min_score is not None:
            matcher.min_score = spec.min_score
            matcher.described += f" {spec.min_score:g}"
        return matcher
