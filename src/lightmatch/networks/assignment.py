"""From two sets of descriptors to a soft assignment, and from the assignment to matches.

Source: Lindenberger et al. 2023, section 3.2.
"""

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
    if 0 in log_probability.shape:
        return log_probability.new_empty((0, 2), dtype=torch.int64), log_probability.new_empty(0)
    best, index1 = log_probability.max(1)
    # The best of every column is found ten times faster than its place is.
    mutual = best == log_probability.amax(0)[index1]
    index0 = torch.nonzero(mutual & (best.exp() > threshold))[:, 0]
    index0 = index0[_first_of_each(index1[index0])]
    return torch.stack((index0, index1[index0]), -1), best[index0].exp()


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

    def similarity(self, x0: Tensor, x1: Tensor, valid0: Tensor | None = None, valid1: Tensor | None = None) -> Tensor:
        """Unnormalised similarity (b, m, n) float32, very low where a point is padding."""
        scale = x0.shape[-1] ** -0.25
        return mask_similarity((self.final_proj(x0) * scale) @ (self.final_proj(x1) * scale).mT, valid0, valid1)

    def probability_matchable(self, x: Tensor) -> Tensor:
        """Probability that each point has a match at all: x (b, n, d) → (b, n) float32."""
        return self.matchability(x).squeeze(-1).float().sigmoid()
