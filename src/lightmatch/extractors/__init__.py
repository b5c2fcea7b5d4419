"""The extractors: a photo in, local features out.

A new extractor is one new file in this folder: an `Extractor`, its frozen configuration, and
`@register("name", ItsConfig)` above the class. The files are imported when an extractor is first
asked for by name, so each keeps its heavy libraries inside the functions that use them.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import fields

from lightmatch.errors import InvalidValueError
from lightmatch.extractors.base import Extractor, ExtractorConfig, Registration, registrations

__all__ = ["DEFAULT_FEATURES", "Extractor", "ExtractorConfig", "available_extractors", "create_extractor"]


DEFAULT_FEATURES = "lightpoint"  # of `match`


def available_extractors() -> list[str]:
    """The names `create_extractor` knows, sorted."""
    return sorted(_all_registrations())


def create_extractor(
    name: str, *, max_keypoints: int = 2048, device: str | None = None, **options: object
) -> Extractor:
    """The extractor `name`, at most `max_keypoints` per image.

    device: where its network runs, as for `pick_device`; without meaning for those that have none.
    options: fields of the extractor's configuration; what is left out keeps its default.
    Raises InvalidValueError for a name, an option or a value it does not know.
    """
    known = _all_registrations()
    if name not in known:
        raise InvalidValueError(f"extractor: expected one of {', '.join(sorted(known))}, got {name!r}")
    registration = known[name]
    allowed = sorted(field.name for field in fields(registration.config_type))
    if device is not None and "device" in allowed:
        options["device"] = device
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise InvalidValueError(
            f"extractor {name!r}: expected options among {', '.join(allowed)}, got {', '.join(unknown)}"
        )
    return registration.create(registration.config_type(max_keypoints=max_keypoints, **options))  # type: ignore[arg-type]


def _all_registrations() -> dict[str, Registration]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return registrations()
