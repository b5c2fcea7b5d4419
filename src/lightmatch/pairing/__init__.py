"""Pair selection: which photos to match, as index pairs (i, j), i < j; and whether a matched pair overlaps."""

from lightmatch.pairing.blocks import share_images
from lightmatch.pairing.choose import (
    EXHAUSTIVE_LIMIT,
    NUM_NEIGHBORS,
    Pairing,
    choose_pairs,
    needs_descriptors,
)
from lightmatch.pairing.loops import loop_candidates
from lightmatch.pairing.order import OVERLAP, exhaustive, sequential
from lightmatch.pairing.overlap import CLASSIFIER_VERSION, PairOverlap, classify_overlap, overlap_probability
from lightmatch.pairing.retrieval import (
    Vocabulary,
    describe,
    learn_vocabulary,
    nearest_pairs,
    sample_descriptors,
    sample_size,
    similarities,
)
from lightmatch.pairing.spatial import Position, spatial

__all__ = [
    "CLASSIFIER_VERSION",
    "EXHAUSTIVE_LIMIT",
    "NUM_NEIGHBORS",
    "OVERLAP",
    "PairOverlap",
    "Pairing",
    "Position",
    "Vocabulary",
    "choose_pairs",
    "classify_overlap",
    "describe",
    "exhaustive",
    "learn_vocabulary",
    "loop_candidates",
    "nearest_pairs",
    "needs_descriptors",
    "overlap_probability",
    "sample_descriptors",
    "sample_size",
    "sequential",
    "share_images",
    "similarities",
    "spatial",
]
