"""The overlap classifier: how probable it is that two photos overlap, by their matches alone, before any geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightmatch.pairing.evidence import PairEvidence, gather_evidence
from lightmatch.types import Features, Matches

LEAST_MATCHES = 8  # seven determine a fundamental matrix: with fewer, none would have to agree with it


@dataclass(frozen=True)
class PairOverlap:
    """What the classifier finds for a matched pair, before geometric verification."""

    probability: float  # that the photos overlap, 0…1
    worth_verifying: bool  # False where geometric verification would almost never keep the pair


CLASSIFIER_VERSION = 1  # changes with the models below: what they find is stored with matches


@dataclass(frozen=True)
class OverlapClassifier:
    """A logistic regression on terms of the evidence of a pair, see `evidence_terms`."""

    weights: tuple[float, ...]  # of the terms, the first for the constant
    with_scores: bool  # whether the matcher's scores and the features' rotations and scales are terms
    skip_below: float  # pairs of lower probability are not worth verifying

    def probability(self, evidence: PairEvidence) -> float:
        """That the photos overlap, 0…1."""
        terms = evidence_terms(evidence, self.with_scores)
        logit = sum(weight * term for weight, term in zip(self.weights, terms, strict=True))
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0

    def classify(self, evidence: PairEvidence) -> PairOverlap:
        """The probability of overlap, and whether the pair is worth geometric verification."""
        probability = self.probability(evidence)
        return PairOverlap(probability, evidence.num_matches >= LEAST_MATCHES and probability >= self.skip_below)


def evidence_terms(evidence: PairEvidence, with_scores: bool) -> tuple[float, ...]:
    """Terms of the regression: the constant 1, then counts as logarithms and shares; 6, or 9 with scores."""
    num, near = evidence.num_matches, max(evidence.locality, 0.0)
    plain = (
        1.0,
        math.log1p(num),
        math.sqrt(evidence.share_matched),
        near,
        math.log1p(num * near),  # number of matches whose neighbours match alike
        evidence.coverage,
    )
    scored = (evidence.mean_score, math.log1p(num * evidence.mean_score), evidence.agreement)
    return plain + scored if with_scores else plain


# Trained by `benchmarks/pairing.py` on 581 pairs, 276 of them overlapping: procedural worlds and photos of other places
# than those that docs/pairing.md scores them on. OTHERS, for matchers that may match more by mistake than the mutual
# nearest neighbours it was trained on, knows the number and the neighbours alone. The threshold is half of the lowest
# probability of any overlapping pair in training that COLMAP keeps, and at most 0.05.
LIGHTGLUE_SIFT = OverlapClassifier(
    (-19.7861, 0.4779, 3.4008, 2.1809, 0.3061, 6.4622, 21.531, 1.1646, 0.7183), with_scores=True, skip_below=0.03
)
LIGHTGLUE = OverlapClassifier((-11.8146, 1.2003, 8.9615, 6.8927, 0.5381, 5.8294), with_scores=False, skip_below=0.014)
OTHERS = OverlapClassifier((-3.9287, 1.2055, 0.0, 0.0, 1.283, 0.0), with_scores=False, skip_below=0.05)


def classify_overlap(features0: Features, features1: Features, matches: Matches) -> PairOverlap:
    """Probability that a matched pair overlaps, and whether it is worth verifying; 2 to 20 ms.

    The probability is calibrated on as many overlapping pairs as others; docs/pairing.md has the reliability diagram.
    Doppelgängers match like overlapping photos: `reconstruction.disambiguation` finds those.
    """
    return _classifier(features0, features1, matches).classify(gather_evidence(features0, features1, matches))


def overlap_probability(features0: Features, features1: Features, matches: Matches) -> float:
    """Probability in 0…1 that the two photos show part of the same scene; that of `classify_overlap`."""
    return classify_overlap(features0, features1, matches).probability


def _classifier(features0: Features, features1: Features, matches: Matches) -> OverlapClassifier:
    """The classifier for the matcher: LightGlue's matches carry layers. With scores only for SIFT, as trained."""
    if matches.stop_layer is None:
        return OTHERS
    return LIGHTGLUE_SIFT if features0.kind.name == features1.kind.name == "sift" else LIGHTGLUE
