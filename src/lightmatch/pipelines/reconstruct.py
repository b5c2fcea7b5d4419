"""A folder of photos → cameras and points: extract, pair, match, verify, map, write."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from lightmatch.errors import ImageReadError, InvalidValueError, ReconstructionError
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.images import list_images, load_image
from lightmatch.matchers import DEFAULT_MATCHER, Matcher, create_matcher
from lightmatch.pairing import exhaustive, sequential, share_images
from lightmatch.pipelines.output import finish_output, is_output, prepare_output
from lightmatch.pipelines.progress import Progress
from lightmatch.reconstruction import (
    LeftOut,
    MatchDatabase,
    ReconstructionSummary,
    group_by_camera,
    known_camera_model,
    map_incrementally,
    model_arrays,
    no_model_reason,
    summarize,
    verified_matches,
    write_models,
)
from lightmatch.reconstruction.cameras import CameraSharing
from lightmatch.report import draw_overview
from lightmatch.threads import side_by_side
from lightmatch.types import Features, Matches
from lightmatch.working_copies import write_working_copy

logger = logging.getLogger(__name__)

Pairing = Literal["auto", "exhaustive", "sequential"]

MAX_SEED = (1 << 31) - 1  # COLMAP's seeds are C integers
EXHAUSTIVE_LIMIT = 100  # photos; beyond, "auto" pairs them in sequence

# Everything a run writes, and so all that a later one may remove.
_OUTPUTS = ("images", "sparse", "database.db", "points.ply", "summary.json", "overview.png")
_IMAGES_PER_BLOCK = 4  # on either side of the pairs that are matched together


@dataclass(frozen=True)
class ReconstructConfig:
    """How to reconstruct."""

    features: str = "sift"
    matcher: str = DEFAULT_MATCHER
    max_keypoints: int = 2048
    pairs: Pairing = "auto"
    cameras: CameraSharing = "auto"
    camera_model: str = "SIMPLE_RADIAL"
    seed: int | None = None  # repeatable to the bit, on one thread of the mapper
    device: str = "cpu"
    precision: str = "auto"  # of the matcher

    def __post_init__(self) -> None:
        for name, known in {"pairs": get_args(Pairing), "cameras": get_args(CameraSharing)}.items():
            if getattr(self, name) not in known:
                raise InvalidValueError(f"{name}: expected one of {', '.join(known)}; got {getattr(self, name)!r}")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InvalidValueError(f"seed: expected 0…{MAX_SEED}, got {self.seed}")


@dataclass(frozen=True)
class _Photos:
    """What extraction leaves: everything is keyed by the name of the working copy."""

    features: dict[str, Features]
    sources: dict[str, str]  # the photo each copy was made of
    unreadable: list[LeftOut]


def reconstruct(
    photos: str | Path,
    output: str | Path,
    config: ReconstructConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ReconstructionSummary:
    """Reconstruct cameras and points from a folder of photos.

    photos: a folder, searched with its subfolders. output: a new or empty folder; one that holds the results of an
        earlier run is replaced with `overwrite`, an unfinished run is started over, any other is refused.
    Writes images/ (upright copies), sparse/0 (the best COLMAP model; lesser ones in sparse/1, …),
    points.ply, overview.png, summary.json and database.db. Unreadable photos are skipped and listed.
    Raises ReconstructionError when fewer than two photos can be read or nothing can be registered.
    """
    photos, output = Path(photos), Path(output)
    config = config or ReconstructConfig()
    config = replace(config, camera_model=known_camera_model(config.camera_model))
    progress = progress or Progress()
    extractor = create_extractor(config.features, max_keypoints=config.max_keypoints, device=config.device)
    matcher = create_matcher(config.matcher, extractor.kind, device=config.device, precision=config.precision)
    _check_apart(photos, output)
    paths = _find_photos(photos, output)
    prepare_output(output, _OUTPUTS, overwrite)

    found = _extract(photos, paths, output / "images", extractor, progress)
    names = list(found.features)
    if len(names) < 2:
        raise ReconstructionError(_too_few(photos, len(paths), found.unreadable))
    pairs = [(names[i], names[j]) for i, j in _choose_pairs(len(names), config)]
    matches = _match(found.features, pairs, matcher, progress)

    with progress.stage("verify", 1) as step:
        sizes = {name: features.image_size for name, features in found.features.items()}
        cameras = group_by_camera(output / "images", sizes, config.cameras)
        database = MatchDatabase(output / "database.db", output / "images", cameras, config.camera_model)
        database.write(found.features, matches)
        database.verify(seed=config.seed)
        verified = verified_matches(database.path)
        step()
    num_keypoints = {name: len(features) for name, features in found.features.items()}
    with progress.stage("map", len(names)) as step:
        models = map_incrementally(database.path, output / "images", seed=config.seed, on_image=step)
    if not models:
        raise ReconstructionError(
            f"nothing could be registered of {len(names)} photos: {no_model_reason(num_keypoints, verified)}"
        )
    with progress.stage("write", 1) as step:
        write_models(models, output)
        best = model_arrays(models[0])
        draw_overview(output / "overview.png", best.points, best.colors, best.centers, best.rotations)
        step()
    summary = summarize(models, found.sources, found.unreadable, num_keypoints, len(pairs), verified, progress.seconds)
    content = {**summary.to_json(), "config": asdict(config)}
    (output / "summary.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    finish_output(output)
    return summary


def _find_photos(photos: Path, output: Path) -> list[Path]:
    """All photos, except in folders that runs of ours write to: those hold copies."""
    if not photos.is_dir():
        raise ReconstructionError(f"{photos}: expected a folder of photos, found {_what_is(photos)}; give a folder")
    ours = {output.absolute()}
    paths = []
    for path in list_images(photos):
        inside = [parent for parent in path.parents if photos in parent.parents]
        ours |= {folder for folder in inside if folder not in ours and is_output(folder)}
        if any(folder in ours or folder.absolute() in ours for folder in inside):
            continue
        if output.resolve() in path.resolve().parents:
            raise ReconstructionError(
                f"{path}: expected photos outside the output folder, this one is a link into {output};"
                " choose another output"
            )
        paths.append(path)
    if not paths:
        raise ReconstructionError(f"{photos}: expected photos (JPEG, PNG, WebP, TIFF, BMP, HEIC), found none in it")
    return paths


def _what_is(path: Path) -> str:
    return "a file" if path.exists() else "nothing"


def _check_apart(photos: Path, output: Path) -> None:
    if output.resolve() in (photos.resolve(), *photos.resolve().parents):
        raise ReconstructionError(
            f"{output}: expected an output folder that does not contain the photos ({photos});"
            " results written there could replace them; choose another"
        )


def _extract(photos: Path, paths: Sequence[Path], copies: Path, extractor: Extractor, progress: Progress) -> _Photos:
    sources = [path.relative_to(photos).as_posix() for path in paths]
    names = _free_names(sources)

    def copy_and_extract(path: Path, name: str) -> tuple[str, Features] | ImageReadError:
        try:
            _check_text(name)
            image = load_image(path)
            copy = write_working_copy(path, image, copies / name)
        except ImageReadError as error:
            return error
        return copy.relative_to(copies).as_posix(), extractor(image)

    found = _Photos({}, {}, [])
    with progress.stage("extract", len(paths)) as step, side_by_side(extractor.most_side_by_side) as pool:
        for source, result in zip(sources, pool.map(copy_and_extract, paths, names), strict=True):
            if isinstance(result, ImageReadError):
                logger.warning("%s", result)
                shown, reason = (text.encode(errors="replace").decode() for text in (source, f"unreadable: {result}"))
                found.unreadable.append(LeftOut(shown, reason))
            else:
                name, features = result
                found.features[name] = features
                found.sources[name] = source
            step()
    return found


def _check_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ImageReadError(f"cannot use {name!r}: expected a name in UTF-8, got other bytes; rename it") from error


def _free_names(names: Sequence[str]) -> list[str]:
    """The names, numbered where one or its copy as JPEG would meet another, on any kind of disk."""
    taken: set[str] = set()
    free = []
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        candidate, number = name, 1
        while (folded := {candidate.casefold(), f"{candidate}.jpg".casefold()}) & taken:
            number += 1
            candidate = f"{stem}~{number}{dot}{suffix}"
        taken |= folded
        free.append(candidate)
    return free


def _too_few(photos: Path, num_found: int, unreadable: Sequence[LeftOut]) -> str:
    message = f"{photos}: expected at least two readable photos, got {num_found - len(unreadable)}"
    if unreadable:
        message += f" ({len(unreadable)} unreadable; the first: {unreadable[0].reason})"
    return message + "; add photos of the same place"


def _choose_pairs(num_images: int, config: ReconstructConfig) -> list[tuple[int, int]]:
    if config.pairs == "auto":
        return exhaustive(num_images) if num_images <= EXHAUSTIVE_LIMIT else sequential(num_images)
    return exhaustive(num_images) if config.pairs == "exhaustive" else sequential(num_images)


def _match(
    features: dict[str, Features], pairs: Sequence[tuple[str, str]], matcher: Matcher, progress: Progress
) -> dict[tuple[str, str], Matches]:
    """Matches of all pairs, in blocks whose pairs share images: what those share is computed once a block."""
    blocks = share_images(pairs, _IMAGES_PER_BLOCK)

    def match_block(block: Sequence[tuple[str, str]]) -> list[Matches]:
        return matcher.match_batch([(features[name0], features[name1]) for name0, name1 in block])

    matches: dict[tuple[str, str], Matches] = {}
    with progress.stage("match", len(pairs)) as step, side_by_side() as pool:
        for block, found in zip(blocks, pool.map(match_block, blocks), strict=True):
            for pair, value in zip(block, found, strict=True):
                matches[pair] = value
                step()
    return matches
