"""Pairs of pictures → matches in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from lightmatch.matchers import Matcher
from lightmatch.pairing import CLASSIFIER_VERSION, classify_overlap, share_images
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.models import ModelSource
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.store import MatchStore, StoredMatches, digest

Pair = tuple[str, str]

_IMAGES_PER_BLOCK = 4  # on either side of the pairs that are matched together


@dataclass(frozen=True)
class MatchedPairs:
    """The pairs that were matched; their matches lie in the store."""

    pairs: tuple[Pair, ...]  # names of pictures
    keys: tuple[str, ...]  # in the store
    store: MatchStore

    def of(self, pair: Pair) -> StoredMatches:
        """Those of one pair."""
        key = self._key_of[pair]
        return self.store.read([key])[key]

    @cached_property
    def _key_of(self) -> dict[Pair, str]:
        return dict(zip(self.pairs, self.keys, strict=True))

    def without(self, names: Collection[str]) -> MatchedPairs:
        """The pairs that none of these pictures is in."""
        kept = [place for place, pair in enumerate(self.pairs) if not set(pair) & set(names)]
        return MatchedPairs(tuple(self.pairs[n] for n in kept), tuple(self.keys[n] for n in kept), self.store)

    def read(self) -> Iterator[tuple[Pair, StoredMatches]]:
        """All of them, a few at a time."""
        for start in range(0, len(self.pairs), 256):
            part = slice(start, start + 256)
            found = self.store.read(self.keys[part])
            for pair, key in zip(self.pairs[part], self.keys[part], strict=True):
                if key in found:
                    yield pair, found[key]


@dataclass(frozen=True)
class MatchSetup:
    """What the jobs of all blocks share."""

    cache: Cache
    matcher: ModelSource[Matcher]
    features: FeaturesByName


@dataclass(frozen=True)
class Block:
    """Pairs that share pictures."""

    num_pairs: int
    pairs: tuple[Pair, ...]  # those that the cache does not hold
    keys: tuple[str, ...]  # of these


def match_block(setup: MatchSetup, block: Block) -> None:
    """Match the pairs of a block and keep their matches in the cache: a job of an executor."""
    if not block.pairs:
        return
    both = [(setup.features[name0], setup.features[name1]) for name0, name1 in block.pairs]
    found = []
    for (features0, features1), matches in zip(both, setup.matcher.load().match_batch(both), strict=True):
        overlap = classify_overlap(features0, features1, matches)
        found.append(StoredMatches(matches, overlap.probability, overlap.worth_verifying))
    setup.cache.matches.write(block.keys, found)


def match_pairs(
    run: Run, pictures: Sequence[Picture], pairs: Sequence[Pair], matcher: ModelSource[Matcher]
) -> MatchedPairs:
    """Match all pairs that the cache does not hold, in blocks whose pairs share pictures.

    A block is kept when all of it is done: the blocks of a list of pairs are always the same, so a run that was
    stopped ends with the bits of one that was not.
    """
    config, store = run.config, run.cache.matches
    described = digest(config.matcher, config.device, config.precision, config.max_keypoints, CLASSIFIER_VERSION)
    keys_of = {picture.name: picture.key for picture in pictures}
    key = {(name0, name1): store.key(keys_of[name0], keys_of[name1], described) for name0, name1 in pairs}
    shared = share_images(pairs, _IMAGES_PER_BLOCK)
    blocks = []
    for block in shared:
        missing = [pair for pair in block if key[pair] not in store]
        blocks.append(Block(len(block), tuple(missing), tuple(key[pair] for pair in missing)))
    setup = MatchSetup(run.cache, matcher, FeaturesByName.of(run, pictures, config.max_keypoints))
    run.map("match", partial(match_block, setup), blocks, steps=lambda block: block.num_pairs)
    for block in blocks:
        if block.pairs:
            store.enter(block.keys)
    ordered = [pair for block in shared for pair in block]
    return MatchedPairs(tuple(ordered), tuple(key[pair] for pair in ordered), store)
