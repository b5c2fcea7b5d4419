"""Train LightPoint: its teachers, its views, and how it fares on photos held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from lightmatch.errors import TrainingError
from lightmatch.extractors import create_extractor
from lightmatch.extractors.lightpoint import read_lightpoint, write_lightpoint
from lightmatch.networks.lightpoint import LightPointNetwork
from lightmatch.pipelines.train_run import TrainConfig, TrainingRun, TrainResult, carry_out, fingerprint, split_photos
from lightmatch.training.lightpoint.objective import StudentObjective
from lightmatch.training.lightpoint.teachers import LabelStore
from lightmatch.training.lightpoint.validation import StudentValidation
from lightmatch.training.lightpoint.views import StudentViews
from lightmatch.training.photos import Split
from lightmatch.training.recipe import LightPointRecipe


@dataclass(frozen=True, eq=False)
class _Student:
    """What the loop trains."""

    network: LightPointNetwork

    def save(self, path: str | Path, **metadata: str) -> None:
        """Write weights and configuration."""
        write_lightpoint(self.network, path, metadata)


def train_lightpoint(recipe: LightPointRecipe, run: TrainingRun) -> TrainResult:
    """Train LightPoint on views warped from photos, labelled by its teachers; see `train_recipe`."""
    batches = StudentViews(_labels(recipe, run.config, "train"), recipe.views, recipe.seed, run.rank, run.world_size)
    upright = replace(recipe.views, any_rotation_share=0.0)
    held_out = StudentValidation(StudentViews(_labels(recipe, run.config, "validation"), upright, recipe.seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        student = _Student(_network(recipe, batches.store, run.config.weights))
    scores: dict[str, float] = {}

    def validate(average: _Student) -> Mapping[str, float]:
        scores.update(held_out(average.network))
        return scores

    done = carry_out(
        student,
        lambda network: StudentObjective(cast(LightPointNetwork, network), recipe.objective),
        batches,
        recipe.optimization,
        run,
        validate=validate,
    )
    return TrainResult(run.folder.weights, done, done == recipe.optimization.steps, scores, {})


def _labels(recipe: LightPointRecipe, config: TrainConfig, split: Split) -> LabelStore:
    """The teachers' labels of the photos on one side of the split, made when first asked for, in config.cache."""
    assert config.cache is not None
    photos = split_photos(recipe, config, split)
    teachers = recipe.teachers
    detector = create_extractor(
        teachers.detector, max_keypoints=teachers.max_keypoints, device=config.device, **teachers.options
    )
    describers = {
        name: detector if name == teachers.detector else create_extractor(name, device=config.device)
        for name in teachers.describers
    }
    return LabelStore(config.cache / f"labels-{fingerprint(teachers)}", photos, detector, describers)


def _network(recipe: LightPointRecipe, labels: LabelStore, weights: Path | None) -> LightPointNetwork:
    """The network of the recipe with a head for each teacher's space: random weights, or those of a file."""
    spaces = tuple((name, teacher.kind.descriptor_dim) for name, teacher in labels.describers.items())
    wanted = replace(recipe.lightpoint, spaces=spaces)
    if weights is None:
        return LightPointNetwork(wanted)
    network = read_lightpoint(weights)
    if network.config != wanted:
        raise TrainingError(f"{weights}: expected the network of the recipe, {wanted}; got {network.config}")
    return network
