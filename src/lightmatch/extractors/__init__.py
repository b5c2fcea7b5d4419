"""The extractors: a photo in, local features out.

A new extractor is one new file in this folder: an `Extractor`, its frozen configuration, and
`@register("name", ItsConfig)` above the class. Names are read from the source; a file is imported when one of its
extractors is used. docs/extending.md has an example.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightmatch.errors import InvalidValueError
from lightmatch.runtime.discovery import registered_names

if TYPE_CHECKING:
    from lightmatch.extractors.base import Extractor, ExtractorConfig, Registration, register

__all__ = [
    "DEFAULT_FEATURES",
    "Extractor",
    "ExtractorConfig",
    "available_extractors",
    "create_extractor",
    "extractor_registration",
    "register",
    "split_features",
]

DEFAULT_FEATURES = "lightpoint"  # of `match`

_OF_BASE = ("Extractor", "ExtractorConfig", "register")


def __getattr__(name: str) -> Any:
    """What needs PyTorch is imported when it is first used (PEP 562): names can be listed without it."""
    if name not in _OF_BASE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.base"), name)
    return found


def available_extractors() -> list[str]:
    """The names `create_extractor` knows, sorted. Imports none of them."""
    return sorted(registered_names(__name__, __path__))


def split_features(spec: str) -> tuple[str, str]:
    """NAME or NAME:FILE, the extractor and the weights of its network; "" where no file is named.

    Raises InvalidValueError for a colon with nothing behind it.
    """
    name, colon, file = spec.partition(":")
    if colon and not file:
        raise InvalidValueError(f"features {spec!r}: expected a file behind the colon, got none; leave the colon out")
    return name, file


def create_extractor(
    spec: str, *, max_keypoints: int = 2048, device: str | None = None, **options: object
) -> Extractor:
    """The extractor of `spec`, NAME or NAME:FILE, at most `max_keypoints` per image.

    Published weights that are not on this machine yet are fetched, and their SHA-256 is checked; FILE, the same as the
    option `weights`, stands for weights of your own. A matcher is for the weights that it was trained on: LightGlue
    inside the package for those inside the package.
    device: where its network runs, as for `pick_device`; without meaning for those that have none.
    options: fields of the extractor's configuration; what is left out keeps its default.
    Raises InvalidValueError for a name, an option or a value it does not know, WeightsError where weights cannot be
    had.
    """
    from dataclasses import fields

    name, file = split_features(spec)
    registration = extractor_registration(name)
    allowed = sorted(field.name for field in fields(registration.config_type))
    if device is not None and "device" in allowed:
        options["device"] = device
    if file:
        if "weights" not in allowed or "weights" in options:
            reason = "it has no weights" if "weights" not in allowed else "the option `weights` names them too"
            raise InvalidValueError(f"features {spec!r}: expected {name} without a file: {reason}")
        options["weights"] = Path(file)
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise InvalidValueError(
            f"extractor {name!r}: expected options among {', '.join(allowed)}, got {', '.join(unknown)}"
        )
    config = registration.config_type(max_keypoints=max_keypoints, **options)  # type: ignore[arg-type]
    registration.extractor_type.fetch_weights(config)
    return registration.extractor_type(config)


def extractor_registration(name: str) -> Registration:
    """Class and configuration of the extractor `name`; its file is imported.

    Raises InvalidValueError where there is none.
    """
    from lightmatch.extractors.base import registrations

    if name not in registrations():
        modules = registered_names(__name__, __path__)
        if name not in modules:
            raise InvalidValueError(f"extractor: expected one of {', '.join(sorted(modules))}, got {name!r}")
        import_module(modules[name])
    return registrations()[name]
