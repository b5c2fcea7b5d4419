"""Pairs of pictures → matches by a matcher of images, with the places in each picture merged to keypoints.

Such a matcher finds other places in a picture for each pair. Tracks need places that several pairs share: what lies in
one cell of MERGED_PX is one keypoint, in the middle of what was matched there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from lightmatch.images import load_image
from lightmatch.inputs import mask_path, read_mask
from lightmatch.matchers import ImageMatcher
from lightmatch.matchers.base import matched_places
from lightmatch.matchers.vismatch import LONG_SIDE_PX
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.matching import MatchedPairs, Pair
from lightmatch.pipelines.reconstruct.pictures import Picture
from lightmatch.store import FeatureStore, MatchStore, Records, StoredMatches, digest
from lightmatch.types import Matches

MERGED_PX = 2.0  # side of a cell, in an image of LONG_SIDE_PX

_FEWEST = 15  # matches that are worth verifying; COLMAP asks for as many inliers
_IN_MEMORY = 8  # images


def match_images(
    pictures: Sequence[Picture],
    pairs: Sequence[Pair],
    matcher: ImageMatcher,
    output: Path,
    features: FeatureStore,
    matches: MatchStore,
    progress: Progress,
) -> tuple[tuple[Picture, ...], MatchedPairs]:
    """Match all pairs that OUT/store/points does not hold, then merge.

    output: with the working copies in images/, masks in masks/. Returns the pictures, whose features are now the merged
    keypoints, in the store, and the matches between these.
    """
    points = Records(output / "store" / "points")
    by_name = {picture.name: picture for picture in pictures}
    image = lru_cache(_IN_MEMORY)(lambda name: load_image(output / "images" / name))
    keys = {pair: digest("points", matcher.described, [by_name[name].key for name in pair]) for pair in pairs}
    with progress.stage("match", len(pairs)) as step:
        for pair in pairs:
            if keys[pair] not in points:
                found = matcher(image(pair[0]), image(pair[1]))
                points.write(keys[pair], vars(found), {})
            step()
    merged = _Merged(by_name, output)
    for pair in pairs:
        record = points.read(keys[pair])
        if record is not None:
            merged.add(pair, *(record[0][name].numpy() for name in ("points0", "points1", "scores")))
    together = digest("merged", MERGED_PX, sorted(keys.values()))
    done = []
    for picture in pictures:
        key = digest("merged keypoints", together, picture.name)
        places, votes = merged.keypoints(picture.name)
        own = matched_places(
            torch.from_numpy(places), torch.from_numpy(votes.astype(np.float32)), picture.image_size, matcher.name
        )
        features.write(key, own, {})
        done.append(replace(picture, key=key, num_keypoints=len(own)))
    pair_keys = {pair: digest("merged matches", together, list(pair)) for pair in pairs}
    matches.write([pair_keys[pair] for pair in pairs], [merged.matches(pair) for pair in pairs])
    return tuple(done), MatchedPairs(tuple(pairs), tuple(pair_keys[pair] for pair in pairs), matches)


class _Merged:
    """The places matched in all pictures, by cell."""

    def __init__(self, pictures: dict[str, Picture], output: Path) -> None:
        self._sizes = {name: picture.image_size for name, picture in pictures.items()}
        self._masks = output / "masks"
        self._places: dict[str, list[np.ndarray]] = defaultdict(list)
        self._pairs: dict[Pair, tuple[slice, slice, np.ndarray]] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._cells: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def add(self, pair: Pair, points0: np.ndarray, points1: np.ndarray, scores: np.ndarray) -> None:
        """The matches of one pair: (k, 2), (k, 2) px, (k,)."""
        good = self._allowed(pair[0], points0) & self._allowed(pair[1], points1)
        parts = []
        for name, points in zip(pair, (points0[good], points1[good]), strict=True):
            start = self._counts[name]
            self._places[name].append(points)
            self._counts[name] += len(points)
            parts.append(slice(start, start + len(points)))
        self._pairs[pair] = (parts[0], parts[1], scores[good])

    def keypoints(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) px and (n,) how many places are merged in each."""
        _, places, votes = self._of(name)
        return places, votes

    def matches(self, pair: Pair) -> StoredMatches:
        """Those of one pair, of each keypoint the best."""
        if pair not in self._pairs:
            return StoredMatches(Matches(torch.empty(0, 2, dtype=torch.int64), torch.empty(0)), None, False)
        part0, part1, scores = self._pairs[pair]
        first, second = self._of(pair[0])[0][part0], self._of(pair[1])[0][part1]
        order = np.argsort(-scores, kind="stable")
        order = order[np.sort(np.unique(first[order], return_index=True)[1])]
        order = order[np.sort(np.unique(second[order], return_index=True)[1])]
        order = order[np.argsort(first[order], kind="stable")]
        indices = torch.from_numpy(np.stack((first[order], second[order]), 1).astype(np.int64))
        found = Matches(indices, torch.from_numpy(scores[order].astype(np.float32)))
        return StoredMatches(found, None, len(found) >= _FEWEST)

    def _of(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which keypoint each place became, where they lie, and of how many places."""
        if name not in self._cells:
            places = np.concatenate([np.zeros((0, 2), np.float32), *self._places[name]])
            cell_px = MERGED_PX * max(1.0, max(self._sizes[name]) / LONG_SIDE_PX)
            cells = np.floor((places + 0.5) / cell_px).astype(np.int64)
            numbers, index, votes = np.unique(
                cells[:, 1] * (1 << 32) + cells[:, 0], return_inverse=True, return_counts=True
            )
            middles = np.stack([np.bincount(index, places[:, axis], len(numbers)) / votes for axis in (0, 1)], 1)
            self._cells[name] = index, middles.astype(np.float32), votes
        return self._cells[name]

    def _allowed(self, name: str, points: np.ndarray) -> np.ndarray:
        path = mask_path(self._masks, name)
        if not path.is_file():
            return np.ones(len(points), bool)
        width, height = self._sizes[name]
        x, y = np.clip(np.rint(points).astype(np.int64), 0, (width - 1, height - 1)).T
        return read_mask(path, (width, height))[y, x]
