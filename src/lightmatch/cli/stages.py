"""`lightmatch features`, `lightmatch pairs` and `lightmatch match-all`: stages for COLMAP and hloc."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, get_args

import typer

from lightmatch.cli.console import ERR, say
from lightmatch.cli.options import (
    CameraModel,
    Cameras,
    Device,
    Features,
    Masks,
    Matcher,
    MaxImages,
    MaxKeypoints,
    MaxPixels,
    Overwrite,
    PairsOrFile,
    Panorama,
    Photos,
    Precision,
    Quiet,
    Seed,
)
from lightmatch.cli.progress import BarProgress
from lightmatch.pairing import Pairing
from lightmatch.pipelines.stages import StageConfig, StageResult
from lightmatch.runtime.devices import pick_device

_DEFAULT = StageConfig()

_Images = Annotated[
    Path | None,
    typer.Option(help="New folder for upright copies to name instead of your files: for HEIC, videos, panoramas."),
]
_Work = Annotated[
    Path | None,
    typer.Option(help="Folder to keep features and matches in, for the next time. [default: removed at the end]"),
]


def features(
    photos: Photos,
    output: Annotated[Path, typer.Option("--output", "-o", help="database.db (COLMAP) or features.h5 (hloc).")],
    features: Features = _DEFAULT.features,
    max_keypoints: MaxKeypoints = _DEFAULT.max_keypoints,
    cameras: Cameras = _DEFAULT.cameras,
    camera_model: CameraModel = _DEFAULT.camera_model,
    masks: Masks = None,
    panorama: Panorama = _DEFAULT.panorama,
    images: _Images = None,
    work: _Work = None,
    max_images: MaxImages = None,
    max_pixels: MaxPixels = _DEFAULT.max_pixels,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Extract local features into COLMAP's database or hloc's HDF5 file.

    Example: `lightmatch features photos/ -o features.h5`
    """
    from lightmatch.pipelines.stages import write_features

    config = StageConfig(
        features=features,
        max_keypoints=max_keypoints,
        cameras=cameras,  # type: ignore[arg-type]  # checked there
        camera_model=camera_model,
        masks=masks,
        panorama=panorama,  # type: ignore[arg-type]
        images=images,
        work=work,
        max_images=max_images,
        max_pixels=max_pixels,
        device=pick_device(device),
    )
    _print_result(write_features(photos, output, config, overwrite=overwrite, progress=_progress(quiet)), quiet)


def pairs(
    photos: Photos,
    output: Annotated[Path, typer.Option("--output", "-o", help="Text file to write: two names on a line.")],
    pairs: PairsOrFile = "auto",
    features: Features = _DEFAULT.features,
    max_keypoints: MaxKeypoints = _DEFAULT.max_keypoints,
    images: _Images = None,
    work: _Work = None,
    max_images: MaxImages = None,
    max_pixels: MaxPixels = _DEFAULT.max_pixels,
    seed: Seed = _DEFAULT.seed,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Choose which photos to match with which, as a list that COLMAP and hloc read.

    Example: `lightmatch pairs photos/ -o pairs.txt --pairs retrieval`
    """
    from lightmatch.pipelines.stages import write_pairs

    config = StageConfig(
        pairs=_pairs(pairs),  # type: ignore[arg-type]  # checked there
        features=features,
        max_keypoints=max_keypoints,
        images=images,
        work=work,
        max_images=max_images,
        max_pixels=max_pixels,
        seed=seed,
        device=pick_device(device),
    )
    _print_result(write_pairs(photos, output, config, overwrite=overwrite, progress=_progress(quiet)), quiet)


def match_all(
    photos: Photos,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="database.db (COLMAP), or a folder (hloc: features.h5, matches.h5).")
    ],
    pairs: PairsOrFile = "auto",
    features: Features = _DEFAULT.features,
    matcher: Matcher = _DEFAULT.matcher,
    max_keypoints: MaxKeypoints = _DEFAULT.max_keypoints,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify", help="Keep matches of one two-view geometry. [default: for COLMAP, not for hloc]"
        ),
    ] = None,
    cameras: Cameras = _DEFAULT.cameras,
    camera_model: CameraModel = _DEFAULT.camera_model,
    masks: Masks = None,
    panorama: Panorama = _DEFAULT.panorama,
    images: _Images = None,
    work: _Work = None,
    max_images: MaxImages = None,
    max_pixels: MaxPixels = _DEFAULT.max_pixels,
    seed: Seed = _DEFAULT.seed,
    device: Device = "auto",
    precision: Precision = _DEFAULT.precision,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Extract, choose pairs, match and verify, for `colmap mapper` or hloc to go on with.

    Keypoints lie in the pixels of your files as they are stored, whatever their EXIF orientation says, as COLMAP reads
    them: give it the same folder of photos.

    Examples: `lightmatch match-all photos/ -o database.db`, `lightmatch match-all photos/ -o hloc/`
    """
    from lightmatch.pipelines.stages import match_all as run

    config = StageConfig(
        pairs=_pairs(pairs),  # type: ignore[arg-type]  # checked there
        features=features,
        matcher=matcher,
        max_keypoints=max_keypoints,
        verify=verify,
        cameras=cameras,  # type: ignore[arg-type]
        camera_model=camera_model,
        masks=masks,
        panorama=panorama,  # type: ignore[arg-type]
        images=images,
        work=work,
        max_images=max_images,
        max_pixels=max_pixels,
        seed=seed,
        device=pick_device(device),
        precision=precision,
    )
    result = run(photos, output, config, overwrite=overwrite, progress=_progress(quiet))
    _print_result(result, quiet)
    if not quiet and output.suffix:
        database, photos_in = shlex.quote(str(output)), shlex.quote(str(result.images))
        say(
            f"next: mkdir -p sparse; colmap mapper --database_path {database} --image_path {photos_in}"
            " --output_path sparse"
        )


def _pairs(value: str) -> str | Path:
    """A way of pairing, or else a file."""
    return value if value in get_args(Pairing) else Path(value)


def _progress(quiet: bool) -> BarProgress:
    return BarProgress(None if quiet else ERR)


def _print_result(result: StageResult, quiet: bool) -> None:
    if quiet:
        return
    parts = [f"{result.num_photos} photos"]
    if result.num_pairs:
        parts.append(f"{result.num_pairs} pairs")
    if result.num_matches:
        parts.append(f"{result.num_matches} matches")
    if result.num_verified_pairs is not None:
        parts.append(f"{result.num_verified_pairs} verified pairs")
    say(", ".join(parts))
    for warning in result.warnings:
        say(f"note: {warning}")
    for left in result.left_out:
        say(f"left out: {left.name}: {left.reason}")
    say(f"written: {', '.join(map(str, result.written))}; names are relative to {result.images}")
