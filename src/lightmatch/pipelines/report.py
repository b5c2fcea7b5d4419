"""A finished run → its page, OUT/report.html: model, database, working copies and summary as the page's values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightmatch.colmap.model_files import ColmapModel, is_colmap_model, read_colmap_model
from lightmatch.errors import ReconstructionError
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.pipelines.report_models import page_models
from lightmatch.pipelines.report_pairs import Keypoints, read_keypoints, read_pairs
from lightmatch.report.page import (
    PageData,
    PageFigure,
    PagePhoto,
    PageStep,
    PageTwin,
    encode_pictures,
    write_page,
)
from lightmatch.report.page.limits import (
    MAX_IDLE_KEYPOINTS,
    MAX_IDLE_OF_PHOTO,
    MAX_MODELS,
    evenly,
    picture_bytes,
)
from lightmatch.runtime.threads import thread_pool

REPORT_NAME = "report.html"

# Numbers of summary.json that are told in words of ours: label, unit, decimals. Others are told by their name.
_FIGURES = {
    "num_points": ("Points", "", 0),
    "num_observations": ("Observations", "", 0),
    "mean_track_length": ("Observations of a point, on average", "", 2),
    "mean_reprojection_error_px": ("Reprojection error, mean", "px", 2),
    "num_cameras": ("Cameras with settings of their own", "", 0),
    "num_pairs": ("Pairs of photos matched", "", 0),
    "num_verified_pairs": ("Pairs that agree with one geometry", "", 0),
}
_FRAME = {
    "unit": ("Unit of length", ""),
    "up_from": ("Up is known by", ""),
    "up_std_deg": ("Up, uncertainty", "°"),
    "scale_std_percent": ("Scale, uncertainty", "%"),
    "heading_std_deg": ("North, uncertainty", "°"),
    "gps_noise_m": ("GPS, noise", "m"),
    "gps_median_residual_m": ("GPS, median distance", "m"),
    "gps_outliers": ("GPS, outliers", ""),
}
_FRAME_TOLD_ELSEWHERE = ("up", "notes", "scale", "rotation", "translation", "gps_residuals_m")
_TOLD_ELSEWHERE = ("num_images", "num_registered", "num_models")
_UNITS = {"px": "px", "deg": "°", "percent": "%", "m": "m", "seconds": "s", "mb": "MB"}


@dataclass(frozen=True)
class _Missing:
    """A photo without a place: its name as the user knows it, and why."""

    name: str
    reason: str = ""
    advice: str = ""


def write_report(output: str | Path) -> Path:
    """Write the page of the finished run in the folder `output`; returns its path, output/report.html.

    Reads summary.json, sparse/, images/ and, where it is there, database.db, and changes none of them. Memory is
    bounded by the model and the page: photos are read one at a time for each worker, pairs one by one.
    Raises ReconstructionError where `output` holds no finished run, InvalidValueError where a file of it is damaged.
    """
    output = Path(output)
    return write_page(output / REPORT_NAME, page_data(output))


def page_data(output: Path) -> PageData:
    """What the page shows of the finished run in `output`. Raises as `write_report` does."""
    summary = _read_summary(output)
    folders = _model_folders(output)
    models = [read_colmap_model(folder) for folder in folders[:MAX_MODELS]]
    keypoints = read_keypoints(output / "database.db") or _keypoints_of(models)
    missing = _missing_photos(summary, keypoints, models)
    names = [*keypoints, *(name for name in missing if name not in keypoints)]
    rows = {name: row for row, name in enumerate(names)}
    uncertainty = summary.get("uncertainty") or {}
    photos = _photos(output / "images", names, keypoints, missing, uncertainty)
    sizes = {name: photo.size for name, photo in zip(names, photos, strict=True) if photo.size is not None}
    twins = _twins(summary.get("twins") or (), rows)
    frame = summary.get("frame") or {}
    idle_starts, idle_places = _idle_keypoints(names, keypoints, models, sizes)
    return PageData(
        title=output.resolve().name,
        photos=photos,
        models=tuple(page_models(folders, models, rows, frame)),
        more_models=tuple(f"{folder.parent.name}/{folder.name}" for folder in folders[MAX_MODELS:]),
        pairs=read_pairs(
            output / "database.db",
            rows,
            keypoints,
            sizes,
            summary.get("pairs") or (),
            [(twin.photo0, twin.photo1) for twin in twins],
        ),
        twins=twins,
        figures=tuple(_figures(summary)),
        frame=tuple(_frame_facts(frame)),
        unit=str(frame.get("unit") or "") if frame.get("metric") else "",
        warnings=tuple(map(str, summary.get("warnings") or ())),
        advice=tuple(map(str, summary.get("advice") or ())),
        story=tuple(_story(summary.get("story") or ())),
        seconds=tuple((str(stage), float(seconds)) for stage, seconds in (summary.get("seconds") or {}).items()),
        options=tuple((_words(key), _told(value)) for key, value in (summary.get("config") or {}).items()),
        idle_starts=idle_starts,
        idle_places=idle_places,
    )


def _read_summary(output: Path) -> dict[str, Any]:
    path = output / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReconstructionError(
            f"{output}: expected the results of a finished run, found no summary.json; name the folder that"
            " `lightmatch reconstruct` wrote to, or run it to its end"
        ) from error
    except ValueError as error:
        raise ReconstructionError(f"{path}: expected JSON, got damaged text ({error}); run it again") from error
    if not isinstance(summary, dict):
        raise ReconstructionError(f"{path}: expected a JSON object, got {type(summary).__name__}; run it again")
    return summary


def _model_folders(output: Path) -> list[Path]:
    """sparse/0, sparse/1, … in the order of their numbers."""
    folders = [
        folder for folder in (output / "sparse").glob("*") if folder.name.isdecimal() and is_colmap_model(folder)
    ]
    if not folders:
        raise ReconstructionError(
            f"{output}: expected a model in sparse/0, found none; name the folder of a finished run"
        )
    return sorted(folders, key=lambda folder: int(folder.name))


def _keypoints_of(models: Iterable[ColmapModel]) -> dict[str, Keypoints]:
    """Keypoints by photo, of a run whose database is gone: those of the photos in a model."""
    found = {
        image.name: Keypoints(colmap_from_pixels(image.keypoints).numpy().astype(np.float32))
        for model in models
        for image in model.images.values()
    }
    return dict(sorted(found.items()))


def _missing_photos(
    summary: Mapping[str, Any], keypoints: Iterable[str], models: Sequence[ColmapModel]
) -> dict[str, _Missing]:
    """Photos that the first model lacks, by name of their working copy, or by their own where there is none."""
    placed = {image.name for image in models[0].images.values()}
    without = [name for name in keypoints if name not in placed]
    missing = {}
    for entry in summary.get("not_registered") or ():
        own = str(entry.get("name", ""))
        copy = next((name for name in without if _is_copy(name, own)), own)
        if copy in without:
            without.remove(copy)
        missing[copy] = _Missing(own, str(entry.get("reason") or ""), str(entry.get("advice") or ""))
    return {**missing, **{name: _Missing(name) for name in without}}


def _is_copy(copy: str, source: str) -> bool:
    """Whether a working copy may be of this photo: numbered, or with .jpg added, where names would have met."""
    unnumbered = re.sub(r"~\d+(?=(\.[^./]*)?(\.jpg)?$)", "", copy)
    return any(name in (source, f"{source}.jpg") for name in (copy, unnumbered))


def _photos(
    images: Path,
    names: Sequence[str],
    keypoints: Mapping[str, Keypoints],
    missing: Mapping[str, _Missing],
    uncertainty: Mapping[str, Mapping[str, Any]],
) -> tuple[PagePhoto, ...]:
    max_bytes = picture_bytes(len(names))
    photos = []
    with thread_pool() as pool:
        for name, found in zip(
            names, pool.map(lambda name: encode_pictures(images / name, max_bytes), names), strict=True
        ):
            thumbnail, preview, size = found or (b"", b"", None)
            absent = missing.get(name)
            sigma = uncertainty.get(name) or {}
            photos.append(
                PagePhoto(
                    name=absent.name if absent else name,
                    size=size,
                    thumbnail=thumbnail,
                    preview=preview,
                    num_keypoints=len(keypoints[name].places) if name in keypoints else None,
                    reason=absent.reason if absent else "",
                    advice=absent.advice if absent else "",
                    position_uncertainty=_number(sigma.get("position")),
                    rotation_uncertainty_deg=_number(sigma.get("rotation_deg")),
                )
            )
    return tuple(photos)


def _idle_keypoints(
    names: Sequence[str],
    keypoints: Mapping[str, Keypoints],
    models: Iterable[ColmapModel],
    sizes: Mapping[str, tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints that see no point of any model, a sample: where each photo's begin, and their places."""
    seeing: dict[str, list[np.ndarray]] = {}
    for model in models:
        for image in model.images.values():
            seeing.setdefault(image.name, []).append(image.observing.numpy())
    limit = min(MAX_IDLE_OF_PHOTO, MAX_IDLE_KEYPOINTS // max(1, len(names)))
    starts, places = [0], []
    for name in names:
        if name in keypoints and name in sizes:
            idle = np.ones(len(keypoints[name].places), bool)
            for observing in seeing.get(name, ()):
                idle[observing] = False
            rows = np.flatnonzero(idle)
            places.append(keypoints[name].places[rows[evenly(len(rows), limit)]] / sizes[name])
            starts.append(starts[-1] + len(places[-1]))
        else:
            starts.append(starts[-1])
    return np.array(starts, np.int64), np.concatenate([np.zeros((0, 2)), *places])


def _twins(entries: Iterable[Mapping[str, Any]], rows: Mapping[str, int]) -> tuple[PageTwin, ...]:
    return tuple(
        PageTwin(rows[entry["name0"]], rows[entry["name1"]], str(entry.get("reason") or ""))
        for entry in entries
        if entry.get("name0") in rows and entry.get("name1") in rows
    )


def _story(entries: Iterable[Mapping[str, Any]]) -> Iterable[PageStep]:
    for entry in entries:
        step, candidates, kept, why = (_told(entry.get(key), "; ") for key in ("step", "candidates", "kept", "why"))
        yield PageStep(step, candidates, kept, why)


def _frame_facts(frame: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in frame.items():
        if key not in _FRAME_TOLD_ELSEWHERE and value not in (None, "", [], {}):
            label, unit = _FRAME[key] if key in _FRAME else _label_and_unit(key)
            yield label, _told(value) + (f"\u202f{unit}" if unit and unit != "°" else unit)


def _figures(summary: Mapping[str, Any]) -> Iterable[PageFigure]:
    for key, value in summary.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or key in _TOLD_ELSEWHERE:
            continue
        label, unit, decimals = _FIGURES.get(key, (*_label_and_unit(key), 0 if isinstance(value, int) else 3))
        yield PageFigure(label, f"{value:,.{decimals}f}" + (f"\u202f{unit}" if unit else ""))


def _label_and_unit(key: str) -> tuple[str, str]:
    stem, _, last = key.rpartition("_")
    return (_words(stem), _UNITS[last]) if stem and last in _UNITS else (_words(key), "")


def _words(key: str) -> str:
    """A name of ours as words: max_keypoints → Max keypoints."""
    text = str(key).removeprefix("num_").replace("_", " ")
    return text[:1].upper() + text[1:]


def _told(value: Any, between: str = ", ") -> str:
    """A value of JSON in words."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(key).lower()} {_told(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return between.join(_told(item) for item in value)
    return str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None
