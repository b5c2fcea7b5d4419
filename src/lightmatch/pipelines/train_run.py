"""A training run, whatever is trained: its folder, its processes, its signals, its picture."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed
from torch import nn

from lightmatch.errors import TrainingError
from lightmatch.pipelines.progress import Progress
from lightmatch.training.loop import Batches, Callbacks, RunFolder, RunOptions, Trainable, Validate, train
from lightmatch.training.optimization import OptimizationConfig
from lightmatch.training.photos import Split, list_photos
from lightmatch.training.recipe import LightPointRecipe, Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """Where the data lies and how the run is carried out; what is learned stands in the recipe."""

    photos: tuple[Path, ...] = ()  # folders, searched with all below
    textures: tuple[Path, ...] = ()  # folders of photographed surfaces for the procedural worlds
    scenes: tuple[Path, ...] = ()  # folders of folders, each of photos of one scene that overlap
    posed: tuple[Path, ...] = ()  # models with photos: finished reconstructions, COLMAP, MegaDepth
    cache: Path | None = None  # groups of views are kept here, for other runs too; in the output by default
    weights: Path | None = None  # start from these instead of random ones; for other features: from their layers
    matcher_weights: Path | None = None  # the same for the matcher, where features and matcher are trained together
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
    shortfalls: tuple[str, ...] = ()  # a sentence for each score that is worse than the recipe's [expected]


@dataclass(frozen=True)
class TrainingRun:
    """One process of a run: its recipe's file, its folder, its data, its place among the processes."""

    recipe_path: Path
    folder: RunFolder
    config: TrainConfig
    rank: int
    world_size: int
    progress: Progress


_RECIPE, _CURVES = "recipe.toml", "curves.png"


def carry_out(
    trained: Trainable,
    make_objective: Callable[[nn.Module], nn.Module],
    batches: Batches,
    optimization: OptimizationConfig,
    run: TrainingRun,
    *,
    validate: Validate,
) -> int:
    """Train until the recipe's last step or a signal to stop, and draw the curves; returns the steps done."""
    steps = optimization.steps
    done = 0
    with _stop_on_signal() as should_stop, run.progress.stage("train", steps) as advance:

        def on_step(number: int) -> None:
            nonlocal done
            for _ in range(number - done):
                advance()
            done = number

        _, ended = train(
            trained,
            make_objective,
            batches,
            optimization,
            run.folder,
            replace(run.config.run, device=run.config.device),
            Callbacks(validate, on_step, should_stop),
            metadata={"recipe": run.recipe_path.read_text()},
        )
        if ended and not done and run.rank == 0:
            logger.warning(
                "%s: this run had ended before, after %d steps; nothing was trained (--restart starts over)",
                run.folder.path,
                ended,
            )
        on_step(ended)
    if run.rank == 0:
        _draw_curves(run.folder)
    return ended


def split_photos(recipe: Recipe | LightPointRecipe, config: TrainConfig, split: Split) -> list[Path]:
    """The photos on one side of the recipe's split. Raises TrainingError where no folder of them was named."""
    if not config.photos:
        raise TrainingError(f"recipe {recipe.name!r} needs photos; name a folder of them with --photos")
    by = recipe.photos
    share, pattern = by.validation_share, by.id_pattern
    return list_photos(config.photos, split, share, pattern, by.exclude_pattern, by.exclude_folders, config.scenes)


def fingerprint(value: object) -> str:
    """Eight letters that change with what a value is written as."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


def take_folder(folder: Path, recipe_path: Path, restart: bool) -> None:
    """Make `folder` this recipe's, keeping an earlier run of it unless it is to start over."""
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


def join_others(device: str) -> tuple[int, int, str]:
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
def _stop_on_signal() -> Generator[Callable[[], bool]]:
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
