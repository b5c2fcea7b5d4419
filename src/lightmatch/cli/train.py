"""`lightmatch train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightmatch.cli.console import ERR, OUT, say
from lightmatch.cli.options import Device
from lightmatch.cli.progress import BarProgress

_Folders = list[Path] | None


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="What to train and how: a TOML file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; one that is there goes on.")],
    photos: Annotated[_Folders, typer.Option(help="Folder of photos; repeatable.")] = None,
    textures: Annotated[_Folders, typer.Option(help="Folder of photographed surfaces for the worlds.")] = None,
    posed: Annotated[
        _Folders, typer.Option(help="Finished reconstruction, COLMAP model with photos, or MegaDepth folder.")
    ] = None,
    scenes: Annotated[
        _Folders, typer.Option(help="Folder of folders, each with photos of one scene that overlap; repeatable.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where extracted views are kept for other runs too.")] = None,
    weights: Annotated[Path | None, typer.Option("--from", help="Weights to start from (fine-tuning).")] = None,
    matcher_weights: Annotated[
        Path | None, typer.Option("--matcher-from", help="The matcher's, where LightPoint is trained with one.")
    ] = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 1,
    restart: Annotated[bool, typer.Option("--restart", help="Forget the run in the folder and start over.")] = False,
) -> None:
    """Train a matcher, LightPoint, or both together, by a recipe.

    Example: `lightmatch train recipes/quick-cpu.toml --photos photos/ -o runs/quick`

    Ctrl-C leaves a checkpoint; the same command goes on from it. For several GPUs:
    `torchrun --nproc-per-node 4 -m lightmatch train …`
    """
    from lightmatch.pipelines.train import TrainConfig, train_recipe
    from lightmatch.training.loop import RunOptions

    config = TrainConfig(
        photos=tuple(photos or ()),
        textures=tuple(textures or ()),
        posed=tuple(posed or ()),
        scenes=tuple(scenes or ()),
        cache=cache,
        weights=weights,
        matcher_weights=matcher_weights,
        device=device,
        run=RunOptions(workers=workers),
        restart=restart,
    )
    result = train_recipe(recipe, output, config, progress=BarProgress(ERR))
    if not result.finished:
        OUT.print(f"stopped after step {result.steps}; the same command goes on", highlight=False)
    for name, scores in (("trained", result.scores), ("nearest neighbour, ratio 0.8", result.baseline)):
        if scores:
            listed = ", ".join(_score(key, value) for key, value in scores.items())
            OUT.print(f"{name}: {listed}", highlight=False)
    if result.shortfalls:
        say(f"worse than the recipe expects: {'; '.join(result.shortfalls)}")
    say(f"weights: {result.weights}")


def _score(name: str, value: float) -> str:
    """A number of the validation; distances are in px, the others are shares."""
    if name.endswith("_px"):
        return f"{name.removesuffix('_px').replace('_', ' ')} {value:.2f} px"
    return f"{name.replace('_', ' ')} {100 * value:.1f} %"
