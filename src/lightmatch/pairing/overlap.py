"""Whether two photos show part of the same, by their matches alone, before any geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightmatch.pairing.evidence import PairEvidence, gather_evidence
from lightmatch.types import Features, Matches

LEAST_MATCHES = 8  # seven determine a fundamental matrix: with fewer, none would have to agree with it


@dataclass(frozen=True)
class PairVerdict:
    """What is thought of a matched pair before geometry."""

    probability: float  # that the photos overlap, 0…1
    worth_verifying: bool  # geometry would hardly ever keep a pair that is not


VERDICT_VERSION = 1  # changes with the models below: verdicts are kept with matches


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

    def verdict(self, evidence: PairEvidence) -> PairVerdict:
        """The probability, and whether it is worth the time to look at the geometry."""
        probability = self.probability(evidence)
        return PairVerdict(probability, evidence.num_matches >= LEAST_MATCHES and probability >= self.skip_below)


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


# Trained by `benchmarks/pairing.py` on 581 pairs, 276 of them overlapping: procedural worlds and photos of other places
# than those that docs/pairing.md scores them on. OTHERS, for matchers that may match more by mistake than the mutual
# nearest neighbours it was trained on, knows the number and the neighbours alone. The threshold is half of the lowest
# probability of any overlapping pair in training that COLMAP keeps, and at most 0.05.
LIGHTGLUE_SIFT = VerdictModel(
    (-19.7861, 0.4779, 3.4008, 2.1809, 0.3061, 6.4622, 21.531, 1.1646, 0.7183), with_scores=True, skip_below=0.03
)
LIGHTGLUE = VerdictModel((-11.8146, 1.2003, 8.9615, 6.8927, 0.5381, 5.8294), with_scores=False, skip_below=0.014)
OTHERS = VerdictModel((-3.9287, 1.2055, 0.0, 0.0, 1.283, 0.0), with_scores=False, skip_below=0.05)


def judge_pair(features0: Features, features1: Features, matches: Matches) -> PairVerdict:
    """The verdict on a pair, in 2 to 20 ms.

    The probability is calibrated for as many overlapping pairs as others; docs/pairing.md has how well, and on what.
    Matches of twins look like those of one thing: this is not the judge of them.
    """
    return _model(features0, features1, matches).verdict(gather_evidence(features0, features1, matches))


def overlap_probability(features0: Features, features1: Features, matches: Matches) -> float:
    """How probable it is that the two photos show part of the same, 0…1: as `judge_pair` says."""
    return judge_pair(features0, features1, matches).probability


def _model(features0: Features, features1: Features, matches: Matches) -> VerdictModel:
    """Layers tell LightGlue. Its scores were looked at with SIFT alone."""
    if matches.stop_layer is None:
        return OTHERS
    return LIGHTGLUE_SIFT if features0.kind.name == features1.kind.name == "sift" else LIGHTGLUE
