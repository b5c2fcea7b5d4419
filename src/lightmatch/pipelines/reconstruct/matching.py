"""Pairs of pictures → matches in the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from lightmatch.errors import ReconstructionError
from lightmatch.matchers import Matcher
from lightmatch.pairing import CLASSIFIER_VERSION, classify_overlap, share_images
from lightmatch.pipelines.reconstruct import first_pass
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.models import ModelSource
from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.store import MatchStore, StoredMatches, digest

_IMAGES_PER_BLOCK = 4  # on either side of the pairs that are matched together


@dataclass(frozen=True)
class MatchedPairs:
    """The pairs that were matched; their matches lie in the store."""

    pairs: tuple[Pair, ...]  # names of pictures
    keys: tuple[str, ...]  # in the store
    store: MatchStore
    by_few: frozenset[Pair] = frozenset()  # those matched by `first_pass.KEYPOINTS` of each picture alone

    def of(self, pair: Pair) -> StoredMatches:
        """Those of one pair."""
        return self._read([pair])[0]

    @cached_property
    def _key_of(self) -> dict[Pair, str]:
        return dict(zip(self.pairs, self.keys, strict=True))

    def without(self, names: Collection[str]) -> MatchedPairs:
        """The pairs that none of these pictures is in."""
        kept = [place for place, pair in enumerate(self.pairs) if not set(pair) & set(names)]
        return MatchedPairs(
            tuple(self.pairs[n] for n in kept), tuple(self.keys[n] for n in kept), self.store, self.by_few
        )

    def read(self) -> Iterator[tuple[Pair, StoredMatches]]:
        """All of them, a few at a time."""
        for start in range(0, len(self.pairs), 256):
            part = self.pairs[start : start + 256]
            yield from zip(part, self._read(part), strict=True)

    def _read(self, pairs: Sequence[Pair]) -> list[StoredMatches]:
        """Raises ReconstructionError for those that the store does not hold, or holds damaged."""
        found = self.store.read([self._key_of[pair] for pair in pairs])
        lost = [pair for pair in pairs if self._key_of[pair] not in found]
        if lost:
            raise ReconstructionError(
                f"{' and '.join(lost[0])}: expected their matches in the store, found none or damaged ones; start the"
                " run again, what is whole is kept"
            )
        return [found[self._key_of[pair]] for pair in pairs]


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
    run: Run,
    pictures: Sequence[Picture],
    pairs: Sequence[Pair],
    matcher: ModelSource[Matcher],
    *,
    few_first: bool = False,
) -> MatchedPairs:
    """Match all pairs that the cache does not hold, in blocks whose pairs share pictures.

    few_first: match all pairs by few keypoints, and by all keypoints those that need it (`first_pass`).
    A block is kept when all of it is done: the blocks of a list of pairs are always the same, so a run that was
    stopped ends with the bits of one that was not.
    """
    most, store, blocks = run.config.max_keypoints, run.cache.matches, share_images(pairs, _IMAGES_PER_BLOCK)
    ordered = tuple(pair for block in blocks for pair in block)
    with run.progress.stage("match", len(pairs) * (1 + first_pass.COST * few_first)) as step:
        match = partial(_match_blocks, run, pictures, matcher, step)
        if not few_first:
            keys = match(blocks, most, 1)
            return MatchedPairs(ordered, tuple(keys[pair] for pair in ordered), store)
        keys = match(blocks, first_pass.KEYPOINTS, 1)
        found = MatchedPairs(ordered, tuple(keys[pair] for pair in ordered), store)
        again = first_pass.pairs_to_match_again(found.read(), {each.name: each.num_keypoints for each in pictures})
        for _ in range(first_pass.COST * (len(pairs) - len(again))):
            step()
        left = [again.intersection(block) for block in blocks]
        keys |= match([sorted(block) for block in left if block], most, first_pass.COST)
    return MatchedPairs(ordered, tuple(keys[pair] for pair in ordered), store, frozenset(ordered) - again)


def _match_blocks(
    run: Run,
    pictures: Sequence[Picture],
    matcher: ModelSource[Matcher],
    step: Callable[[], None],
    blocks: Sequence[Sequence[Pair]],
    most: int,
    cost: int,
) -> dict[Pair, str]:
    """Match what the cache does not hold. Returns the key of each pair in it.

    most: keypoints of a picture, the strongest. cost: steps of the progress that a pair stands for.
    """
    config, store = run.config, run.cache.matches
    weights = matcher.load().weights_digest()
    described = digest(config.matcher, weights, config.device, config.precision, most, CLASSIFIER_VERSION)
    keys_of = {picture.name: picture.key for picture in pictures}
    key = {
        (name0, name1): store.key(keys_of[name0], keys_of[name1], described)
        for block in blocks
        for name0, name1 in block
    }
    jobs = []
    for block in blocks:
        missing = [pair for pair in block if key[pair] not in store]
        jobs.append(Block(len(block), tuple(missing), tuple(key[pair] for pair in missing)))
    setup = MatchSetup(run.cache, matcher, FeaturesByName.of(run, pictures, most))
    run.map_within(step, partial(match_block, setup), jobs, steps=lambda job: cost * job.num_pairs)
    for job in jobs:
        if job.pairs:
            store.enter(job.keys)
    return key
