"""Optimal transport between two point sets, with a dustbin on each side for points without a partner.

Source: Sarlin et al. 2020 (SuperGlue), section 3.2; Sinkhorn & Knopp 1967; Cuturi 2013.
"""

from typing import Any

import torch
from torch import Tensor


def log_optimal_transport(
    similarity: Tensor,
    dustbin: Tensor,
    valid0: Tensor | None = None,
    valid1: Tensor | None = None,
    *,
    num_iterations: int = 100,
) -> Tensor:
    """Log of the assignment nearest to exp(similarity) in which every point is spent once.

    A point has mass 1; the dustbin of an image has room for all points of the other. Rows and columns are
    scaled to these masses in turn, columns last: they hold exactly, rows as well as `num_iterations` (at
    least 1) allow. The work is done on logarithms, in float32.
    similarity: (b, m, n). dustbin: () similarity of any point to a dustbin, and of the dustbins to each other.
    valid0/1: (b, m), (b, n) bool, at least one True in each row; None where nothing is padding.
    Returns (b, m + 1, n + 1) float32, the dustbins last; −inf where a point is padding.
    Source: Sarlin et al. 2020, equations 8 and 9.
    """
    size, length0, length1 = similarity.shape
    real0 = similarity.new_ones(size, length0) if valid0 is None else valid0
    real1 = similarity.new_ones(size, length1) if valid1 is None else valid1
    mass0, mass1 = _masses(real0, real1), _masses(real1, real0)

    dustbin = dustbin.float()
    scores = torch.cat((similarity.float(), dustbin.expand(size, length0, 1)), 2)
    scores = torch.cat((scores, dustbin.expand(size, 1, length1 + 1)), 1)

    if _by_products(scores) and (log_scales := _log_scales_by_products(scores, mass0, mass1, num_iterations)):
        log_scale0, log_scale1 = log_scales
        return scores.add_(log_scale0[:, :, None]).add_(log_scale1[:, None])

    # Padding has no mass: its scale is −inf from the start, so that it adds nothing to any sum. The scores
    # themselves stay finite, and with them the sums over padded rows and all gradients.
    log_mass0, log_mass1 = mass0.log(), mass1.log()
    log_scale0, log_scale1 = log_mass0, log_mass1.clamp(max=0)
    buffer = torch.empty_like(scores)
    for _ in range(num_iterations):
        log_scale0 = log_mass0 - _LogSumExp.apply(scores, log_scale1, buffer)
        log_scale1 = log_mass1 - _LogSumExp.apply(scores.mT, log_scale0, buffer.mT)
    return scores + log_scale0[:, :, None] + log_scale1[:, None]


class _LogSumExp(torch.autograd.Function):
    """log Σ_j exp(scores_ij + log_scale_j): (b, m, n), (b, n) → (b, m).

    Leaves no matrix behind, neither for the backward pass, where those of a hundred iterations would fill the
    memory, nor freed: made anew each time instead of in the buffer (b, m, n), they break the heap into holes.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, log_scale: Tensor, buffer: Tensor) -> Tensor:
        torch.add(scores, log_scale[:, None], out=buffer)
        peak = buffer.amax(2)
        total = buffer.sub_(peak[:, :, None]).exp_().sum(2).log_().add_(peak)
        ctx.save_for_backward(scores, log_scale, total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        scores, log_scale, total = ctx.saved_tensors
        shares = (scores + log_scale[:, None]).sub_(total[:, :, None]).exp_().mul_(grads[0][:, :, None])
        return shares, shares.sum(1), None


def _masses(own: Tensor, other: Tensor) -> Tensor:
    """1 for each real point, 0 for padding, and the number of real points of the other image for the dustbin."""
    return torch.cat((own, other.sum(1, keepdim=True)), 1).float()


def _by_products(scores: Tensor) -> bool:
    """Whether products of a matrix and a vector, ten times as fast as sums of exponentials, may do the work."""
    return scores.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


_LEAST_SUM = 1e-30  # float32 ends at 1e-38, and the greatest sum is of thousands of scales


def _log_scales_by_products(
    scores: Tensor, mass0: Tensor, mass1: Tensor, num_iterations: int
) -> tuple[Tensor, Tensor] | None:
    """Logarithms of the scales of rows (b, m) and columns (b, n); None where float32 loses a row or column.

    exp(scores) is computed once, the greatest of each row being 1. That of the last row, the dustbin, is all ones.
    """
    peaks = scores.amax(2)
    scales0, scales1 = torch.empty_like(mass0), mass1.clamp(max=1)
    with torch.autocast("cpu", enabled=False):
        for row, kernel in enumerate((scores - peaks[:, :, None]).exp_()):
            mass, scale = (mass0[row], mass1[row]), [scales0[row], scales1[row]]
            padding = [(one == 0).float() for one in mass]  # whose sums may vanish
            least = scores.new_tensor(torch.inf)
            for _ in range(num_iterations):
                for side, matrix in enumerate((kernel, kernel.mT)):
                    sums = torch.addmv(padding[side], matrix, scale[1 - side])
                    least = torch.minimum(least, sums.amin())
                    torch.div(mass[side], sums, out=scale[side])
            if not float(least) > _LEAST_SUM:
                return None
    return scales0.log_().sub_(peaks), scales1.log_()
