"""Pairs of pictures → matches in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from lightmatch.matchers import Matcher
from lightmatch.pairing import classify_overlap, share_images
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName, Picture
from lightmatch.runtime.store import MatchStore, StoredMatches
from lightmatch.runtime.threads import thread_pool

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


def match_pairs(
    pictures: Sequence[Picture],
    pairs: Sequence[Pair],
    features: FeaturesByName,
    matcher: Matcher,
    described: str,
    store: MatchStore,
    progress: Progress,
) -> MatchedPairs:
    """Match all pairs that the store does not hold, in blocks whose pairs share pictures, several side by side.

    described: everything that matches depend on, but the features. A block is kept when all of it is done: the blocks
    of a list of pairs are always the same, so a run that was stopped ends with the bits of one that was not.
    """
    keys_of = {picture.name: picture.key for picture in pictures}
    key = {(name0, name1): store.key(keys_of[name0], keys_of[name1], described) for name0, name1 in pairs}
    blocks = share_images(pairs, _IMAGES_PER_BLOCK)

    def match_block(block: Sequence[Pair]) -> int:
        missing = [pair for pair in block if key[pair] not in store]
        if missing:
            both = [(features[name0], features[name1]) for name0, name1 in missing]
            found = []
            for (features0, features1), matches in zip(both, matcher.match_batch(both), strict=True):
                overlap = classify_overlap(features0, features1, matches)
                found.append(StoredMatches(matches, overlap.probability, overlap.worth_verifying))
            store.write([key[pair] for pair in missing], found)
        return len(block)

    with progress.stage("match", len(pairs)) as step, thread_pool() as pool:
        for count in pool.map(match_block, blocks):
            for _ in range(count):
                step()
    ordered = [pair for block in blocks for pair in block]
    return MatchedPairs(tuple(ordered), tuple(key[pair] for pair in ordered), store)
