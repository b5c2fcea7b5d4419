"""The verb `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lightmatch.cli.options import Overwrite
from lightmatch.cli.progress import BarProgress
from lightmatch.cli.tables import demo_table, reconstruction_tables
from lightmatch.pipelines.reconstruct import MAX_SEED

_out = Console()
_err = Console(stderr=True)


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
