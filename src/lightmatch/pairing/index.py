"""Which photos of a large collection may look alike, by an index: its time hardly grows with their number.

A photo is reduced to a sketch, from which no more than candidates are taken; how much these are alike is measured on
the whole descriptor. Sketches are sums of the signs of `describe` in buckets, each with a random sign, which keep the
products of vectors on average: Charikar, Chen, Farach-Colton: Finding frequent items in data streams, 2002, and
Weinberger et al.: Feature hashing for large scale multitask learning, ICML 2009. The index is a graph of near
neighbours: Malkov and Yashunin: HNSW, TPAMI 2020.
"""

from __future__ import annotations

import numpy as np

from lightmatch.pairing.codes import BITS, BYTES, signs_of

SKETCH_SIZE = 8192  # numbers of a byte: 8 kB a photo

_CONNECTIVITY, _BREADTH_ADDED, _BREADTH_SEARCHED = 16, 128, 256  # of the graph


def candidates(descriptors: np.ndarray, num_candidates: int, queries: list[int]) -> np.ndarray:
    """(q, num_candidates) int64: of each query the photos whose sketches are most like its own, itself among them.

    descriptors: (n, d) uint8 of `describe`, n ≥ num_candidates. The same descriptors give the same candidates.
    """
    from usearch.index import Index

    index = Index(
        ndim=SKETCH_SIZE,
        metric="cos",
        dtype="i8",
        connectivity=_CONNECTIVITY,
        expansion_add=_BREADTH_ADDED,
        expansion_search=max(_BREADTH_SEARCHED, num_candidates),
    )
    sketch = _Sketcher(descriptors.shape[1] // BYTES)
    for photo, descriptor in enumerate(descriptors):
        index.add(photo, sketch(descriptor), threads=1)  # on several threads the graph would depend on chance
    found = np.zeros((len(queries), num_candidates), np.int64)
    for row, photo in enumerate(queries):
        stored = index.get(photo)
        assert isinstance(stored, np.ndarray)  # it was added just now
        keys = index.search(stored, num_candidates, threads=1).keys.astype(np.int64)
        found[row, : len(keys)] = keys
        found[row, len(keys) :] = photo
    return found


class _Sketcher:
    """Reduces descriptors of some number of words."""

    def __init__(self, num_words: int) -> None:
        generator = np.random.default_rng(0)
        self._bucket = generator.integers(0, SKETCH_SIZE, num_words * BITS)
        self._sign = generator.choice(np.array([-1.0, 1.0]), num_words * BITS)

    def __call__(self, descriptor: np.ndarray) -> np.ndarray:
        """(SKETCH_SIZE,) float32 of length 1; 0 of a photo without words."""
        signs = signs_of(descriptor.reshape(1, -1, BYTES)).reshape(-1)
        sums = np.bincount(self._bucket, signs * self._sign, SKETCH_SIZE)
        return (sums / max(np.linalg.norm(sums), 1e-9)).astype(np.float32)
