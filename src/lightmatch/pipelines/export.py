"""The model that `lightmatch export` writes, by its name on the command line."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import Extractor, available_extractors, create_extractor, extractor_registration
from lightmatch.matchers import Matcher, available_matchers, create_matcher


def matcher_to_export(spec: str, features: str | None, *, half: bool) -> Matcher:
    """The matcher of a specification (see `parse_matcher`), in half precision or, where it names none, float32.

    features: name of their kind; None: those that the file names, or the family's default.
    """
    return create_matcher(spec, features, precision="float16" if half else "float32")


def extractor_to_export(name: str, max_keypoints: int, *, half: bool) -> Extractor:
    """The extractor NAME or NAME:FILE with a graph. Raises InvalidValueError where there is no such extractor."""
    name, _, file = name.partition(":")
    if name not in available_extractors() or extractor_registration(name).extractor_type.graph is None:
        able = [one for one in available_extractors() if extractor_registration(one).extractor_type.graph is not None]
        raise InvalidValueError(
            f"model: expected a matcher ({', '.join(available_matchers())}) or an extractor that can be exported"
            f" ({', '.join(able)}), got {name!r}"
        )
    options: dict[str, Any] = {"weights": file} if file else {}
    precise = "precision" in {field.name for field in fields(extractor_registration(name).config_type)}
    if precise:
        options["precision"] = "float16" if half else "float32"
    extractor = create_extractor(name, max_keypoints=max_keypoints, **options)
    if half and not precise:
        extractor.network.to(torch.float16)  # type: ignore[attr-defined]  # what has a graph has a network
    return extractor
