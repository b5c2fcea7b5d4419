"""`lightmatch track`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.cli.options import MATCHING, PHOTOS, Device, Features, OutputFolder, Overwrite, Quiet
from lightmatch.cli.progress import BarProgress
from lightmatch.pipelines.track import FRAMES, MODEL, REPORT, TRAJECTORY, TrackConfig, TrackSummary
from lightmatch.runtime.devices import pick_device
from lightmatch.tracking import TrackedFrame, TrackerConfig
from lightmatch.tracking.sequences import SequenceConfig

_DEFAULT = TrackerConfig()


def track(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO|FRAMES|CAMERA", help="A video, a folder of frames, or camera:0, the first one attached."
        ),
    ],
    output: OutputFolder,
    known: Annotated[
        Path | None,
        typer.Option(
            help="Intrinsics: a COLMAP model, cameras.txt, transforms.json, JSON. Without: from the frames.",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="Output of `track` or `reconstruct`: track in its map and go on with it.",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    mapping: Annotated[
        bool, typer.Option("--mapping/--no-mapping", help="Add to the map, or only find the camera in it.")
    ] = True,
    depth: Annotated[
        Path | None,
        typer.Option(help="Folder of depth maps, 16-bit PNG, named as the frames.", rich_help_panel=PHOTOS),
    ] = None,
    depth_scale: Annotated[
        float, typer.Option(min=1e-6, help="Depth values per metre (TUM: 5000).", rich_help_panel=PHOTOS)
    ] = 1000.0,
    right: Annotated[
        Path | None,
        typer.Option(help="Folder of right images of a rectified pair, named as the frames.", rich_help_panel=PHOTOS),
    ] = None,
    baseline: Annotated[
        float | None, typer.Option(min=1e-6, help="Metres between left and right camera.", rich_help_panel=PHOTOS)
    ] = None,
    times: Annotated[
        Path | None, typer.Option(help="File with the time of each frame in seconds.", rich_help_panel=PHOTOS)
    ] = None,
    fps: Annotated[
        float, typer.Option(min=1e-3, help="Frames per second of a folder without times.", rich_help_panel=PHOTOS)
    ] = 30.0,
    features: Features = _DEFAULT.features,
    matcher: Annotated[str, typer.Option(help="See docs/matchers.md.", rich_help_panel=MATCHING)] = _DEFAULT.matcher,
    max_keypoints: Annotated[
        int, typer.Option(min=100, help="Keypoints per keyframe, at most.", rich_help_panel=MATCHING)
    ] = _DEFAULT.max_keypoints,
    background: Annotated[
        bool, typer.Option("--background", help="Map in a thread of its own; the result is not repeatable then.")
    ] = False,
    view: Annotated[bool, typer.Option("--view", help="Show it in Rerun's viewer (extra `view`).")] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.rrd", help="Write a file for Rerun's viewer (extra `view`).")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print each pose as a line of JSON.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Track a camera through a video or frames: a pose for each frame, and a map.

    Example: `lightmatch track clip.mp4 -o out/`
    """
    from lightmatch.pipelines.track import track as run

    config = TrackConfig(
        SequenceConfig(source, depth, depth_scale, right, times, fps),
        known,
        baseline,
        earlier,
        view,
        record,
        TrackerConfig(
            features=features,
            matcher=matcher,
            max_keypoints=max_keypoints,
            background=background,
            mapping=mapping,
            device=pick_device(device),
        ),
    )
    progress = BarProgress(None if quiet or stream else ERR)
    summary = run(config, output, overwrite=overwrite, progress=progress, on_frame=_print if stream else _nothing)
    if quiet or stream:
        return
    OUT.print(_table(summary))
    say(f"trajectory: {output / TRAJECTORY}; every frame: {output / FRAMES}; map: {output / MODEL / '0'}")
    say(f"look at {output / REPORT}")


def _nothing(frame: TrackedFrame) -> None:
    """What is done with frames that are not printed."""


def _print(frame: TrackedFrame) -> None:
    pose = frame.cam_from_world
    line = {
        "timestamp": frame.timestamp,
        "status": frame.status,
        "cam_from_world": None if pose is None else pose.tolist(),
        "num_tracked": frame.num_tracked,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _table(summary: TrackSummary) -> Table:
    table = Table(title="tracking", show_header=False)
    table.add_row("frames with a measured pose", f"{summary.num_tracked} of {summary.num_frames}")
    table.add_row("frames by status", ", ".join(f"{status} {count}" for status, count in summary.statuses.items()))
    table.add_row("focal length", f"{summary.focal_px:g} px, from {summary.focal_from}")
    table.add_row("keyframes", str(summary.num_keyframes))
    table.add_row("points", str(summary.num_points))
    table.add_row("loops closed", str(summary.num_loops))
    table.add_row(
        "milliseconds a frame", f"{summary.milliseconds_median} (median), {summary.milliseconds_95} (95th percentile)"
    )
    return table
