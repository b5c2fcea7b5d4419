"""Whether two photos show part of the same, by their matches alone, before any geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightmatch.pairing.evidence import PairEvidence, gather_evidence
from lightmatch.types import Features, Matches


@dataclass(frozen=True)
class VerdictModel:
    """A logistic regression on the terms of the evidence."""

    weights: tuple[float, ...]  # of `terms`, the first for the constant
    with_scores: bool  # whether the matcher's scores and the features' turns and scales count
    skip_below: float  # what is less probable is not worth verifying

    def probability(self, evidence: PairEvidence) -> float:
        """That the photos overlap, 0…1."""
        terms = evidence_terms(evidence, self.with_scores)
        logit = sum(weight * term for weight, term in zip(self.weights, terms, strict=True))
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def evidence_terms(evidence: PairEvidence, with_scores: bool) -> tuple[float, ...]:
    """What the regression weighs: the constant 1, then the evidence in forms that grow evenly with certainty."""
    num, near = evidence.num_matches, max(evidence.locality, 0.0)
    plain = (
        1.0,
        math.log1p(num),
        math.sqrt(evidence.share_matched),
        near,
        math.log1p(num * near),  # matches among neighbours that agree: a few of many, or most of a few
        evidence.coverage,
    )
    scored = (evidence.mean_score, math.log1p(num * evidence.mean_score), evidence.agreement)
    return plain + scored if with_scores else plain


# Trained by `python benchmarks/pairing.py` at --, PLACEHOLDER
LIGHTGLUE_SIFT = VerdictModel((-3.0, 0.1, 0.1, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1), True, 0.05)
GENERIC = VerdictModel((-3.0, 0.1, 0.1, 1.0, 1.0, 1.0), False, 0.05)


@dataclass(frozen=True)
class PairVerdict:
    """What is thought of a matched pair before geometry."""

    probability: float  # that the photos overlap, 0…1
    worth_verifying: bool  # geometry would hardly ever keep a pair that is not


def judge_pair(features0: Features, features1: Features, matches: Matches) -> PairVerdict:
    """The verdict on a pair, in about 10 ms.

    The probability is calibrated for as many overlapping pairs as others; docs/pairing.md has how well, and on what.
    Matches of twins look like those of one thing: this is not the judge of them.
    """
    model = _model(features0, features1, matches)
    probability = model.probability(gather_evidence(features0, features1, matches))
    return PairVerdict(probability, probability >= model.skip_below)


def overlap_probability(features0: Features, features1: Features, matches: Matches) -> float:
    """How probable it is that the two photos show part of the same, 0…1: as `judge_pair` says."""
    return judge_pair(features0, features1, matches).probability


def _model(features0: Features, features1: Features, matches: Matches) -> VerdictModel:
    """Layers tell LightGlue; it was looked at with SIFT. A pair without keypoints has run none, and no matches."""
    learned = matches.stop_layer is not None and features0.kind.name == features1.kind.name == "sift"
    return LIGHTGLUE_SIFT if learned else GENERIC
