"""`lightmatch evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.cli.options import MATCHER, MAX_KEYPOINTS, Device, Features, Overwrite, Seed
from lightmatch.cli.progress import BarProgress


def evaluate(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="homographies, poses, correspondences or worlds.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write to; it keeps features for next time.")
    ],
    root: Annotated[
        list[Path] | None, typer.Option(help="Data set, or folder of data sets; its layout is detected. Repeatable.")
    ] = None,
    image_root: Annotated[Path | None, typer.Option(help="Photos of a published pair list, if not beside it.")] = None,
    level: Annotated[
        list[str] | None, typer.Option(help="Worlds: easy, medium, hard or repeated; all by default. Repeatable.")
    ] = None,
    matcher: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{MATCHER} Repeatable; the others are compared to the first. [default: nearest:none, nearest]"
        ),
    ] = None,
    features: Features = "sift",
    max_keypoints: Annotated[
        list[int] | None, typer.Option(min=1, help=f"{MAX_KEYPOINTS} Repeatable. [default: 1024]")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Long side in px; larger images are shrunk. [default: the suite's]")
    ] = None,
    estimator: Annotated[
        list[str] | None, typer.Option(help="dlt, opencv, pycolmap or poselib. Repeatable. [default: all]")
    ] = None,
    ransac_px: Annotated[
        list[float] | None, typer.Option(help="Inlier threshold of the estimators. Repeatable. [default: the suite's]")
    ] = None,
    match_px: Annotated[float, typer.Option(help="A match is right within so many px.")] = 3.0,
    min_angle: Annotated[float, typer.Option(help="Least angle between viewing directions, degrees.")] = 0.0,
    max_angle: Annotated[float, typer.Option(help="Largest angle between viewing directions, degrees.")] = 180.0,
    num_pairs: Annotated[
        int | None, typer.Option(min=1, help="Pairs of each scene at most. [default: all; of worlds 24 a level]")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure matchers on pairs with ground truth.

    Example: `lightmatch evaluate poses --root strecha/ --matcher nearest:0.8 --matcher lightglue -o out/`
    """
    from lightmatch.pipelines.evaluate import EvaluateConfig, evaluate

    chosen = {
        "roots": root,
        "levels": level,
        "matchers": matcher,
        "max_keypoints": max_keypoints,
        "estimators": estimator,
        "thresholds_px": ransac_px,
    }
    config = EvaluateConfig(
        suite,
        image_root=image_root,
        features=features,
        image_size=image_size,
        match_px=match_px,
        min_angle_deg=min_angle,
        max_angle_deg=max_angle,
        num_pairs=num_pairs,
        seed=seed,
        device=device,
        **{name: tuple(values) for name, values in chosen.items() if values},  # type: ignore[arg-type]  # checked there
    )
    result = evaluate(output, config, overwrite=overwrite, progress=BarProgress(ERR))
    for found in result.tables:
        table = Table("", title=found.title)
        for column in found.columns:
            table.add_column(escape(column), justify="right", overflow="fold")
        for row in found.cells():
            table.add_row(*map(escape, row))
        OUT.print(table)
    for note in result.notes:
        say(note)
    scenes = " (scene by scene)" if result.scene_tables else ""
    say(f"look at {output / 'results.md'}{scenes} and {output / 'curves'}")
