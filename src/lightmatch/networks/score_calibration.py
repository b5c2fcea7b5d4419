"""From the scores of a pair's matches to probabilities of being right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COUNTED_SCORE = 0.1
"""Matches of a lower score do not count where the matches of a pair are summed up."""
_LEAST = 1e-4  # a score that is nearer to 0 or 1 counts as this


@dataclass(frozen=True)
class ScoreCalibration:
    """A logistic regression on the score s of a match and the mean score of the matches of its pair.

    logit p = constant + log_score · ln s − log_rest · ln(1 − s) + mean_score · mean. Without the mean this is beta
    calibration (Kull, Silva Filho, Flach: Beta calibration, AISTATS 2017). The mean says how hard the pair is: a match
    of score 0.5 is mostly right between photos that match well, and mostly wrong between those that hardly do. The
    order of the matches of a pair stays, for log_score and log_rest are not negative.
    """

    constant: float
    log_score: float
    log_rest: float
    mean_score: float

    def probabilities(self, scores: Tensor) -> Tensor:
        """Probability that each match is right, (…, k) float32 in 0…1.

        scores: (…, k) in 0…1, of the matches of one pair each, 0 where there is no match. Of those above COUNTED_SCORE
        none may be missing.
        """
        weights = scores.new_tensor([self.constant, self.log_score, self.log_rest, self.mean_score])
        return (score_terms(scores) @ weights).sigmoid()


def score_terms(scores: Tensor) -> Tensor:
    """What the weights of `ScoreCalibration` are multiplied with, in their order: (…, k) scores → (…, k, 4)."""
    inside = scores.clamp(_LEAST, 1 - _LEAST)
    counted = scores > COUNTED_SCORE
    mean = torch.where(counted, scores, 0.0).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp(min=1)
    one = torch.ones_like(scores)
    return torch.stack((one, inside.log(), -(1 - inside).log(), one * mean), -1)
