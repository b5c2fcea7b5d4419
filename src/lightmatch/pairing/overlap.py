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


CLASSIFIER_VERSION = 2  # changes with the models below: what they find is stored with matches


@dataclass(frozen=True)
class OverlapClassifier:
    """A logistic regression on terms of the evidence of a pair, see `evidence_terms`."""

    weights: tuple[float, ...]  # of the terms
    skip_below: float  # pairs of lower probability are not worth verifying

    def probability(self, evidence: PairEvidence) -> float:
        """That the photos overlap, 0…1."""
        logit = sum(weight * term for weight, term in zip(self.weights, evidence_terms(evidence), strict=True))
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0

    def classify(self, evidence: PairEvidence) -> PairOverlap:
        """The probability of overlap, and whether the pair is worth geometric verification."""
        probability = self.probability(evidence)
        return PairOverlap(probability, evidence.num_matches >= LEAST_MATCHES and probability >= self.skip_below)


def evidence_terms(evidence: PairEvidence) -> tuple[float, float, float, float]:
    """Terms of the regression: 1; logarithms of the matches that are right, are wrong, and stay with their neighbours.

    Of matches without probabilities all count as right.
    """
    right = evidence.expected_right
    wrong = max(evidence.num_matches - right, 0.0)
    return 1.0, math.log1p(right), math.log1p(wrong), math.log1p(right * max(evidence.locality, 0.0))


# Trained by `benchmarks/pairing.py`, on procedural worlds and photos of other places than those that docs/pairing.md
# scores them on. The threshold is half of the lowest probability of any overlapping pair in training that COLMAP keeps,
# and at most 0.05. OTHERS is trained on mutual nearest neighbours.
CALIBRATED = OverlapClassifier((-2.5958, 2.7831, -1.2354, 1.9674), skip_below=0.05)
LIGHTGLUE = OverlapClassifier((-2.6477, -1.0993, 0.0, 3.0988), skip_below=0.038)
OTHERS = OverlapClassifier((-5.4159, 1.7858, 0.0, 1.3903), skip_below=0.05)


def classify_overlap(features0: Features, features1: Features, matches: Matches) -> PairOverlap:
    """Probability that a matched pair overlaps, and whether it is worth verifying; 2 to 20 ms.

    The probability is calibrated on as many overlapping pairs as others; docs/pairing.md has the reliability diagram.
    Doppelgängers match like overlapping photos: `reconstruction.disambiguation` finds those.
    """
    return _classifier(matches).classify(gather_evidence(features0, features1, matches))


def overlap_probability(features0: Features, features1: Features, matches: Matches) -> float:
    """Probability in 0…1 that the two photos show part of the same scene; that of `classify_overlap`."""
    return classify_overlap(features0, features1, matches).probability


def _classifier(matches: Matches) -> OverlapClassifier:
    """For matches with probabilities, of LightGlue without (its matches carry layers), and of other matchers."""
    if matches.probabilities is not None:
        return CALIBRATED
    return OTHERS if matches.stop_layer is None else LIGHTGLUE
