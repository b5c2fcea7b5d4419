"""Features and matches of ours as .npz: plain NumPy arrays under the names of their fields, exact, without pickles.

Every file also has `format`, which is that of features or of matches, and `version`, which grows when a field changes
its meaning. Features have `image_size` (width, height) and `kind`, a name; matches may have `names`, those of the two
images. What does not belong there is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.runtime.files import replacing
from lightmatch.runtime.reading import reading
from lightmatch.types import FeatureKind, Features, Matches

_VERSION = 1
_FEATURES, _MATCHES = "lightmatch-features", "lightmatch-matches"
# RuntimeError: encrypted; NotImplementedError is one of them: packed in a way that Python does not know.
_READ_ERRORS = (OSError, ValueError, TypeError, LookupError, EOFError, BadZipFile, zlib.error, RuntimeError)


def write_features_npz(path: str | Path, features: Features) -> None:
    """Write the features of one image; a file that is there is replaced at once."""
    _write(path, _FEATURES, {**features.numpy(), "kind": features.kind.name})


def read_features_npz(path: str | Path) -> Features:
    """Read what `write_features_npz` wrote, bit by bit the same, on the CPU.

    Raises InvalidValueError where it is anything else.
    """
    path = Path(path)
    with reading(path, "features in .npz", *_READ_ERRORS):
        needed = {"keypoints", "scores", "descriptors", "image_size", "kind"}
        arrays = _read(path, _FEATURES, needed, {"scales", "orientations"})
        kind = FeatureKind(str(arrays["kind"]), arrays["descriptors"].shape[-1], "scales" in arrays)
        width, height = arrays["image_size"].tolist()
        tensors = _tensors(arrays, ("keypoints", "scores", "descriptors", "scales", "orientations"))
        return Features(image_size=(width, height), kind=kind, **tensors)


def write_matches_npz(path: str | Path, matches: Matches, names: tuple[str, str] | None = None) -> None:
    """Write the matches of one pair, and the names of its images if given; a file that is there is replaced at once."""
    _write(path, _MATCHES, {**matches.numpy(), "names": names})


def read_matches_npz(path: str | Path) -> tuple[Matches, tuple[str, str] | None]:
    """Read what `write_matches_npz` wrote, bit by bit the same, on the CPU: the matches, and the names or None.

    Raises InvalidValueError where it is anything else.
    """
    path = Path(path)
    with reading(path, "matches in .npz", *_READ_ERRORS):
        arrays = _read(
            path, _MATCHES, {"indices", "scores"}, {"stop_layer", "layers0", "layers1", "probabilities", "names"}
        )
        stop_layer = int(arrays["stop_layer"]) if "stop_layer" in arrays else None
        names = ("indices", "scores", "layers0", "layers1", "probabilities")
        matches = Matches(stop_layer=stop_layer, **_tensors(arrays, names))
        if "names" not in arrays:
            return matches, None
        name0, name1 = arrays["names"].tolist()
        return matches, (name0, name1)


def _write(path: str | Path, form: str, fields: Mapping[str, Any]) -> None:
    whole = {"format": form, "version": _VERSION, **fields}
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in whole.items() if value is not None}
    with replacing(Path(path)) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)


def _read(path: Path, form: str, needed: Set[str], optional: Set[str]) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if not {"format", "version"} <= set(stored):
            raise InvalidValueError(
                f"expected {form} of version {_VERSION}, got a file that names no format and version"
            )
        found = str(stored["format"]), stored["version"].tolist()
        if found != (form, _VERSION):
            raise InvalidValueError(
                f"expected {form} of version {_VERSION}, got {found[0]} of version {found[1]};"
                " a newer lightmatch may read it"
            )
        missing, unknown = needed - set(stored), set(stored) - needed - optional - {"format", "version"}
        if missing or unknown:
            raise InvalidValueError(
                f"expected the arrays {', '.join(sorted(needed))}, and at most {', '.join(sorted(optional))},"
                f" got {', '.join(sorted(stored))}"
            )
        return {name: stored[name] for name in stored}


def _tensors(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(arrays[name]) for name in names if name in arrays}
