"""Every error a caller can cause: one clear sentence, what was expected, what came, what to do.

The command line prints the sentence and exits with 1; a traceback means a bug of ours.
"""

import importlib
from collections.abc import Sequence
from typing import Any


class LightmatchError(Exception):
    """Base of all errors raised on purpose."""


class InvalidValueError(LightmatchError, ValueError):
    """A value breaks its contract (shape, dtype, range)."""


class ImageReadError(LightmatchError, OSError):
    """A photo cannot be read: missing, truncated, empty, not an image, or over the pixel limit."""


class FeatureMismatchError(LightmatchError, ValueError):
    """Features were given to a matcher that was made for another kind."""


class WeightsError(LightmatchError):
    """A checkpoint is missing, damaged, or does not fit the network."""


class ReconstructionError(LightmatchError):
    """No 3D model can be made from the photos given."""


class ClusterError(LightmatchError):
    """The nodes of a cluster cannot do the work."""


class TrainingError(LightmatchError):
    """A training run cannot start or go on."""


class MissingDependencyError(LightmatchError, ImportError):
    """An optional library is needed for this operation."""


def import_optional(name: str, extra: str) -> Any:
    """The module `name`, which only an extra of the package brings.

    Raises MissingDependencyError, which says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"expected the library {name.partition('.')[0]}, which is not installed;"
            f" in the clone of lightmatch run: pip install '.[{extra}]'"
        ) from error


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence: all of a few, of many the first and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
