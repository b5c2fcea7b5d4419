"""The verb `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.cli.options import OutputFolder, Overwrite
from lightmatch.cli.progress import BarProgress
from lightmatch.cli.tables import demo_table, reconstruction_tables
from lightmatch.colmap.options import MAX_SEED
from lightmatch.pipelines.layout import Layout


def demo(
    output: OutputFolder = Path("demo_out"),
    num_views: Annotated[int, typer.Option(min=12, help="Views of the scene, all round it.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Another seed is another scene.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Reconstruct a procedural scene and compare every camera with the truth.

    Example: `lightmatch demo -o demo_out`
    """
    from lightmatch.pipelines.demo import run_demo

    result = run_demo(output, num_views=num_views, seed=seed, overwrite=overwrite, progress=BarProgress(ERR))
    for table in (*reconstruction_tables(result.summary), demo_table(result)):
        OUT.print(table)
    say(f"open {Layout(output / 'model').report} in a browser; rendered photos: {output / 'photos'}")
