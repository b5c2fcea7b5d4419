"""Train a matcher: its data, its network, and how it fares on pairs held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lightmatch.errors import TrainingError
from lightmatch.evaluation.metrics import recall_at_precision
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.extractors.lightpoint import LightPoint
from lightmatch.geometry.correspondence import Correspondence
from lightmatch.matchers import LightGlue, Matcher, create_matcher
from lightmatch.matchers.learned import LearnedMatcher, family_of_config
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.pipelines.train_run import TrainConfig, TrainingRun, TrainResult, carry_out, fingerprint, split_photos
from lightmatch.runtime.devices import fast_dtype
from lightmatch.runtime.discovery import resolve
from lightmatch.training.batches import GroupStore, PairBatches, ViewSource
from lightmatch.training.homographies import HomographySource
from lightmatch.training.initialization import copy_layers, read_through_head
from lightmatch.training.matched import MatchedSource
from lightmatch.training.photos import Split, list_photos
from lightmatch.training.posed import PosedSource
from lightmatch.training.recipe import Recipe
from lightmatch.training.worlds import WorldSource
from lightmatch.types import Features
from lightmatch.weights import read_tensors

BASELINE = "nearest"  # what a trained matcher is compared to

_PAIRS_PER_GROUP = 4  # in validation


def train_matcher(recipe: Recipe, run: TrainingRun) -> TrainResult:
    """Train the matcher of a recipe on groups of views; see `train_recipe`."""
    batches = PairBatches(
        make_groups(recipe, run.config, "train"), recipe.sampling, recipe.seed, run.rank, run.world_size
    )
    held_out = held_out_pairs(recipe, run.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        matcher = _matcher(recipe, run.config.weights)
    baseline = _score(create_matcher(BASELINE), held_out, None)
    scores: dict[str, float] = {}

    def validate(average: Matcher) -> Mapping[str, float]:
        scores.update(_score(average, held_out, baseline))
        return scores

    done = carry_out(
        matcher,
        lambda network: _objective(recipe, network),
        batches,
        recipe.optimization,
        run,
        validate=validate,
    )
    return TrainResult(run.folder.weights, done, done == recipe.optimization.steps, scores, baseline)


def make_groups(recipe: Recipe, config: TrainConfig, split: Split) -> GroupStore:
    """The groups of views of one side of the split, made when first needed and kept in config.cache.

    Raises TrainingError where `config` lacks the photos that the recipe needs, or the recipe names no source.
    """
    assert config.cache is not None
    extractor = create_extractor(
        recipe.features.name, max_keypoints=recipe.features.max_keypoints, **recipe.features.options
    )
    named = [
        (
            f"{name}-{_fingerprint(source, recipe, extractor)}",
            source,
            count if split == "train" else recipe.groups.validation,
        )
        for name, source, count in _sources(recipe, config, split)
    ]
    return GroupStore(config.cache, named, extractor)


def _sources(recipe: Recipe, config: TrainConfig, split: Split) -> list[tuple[str, ViewSource, int]]:
    """The sources of a recipe by name, and how many groups of each are for training."""
    share, pattern = recipe.photos.validation_share, recipe.photos.id_pattern
    seed = recipe.seed if split == "train" else recipe.seed + 1

    def photos() -> list[Path]:
        return split_photos(recipe, config, split)

    made: list[tuple[str, ViewSource, int]] = []
    counts = recipe.groups
    if counts.homographies:
        made.append(("homographies", HomographySource(photos(), seed, recipe.homographies), counts.homographies))
    if counts.worlds:
        textures = list_photos(config.textures, split, share, pattern) if config.textures else []
        made.append(("worlds", WorldSource(photos(), textures, seed, recipe.worlds, config.device), counts.worlds))
    if counts.posed:
        if not config.posed:
            raise TrainingError(f"recipe {recipe.name!r} needs posed photos; name a model of them with --posed")
        made.append(("posed", PosedSource(config.posed, split, seed, recipe.posed), counts.posed))
    if counts.matched:
        if not config.scenes:
            raise TrainingError(f"recipe {recipe.name!r} needs photos that overlap; name their folders with --scenes")
        teacher = create_extractor(recipe.matched.teacher, device=config.device)
        matcher = LightGlue.from_pretrained(teacher.kind.name, device=config.device, dtype=fast_dtype(config.device))
        scenes = [path for root in config.scenes for path in sorted(root.iterdir()) if path.is_dir()]
        made.append(("matched", MatchedSource(scenes, teacher, matcher, split, seed, recipe.matched), counts.matched))
    if not made:
        raise TrainingError(f"recipe {recipe.name!r}: expected [groups] to name at least one source, got none")
    return made


def _fingerprint(source: ViewSource, recipe: Recipe, extractor: Extractor) -> str:
    """Eight letters that change with everything a group depends on."""
    return fingerprint((source, recipe.features, extractor.weights_digest()))


def _matcher(recipe: Recipe, weights: Path | None) -> LearnedMatcher[Any, Any]:
    """The network of the recipe, with random weights or those of a file."""
    if weights is None:
        return family_of_config(recipe.network).matcher_type(recipe.network)
    config = recipe.network
    if isinstance(config, LightGlueConfig) and (donor := _made_for_other_features(recipe, weights)):
        matcher = copy_layers(LightGlue(config), donor)
        extractor = create_extractor(recipe.features.name, **recipe.features.options)
        if isinstance(extractor, LightPoint) and donor.config.features in extractor.network.spaces:
            read_through_head(matcher, donor, extractor.network.spaces[donor.config.features])
        return matcher
    return matcher_of(config, weights)


def matcher_of(config: Any, weights: Path) -> LearnedMatcher[Any, Any]:
    """The matcher of a network's config with the weights of a file.

    Raises TrainingError where the file is of another network.
    """
    matcher_type = family_of_config(config).matcher_type
    # How the network is used is the recipe's to say; its size must be the same.
    usage = {name: getattr(config, name) for name in matcher_type.run_options}
    matcher = matcher_type.from_checkpoint(weights, config.features, **usage)
    if matcher.config != config:
        raise TrainingError(f"{weights}: expected the network of the recipe, {config}; got {matcher.config}")
    return matcher


def _made_for_other_features(recipe: Recipe, weights: Path) -> LightGlue | None:
    """The matcher of a file of ours that names features other than the recipe's."""
    config = LightGlue.saved_config(read_tensors(weights)[1], weights)
    if config is None or config.features == recipe.features.name:
        return None
    return LightGlue.from_checkpoint(weights)


def _objective(recipe: Recipe, network: nn.Module) -> nn.Module:
    family = family_of_config(recipe.network)
    if family.objective is None:
        raise TrainingError(f"recipe {recipe.name!r}: expected a matcher that can be trained, got {family.name}")
    return resolve(family.objective)(network, recipe.network, recipe.objective)


def held_out_pairs(recipe: Recipe, config: TrainConfig) -> list[tuple[Features, Features, Correspondence]]:
    """The pairs of every validation: as in training, but upright, true to size, and all with matches."""
    groups = make_groups(recipe, config, "validation")
    sampling = recipe.sampling.without_augmentation()
    drawer, rng = PairBatches(groups, sampling, recipe.seed), np.random.default_rng(recipe.seed)
    points = recipe.groups.validation_points
    pairs = [pair for n in range(len(groups)) for pair in drawer.draw(groups[n], _PAIRS_PER_GROUP, points, rng)]
    if not pairs:
        raise TrainingError(
            f"recipe {recipe.name!r}: expected views held out that share {sampling.min_matches} of {points} keypoints,"
            " got none; add photos, or lower groups.validation_points"
        )
    return pairs


def _score(
    matcher: Matcher, pairs: Sequence[tuple[Features, Features, Correspondence]], baseline: Mapping[str, float] | None
) -> dict[str, float]:
    """Precision and recall, mean over pairs, and with a baseline the recall at its precision.

    Matches that are neither correct nor incorrect do not count. The third number takes the matches above the
    lowest score at which the precision is the baseline's.
    """
    thresholds = np.linspace(0, 1, 101)
    curves = []
    for features0, features1, truth in pairs:
        matches = matcher(features0, features1)
        kept = matches.scores.cpu().numpy() >= thresholds[:, None]
        right, wrong = (kept[:, flags.cpu().numpy()].sum(1) for flags in truth.correct_and_incorrect(matches.indices))
        curves.append((right / np.maximum(right + wrong, 1), right / max(len(truth.matches), 1)))
    precision, recall = np.mean(curves, 0)
    scores = {"precision": float(precision[0]), "recall": float(recall[0])}
    if baseline is not None:
        scores["recall_at_equal_precision"] = float(recall_at_precision(precision, recall, baseline["precision"]))
    return scores
