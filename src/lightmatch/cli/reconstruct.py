"""`lightmatch reconstruct` and `lightmatch report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lightmatch.cli.options import FEATURES, MATCHER, Device, Precision
from lightmatch.cli.progress import BarProgress
from lightmatch.cli.tables import reconstruction_tables
from lightmatch.pipelines.reconstruct import MAX_SEED, ReconstructConfig
from lightmatch.runtime.devices import pick_device

_DEFAULT = ReconstructConfig()
_out = Console()
_err = Console(stderr=True)

_FEW = "Fewer pictures"
_SAME = "What is known"
_HOW = "How"


def reconstruct(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTOS…", help="Folders, photos, videos.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
    features: Annotated[str, typer.Option(help=FEATURES, rich_help_panel=_HOW)] = _DEFAULT.features,
    matcher: Annotated[str, typer.Option(help=MATCHER, rich_help_panel=_HOW)] = _DEFAULT.matcher,
    max_keypoints: Annotated[
        int, typer.Option(min=1, help="Keypoints per photo that the matcher gets, at most.", rich_help_panel=_HOW)
    ] = _DEFAULT.max_keypoints,
    guided_keypoints: Annotated[
        int,
        typer.Option(
            min=0, help="Keypoints per photo matched once the cameras are known; 0: off.", rich_help_panel=_HOW
        ),
    ] = _DEFAULT.guided_keypoints,
    pairs: Annotated[
        str,
        typer.Option(
            help="auto (exhaustive up to 60, then retrieval), exhaustive, sequential, retrieval or spatial (GPS).",
            rich_help_panel=_HOW,
        ),
    ] = _DEFAULT.pairs,
    imported: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Keypoints and matches of another program: COLMAP's database, or a folder of hloc's HDF5 files.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    mapper: Annotated[
        str, typer.Option(help="auto (the better one), incremental or global.", rich_help_panel=_HOW)
    ] = _DEFAULT.mapper,
    cameras: Annotated[
        str, typer.Option(help="Who shares intrinsics: auto, folder or photo.", rich_help_panel=_SAME)
    ] = _DEFAULT.cameras,
    camera_model: Annotated[
        str, typer.Option(help="COLMAP camera model to start with.", rich_help_panel=_SAME)
    ] = _DEFAULT.camera_model,
    known: Annotated[
        Path | None,
        typer.Option(
            help="Known intrinsics, and poses: a COLMAP model, cameras.txt, transforms.json, TUM poses or JSON.",
            rich_help_panel=_SAME,
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks, NAME.png, black is ignored. [default: masks/]", rich_help_panel=_SAME),
    ] = None,
    rig: Annotated[
        bool,
        typer.Option("--rig", help="A folder per camera of a rig, equal names: equal moments.", rich_help_panel=_SAME),
    ] = False,
    panorama: Annotated[
        str,
        typer.Option(
            help="Which pictures are 360° panoramas: auto (they say or look so), yes (all of 2:1), no.",
            rich_help_panel=_SAME,
        ),
    ] = _DEFAULT.panorama,
    ignore_below: Annotated[
        float,
        typer.Option(
            min=-90, max=90, help="Of panoramas, what lies lower (degrees): the tripod.", rich_help_panel=_SAME
        ),
    ] = _DEFAULT.ignore_below_deg,
    ignore_above: Annotated[
        float,
        typer.Option(min=-90, max=90, help="Of panoramas, what lies higher (degrees): the sky.", rich_help_panel=_SAME),
    ] = _DEFAULT.ignore_above_deg,
    mirrored: Annotated[
        str,
        typer.Option(
            help="Photos mirrored against the others: leave-out, flip-back (not videos, panoramas), or keep (no test).",
            rich_help_panel=_SAME,
        ),
    ] = _DEFAULT.mirrored,
    max_images: Annotated[
        int | None, typer.Option(min=2, help="Use an even choice of so many pictures.", rich_help_panel=_FEW)
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Of a photo; larger ones are not read.", rich_help_panel=_FEW)
    ] = _DEFAULT.max_pixels,
    splat: Annotated[
        bool, typer.Option("--splat/--no-splat", help="Undistorted photos and a dense cloud for splat trainers.")
    ] = True,
    depth_maps: Annotated[
        bool, typer.Option("--depth-maps", help="Depth of each undistorted photo too, for training and splats.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Makes the result repeatable to the bit (slower).")
    ] = None,
    device: Device = "auto",
    precision: Precision = _DEFAULT.precision,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of a finished run; what still holds is used again.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")] = False,
    json_log: Annotated[
        Path | None, typer.Option("--json-log", help="File to add the run's progress to, a JSON object a line.")
    ] = None,
) -> None:
    """Reconstruct cameras and a point cloud from photos and videos, with a page to look at.

    Ctrl-C, a crash or a full disk lose nothing: the same command goes on where it was.

    Examples: `lightmatch reconstruct photos/ -o out/`, `lightmatch reconstruct clip.mp4 more/ -o out/`
    """
    from lightmatch.pipelines.reconstruct import reconstruct as run

    config = ReconstructConfig(
        features=features,
        matcher=matcher,
        max_keypoints=max_keypoints,
        guided_keypoints=guided_keypoints,
        pairs=pairs,  # type: ignore[arg-type]  # checked there
        cameras=cameras,  # type: ignore[arg-type]
        camera_model=camera_model,
        mapper=mapper,  # type: ignore[arg-type]
        masks=masks,
        rig=rig,
        panorama=panorama,  # type: ignore[arg-type]
        ignore_below_deg=ignore_below,
        ignore_above_deg=ignore_above,
        mirrored=mirrored,  # type: ignore[arg-type]
        imported=imported,
        known=known,
        max_images=max_images,
        max_pixels=max_pixels,
        splat=splat,
        depth_maps=depth_maps,
        seed=seed,
        device=pick_device(device),
        precision=precision,
    )
    progress = BarProgress(None if quiet else _err, json_log)
    try:
        summary = run(photos, output, config, overwrite=overwrite, progress=progress)
    except KeyboardInterrupt:
        _err.print(f"interrupted; the same command goes on where it was ({output})", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if quiet:
        return
    for table in reconstruction_tables(summary):
        _out.print(table)
    _out.print(
        f"look at {output / 'report.html'}; model: {output / 'sparse' / '0'}"
        + (f"; for splat trainers: {output / 'splat'}" if splat else ""),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def report(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a finished reconstruction.")],
) -> None:
    """Write the page of a finished reconstruction again.

    Example: `lightmatch report out/`
    """
    from lightmatch.pipelines.reconstruct.report import write_report

    _out.print(f"look at {write_report(output)}", highlight=False, markup=False, soft_wrap=True)
