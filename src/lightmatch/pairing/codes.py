"""The bytes of a photo's descriptor: of each word its signs, and whether the photo has it at all."""

from __future__ import annotations

import numpy as np

from lightmatch.errors import InvalidValueError

BITS = 64  # of a word
BYTES = BITS // 8 + 1


def codes_of(descriptors: np.ndarray) -> np.ndarray:
    """(n, words, BYTES) of the (n, d) uint8 that `describe` gives. Raises InvalidValueError for anything else."""
    if descriptors.ndim != 2 or descriptors.dtype != np.uint8 or descriptors.shape[1] % BYTES:
        raise InvalidValueError(
            "descriptors: expected an array (n, d) of uint8 as `describe` gives them, stacked,"
            f" got {descriptors.shape} and {descriptors.dtype}"
        )
    return descriptors.reshape(len(descriptors), -1, BYTES)


def signs_of(codes: np.ndarray) -> np.ndarray:
    """(w, n, BITS) float32: ±1, and 0 for words a photo lacks. codes: (n, w, BYTES)."""
    bits = np.unpackbits(codes[:, :, :-1], axis=2).transpose(1, 0, 2).astype(np.float32)
    return (2 * bits - 1) * codes[:, :, -1].T[:, :, None]
