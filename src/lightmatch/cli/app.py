"""The verbs of the command line."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from lightmatch.cli.benchmark import benchmark
from lightmatch.cli.evaluate import evaluate
from lightmatch.cli.export import export
from lightmatch.cli.localize import localize
from lightmatch.cli.options import Device, Features, Matcher, Overwrite, Precision
from lightmatch.cli.progress import BarProgress
from lightmatch.cli.reconstruct import reconstruct, report
from lightmatch.cli.tables import demo_table, doctor_table, reconstruction_tables
from lightmatch.cli.train import train
from lightmatch.cli.weights import weights
from lightmatch.devices import keep_freed_memory, pick_device
from lightmatch.errors import InvalidValueError, LightmatchError
from lightmatch.images import MAX_PIXELS
from lightmatch.matchers import DEFAULT_MATCHER
from lightmatch.pipelines.reconstruct import MAX_SEED
from lightmatch.threads import use_threads

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)
_out = Console()
_err = Console(stderr=True)


def run() -> None:
    """Run the command line; a user's mistake ends with one sentence and exit code 1."""
    keep_freed_memory()
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=_err, show_time=False, show_path=False)],
    )
    try:
        app(standalone_mode=True)
    except LightmatchError as error:
        _err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        reason = error.strerror or type(error).__name__
        _err.print(
            f"[bold red]error:[/] {escape(str(error.filename))}: cannot be read or written ({reason.lower()});"
            " choose another place or change its permissions",
            soft_wrap=True,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        _err.print("interrupted")
        sys.exit(130)


def _version(asked: bool) -> None:
    if asked:
        _out.print(importlib.metadata.version("lightmatch"), highlight=False)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads to compute on. [default: as many as there are cores]")
    ] = None,
) -> None:
    """Local feature matching, from two photos to a 3D model."""
    if threads is not None:
        use_threads(threads)


@app.command(name="match")
def match_photos(
    photo0: Annotated[Path, typer.Argument(metavar="A", help="First photo.")],
    photo1: Annotated[Path, typer.Argument(metavar="B", help="Second photo.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Picture of the matches to write.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Matches as JSON (docs/match-json.md).")] = None,
    features: Features = "sift",
    matcher: Matcher = DEFAULT_MATCHER,
    geometry: Annotated[
        str, typer.Option(help="fundamental (scene in depth) or homography (a plane).")
    ] = "fundamental",
    max_keypoints: Annotated[int, typer.Option(min=1, help="Keypoints per photo at most.")] = 2048,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of a photo; larger ones are not read.")] = MAX_PIXELS,
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Try the second photo turned by 0, 90, 180 and 270°.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the robust estimation.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Match two photos.

    Example: `lightmatch match a.jpg b.jpg -o matches.png --json matches.json`
    """
    from lightmatch.images import common_levels, load_image
    from lightmatch.report import check_picture_name, draw_matches, write_picture
    from lightmatch.two_view import match

    _check_targets((photo0, photo1), (output, json_path))
    if output is not None:
        check_picture_name(output)
    levels = common_levels((photo0, photo1), max_pixels)
    image0, image1 = load_image(photo0, max_pixels, levels), load_image(photo1, max_pixels, levels)
    result = match(
        image0,
        image1,
        features,
        matcher,
        geometry=geometry,  # type: ignore[arg-type]  # checked there
        max_keypoints=max_keypoints,
        rotations=rotations,
        seed=seed,
        device=pick_device(device),
        precision=precision,
    )
    _out.print(
        f"{len(result.features0)} and {len(result.features1)} keypoints, {len(result.matches)} matches,"
        f" {result.geometry.num_inliers} inliers ({result.geometry.model});"
        f" {'overlap' if result.overlap else 'no overlap'} (probability {result.overlap_probability:.2f})",
        soft_wrap=True,
    )
    if output is not None:
        points0, points1 = result.matches.points(result.features0, result.features1)
        write_picture(output, draw_matches(image0, image1, points0, points1, result.geometry.inliers))
        _say(f"picture: {output}")
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(result.to_json()) + "\n", encoding="utf-8")
        _say(f"matches: {json_path}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo_out"),
    num_views: Annotated[int, typer.Option(min=12, help="Views of the scene, all round it.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Another seed is another scene.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Reconstruct a procedural scene and compare every camera with the truth.

    Example: `lightmatch demo -o demo_out`
    """
    from lightmatch.pipelines.demo import run_demo

    result = run_demo(output, num_views=num_views, seed=seed, overwrite=overwrite, progress=BarProgress(_err))
    for table in (*reconstruction_tables(result.summary), demo_table(result)):
        _out.print(table)
    _out.print(
        f"look at {output / 'model' / 'overview.png'} and {output / 'photos'}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


app.command()(reconstruct)
app.command()(report)
app.command()(localize)
app.command()(train)
app.command()(evaluate)
app.command()(benchmark)
app.command()(export)
app.add_typer(weights, name="weights")


@app.command()
def doctor() -> None:
    """Show what is installed, which devices and precisions work, which weights are there.

    Example: `lightmatch doctor`
    """
    from lightmatch.pipelines.doctor import examine

    findings = examine()
    _out.print(doctor_table(findings))
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


def _say(line: str) -> None:
    """A line that may hold paths: as it is, whatever brackets are in it."""
    _out.print(line, highlight=False, markup=False, soft_wrap=True)


def _check_targets(photos: tuple[Path, ...], targets: tuple[Path | None, ...]) -> None:
    """Refuse to write over a photo that was given, or two results to one file."""
    seen = {photo.resolve() for photo in photos}
    for target in targets:
        if target is None:
            continue
        if target.resolve() in seen:
            raise InvalidValueError(
                f"{target}: expected a new file to write to, got one that is in use here; rename it"
            )
        seen.add(target.resolve())
