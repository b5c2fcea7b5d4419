"""Train a matcher by a recipe: data, network, loop, log and curves, in one folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import nn

from lightmatch.devices import pick_device
from lightmatch.errors import TrainingError
from lightmatch.evaluation.metrics import recall_at_precision
from lightmatch.extractors import create_extractor
from lightmatch.geometry.correspondence import Correspondence
from lightmatch.matchers import LightGlue, NearestNeighbor, SuperGlue
from lightmatch.matchers.base import Matcher
from lightmatch.networks.lightglue import LightGlueNetwork
from lightmatch.networks.superglue import SuperGlueNetwork
from lightmatch.pipelines.progress import Progress
from lightmatch.training.batches import GroupStore, PairBatches, Source
from lightmatch.training.homographies import HomographySource
from lightmatch.training.loop import RunFolder, RunOptions, train
from lightmatch.training.losses import LightGlueObjective, SuperGlueObjective
from lightmatch.training.photos import Split, list_photos
from lightmatch.training.posed import PosedSource
from lightmatch.training.recipe import Recipe, read_recipe
from lightmatch.training.worlds import WorldSource
from lightmatch.types import Features
from lightmatch.weights import read_tensors


@dataclass(frozen=True)
class TrainConfig:
    """Where the data lies and how the run is carried out; what is learned stands in the recipe."""

    photos: tuple[Path, ...] = ()  # folders, searched with all below
    textures: tuple[Path, ...] = ()  # folders of photographed surfaces for the procedural worlds
    posed: tuple[Path, ...] = ()  # models with photos: finished reconstructions, COLMAP, MegaDepth
    cache: Path | None = None  # groups of views are kept here, for other runs too; in the output by default
    weights: Path | None = None  # start from these instead of random ones; for other features: from their layers
    device: str = "auto"
    run: RunOptions = field(default_factory=RunOptions)
    restart: bool = False  # forget an earlier run in the output instead of going on with it


@dataclass(frozen=True)
class TrainResult:
    """Where the weights are, and how they fare on pairs held out."""

    weights: Path
    steps: int
    finished: bool  # False where the run was stopped; the same command goes on
    scores: Mapping[str, float]  # precision, recall, and recall_at_equal_precision: at that of the baseline
    baseline: Mapping[str, float]  # precision and recall of nearest neighbours, ratio 0.8, on the same pairs


_PAIRS_PER_GROUP = 4  # in validation
_RECIPE, _CURVES = "recipe.toml", "curves.png"


def train_recipe(
    recipe_path: str | Path, output: str | Path, config: TrainConfig | None = None, *, progress: Progress | None = None
) -> TrainResult:
    """Train by the recipe and write weights.safetensors, checkpoint.pt, log.csv and curves.png to `output`.

    A run that was stopped (by Ctrl-C, SIGTERM or a crash) goes on where its checkpoint is. Under torchrun every
    process takes its own GPU and its own pairs.
    Raises TrainingError where recipe and data do not fit together, or `output` holds another recipe's run.
    """
    config = config or TrainConfig()
    progress = progress or Progress()
    recipe_path, folder = Path(recipe_path), RunFolder(Path(output))
    recipe = read_recipe(recipe_path)
    rank, world_size, device = _join_others(pick_device(config.device))
    if rank == 0:
        _take_folder(folder.path, recipe_path, config.restart)
    config = replace(config, cache=config.cache or folder.path / "groups", device=device)
    batches = PairBatches(make_groups(recipe, config, "train"), recipe.sampling, recipe.seed, rank, world_size)
    held_out = held_out_pairs(recipe, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        matcher = _matcher(recipe, config.weights)
    baseline = _score(NearestNeighbor(), held_out, None)
    scores: dict[str, float] = {}

    def validate(average: Matcher) -> Mapping[str, float]:
        scores.update(_score(average, held_out, baseline))
        return scores

    steps = recipe.optimization.steps
    done = 0
    with _stop_on_signal() as should_stop, progress.stage("train", steps) as advance:

        def on_step(number: int) -> None:
            nonlocal done
            for _ in range(number - done):
                advance()
            done = number

        train(
            matcher,
            lambda network: _objective(recipe, network),
            batches,
            recipe.optimization,
            folder,
            replace(config.run, device=device),
            validate=validate,
            on_step=on_step,
            should_stop=should_stop,
            metadata={"recipe": recipe_path.read_text()},
        )
    if rank == 0:
        _draw_curves(folder)
    return TrainResult(folder.weights, done, done == steps, scores, baseline)


def _take_folder(folder: Path, recipe_path: Path, restart: bool) -> None:
    """Make `folder` this recipe's, keeping an earlier run of it unless told to start over."""
    text, kept = recipe_path.read_text(), folder / _RECIPE
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder}: expected a folder to write to, found a file; choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not kept.is_file():
        raise TrainingError(
            f"{folder}: expected an empty folder or a training run, it holds other files; choose another"
        )
    if kept.is_file() and kept.read_text() != text and not restart:
        raise TrainingError(
            f"{folder}: expected a run of this recipe, it holds one of another; choose another folder, or --restart"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if restart:
        for path in (RunFolder(folder).checkpoint, RunFolder(folder).log):
            path.unlink(missing_ok=True)
    kept.write_text(text)


def make_groups(recipe: Recipe, config: TrainConfig, split: Split) -> GroupStore:
    """The groups of views of one side of the split, made when first asked for and kept in config.cache.

    Raises TrainingError where `config` lacks the photos that the recipe needs, or the recipe names no source.
    """
    assert config.cache is not None
    extractor = create_extractor(
        recipe.features.name, max_keypoints=recipe.features.max_keypoints, **recipe.features.options
    )
    named = [
        (f"{name}-{_fingerprint(source, recipe)}", source, count if split == "train" else recipe.groups.validation)
        for name, source, count in _sources(recipe, config, split)
    ]
    return GroupStore(config.cache, named, extractor)


def _sources(recipe: Recipe, config: TrainConfig, split: Split) -> list[tuple[str, Source, int]]:
    """The sources of a recipe by name, and how many groups of each are for training."""
    share, pattern = recipe.photos.validation_share, recipe.photos.id_pattern
    seed = recipe.seed if split == "train" else recipe.seed + 1

    def photos() -> list[Path]:
        if not config.photos:
            raise TrainingError(f"recipe {recipe.name!r} needs photos; name a folder of them with --photos")
        return list_photos(config.photos, split, share, pattern, recipe.photos.exclude_pattern)

    made: list[tuple[str, Source, int]] = []
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
    if not made:
        raise TrainingError(f"recipe {recipe.name!r}: expected [groups] to name at least one source, got none")
    return made


def _fingerprint(source: Source, recipe: Recipe) -> str:
    """Eight letters that change with everything a group depends on."""
    return hashlib.sha256(repr((source, recipe.features)).encode()).hexdigest()[:8]


def _matcher(recipe: Recipe, weights: Path | None) -> LightGlue | SuperGlue:
    """The network of the recipe, with random weights or those of a file."""
    if weights is None:
        return LightGlue(recipe.lightglue) if recipe.lightglue else SuperGlue(recipe.superglue)
    if recipe.lightglue and (donor := _made_for_other_features(recipe, weights)):
        return _with_layers_of(LightGlue(recipe.lightglue), donor)
    family = LightGlue if recipe.lightglue else SuperGlue
    # How the network is used is the recipe's to say; its size must be the same.
    usage = {name: getattr(recipe.network, name) for name in family.run_options}
    matcher = family.from_checkpoint(weights, recipe.features.name, **usage)
    if matcher.config != recipe.network:
        raise TrainingError(f"{weights}: expected the network of the recipe, {recipe.network}; got {matcher.config}")
    return matcher


def _made_for_other_features(recipe: Recipe, weights: Path) -> LightGlue | None:
    """The matcher of a file of ours that names features other than the recipe's."""
    config = json.loads(read_tensors(weights)[1].get("config", "{}"))
    return (
        LightGlue.from_checkpoint(weights)
        if config.get("features", recipe.features.name) != recipe.features.name
        else None
    )


def _with_layers_of(matcher: LightGlue, donor: LightGlue) -> LightGlue:
    """`matcher` with the other's weights, but for those that read descriptors; of positions, the part both know.

    Raises TrainingError where the networks are not of one size.
    """
    expected, got = ((c.descriptor_dim, c.num_layers, c.num_heads) for c in (matcher.config, donor.config))
    if expected != got:
        raise TrainingError(
            f"weights for {donor.config.features!r}: expected the recipe's width, layers and heads, {expected},"
            f" got {got}; change the recipe, or start without them"
        )
    own = matcher.network.state_dict()
    for name, tensor in donor.network.state_dict().items():
        if name.startswith("posenc."):  # x and y come first, scale and orientation behind them
            common = min(own[name].shape[1], tensor.shape[1])
            own[name][:, :common] = tensor[:, :common]
        elif not name.startswith("input_proj."):
            own[name].copy_(tensor)
    return matcher


def _objective(recipe: Recipe, network: nn.Module) -> nn.Module:
    if isinstance(network, LightGlueNetwork):
        assert recipe.lightglue is not None
        return LightGlueObjective(network, recipe.lightglue.positions, recipe.objective)
    assert isinstance(network, SuperGlueNetwork)
    return SuperGlueObjective(network)


def held_out_pairs(recipe: Recipe, config: TrainConfig) -> list[tuple[Features, Features, Correspondence]]:
    """The pairs of every validation: as in training, but upright, true to size, and all with matches."""
    groups = make_groups(recipe, config, "validation")
    sampling = recipe.sampling.undisguised()
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

    Matches that cannot be judged do not count. The third number takes the matches above the lowest score at which
    the precision is the baseline's.
    """
    thresholds = np.linspace(0, 1, 101)
    curves = []
    for features0, features1, truth in pairs:
        matches = matcher(features0, features1)
        kept = matches.scores.cpu().numpy() >= thresholds[:, None]
        right, wrong = (kept[:, flags.cpu().numpy()].sum(1) for flags in truth.judge(matches.indices))
        curves.append((right / np.maximum(right + wrong, 1), right / max(len(truth.matches), 1)))
    precision, recall = np.mean(curves, 0)
    scores = {"precision": float(precision[0]), "recall": float(recall[0])}
    if baseline is not None:
        scores["recall_at_equal_precision"] = float(recall_at_precision(precision, recall, baseline["precision"]))
    return scores


def _join_others(device: str) -> tuple[int, int, str]:
    """Rank, number of processes and device of this one; under torchrun it joins the group."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return 0, 1, device
    cuda = device.startswith("cuda")
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return torch.distributed.get_rank(), world_size, f"cuda:{os.environ['LOCAL_RANK']}" if cuda else device


_ONE_SIGNAL_S = 2.0  # signals nearer than this are one


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """What it yields says whether SIGINT or SIGTERM has come; a later one ends the program as usual.

    Not one that follows at once: of a Ctrl-C, torchrun's processes hear from the terminal and from torchrun.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may listen for signals
        return
    came = threading.Event()
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    first = 0.0

    def note(number: int, _: object) -> None:
        nonlocal first
        if not came.is_set():
            came.set()
            first = time.monotonic()
        elif time.monotonic() - first > _ONE_SIGNAL_S:
            signal.signal(number, usual[signal.Signals(number)])
            os.kill(os.getpid(), number)

    for number in usual:
        signal.signal(number, note)
    try:
        yield came.is_set
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _draw_curves(folder: RunFolder) -> None:
    """The log as a picture, where matplotlib is; a training machine may do without."""
    if importlib.util.find_spec("matplotlib"):
        from lightmatch.report.training import draw_training

        draw_training(folder.log, folder.path / _CURVES)
