"""Page data → what the page's scripts read: one JSON object, and arrays and pictures as base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lightmatch.report.page.data import PageData, PageModel, PagePairs

_RESIDUAL_STEPS = 256  # of a pixel
_ERROR_STEPS = 1000


def pack(data: PageData) -> Iterator[tuple[str, str, str]]:
    """(id, media type, text) of each data block of the page; the first, "meta", is JSON, all others base64.

    Places are rounded to 1/65535 of a photo's side, residuals to 1/256 px (at most 128 px), errors to 1/1000 px (at
    most 65 px); points are float32 about the middle of the cameras.
    """
    arrays = dict(_arrays(data))
    types = {name: (array.dtype.name, list(array.shape)) for name, array in arrays.items()}
    yield "meta", "application/json", _json({**_meta(data), "arrays": types})
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        yield name, "application/octet-stream", _base64(np.ascontiguousarray(little).tobytes())
    for number, photo in enumerate(data.photos):
        for kind, jpeg in (("thumb", photo.thumbnail), ("photo", photo.preview)):
            if jpeg:
                yield f"{kind}{number}", "image/jpeg", _base64(jpeg)


def _json(value: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: no '<' ends it, and no character needs an encoding."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _meta(data: PageData) -> dict[str, Any]:
    return {
        "title": data.title,
        "photos": [
            {
                "name": photo.name,
                "size": photo.size,
                "keypoints": photo.num_keypoints,
                "reason": photo.reason,
                "advice": photo.advice,
                "positionSigma": _number(photo.position_uncertainty),
                "rotationSigma": _number(photo.rotation_uncertainty_deg),
            }
            for photo in data.photos
        ],
        "models": [_model_meta(model) for model in data.models],
        "moreModels": data.more_models,
        "pairsFound": _num_pairs(data.pairs),
        "doppelgangers": [[pair.photo0, pair.photo1, pair.reason] for pair in data.doppelgangers],
        "figures": [[figure.label, figure.value, figure.note] for figure in data.figures],
        "frame": data.frame,
        "unit": data.unit,
        "warnings": data.warnings,
        "advice": data.advice,
        "history": [[step.step, step.candidates, step.kept, step.why] for step in data.history],
        "seconds": data.seconds,
        "options": data.options,
    }


def _num_pairs(pairs: PagePairs | None) -> int:
    if pairs is None:
        return 0
    return len(pairs.photos) if pairs.num_found is None else pairs.num_found


def _model_meta(model: PageModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "numPoints": len(model.points) if model.num_points is None else model.num_points,
        "up": [float(value) for value in model.up],
        "origin": _origin(model).tolist(),
        "lenses": [
            {
                "model": lens.model,
                "size": lens.size,
                "params": [(name, _number(value)) for name, value in lens.params],
                "focal": _number(lens.focal_px),
                "fov": _number(lens.field_of_view_deg),
            }
            for lens in model.lens_table
        ],
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _origin(model: PageModel) -> np.ndarray:
    """(3,) the middle of the cameras, rounded: float32 about it keeps what float64 had far from 0."""
    if not len(model.photos):
        return np.zeros(3)
    return np.median(_centers(model), axis=0).round(6)


def _centers(model: PageModel) -> np.ndarray:
    return -np.einsum("cji,cj->ci", model.cam_from_world[:, :, :3], model.cam_from_world[:, :, 3])


def _arrays(data: PageData) -> Iterator[tuple[str, np.ndarray]]:
    for number, model in enumerate(data.models):
        origin = _origin(model)
        errors = np.where(np.isfinite(model.errors_px), model.errors_px, 0) * _ERROR_STEPS
        packed = {
            "cameras": model.photos.astype(np.uint32),
            "lenses": model.lenses.astype(np.uint32),
            "centers": (_centers(model) - origin).astype(np.float32),
            "rotations": model.cam_from_world[:, :, :3].astype(np.float32),
            "halfSizes": model.half_sizes.astype(np.float32),
            "points": (model.points - origin).astype(np.float32),
            "colors": model.colors.astype(np.uint8),
            "errors": _rounded(errors, np.uint16),
            "tracks": _rounded(model.track_lengths, np.uint16),
            "starts": model.starts.astype(np.uint32),
            "observed": model.observed.astype(np.uint32),
            "places": _shares(model.places),
            "residuals": _rounded(model.residuals_px * _RESIDUAL_STEPS, np.int16),
        }
        yield from ((f"m{number}.{name}", array) for name, array in packed.items())
    yield "idle.starts", data.idle_starts.astype(np.uint32)
    yield "idle.places", _shares(data.idle_places)
    if data.pairs is not None:
        pairs = data.pairs
        unknown = np.full(len(pairs.photos), np.nan)
        yield "pairs.photos", pairs.photos.astype(np.uint32)
        yield "pairs.matches", pairs.num_matches.astype(np.uint32)
        yield "pairs.inliers", pairs.num_inliers.astype(np.uint32)
        probability = unknown if pairs.probability is None else pairs.probability
        yield "pairs.probability", probability.astype(np.float32)
        yield "pairs.starts", pairs.starts.astype(np.uint32)
        yield "pairs.lines", _shares(pairs.lines)


def _shares(values: np.ndarray) -> np.ndarray:
    return _rounded(np.asarray(values) * 65535, np.uint16)


def _rounded(values: np.ndarray, dtype: type[np.integer]) -> np.ndarray:
    """To the nearest whole number that `dtype` can hold; what is not finite becomes 0."""
    limits = np.iinfo(dtype)
    return (
        np.nan_to_num(np.asarray(values, np.float64), posinf=0, neginf=0)
        .round()
        .clip(limits.min, limits.max)
        .astype(dtype)
    )
