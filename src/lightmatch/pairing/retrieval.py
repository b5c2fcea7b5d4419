"""Image retrieval from local features: a visual vocabulary, global descriptors (ASMK*), similarities.

A vocabulary of small pieces of picture is learned from a sample of the collection itself. A photo is then, word by
word, the signs of the mean deviation of its descriptors from the word; two photos are alike as far as words that both
show deviate alike. This is the binary form of the aggregated selective match kernel (ASMK*) of Tolias, Avrithis and
Jégou: To aggregate or not to aggregate, ICCV 2013. docs/pairing.md compares it with VLAD and bags of words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import FeatureMismatchError, InvalidValueError
from lightmatch.pairing.codes import BITS, BYTES, codes_of, signs_of
from lightmatch.pairing.index import candidates
from lightmatch.types import Features

NUM_WORDS = 2048
SAMPLE_SIZE = 100_000  # descriptors to learn the words from: 26 MB at 64 numbers each

_SAMPLES_PER_WORD = 8  # at least
_ROUNDS = 4  # of k-means: six recall no more
_POWER = 3  # of the agreement of a word: much agreement counts more than a little of it in many words
INDEX_ABOVE = 2000  # photos: of 3000 all with all take 54 s, the index with its candidates 18 s
NUM_CANDIDATES = 400

_ROW_ELEMENTS = 1 << 25  # similarities held at a time
_WORD_ELEMENTS = 1 << 22  # and their parts by word
# Of two words by how many of their bits differ.
_AGREEMENT = (np.maximum(1 - 2 * np.arange(BITS + 1) / BITS, 0) ** _POWER).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of a collection, in a space of 64 numbers."""

    mean: Tensor  # (d,) float32
    axes: Tensor  # (d, 64) float32, the directions in which the descriptors differ most, first to last
    words: Tensor  # (k, 64) float32

    def __len__(self) -> int:
        return len(self.words)


def sample_size(num_images: int) -> int:
    """How many descriptors of each photo to learn a vocabulary from: `SAMPLE_SIZE` in all."""
    return max(1, -(-SAMPLE_SIZE // max(num_images, 1)))


def sample_descriptors(features: Features, num: int, seed: int = 0) -> Tensor:
    """At most `num` of a photo's descriptors, (m, d) float32 on the CPU, at random; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(features), generator=generator)[:num].sort().values
    return features.descriptors.cpu()[chosen]


@torch.no_grad()
def learn_vocabulary(samples: Sequence[Tensor] | Tensor, num_words: int = NUM_WORDS, seed: int = 0) -> Vocabulary:
    """Words by k-means among the principal components of sampled descriptors.

    samples: (m, d) float32, or those of each photo. Photos of all parts of the collection should be among them.
    num_words: fewer where there are fewer than eight samples for each; one where there are none.
    seed: of the words to start from. The same samples and seed give the same bits on one number of threads.
    2048 words of 100,000 samples take about 5 s on one core.
    Raises InvalidValueError for num_words < 1, samples of another shape, or none at all.
    """
    if num_words < 1:
        raise InvalidValueError(f"learn_vocabulary.num_words: expected at least 1, got {num_words}")
    rows = samples if isinstance(samples, Tensor) else (torch.cat(list(samples)) if len(samples) else torch.empty(0))
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise InvalidValueError(
            f"learn_vocabulary.samples: expected descriptors of shape (m, d), got {tuple(rows.shape)};"
            " give those of `sample_descriptors`, of at least one photo"
        )
    rows = rows.float().cpu()
    generator = torch.Generator().manual_seed(seed)
    mean = rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1])
    axes = _axes(rows - mean, generator)
    count = min(num_words, max(1, len(rows) // _SAMPLES_PER_WORD))
    return Vocabulary(mean, axes, _k_means((rows - mean) @ axes, count, generator))


@torch.no_grad()
def describe(features: Features, vocabulary: Vocabulary) -> np.ndarray:
    """Global descriptor of a photo: (9 · words,) uint8, so 18 kB with 2048 words; all 0 without keypoints.

    Of each word eight bytes of signs, and one that is 1 where the photo has the word. About 15 ms for 2048 keypoints.
    Raises FeatureMismatchError for descriptors of another width than the vocabulary's.
    """
    width = len(vocabulary.mean)
    if features.kind.descriptor_dim != width:
        raise FeatureMismatchError(
            f"this vocabulary was learned from descriptors {width} wide, got {features.kind.name!r} features"
            f" ({features.kind.descriptor_dim} wide); learn one from features of this kind"
        )
    rows = (features.descriptors.cpu() - vocabulary.mean) @ vocabulary.axes
    word = _nearest_word(rows, vocabulary.words)
    # The direction of the sum alone counts: a texture seen a hundred times weighs no more than one seen once.
    sums = torch.zeros_like(vocabulary.words).index_add_(0, word, rows - vocabulary.words[word])
    code = np.zeros((len(vocabulary), BYTES), np.uint8)
    code[:, :-1] = np.packbits((sums > 0).numpy(), axis=1)
    code[word.numpy(), -1] = 1
    code[code[:, -1] == 0] = 0
    return code.reshape(-1)


@torch.no_grad()
def similarities(descriptors: np.ndarray, queries: Sequence[int] | None = None) -> Iterator[tuple[list[int], Tensor]]:
    """How much photos look alike: 1 for the same, 0 for nothing in common.

    descriptors: (n, d) uint8 of `describe`. queries: the photos to compare with all, every one by default.
    Yields blocks of (photos, their similarities (r, n) float32), so that at most 128 MB are held at a time.
    Costs n² · words · 64 multiplications: 1000 photos about 8 s, 5000 about 200 s on one core.
    """
    count, codes = len(descriptors), codes_of(descriptors)
    norm = torch.from_numpy(_num_words(codes)).sqrt()
    wanted = list(range(count)) if queries is None else list(queries)
    rows = max(1, _ROW_ELEMENTS // max(count, 1))
    for start in range(0, len(wanted), rows):
        block = wanted[start : start + rows]
        total = torch.zeros(len(block), count)
        for first in range(0, codes.shape[1], 8):
            every = torch.from_numpy(signs_of(codes[:, first : first + 8]))
            _add_agreement(total, every[:, block], every)
        yield block, total / (norm[block, None] * norm)


def most_alike(
    descriptors: np.ndarray, queries: Sequence[int] | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Of each photo those that look like it, the most alike first.

    descriptors: (n, d) uint8 of `describe`. queries: the photos to find others for, every one by default.
    Yields (photo, others (k,) int64, their similarities (k,) float32 above 0). Of equal ones the earlier in the list
    comes first. Up to INDEX_ABOVE photos these are all that have anything in common with it; of more photos those among
    the NUM_CANDIDATES of an index, about 6 ms each.
    """
    wanted = list(range(len(descriptors))) if queries is None else list(queries)
    if not wanted:
        return
    if len(descriptors) <= INDEX_ABOVE:
        for block, alike in similarities(descriptors, wanted):
            alike[torch.arange(len(block)), block] = 0
            best = alike.sort(dim=1, descending=True, stable=True)
            for photo, values, others in zip(block, best.values.numpy(), best.indices.numpy(), strict=True):
                count = int((values > 0).sum())
                yield photo, others[:count], values[:count]
        return
    codes = codes_of(descriptors)
    bits = np.ascontiguousarray(codes[:, :, :-1]).view(np.uint64)[:, :, 0]
    has_word, num_words = codes[:, :, -1].astype(bool), _num_words(codes)
    for photo, found in zip(wanted, candidates(descriptors, NUM_CANDIDATES, wanted), strict=True):
        others = np.setdiff1d(found, [photo])
        agreement = _AGREEMENT[np.bitwise_count(bits[photo] ^ bits[others])]
        agreement *= has_word[photo] & has_word[others]
        values = agreement.sum(1) / np.sqrt(num_words[photo] * num_words[others])
        order = np.argsort(-values, kind="stable")[: int((values > 0).sum())]
        yield photo, others[order], values[order]


def nearest_pairs(
    descriptors: np.ndarray, num_neighbors: int, queries: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Each photo with the `num_neighbors` that look most like it: sorted pairs (i, j), i < j.

    descriptors: (n, d) uint8 of `describe`. queries: the photos to find neighbours of, every one by default.
    That is between n · num_neighbors / 2 pairs, where liking is mutual, and n · num_neighbors. Photos with nothing in
    common, such as those without keypoints, are never paired. Of equal ones the earlier in the list comes first.
    """
    if num_neighbors < 1:
        raise InvalidValueError(f"nearest_pairs.num_neighbors: expected at least 1, got {num_neighbors}")
    pairs: set[tuple[int, int]] = set()
    for photo, others, _ in most_alike(descriptors, queries):
        pairs.update((min(photo, other), max(photo, other)) for other in others[:num_neighbors].tolist())
    return sorted(pairs)


def _num_words(codes: np.ndarray) -> np.ndarray:
    """(n,) float32: words of each photo, at least 1. codes: (n, w, BYTES)."""
    return codes[:, :, -1].sum(1, dtype=np.int64).clip(1).astype(np.float32)


def _axes(centred: Tensor, generator: torch.Generator) -> Tensor:
    """(d, 64): the principal directions, and random ones where descriptors are narrower than that."""
    width = centred.shape[1]
    directions = torch.linalg.eigh(centred.T.double() @ centred.double()).eigenvectors.flip(1).float()
    # An eigenvector is as good as its negative: choose, so that no library's whim decides.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    more = torch.randn(width, max(0, BITS - width), generator=generator)
    return torch.cat((directions, torch.nn.functional.normalize(more, dim=0)), 1)[:, :BITS]


def _k_means(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count, 64) centres after a few rounds of Lloyd's algorithm."""
    if not len(rows):
        return rows.new_zeros(1, BITS)
    words = rows[torch.randperm(len(rows), generator=generator)[:count]].clone()
    for _ in range(_ROUNDS):
        word = _nearest_word(rows, words)
        members = torch.bincount(word, minlength=count)
        sums = torch.zeros_like(words).index_add_(0, word, rows)
        # A word nobody is nearest to is one of two equal ones, as duplicates make them: it does no harm where it is.
        words = torch.where(members[:, None] > 0, sums / members.clamp(min=1)[:, None], words)
    return words


def _nearest_word(rows: Tensor, words: Tensor) -> Tensor:
    """(m,) int64."""
    half = words.square().sum(1) / 2
    found = [torch.addmm(half, block, words.T, alpha=-1).argmin(1) for block in rows.split(4096)]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _add_agreement(total: Tensor, block: Tensor, every: Tensor) -> None:
    """Add to `total` (r, n) the agreement of words; block: (w, r, 64), every: (w, n, 64)."""
    rows = max(1, _WORD_ELEMENTS // (len(every) * max(1, every.shape[1])))
    for start in range(0, block.shape[1], rows):
        # Words that deviate in opposite directions show different things: nothing in common, not less than nothing.
        agreement = torch.bmm(block[:, start : start + rows], every.transpose(1, 2)).div_(BITS).clamp_(min=0)
        total[start : start + rows] += agreement.pow_(_POWER).sum(0)
