"""Train LightPoint: its teachers, its views, and how it fares on photos held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from lightmatch.errors import TrainingError
from lightmatch.extractors import create_extractor
from lightmatch.extractors.lightpoint import read_lightpoint, write_lightpoint
from lightmatch.images import list_images
from lightmatch.matchers import LightGlue
from lightmatch.networks.lightpoint import LightPointNetwork
from lightmatch.pipelines.train_run import TrainConfig, TrainingRun, TrainResult, carry_out, fingerprint, split_photos
from lightmatch.runtime.devices import fast_dtype
from lightmatch.training.lightpoint.objective import StudentObjective
from lightmatch.training.lightpoint.scenes import ScenePairs, neighbouring_pairs
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
    batches, held_out = training_views(recipe, run), student_validation(recipe, run.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        student = _Student(student_network(recipe, batches.store, run.config.weights))
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


def training_views(recipe: LightPointRecipe, run: TrainingRun) -> StudentViews:
    """The batches of a run. Raises TrainingError where the recipe takes pairs from scenes and none were named."""
    labels = _labels(recipe, run.config, split_photos(recipe, run.config, "train"))
    scenes = _scenes(recipe, run.config, labels, "train") if recipe.views.scenes_share else None
    return StudentViews(labels, recipe.views, recipe.seed, run.rank, run.world_size, scenes)


def student_validation(recipe: LightPointRecipe, config: TrainConfig) -> StudentValidation:
    """The pairs held out: upright views of photos, and photos of scenes where the recipe names such."""
    upright = replace(recipe.views, any_rotation_share=0.0, scenes_share=0.0)
    photos = split_photos(recipe, config, "validation")
    views = StudentViews(_labels(recipe, config, photos), upright, recipe.seed)
    if not recipe.scenes.validation:
        return StudentValidation(views)
    photos = [photo for root in config.scenes for photo in list_images(root)]
    labels = _labels(recipe, config, [photo for photo in photos if photo.parent.name in recipe.scenes.validation])
    pairs = _scenes(recipe, config, labels, "validation")
    of_scenes = replace(upright, scenes_share=1.0)
    return StudentValidation(views, StudentViews(labels, of_scenes, recipe.seed, scenes=pairs))


def _scenes(recipe: LightPointRecipe, config: TrainConfig, labels: LabelStore, split: Split) -> ScenePairs:
    """Pairs of photos of scenes. Raises TrainingError where none of the labelled photos lie in a scene."""
    assert config.cache is not None
    roots = {scene.resolve() for scene in config.scenes}
    inside = [number for number, photo in enumerate(labels.photos) if photo.parent.parent.resolve() in roots]
    pairs = neighbouring_pairs(labels.photos, inside, recipe.scenes.strides)
    if not pairs:
        raise TrainingError(
            f"recipe {recipe.name!r} needs photos that overlap for {split};"
            " name the folder of their folders with --scenes, and with --photos too"
        )
    matcher = LightGlue.from_pretrained(recipe.scenes.space, device=config.device, dtype=fast_dtype(config.device))
    of_a_pair = replace(recipe.scenes, strides=(), validation=())  # what its matches depend on
    folder = config.cache / f"pairs-{fingerprint((recipe.teachers, of_a_pair))}"
    return ScenePairs(labels, pairs, matcher, folder, recipe.scenes)


def _labels(recipe: LightPointRecipe, config: TrainConfig, photos: Sequence[Path]) -> LabelStore:
    """The teachers' labels of `photos`, made when first needed, in config.cache."""
    assert config.cache is not None
    teachers = recipe.teachers
    detector = create_extractor(
        teachers.detector, max_keypoints=teachers.max_keypoints, device=config.device, **teachers.options
    )
    describers = {
        name: detector if name == teachers.detector else create_extractor(name, device=config.device)
        for name in teachers.describers
    }
    folder = config.cache / f"labels-{fingerprint(teachers)}"
    return LabelStore(folder, photos, detector, describers, teachers.long_side)


def student_network(recipe: LightPointRecipe, labels: LabelStore, weights: Path | None) -> LightPointNetwork:
    """The network of the recipe with a head for each teacher's space: random weights, or those of a file."""
    spaces = tuple((name, teacher.kind.descriptor_dim) for name, teacher in labels.describers.items())
    wanted = replace(recipe.lightpoint, spaces=spaces)
    if weights is None:
        return LightPointNetwork(wanted)
    network = read_lightpoint(weights)
    if network.config != wanted:
        raise TrainingError(f"{weights}: expected the network of the recipe, {wanted}; got {network.config}")
    return network
