"""From two sets of descriptors to a soft assignment, and from the assignment to matches.

Source: Lindenberger et al. 2023, section 3.2.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


def log_assignment(similarity: Tensor, matchability0: Tensor, matchability1: Tensor) -> Tensor:
    """Log-probability that point i of image 0 and j of image 1 are the same point.

    log P_ij = log σ(z0_i) + log σ(z1_j) + log softmax_j(S)_ij + log softmax_i(S)_ij.
    similarity: (b, m, n) unnormalised. matchability0/1: (b, m), (b, n) logits.
    Returns (b, m, n) float32; empty where m or n is 0.
    Source: Lindenberger et al. 2023, equations 8 and 9.
    """
    similarity = similarity.float()
    rows = logsigmoid(matchability0.float()) - similarity.logsumexp(2)
    columns = logsigmoid(matchability1.float()) - similarity.logsumexp(1)
    # One new matrix, not one for each term.
    return (2 * similarity).add_(rows[:, :, None]).add_(columns[:, None])


def mutual_matches(log_probability: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Pairs that are each other's best and more probable than `threshold`.

    log_probability: (m, n). Returns indices (k, 2) int64 sorted by the first column, and probabilities (k,).
    """
    indices, best = _mutual(log_probability, math.log(threshold) if threshold > 0 else -math.inf)
    return indices, best.exp().clamp(max=1)  # rounding may lift a certain match above 1


def _assigned(
    similarity: Tensor, matchability0: Tensor, matchability1: Tensor, threshold: float
) -> tuple[Tensor, Tensor] | None:
    """`mutual_matches` of `log_assignment` of one pair, in the memory of `similarity`, of one exponential each.

    P_ij = σ(z0_i)·σ(z1_j)·E_ij² / (Σ_j E_ij · Σ_i E_ij), E = exp(S − max S), and the root of P has the order of P.
    similarity: (m, n) float32, not empty. matchability0/1: (m,), (n,) logits. None where E loses a row or column.
    """
    root = similarity.sub_(similarity.amax()).exp_()
    rows, columns = root.sum(1), root.sum(0)
    if not min(float(rows.amin()), float(columns.amin())) > _LEAST_SUM:
        return None
    root.mul_((matchability0.float().sigmoid() / rows).sqrt()[:, None])
    root.mul_((matchability1.float().sigmoid() / columns).sqrt())
    indices, best = _mutual(root, math.sqrt(threshold))
    return indices, best.square().clamp(max=1)


# Similarities below the greatest by so much that nothing of a row would be left: float32 ends at 1e-38.
_LEAST_SUM = 1e-30


def _mutual(scores: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Places (k, 2), by row, of scores above `least` that are the greatest of row and column; and these scores."""
    if 0 in scores.shape:
        return scores.new_empty((0, 2), dtype=torch.int64), scores.new_empty(0)
    # What is greatest is found ten times faster than where it is, which few rows have to say.
    best = scores.amax(1)
    index0 = torch.nonzero(best > least)[:, 0]
    index1 = scores[index0].argmax(1)
    mutual = best[index0] == scores.amax(0)[index1]
    index0, index1 = index0[mutual], index1[mutual]
    first = _first_of_each(index1)
    index0, index1 = index0[first], index1[first]
    return torch.stack((index0, index1), -1), best[index0]


def _first_of_each(values: Tensor) -> Tensor:
    """Places, in order, at which a value stands for the first time: rows may be equal to the last bit."""
    order = torch.argsort(values, stable=True)
    sorted_values = values[order]
    first = torch.ones_like(values, dtype=torch.bool)
    first[1:] = sorted_values[1:] != sorted_values[:-1]
    return order[first].sort().values


def mask_similarity(similarity: Tensor, valid0: Tensor | None, valid1: Tensor | None) -> Tensor:
    """The similarity (b, m, n) in float32, very low where a point is padding.

    valid0/1: (b, m), (b, n) bool, None where nothing is padding.
    """
    similarity = similarity.float()
    # Finite when doubled, not −inf: a row that is all padding must not become NaN.
    lowest = torch.finfo(similarity.dtype).min / 4
    if valid0 is not None:
        similarity = similarity.masked_fill(~valid0[:, :, None], lowest)
    if valid1 is not None:
        similarity = similarity.masked_fill(~valid1[:, None], lowest)
    return similarity


class AssignmentHead(nn.Module):
    """Similarity and matchability of descriptors after one layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.matchability = nn.Linear(dim, 1)
        self.final_proj = nn.Linear(dim, dim)

    def forward(self, x0: Tensor, x1: Tensor, valid0: Tensor | None = None, valid1: Tensor | None = None) -> Tensor:
        """Log assignment (b, m, n) of x0: (b, m, d) and x1: (b, n, d).

        valid0/1: (b, m), (b, n) bool, None where nothing is padding. Padding takes no part in the
        softmax; its own rows and columns mean nothing.
        """
        similarity = self.similarity(x0, x1, valid0, valid1)
        return log_assignment(similarity, self.matchability(x0).squeeze(-1), self.matchability(x1).squeeze(-1))

    def matches(self, x0: Tensor, x1: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Of one pair, x0: (m, d) and x1: (n, d): indices (k, 2) int64 by the first column, and probabilities (k,)."""
        if len(x0) and len(x1):
            logits = self.matchability(x0).squeeze(-1), self.matchability(x1).squeeze(-1)
            if found := _assigned(self.similarity(x0, x1), *logits, threshold):
                return found
        return mutual_matches(self(x0[None], x1[None])[0], threshold)

    def similarity(self, x0: Tensor, x1: Tensor, valid0: Tensor | None = None, valid1: Tensor | None = None) -> Tensor:
        """Unnormalised similarity (…, m, n) float32, very low where a point is padding."""
        scale = x0.shape[-1] ** -0.25
        return mask_similarity((self.final_proj(x0) * scale) @ (self.final_proj(x1) * scale).mT, valid0, valid1)

    def probability_matchable(self, x: Tensor) -> Tensor:
        """Probability that each point has a match at all: x (b, n, d) → (b, n) float32."""
        return self.matchability(x).squeeze(-1).float().sigmoid()
