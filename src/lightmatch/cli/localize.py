"""`lightmatch localize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.cli.options import Device, Precision, Seed, check_targets
from lightmatch.cli.progress import BarProgress
from lightmatch.errors import InvalidValueError
from lightmatch.pipelines.localize import LocalizeConfig, LocalizeResult
from lightmatch.runtime import codec
from lightmatch.runtime.devices import pick_device

_DEFAULT = LocalizeConfig()
_CAMERAS = {
    "model": "intrinsics of the model's photos with the same lens",
    "exif": "focal length from EXIF, refined",
    "guess": "focal length found",
}


def localize(
    model: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that `lightmatch reconstruct` wrote.")],
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A new photo of the same place.")],
    output_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="File for all numbers, as JSON.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Photos of the model to match with, at most: those that look most alike.")
    ] = _DEFAULT.num_candidates,
    seed: Seed = _DEFAULT.seed,
    device: Device = "auto",
    precision: Precision = _DEFAULT.precision,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Tell where a photo was taken, in a finished model.

    Example: `lightmatch localize out/ new.jpg --json pose.json`
    """
    from lightmatch.pipelines.localize import localize as find

    if output_json is not None and not output_json.absolute().parent.is_dir():
        raise InvalidValueError(f"--json: expected a file in a folder that is there, got {output_json}; make it first")
    check_targets((photo,), (output_json,))
    config = LocalizeConfig(candidates, seed, pick_device(device), precision)
    result = find(model, photo, config, progress=BarProgress(None if quiet else ERR))
    OUT.print(_table(result))
    if output_json is not None:
        codec.write(output_json, result.to_json(), indent=2)
        say(f"all numbers: {output_json}")


def _table(result: LocalizeResult) -> Table:
    placed = result.placed
    unit = "m" if result.metric else "model units"
    focal = f"{placed.camera.mean_focal_length():.1f}"
    if placed.focal_std_px is not None:
        focal += f" ± {placed.focal_std_px:.1f}"
    seen = sum(count > 0 for count in placed.inliers_by_candidate.values())
    table = Table(title=result.photo.name, show_header=False)
    table.add_row("centre", f"{_numbers(placed.center)} {unit}")
    table.add_row("", f"± {placed.position_std:.2g} {unit} (one standard deviation)")
    table.add_row("rotation, camera from world", "\n".join(_numbers(row) for row in placed.cam_from_world[:, :3]))
    table.add_row("", f"± {placed.rotation_std_deg:.2g}°")
    table.add_row("inliers", f"{placed.num_inliers} of {placed.num_correspondences} points, by way of {seen} photos")
    table.add_row("reprojection error", f"{placed.error_px:.2f} px")
    table.add_row("focal length", f"{focal} px ({_CAMERAS[result.camera_from]})")
    if placed.shape is not None:
        table.add_row("the photo is", placed.shape)
    return table


def _numbers(row: object) -> str:
    return "  ".join(f"{value:9.4f}" for value in row)  # type: ignore[attr-defined]
