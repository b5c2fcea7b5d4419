"""A matcher or an extractor, by its name, → a file for another runtime."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from lightmatch.errors import InvalidValueError
from lightmatch.export import export_onnx
from lightmatch.extractors import (
    Extractor,
    available_extractors,
    create_extractor,
    extractor_registration,
    split_features,
)
from lightmatch.matchers import Matcher, available_matchers, create_matcher
from lightmatch.matchers.spec import family_name

_MAX_KEYPOINTS = 2048


def export_model(
    model: str, output: Path, *, features: str | None = None, max_keypoints: int | None = None, half: bool = False
) -> None:
    """Write a matcher or an extractor as an ONNX file; a file that is there is replaced at once.

    model: a matcher's specification, or NAME or NAME:FILE of an extractor. features: that the matcher is for.
    max_keypoints: of the extractor, 2048 by default. half: weights in half precision.
    Raises InvalidValueError for a model without a graph, and for what it has no use for.
    """
    is_matcher = family_name(model) in available_matchers()
    useless, given = ("max-keypoints", max_keypoints) if is_matcher else ("features", features)
    if given is not None:
        raise InvalidValueError(f"--{useless}: expected none with {model}, which has no use for it; leave it out")
    if is_matcher:
        export_onnx(matcher_to_export(model, features, half=half), output)
    else:
        export_onnx(extractor_to_export(model, max_keypoints or _MAX_KEYPOINTS, half=half), output)


def matcher_to_export(spec: str, features: str | None, *, half: bool) -> Matcher:
    """The matcher of a specification (see `parse_matcher`), in half precision or, where it names none, float32.

    features: name of their kind; None: those that the file names, or the family's default.
    """
    return create_matcher(spec, features, precision="float16" if half else "float32")


def extractor_to_export(spec: str, max_keypoints: int, *, half: bool) -> Extractor:
    """The extractor NAME or NAME:FILE with a graph. Raises InvalidValueError where there is no such extractor."""
    name, _ = split_features(spec)
    if name not in available_extractors() or extractor_registration(name).extractor_type.graph is None:
        able = [one for one in available_extractors() if extractor_registration(one).extractor_type.graph is not None]
        raise InvalidValueError(
            f"model: expected a matcher ({', '.join(available_matchers())}) or an extractor that can be exported"
            f" ({', '.join(able)}), got {name!r}"
        )
    options: dict[str, Any] = {}
    precise = "precision" in {field.name for field in fields(extractor_registration(name).config_type)}
    if precise:
        options["precision"] = "float16" if half else "float32"
    extractor = create_extractor(spec, max_keypoints=max_keypoints, **options)
    if half and not precise:
        extractor.network.to(torch.float16)  # type: ignore[attr-defined]  # what has a graph has a network
    return extractor
