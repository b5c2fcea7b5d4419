"""Optimisers, learning-rate schedule, weight averaging (EMA) and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightmatch.errors import InvalidValueError


@dataclass(frozen=True)
class OptimizationConfig:
    """Options of the optimisation. Shares are fractions of `steps`."""

    steps: int
    learning_rate: float = 1e-3  # of AdamW
    matrix_rate_factor: float = 3.0  # Muon's rate over AdamW's
    weight_decay: float = 0.01  # of the matrices
    warmup_share: float = 0.02  # from zero, linearly
    decay_share: float = 0.4  # at the end, to zero, linearly
    gradient_clip: float = 1.0  # largest norm of all gradients together
    ema_decay: float = 0.999  # of the EMA model, whose weights are published
    confidence_share: float = 0.2  # of the end, in which the exit heads are trained too
    exits_only: bool = False  # train nothing but the exit heads, in all steps: a second stage
    confidence_rate: float = 40.0  # rate of the exit heads over AdamW's: they are linear and trained for few steps
    # Of the matrix products; weights stay float32. bfloat16 where the device has instructions for it, else float32.
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    max_bad_steps: int = 20  # in a row without a finite gradient before the run fails

    def __post_init__(self) -> None:
        shares = (self.warmup_share, self.decay_share, self.confidence_share)
        if self.steps < 1 or self.learning_rate <= 0 or not all(0 <= share <= 1 for share in shares):
            raise InvalidValueError(
                f"OptimizationConfig: expected steps ≥ 1, learning_rate > 0 and shares in 0…1, got {self}"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise InvalidValueError(
                f"OptimizationConfig.precision: expected float32 or bfloat16, got {self.precision!r}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of `step` (0-based): linear warm-up, constant, linear decay."""
        up = (step + 1) / max(1.0, self.warmup_share * self.steps)
        down = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return self.learning_rate * min(1.0, up, down)

    def trains_confidence(self, step: int) -> bool:
        """Whether the exit heads are trained in `step` (0-based)."""
        return self.exits_only or step >= (1 - self.confidence_share) * self.steps


# Matrices with a side below this are heads and embeddings, which Muon does not suit.
_LEAST_SIDE = 32
_LEAST_KERNEL_SIDE = 16  # the same for convolutions

# In the names of the parameters of the exit heads.
_EXIT_HEADS = "token_confidence."


def make_optimizers(network: nn.Module, config: OptimizationConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices and kernels of the layers, AdamW for all other parameters and narrow matrices.

    With config.exits_only all but the exit heads is frozen; raises InvalidValueError where the network has none.

    Muon steps along the nearest orthogonal matrix to the momentum, at the length of an AdamW step; it needs
    about half the pairs that AdamW alone does. `group["share"]` is each group's rate over `learning_rate`.
    Source: Jordan et al. 2024 (Muon); Liu et al. 2025, section 2.2 (length of the step).
    """
    matrices, others, exits = [], [], []
    for name, parameter in network.named_parameters():
        wide = parameter.ndim == 2 and min(parameter.shape) >= _LEAST_SIDE
        wide |= parameter.ndim == 4 and min(parameter.flatten(1).shape) >= _LEAST_KERNEL_SIDE
        (exits if _EXIT_HEADS in name else matrices if wide else others).append(parameter)
        parameter.requires_grad_(_EXIT_HEADS in name or not config.exits_only)
    if config.exits_only and not exits:
        raise InvalidValueError("OptimizationConfig.exits_only: expected False for a network without exits, got True")
    groups: list[dict[str, Any]] = [{"params": others}]
    if exits:
        groups.append({"params": exits, "share": config.confidence_rate})
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)]
    if matrices:
        decay, length = config.weight_decay, "match_rms_adamw"
        optimizers.append(_Muon(matrices, weight_decay=decay, momentum=0.95, adjust_lr_fn=length))
        optimizers[1].param_groups[0]["share"] = config.matrix_rate_factor
    return optimizers


class _Muon(torch.optim.Muon):
    """Muon for matrices and for the kernels of convolutions, each taken as a matrix (out, in · height · width).

    Source: Jordan et al. 2024 (Muon), on convolutions.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], **options: Any) -> None:
        self._kernels = [parameter for parameter in parameters if parameter.ndim == 4]
        # Views of the same memory: a step on one moves the other.
        self._flat = [nn.Parameter(kernel.data.view(len(kernel), -1)) for kernel in self._kernels]
        super().__init__([*(p for p in parameters if p.ndim == 2), *self._flat], **options)

    def step(self, closure: Any = None) -> Any:
        for kernel, flat in zip(self._kernels, self._flat, strict=True):
            flat.grad = None if kernel.grad is None else kernel.grad.reshape(flat.shape)
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for kernel in self._kernels:
            kernel.grad = None
        super().zero_grad(set_to_none)


def set_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate of all groups of `make_optimizers`: `rate` times their share."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Average ← decay · average + (1 − decay) · network; buffers are copied.

    Exit heads are copied too: they are trained for too few steps for an average.
    """
    named = zip(average.named_parameters(), network.parameters(), strict=True)
    for (name, mean), value in named:
        mean.lerp_(value, 1.0 if _EXIT_HEADS in name else 1 - decay)
    for mean, value in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(value)


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> float:
    """Scale all gradients so that their joint norm is at most `limit`; returns the norm before, which may be NaN."""
    return float(nn.utils.clip_grad_norm_(list(parameters), limit))
