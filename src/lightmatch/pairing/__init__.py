"""Which photos to match with which: pairs of places in a list, the lower first; and whether a matched pair overlaps."""

from lightmatch.pairing.blocks import share_images
from lightmatch.pairing.choose import (
    EXHAUSTIVE_LIMIT,
    NUM_NEIGHBORS,
    Pairing,
    choose_pairs,
    needs_descriptors,
)
from lightmatch.pairing.loops import loop_candidates
from lightmatch.pairing.order import exhaustive, sequential
from lightmatch.pairing.overlap import VERDICT_VERSION, PairVerdict, judge_pair, overlap_probability
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
    "EXHAUSTIVE_LIMIT",
    "NUM_NEIGHBORS",
    "VERDICT_VERSION",
    "PairVerdict",
    "Pairing",
    "Position",
    "Vocabulary",
    "choose_pairs",
    "describe",
    "exhaustive",
    "judge_pair",
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
