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
    log_matchability = logsigmoid(matchability0.float())[:, :, None] + logsigmoid(matchability1.float())[:, None]
    return log_matchability + similarity.log_softmax(2) + similarity.log_softmax(1)


def mutual_matches(log_probability: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Pairs that are each other's best and more probable than `threshold`.

    log_probability: (m, n). Returns indices (k, 2) int64 sorted by the first column, and probabilities (k,).
    """
    if 0 in log_probability.shape:
        return log_probability.new_empty((0, 2), dtype=torch.int64), log_probability.new_empty(0)
    best, index1 = log_probability.max(1)
    index0 = torch.arange(len(index1), device=index1.device)
    scores = best.exp()
    kept = (log_probability.argmax(0)[index1] == index0) & (scores > threshold)
    return torch.stack((index0, index1), -1)[kept], scores[kept]


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
        """Unnormalised similarity (b, m, n) float32, as low as can be where a point is padding."""
        scale = x0.shape[-1] ** -0.25
        similarity = ((self.final_proj(x0) * scale) @ (self.final_proj(x1) * scale).mT).float()
        # The lowest finite number, not −inf: a row that is all padding must not become NaN.
        lowest = torch.finfo(similarity.dtype).min
        if valid0 is not None:
            similarity = similarity.masked_fill(~valid0[:, :, None], lowest)
        if valid1 is not None:
            similarity = similarity.masked_fill(~valid1[:, None], lowest)
        return similarity

    def probability_matchable(self, x: Tensor) -> Tensor:
        """Probability that each point has a match at all: x (b, n, d) → (b, n) float32."""
        return self.matchability(x).squeeze(-1).float().sigmoid()
