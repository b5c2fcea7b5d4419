"""Train a network by a recipe: data, network, loop, log and curves, in one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.train_joint import train_joint
from lightmatch.pipelines.train_lightpoint import train_lightpoint
from lightmatch.pipelines.train_matcher import train_matcher
from lightmatch.pipelines.train_run import TrainConfig, TrainingRun, TrainResult, join_others, take_folder
from lightmatch.runtime.devices import pick_device
from lightmatch.training.expected import check_names, shortfalls
from lightmatch.training.loop import RunFolder
from lightmatch.training.recipe import JointRecipe, LightPointRecipe, read_recipe

__all__ = ["TrainConfig", "TrainResult", "train_recipe"]


def train_recipe(
    recipe_path: str | Path, output: str | Path, config: TrainConfig | None = None, *, progress: Progress | None = None
) -> TrainResult:
    """Train by the recipe and write weights.safetensors, checkpoint.pt, log.csv and curves.png to `output`.

    A recipe for LightPoint and LightGlue together writes those of LightGlue to lightglue.safetensors.

    A run that was stopped (by Ctrl-C, SIGTERM or a crash) goes on where its checkpoint is. Under torchrun every
    process takes its own GPU and its own pairs.
    Raises TrainingError where recipe and data do not fit together, or `output` holds another recipe's run.
    """
    config = config or TrainConfig()
    recipe_path, folder = Path(recipe_path), RunFolder(Path(output))
    recipe = read_recipe(recipe_path)
    check_names(recipe.expected)  # not at the end of a long run
    rank, world_size, device = join_others(pick_device(config.device))
    if rank == 0:
        take_folder(folder.path, recipe_path, config.restart)
    config = replace(config, cache=config.cache or folder.path / "groups", device=device)
    run = TrainingRun(recipe_path, folder, config, rank, world_size, progress or Progress())
    if isinstance(recipe, JointRecipe):
        result = train_joint(recipe, run)
    elif isinstance(recipe, LightPointRecipe):
        result = train_lightpoint(recipe, run)
    else:
        result = train_matcher(recipe, run)
    if not result.finished or not result.scores:  # it was stopped, had ended before, or another process has the scores
        return result
    return replace(result, shortfalls=tuple(shortfalls(recipe.expected, result.scores)))
