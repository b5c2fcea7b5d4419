"""A finished run → its page, OUT/report.html: model, database, working copies and summary as the page's values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightmatch.colmap.model_files import is_colmap_model, read_colmap_model
from lightmatch.colmap.model_types import ColmapModel
from lightmatch.errors import ReconstructionError
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.reconstruct.report_pairs import Keypoints, read_keypoints, read_pairs
from lightmatch.pipelines.reconstruct.report_words import page_figures, page_frame, page_history, page_options
from lightmatch.pipelines.reconstruct.summary import Summary, read_summary
from lightmatch.pipelines.reconstruct.verification import DroppedPair
from lightmatch.pipelines.report_models import page_models
from lightmatch.report.page import (
    PageData,
    PageDoppelganger,
    PagePhoto,
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
from lightmatch.sfm.uncertainty import CameraUncertainty


@dataclass(frozen=True)
class _Missing:
    """A photo without a place: its name as the user knows it, and why."""

    name: str
    reason: str = ""
    advice: str = ""
    is_duplicate: bool = False


def write_report(output: str | Path) -> Path:
    """Write the page of the finished run in the folder `output`; returns its path, output/report.html.

    Reads summary.json, sparse/, images/ and, where it is there, database.db, and changes none of them. Memory is
    bounded by the model and the page: photos are read one at a time for each worker, pairs one by one.
    Raises ReconstructionError where `output` holds no finished run, InvalidValueError where a file of it is damaged.
    """
    output = Path(output)
    return write_page(Layout(output).report, page_data(output))


def page_data(output: Path) -> PageData:
    """What the page shows of the finished run in `output`. Raises as `write_report` does."""
    summary, layout = read_summary(output), Layout(output)
    folders = _model_folders(layout)
    models = [read_colmap_model(folder) for folder in folders[:MAX_MODELS]]
    keypoints = read_keypoints(layout.database) or _keypoints_of(models)
    missing = _missing_photos(summary, keypoints, models)
    names = [*keypoints, *(name for name in missing if name not in keypoints)]
    rows = {name: row for row, name in enumerate(names)}
    uncertainty = {camera.name: camera for camera in summary.uncertainties}
    photos = _photos(layout.images, names, keypoints, missing, uncertainty)
    sizes = {name: photo.size for name, photo in zip(names, photos, strict=True) if photo.size is not None}
    doppelgangers = tuple(_doppelgangers(summary.doppelgangers, rows))
    idle_starts, idle_places = _idle_keypoints(names, keypoints, models, sizes)
    return PageData(
        title=output.resolve().name,
        photos=photos,
        models=tuple(page_models(folders, models, rows, summary.frame.up)),
        more_models=tuple(f"{folder.parent.name}/{folder.name}" for folder in folders[MAX_MODELS:]),
        pairs=read_pairs(
            layout.database,
            rows,
            keypoints,
            sizes,
            summary.pairs,
            [(pair.photo0, pair.photo1) for pair in doppelgangers],
        ),
        doppelgangers=doppelgangers,
        figures=tuple(page_figures(summary)),
        frame=tuple(page_frame(summary.frame)),
        unit=summary.frame.unit if summary.frame.metric else "",
        warnings=summary.warnings,
        advice=tuple(advice.sentence for advice in summary.advice),
        history=tuple(page_history(summary)),
        seconds=tuple(summary.seconds.items()),
        options=tuple(page_options(summary.config)),
        idle_starts=idle_starts,
        idle_places=idle_places,
    )


def _model_folders(layout: Layout) -> list[Path]:
    """sparse/0, sparse/1, … in the order of their numbers."""
    folders = [folder for folder in layout.sparse.glob("*") if folder.name.isdecimal() and is_colmap_model(folder)]
    if not folders:
        raise ReconstructionError(
            f"{layout.folder}: expected a model in sparse/0, found none; name the folder of a finished run"
        )
    return sorted(folders, key=lambda folder: int(folder.name))


def _keypoints_of(models: Sequence[ColmapModel]) -> dict[str, Keypoints]:
    """Keypoints by photo, of a run whose database is gone: those of the photos in a model, the best that has them."""
    found = {
        image.name: Keypoints(colmap_from_pixels(image.keypoints).numpy().astype(np.float32))
        for model in reversed(models)
        for image in model.images.values()
    }
    return dict(sorted(found.items()))


def _missing_photos(summary: Summary, keypoints: Iterable[str], models: Sequence[ColmapModel]) -> dict[str, _Missing]:
    """Photos that the first model lacks, by name of their working copy, or by their own where there is none."""
    sources = summary.photos.sources
    copies = {own: copy for copy, own in sources.items()}
    missing = {
        copies.get(photo.name, photo.name): _Missing(photo.name, photo.reason, photo.advice, photo.kind == "duplicate")
        for photo in summary.not_registered
    }
    named = {image.name for image in models[0].images.values()} | missing.keys()
    return {**missing, **{name: _Missing(sources.get(name, name)) for name in keypoints if name not in named}}


def _photos(
    images: Path,
    names: Sequence[str],
    keypoints: Mapping[str, Keypoints],
    missing: Mapping[str, _Missing],
    uncertainty: Mapping[str, CameraUncertainty],
) -> tuple[PagePhoto, ...]:
    max_bytes = picture_bytes(len(names))
    photos = []
    with thread_pool() as pool:
        for name, found in zip(
            names, pool.map(lambda name: encode_pictures(images / name, max_bytes), names), strict=True
        ):
            thumbnail, preview, size = found or (b"", b"", None)
            absent = missing.get(name)
            sigma = uncertainty.get(name)
            photos.append(
                PagePhoto(
                    name=absent.name if absent else name,
                    size=size,
                    thumbnail=thumbnail,
                    preview=preview,
                    num_keypoints=len(keypoints[name].places) if name in keypoints else None,
                    reason=absent.reason if absent else "",
                    advice=absent.advice if absent else "",
                    is_duplicate=absent is not None and absent.is_duplicate,
                    position_uncertainty=None if sigma is None else _finite(sigma.position),
                    rotation_uncertainty_deg=None if sigma is None else _finite(sigma.rotation_deg),
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


def _doppelgangers(pairs: Iterable[DroppedPair], rows: Mapping[str, int]) -> Iterator[PageDoppelganger]:
    for pair in pairs:
        if pair.name0 in rows and pair.name1 in rows:
            yield PageDoppelganger(rows[pair.name0], rows[pair.name1], pair.reason)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
