"""Page data → what the page's scripts read: one JSON object, and arrays and pictures as base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping

import numpy as np

from lightmatch.report.page.data import PageData
from lightmatch.report.page.meta import origin_of, page_meta
from lightmatch.runtime import codec

_RESIDUAL_STEPS = 256  # of a pixel
_ERROR_STEPS = 1000


Block = tuple[str, str, str]
"""Id, media type and text of a data block of the page."""


def pack(data: PageData, more: Mapping[str, np.ndarray] | None = None) -> Iterator[Block]:
    """(id, media type, text) of each data block of the page; the first, "meta", is JSON, all others base64.

    Places are rounded to 1/65535 of a photo's side, residuals to 1/256 px (at most 128 px), errors to 1/1000 px (at
    most 65 px); points are float32 about the middle of the cameras. more: arrays of other blocks, by id.
    """
    arrays = {**dict(_arrays(data)), **(more or {})}
    yield json_block("meta", page_meta(data, arrays))
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        yield name, "application/octet-stream", _base64(np.ascontiguousarray(little).tobytes())
    for number, photo in enumerate(data.photos):
        for kind, jpeg in (("thumb", photo.thumbnail), ("photo", photo.preview)):
            if jpeg:
                yield f"{kind}{number}", "image/jpeg", _base64(jpeg)


def json_block(name: str, value: object) -> Block:
    """JSON that can stand in a script element: no '<' ends it, and no character needs an encoding."""
    text = json.dumps(codec.to_json(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return name, "application/json", text


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _arrays(data: PageData) -> Iterator[tuple[str, np.ndarray]]:
    for number, model in enumerate(data.models):
        origin = origin_of(model)
        errors = np.where(np.isfinite(model.errors_px), model.errors_px, 0) * _ERROR_STEPS
        packed = {
            "cameras": model.photos.astype(np.uint32),
            "lenses": model.lenses.astype(np.uint32),
            "centers": (model.centers - origin).astype(np.float32),
            "rotations": model.cam_from_world[:, :, :3].astype(np.float32),
            "halfSizes": model.half_sizes.astype(np.float32),
            "points": (model.points - origin).astype(np.float32),
            "colors": model.colors.astype(np.uint8),
            "errors": rounded(errors, np.uint16),
            "tracks": rounded(model.track_lengths, np.uint16),
            "starts": model.starts.astype(np.uint32),
            "numObservations": _or(model.num_observations, np.diff(model.starts)).astype(np.uint32),
            "observed": model.observed.astype(np.uint32),
            "places": _shares(model.places),
            "residuals": rounded(model.residuals_px * _RESIDUAL_STEPS, np.int16),
        }
        yield from ((f"m{number}.{name}", array) for name, array in packed.items())
    yield "idle.starts", data.idle_starts.astype(np.uint32)
    yield "idle.places", _shares(data.idle_places)
    if data.pairs is not None:
        pairs = data.pairs
        yield "pairs.photos", pairs.photos.astype(np.uint32)
        yield "pairs.matches", pairs.num_matches.astype(np.uint32)
        yield "pairs.inliers", pairs.num_inliers.astype(np.uint32)
        yield "pairs.verified", _or(pairs.num_verified, pairs.num_inliers).astype(np.uint32)
        yield "pairs.probability", _or(pairs.probability, np.full(len(pairs.photos), np.nan)).astype(np.float32)
        yield "pairs.starts", pairs.starts.astype(np.uint32)
        yield "pairs.lines", _shares(pairs.lines)


def _or(values: np.ndarray | None, default: np.ndarray) -> np.ndarray:
    return default if values is None else values


def _shares(values: np.ndarray) -> np.ndarray:
    return rounded(np.asarray(values) * 65535, np.uint16)


def rounded(values: np.ndarray, dtype: type[np.integer]) -> np.ndarray:
    """To the nearest whole number that `dtype` can hold; what is not finite becomes 0."""
    limits = np.iinfo(dtype)
    return (
        np.nan_to_num(np.asarray(values, np.float64), posinf=0, neginf=0)
        .round()
        .clip(limits.min, limits.max)
        .astype(dtype)
    )
