"""The training loop, on one CPU, one GPU or several processes; it can be stopped and resumed at any step."""

from __future__ import annotations

import copy
import csv
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from lightmatch.errors import LightmatchError, TrainingError
from lightmatch.runtime.devices import keep_freed_memory, multiplies_bfloat16
from lightmatch.runtime.files import replacing
from lightmatch.runtime.threads import use_threads
from lightmatch.training.checkpoints import load_checkpoint, save_checkpoint
from lightmatch.training.optimization import (
    OptimizationConfig,
    clip_gradients,
    make_optimizers,
    set_rate,
    update_average,
)

logger = logging.getLogger(__name__)


class Batch(Protocol):
    """The data of one step; its length is the number of pairs."""

    @property
    def names(self) -> Sequence[str]:
        """The source of each pair, for messages."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        ...


class Batches(Protocol):
    """The batch of each step, for this process."""

    @property
    def rank(self) -> int:
        """Number of this process."""
        ...

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        ...

    def __getitem__(self, index: int, /) -> Batch: ...


class Losses(Protocol):
    """A named tuple of means over the batch, each a scalar tensor; its fields are columns of the log."""

    @property
    def total(self) -> Tensor:
        """What is minimised; the first field."""
        ...

    @property
    def _fields(self) -> tuple[str, ...]: ...

    def __iter__(self) -> Iterator[Tensor]: ...


class Trainable(Protocol):
    """Something with a network that can be written to a file."""

    @property
    def network(self) -> nn.Module:
        """The trained module."""
        ...

    def save(self, path: str | Path, **metadata: str) -> None:
        """Write weights and configuration."""
        ...


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The state from which a run resumes."""
        return self.path / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """CSV with one row every `log_every` steps."""
        return self.path / "log.csv"

    @property
    def weights(self) -> Path:
        """Weights of the EMA model, as a matcher reads them."""
        return self.path / "weights.safetensors"


@dataclass(frozen=True)
class RunOptions:
    """Options that do not change the learned weights."""

    device: str = "cpu"
    workers: int = 1  # processes that make batches; 0: the training process makes them
    log_every: int = 20
    checkpoint_every: int = 200
    validate_every: int = 500


Validate = Callable[[Any], Mapping[str, float]]
"""Computes validation metrics of a matcher, for the log."""


def _ignore_step(_: int) -> None:
    pass


def _never_stop() -> bool:
    return False


@dataclass(frozen=True)
class Callbacks:
    """What the loop calls between steps.

    validate: called every `RunOptions.validate_every` steps and after the last, with the EMA model.
    on_step: called after each step with the number of steps done.
    should_stop: called after each step; if True, a checkpoint is written and the loop ends.
    """

    validate: Validate | None = None
    on_step: Callable[[int], None] = _ignore_step
    should_stop: Callable[[], bool] = _never_stop


def train(
    matcher: Trainable,
    make_objective: Callable[[nn.Module], nn.Module],
    batches: Batches,
    config: OptimizationConfig,
    folder: RunFolder,
    options: RunOptions,
    callbacks: Callbacks | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
) -> tuple[Trainable, int]:
    """Train `matcher`; returns its EMA model (exponential moving average), as in folder.weights, and the steps done.

    make_objective: from the network to a module that takes a batch and whether to train the exits, and
    gives `Losses`. metadata: kept in the files of weights. Training resumes from a checkpoint in `folder`, with the
    same bits as without the stop.
    Raises TrainingError where gradients are not finite in many steps in a row, with the names of the batches.
    """
    callbacks = callbacks or Callbacks()
    device = torch.device(options.device)
    matcher.network.to(device).train()
    average = copy.deepcopy(matcher)
    average.network.eval().requires_grad_(False)
    objective = make_objective(matcher.network)
    optimizers = make_optimizers(matcher.network, config)
    first = 0
    if folder.checkpoint.exists():
        first = _restore(load_checkpoint(folder.checkpoint), matcher, average, optimizers)
    main = batches.rank == 0
    log = _Log(folder.log, first, options.log_every) if main else None
    step_module = _distributed(objective, device) if batches.world_size > 1 else objective
    bad: list[str] = []
    step, last_saved = first, first

    def write_checkpoint() -> None:
        if main:
            save_checkpoint(folder.checkpoint, _state(step, matcher, average, optimizers))
            average.save(folder.weights, **(metadata or {}), step=str(step))

    for batch in _loader(batches, range(first, config.steps), options):
        set_rate(optimizers, config.rate(step))
        losses, norm = _learn(step_module, matcher.network, optimizers, batch.to(device), step, config)
        if math.isfinite(norm):
            bad.clear()
            # With the full decay the average of the first steps would keep the random initialisation.
            update_average(average.network, matcher.network, min(config.ema_decay, (step + 1) / (step + 10)))
        else:
            bad.append(f"step {step} ({', '.join(sorted(set(batch.names)))})")
            logger.warning("step %d skipped: its gradient is not finite; batch of %s", step, ", ".join(batch.names))
            if len(bad) > config.max_bad_steps:
                raise TrainingError(
                    f"expected finite gradients, got none in {len(bad)} steps in a row: {'; '.join(bad[:3])}, …;"
                    " lower the learning rate or train in float32"
                )
        step += 1
        stop = _anyone(callbacks.should_stop(), batches.world_size, device)
        if log is not None:
            log.add(losses, norm, len(batch) * batches.world_size, config.rate(step - 1))
            measured: Mapping[str, float] = {}
            if callbacks.validate is not None and (step % options.validate_every == 0 or step == config.steps):
                measured = callbacks.validate(average)
            if measured or step % options.log_every == 0 or step == config.steps or stop:
                log.write(step, measured)
        if step - last_saved >= options.checkpoint_every or step == config.steps or stop:
            write_checkpoint()
            last_saved = step
        callbacks.on_step(step)
        if stop:
            break
    return average, step


def _learn(
    objective: nn.Module,
    network: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    step: int,
    config: OptimizationConfig,
) -> tuple[Losses, float]:
    """One step; returns the losses and the norm of the gradient. The network is unchanged where it is not finite."""
    buffers = [buffer.clone() for buffer in network.buffers()]  # of batch norm, which the forward pass changes
    device = next(network.parameters()).device.type
    in_bfloat16 = config.precision == "bfloat16" and multiplies_bfloat16(device)
    with torch.autocast(device, torch.bfloat16, enabled=in_bfloat16), _attention_for(device):
        losses = objective(batch, config.trains_confidence(step))
    losses.total.backward()
    norm = clip_gradients(network.parameters(), config.gradient_clip)
    for optimizer in optimizers:
        if math.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if not math.isfinite(norm):
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return losses, norm


def _attention_for(device: str) -> AbstractContextManager[Any]:
    """Context with the attention kernel that trains fastest: fused, except on a CPU.

    There its backward pass is slow: unfused attention took 0.5 to 0.8 of the time at 256 to 1024 points in bfloat16.
    """
    if device != "cpu":
        return nullcontext()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # else it is computed in float32; holds for CPUs too
    return sdpa_kernel(SDPBackend.MATH)


def _distributed(objective: nn.Module, device: torch.device) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    devices = [device] if device.type == "cuda" else None
    # The exit heads are unused in most of the training.
    return DistributedDataParallel(objective, device_ids=devices, find_unused_parameters=True)


def _anyone(flag: bool, world_size: int, device: torch.device) -> bool:
    """Whether the flag is set in any process: all must leave the loop together, or wait for each other forever."""
    if world_size == 1:
        return flag
    flags = torch.tensor(int(flag), device=device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags)


class _Answers(Dataset[Any]):
    """The batch of each step, or the error of ours that came instead: a worker would make a traceback of it."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, index: int) -> Any:
        try:
            return self._batches[index]
        except LightmatchError as error:
            return error


def _loader(batches: Batches, steps: range, options: RunOptions) -> Iterator[Batch]:
    loader = DataLoader(
        _Answers(batches),
        batch_size=None,
        sampler=list(steps),
        num_workers=options.workers,
        collate_fn=_as_it_is,
        worker_init_fn=_prepare_worker,
        # A fork would copy locks held by threads of OpenCV and CUDA, and deadlock.
        multiprocessing_context="spawn" if options.workers else None,
        prefetch_factor=4 if options.workers else None,
    )
    for answer in loader:
        if isinstance(answer, LightmatchError):
            raise answer
        yield answer


def _as_it_is(batch: Any) -> Any:
    return batch


def _prepare_worker(_: int) -> None:
    """One thread for each worker; signals to stop are handled by the loop alone."""
    keep_freed_memory()
    use_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _state(
    step: int, matcher: Trainable, average: Trainable, optimizers: list[torch.optim.Optimizer]
) -> dict[str, Any]:
    return {
        "step": step,
        "network": matcher.network.state_dict(),
        "average": average.network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }


def _restore(
    state: dict[str, Any], matcher: Trainable, average: Trainable, optimizers: list[torch.optim.Optimizer]
) -> int:
    matcher.network.load_state_dict(state["network"])
    average.network.load_state_dict(state["average"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]


class _Log:
    """Rows of means since the last row; a resumed run drops rows after its first step."""

    def __init__(self, path: Path, first_step: int, log_every: int) -> None:
        self.path = path
        rows = _read_rows(path, first_step)
        last = rows[-1] if rows else {"pairs": "0", "seconds": "0"}
        self._pairs, self._seconds = int(last["pairs"]), float(last["seconds"])
        self._since = time.perf_counter()
        self._rows: list[torch.Tensor] = []
        self._norms: list[float] = []
        self._rate = 0.0
        self._parts: tuple[str, ...] = ()
        self._kept = rows

    def add(self, losses: Losses, norm: float, num_pairs: int, rate: float) -> None:
        self._pairs += num_pairs
        self._rate = rate
        self._parts = losses._fields[1:]
        # Read at the next row: reading a number synchronises with the GPU.
        self._rows.append(torch.stack([value.detach() for value in losses]))
        self._norms.append(norm)

    def write(self, step: int, measured: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self._seconds, self._since = self._seconds + now - self._since, now
        means = [*torch.stack(self._rows).mean(0).tolist(), sum(self._norms) / len(self._norms)]
        self._rows.clear()
        self._norms.clear()
        values = [step, self._pairs, round(self._seconds, 1), f"{self._rate:.3g}", *(f"{mean:.5g}" for mean in means)]
        names = ("step", "pairs", "seconds", "learning_rate", "loss", *self._parts, "gradient")
        row = dict(zip(names, map(str, values), strict=True))
        self._kept.append(row | {name: f"{value:.5g}" for name, value in measured.items()})
        columns = dict.fromkeys(name for kept in self._kept for name in kept)
        with replacing(self.path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*columns])
            writer.writeheader()
            writer.writerows(self._kept)


def _read_rows(path: Path, until_step: int) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= until_step]
