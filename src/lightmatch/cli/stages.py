"""`lightmatch features`, `lightmatch pairs` and `lightmatch match-all`: stages for COLMAP and hloc."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from lightmatch.cli.options import Device, Features, Matcher, Overwrite, Precision
from lightmatch.cli.progress import BarProgress
from lightmatch.pairing import Pairing
from lightmatch.pipelines.reconstruct import MAX_SEED
from lightmatch.pipelines.stages import StageConfig, StageResult
from lightmatch.runtime.devices import pick_device

_DEFAULT = StageConfig()
_out = Console()

_Photos = Annotated[list[Path], typer.Argument(metavar="PHOTOS…", help="Folders, photos, videos.")]
_MaxKeypoints = Annotated[int, typer.Option(min=1, help="Keypoints per photo, at most.")]
_Pairs = Annotated[
    str,
    typer.Option(
        help="auto (exhaustive up to 60, then retrieval), exhaustive, sequential, retrieval or spatial (GPS);"
        " or a text file, two names on a line."
    ),
]
_Cameras = Annotated[str, typer.Option(help="Who shares intrinsics: auto, folder or photo.")]
_CameraModel = Annotated[str, typer.Option(help="COLMAP camera model.")]
_Masks = Annotated[Path | None, typer.Option(help="Folder of masks, NAME.png, black is ignored. [default: masks/]")]
_Panorama = Annotated[str, typer.Option(help="Which pictures are 360° panoramas: auto, yes (all of 2:1), no.")]
_Images = Annotated[
    Path | None,
    typer.Option(help="New folder for upright copies to name instead of your files: for HEIC, videos, panoramas."),
]
_Work = Annotated[
    Path | None,
    typer.Option(help="Folder to keep features and matches in, for the next time. [default: removed at the end]"),
]
_MaxImages = Annotated[int | None, typer.Option(min=2, help="Use an even choice of so many pictures.")]
_MaxPixels = Annotated[int, typer.Option(min=1, help="Of a photo; larger ones are not read.")]
_Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of pair selection and verification.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]


def features(
    photos: _Photos,
    output: Annotated[Path, typer.Option("--output", "-o", help="database.db (COLMAP) or features.h5 (hloc).")],
    features: Features = _DEFAULT.features,
    max_keypoints: _MaxKeypoints = _DEFAULT.max_keypoints,
    cameras: _Cameras = _DEFAULT.cameras,
    camera_model: _CameraModel = _DEFAULT.camera_model,
    masks: _Masks = None,
    panorama: _Panorama = _DEFAULT.panorama,
    images: _Images = None,
    work: _Work = None,
    max_images: _MaxImages = None,
    max_pixels: _MaxPixels = _DEFAULT.max_pixels,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: _Quiet = False,
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
    photos: _Photos,
    output: Annotated[Path, typer.Option("--output", "-o", help="Text file to write: two names on a line.")],
    pairs: _Pairs = "auto",
    features: Features = _DEFAULT.features,
    max_keypoints: _MaxKeypoints = _DEFAULT.max_keypoints,
    images: _Images = None,
    work: _Work = None,
    max_images: _MaxImages = None,
    max_pixels: _MaxPixels = _DEFAULT.max_pixels,
    seed: _Seed = _DEFAULT.seed,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: _Quiet = False,
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
    photos: _Photos,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="database.db (COLMAP), or a folder (hloc: features.h5, matches.h5).")
    ],
    pairs: _Pairs = "auto",
    features: Features = _DEFAULT.features,
    matcher: Matcher = _DEFAULT.matcher,
    max_keypoints: _MaxKeypoints = _DEFAULT.max_keypoints,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify", help="Keep matches of one two-view geometry. [default: for COLMAP, not for hloc]"
        ),
    ] = None,
    cameras: _Cameras = _DEFAULT.cameras,
    camera_model: _CameraModel = _DEFAULT.camera_model,
    masks: _Masks = None,
    panorama: _Panorama = _DEFAULT.panorama,
    images: _Images = None,
    work: _Work = None,
    max_images: _MaxImages = None,
    max_pixels: _MaxPixels = _DEFAULT.max_pixels,
    seed: _Seed = _DEFAULT.seed,
    device: Device = "auto",
    precision: Precision = _DEFAULT.precision,
    overwrite: Overwrite = False,
    quiet: _Quiet = False,
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
        _say(f"next: colmap mapper --database_path {output} --image_path {result.images} --output_path sparse/")


def _pairs(value: str) -> str | Path:
    """A way of pairing, or else a file."""
    return value if value in get_args(Pairing) else Path(value)


def _progress(quiet: bool) -> BarProgress:
    return BarProgress(None if quiet else Console(stderr=True))


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
    _say(", ".join(parts))
    for warning in result.warnings:
        _say(f"note: {warning}")
    for left in result.left_out:
        _say(f"left out: {left.name}: {left.reason}")
    _say(f"written: {', '.join(map(str, result.written))}; names are relative to {result.images}")


def _say(line: str) -> None:
    """A line that may hold paths: as it is, whatever brackets are in it."""
    _out.print(line, highlight=False, markup=False, soft_wrap=True)
