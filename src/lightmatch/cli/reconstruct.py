"""`lightmatch reconstruct` and `lightmatch report`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.cli.options import (
    CLUSTER,
    MATCHING,
    PHOTOS,
    CameraModel,
    Cameras,
    Device,
    Masks,
    Matcher,
    MaxImages,
    MaxKeypoints,
    MaxPixels,
    OutputFolder,
    Overwrite,
    Pairs,
    Panorama,
    Photos,
    Precision,
    Quiet,
)
from lightmatch.cli.progress import BarProgress
from lightmatch.cli.tables import reconstruction_tables
from lightmatch.colmap.options import MAX_SEED
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.reconstruct import ReconstructConfig
from lightmatch.runtime.devices import pick_device

if TYPE_CHECKING:
    from lightmatch.runtime.cluster import RayCluster

_DEFAULT = ReconstructConfig()


def reconstruct(
    photos: Photos,
    output: OutputFolder,
    features: Annotated[
        str,
        typer.Option(
            help="auto (sift; lightpoint where it registers more photos), or a name that `lightmatch doctor` lists.",
            rich_help_panel=MATCHING,
        ),
    ] = _DEFAULT.features,
    matcher: Matcher = _DEFAULT.matcher,
    max_keypoints: MaxKeypoints = _DEFAULT.max_keypoints,
    guided_keypoints: Annotated[
        int,
        typer.Option(
            min=0,
            help="Keypoints per photo matched once the cameras are known, and by which photos that were left out are"
            " placed; 0, or no more than --max-keypoints: off.",
            rich_help_panel=MATCHING,
        ),
    ] = _DEFAULT.guided_keypoints,
    pairs: Pairs = _DEFAULT.pairs,
    imported: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Keypoints and matches of another program: COLMAP's database, or a folder of hloc's HDF5 files.",
            rich_help_panel=MATCHING,
        ),
    ] = None,
    mapper: Annotated[
        str, typer.Option(help="auto (the better one), incremental or global.", rich_help_panel=MATCHING)
    ] = _DEFAULT.mapper,
    cameras: Cameras = _DEFAULT.cameras,
    camera_model: CameraModel = _DEFAULT.camera_model,
    known: Annotated[
        Path | None,
        typer.Option(
            help="Known intrinsics, and poses: a COLMAP model, cameras.txt, transforms.json, lines of poses, or JSON.",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    masks: Masks = None,
    rig: Annotated[
        bool,
        typer.Option(
            "--rig",
            help="A camera rig: one folder per camera, files of the same name taken at once.",
            rich_help_panel=PHOTOS,
        ),
    ] = False,
    panorama: Panorama = _DEFAULT.panorama,
    ignore_below: Annotated[
        float,
        typer.Option(
            min=-90, max=90, help="Leave out what is lower in panoramas, in degrees (tripod).", rich_help_panel=PHOTOS
        ),
    ] = _DEFAULT.ignore_below_deg,
    ignore_above: Annotated[
        float,
        typer.Option(
            min=-90, max=90, help="Leave out what is higher in panoramas, in degrees (sky).", rich_help_panel=PHOTOS
        ),
    ] = _DEFAULT.ignore_above_deg,
    mirrored: Annotated[
        str,
        typer.Option(
            help="Photos mirrored against the others: leave-out, flip-back (not videos, panoramas), or keep (no test).",
            rich_help_panel=PHOTOS,
        ),
    ] = _DEFAULT.mirrored,
    max_images: MaxImages = None,
    max_pixels: MaxPixels = _DEFAULT.max_pixels,
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
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on all machines of a Ray cluster: auto, or host:port.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Object storage for features and matches, such as s3://bucket/prefix.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json_log: Annotated[
        Path | None, typer.Option("--json-log", help="File to add the run's progress to, a JSON object a line.")
    ] = None,
) -> None:
    """Reconstruct cameras and a point cloud from photos and videos, with an HTML report.

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
        store=store,
        max_images=max_images,
        max_pixels=max_pixels,
        splat=splat,
        depth_maps=depth_maps,
        seed=seed,
        device=pick_device(device),
        precision=precision,
    )
    if 0 < guided_keypoints <= max_keypoints and imported is None:
        say(
            f"--guided-keypoints {guided_keypoints} is not above --max-keypoints {max_keypoints}: nothing is matched"
            " again with known cameras, and photos that are left out are not placed",
            ERR,
        )
    progress = BarProgress(None if quiet else ERR, json_log)
    try:
        with _executor(cluster, output, photos, config) as executor:
            if executor is not None:  # paths that are the same on every machine
                photos, output = [path.absolute() for path in photos], output.absolute()
                config = config.with_absolute_paths()
            summary = run(photos, output, config, overwrite=overwrite, progress=progress, executor=executor)
    except KeyboardInterrupt:
        say(f"interrupted; the same command goes on where it was ({output})", ERR)
        raise typer.Exit(130) from None
    if quiet:
        return
    layout = Layout(output)
    for table in reconstruction_tables(summary):
        OUT.print(table)
    say(
        f"look at {layout.report}; model: {layout.best_model}"
        + (f"; for splat trainers: {layout.splat}" if splat else "")
    )


@contextmanager
def _executor(
    cluster: str | None, output: Path, photos: Sequence[Path], config: ReconstructConfig
) -> Generator[RayCluster | None]:
    """The cluster, where one is named; None for the threads of this process."""
    if cluster is None:
        yield None
        return
    from lightmatch.runtime.cluster import ray_cluster

    named = (*photos, config.masks, config.imported, config.matcher_file)
    given = [path for path in named if path is not None and path.exists()]
    with ray_cluster(cluster, [output, *given], uses_gpus=config.device != "cpu") as executor:
        cores = sum(node.cores for node in executor.nodes)
        say(f"cluster: {len(executor.nodes)} nodes with {cores} cores", ERR)
        yield executor


def report(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a finished reconstruction.")],
) -> None:
    """Write the HTML report of a finished reconstruction again.

    Example: `lightmatch report out/`
    """
    from lightmatch.pipelines.reconstruct.report import write_report

    say(f"look at {write_report(output)}")
