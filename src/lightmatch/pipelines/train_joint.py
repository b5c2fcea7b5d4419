"""Train LightPoint and the LightGlue on it together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from lightmatch.extractors.lightpoint import write_lightpoint
from lightmatch.matchers import LightGlue
from lightmatch.pipelines.train_lightpoint import student_network, student_validation, training_views
from lightmatch.pipelines.train_matcher import matcher_of
from lightmatch.pipelines.train_run import TrainingRun, TrainResult, carry_out
from lightmatch.training.lightpoint.joint import JointNetwork, JointObjective, JointValidation
from lightmatch.training.recipe import JointRecipe

MATCHER_FILE = "lightglue.safetensors"  # beside the weights of LightPoint


@dataclass(frozen=True, eq=False)
class _Joint:
    """What the loop trains. The matcher's network is a part of `network`."""

    network: JointNetwork
    matcher: LightGlue

    def save(self, path: str | Path, **metadata: str) -> None:
        """Write weights and configuration of both, the matcher's to a file beside `path`."""
        write_lightpoint(self.network.features, path, metadata)
        self.matcher.save(Path(path).with_name(MATCHER_FILE), **metadata)


def train_joint(recipe: JointRecipe, run: TrainingRun) -> TrainResult:
    """Train both on views of photos and scenes, labelled by LightPoint's teachers; see `train_recipe`."""
    batches, held_out = training_views(recipe, run), student_validation(recipe, run.config)
    held_out_pairs = JointValidation(held_out.scenes or held_out.views, recipe.joint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        features = student_network(recipe, batches.store, run.config.weights)
        weights = run.config.matcher_weights
        matcher = matcher_of(recipe.lightglue, weights) if weights else LightGlue(recipe.lightglue)
    assert isinstance(matcher, LightGlue)
    joint = _Joint(JointNetwork(features, matcher.network), matcher)
    scores: dict[str, float] = {}

    def validate(average: _Joint) -> Mapping[str, float]:
        found = held_out_pairs(average.network.features, average.matcher)
        scores.update({**held_out(average.network.features), **found})
        return scores

    done = carry_out(
        joint,
        lambda network: JointObjective(
            cast(JointNetwork, network), recipe.lightglue.positions, recipe.objective, recipe.joint
        ),
        batches,
        recipe.optimization,
        run,
        validate=validate,
    )
    return TrainResult(run.folder.weights, done, done == recipe.optimization.steps, scores, {})
