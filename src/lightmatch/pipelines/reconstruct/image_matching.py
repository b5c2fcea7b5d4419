"""Pairs of pictures → matches by a matcher of images, with the places in each picture merged to keypoints.

Such a matcher finds other places in a picture for each pair. Tracks need places that several pairs share: what lies in
one cell of MERGED_PX is one keypoint, in the middle of what was matched there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from lightmatch.images import ANY_NUMBER, load_image
from lightmatch.inputs import mask_path, points_in_mask, working_mask
from lightmatch.matchers import ImageMatcher
from lightmatch.matchers.base import matched_places
from lightmatch.pairing import share_images
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.matching import MatchedPairs
from lightmatch.pipelines.reconstruct.models import ModelSource
from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.runtime.cache import Cache
from lightmatch.runtime.files import file_digest
from lightmatch.runtime.store import StoredMatches, digest
from lightmatch.types import Image, Matches

MERGED_PX = 2.0  # side of a cell, in an image as the matcher sees it

_FEWEST = 15  # matches that are worth verifying; COLMAP asks for as many inliers
_IN_MEMORY = 8  # images


class WorkingImages:
    """The images of a folder by name; the last few read are kept in memory. Pickled it is the name of the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read = lru_cache(_IN_MEMORY)(lambda name: load_image(folder / name, ANY_NUMBER))

    def __reduce__(self) -> tuple[type[WorkingImages], tuple[Path]]:
        return WorkingImages, (self.folder,)

    def __getitem__(self, name: str) -> Image:
        return self._read(name)


@dataclass(frozen=True, eq=False)
class ImageMatchSetup:
    """What the jobs of all pairs share."""

    cache: Cache
    matcher: ModelSource[ImageMatcher]
    images: WorkingImages


@dataclass(frozen=True)
class ImagePair:
    """Two images, and the key of their matched places in the cache."""

    names: Pair
    key: str


def match_image_pair(setup: ImageMatchSetup, pair: ImagePair) -> None:
    """Match two images and keep what was found, unless the cache holds it: a job of an executor."""
    points = setup.cache.points
    if points.read(pair.key, object) is None:
        image0, image1 = (setup.images[name] for name in pair.names)
        points.write(pair.key, vars(setup.matcher.load()(image0, image1)))


def match_images(
    run: Run, pictures: Sequence[Picture], pairs: Sequence[Pair], source: ModelSource[ImageMatcher]
) -> tuple[tuple[Picture, ...], MatchedPairs]:
    """Match all pairs of working copies that the cache does not hold, then merge.

    Pairs are matched one at a time, each with all threads. Returns the pictures, whose features are now the merged
    keypoints, in the store, and the matches between these.
    """
    points, features, matches = run.cache.points, run.cache.features, run.cache.matches
    by_name = {picture.name: picture for picture in pictures}
    matcher = source.load()
    described = digest(version("lightmatch"), matcher.described)
    jobs = [
        ImagePair(pair, digest("points", described, [by_name[name].pixels for name in pair]))
        for block in share_images(pairs, _IN_MEMORY // 2)
        for pair in block
    ]
    setup = ImageMatchSetup(run.cache, source, WorkingImages(run.layout.images))
    run.map("match", partial(match_image_pair, setup), jobs, most=1)
    merged = _Merged(by_name, run.layout.masks, matcher.long_side_px)
    contents: list[str] = []
    for job in jobs:
        record = points.read(job.key, object)
        assert record is not None  # it was written just now
        found = [record[0][name].numpy() for name in ("points0", "points1", "scores")]
        merged.add(job.names, *found)
        contents.append(digest(job.key, *(part.tobytes() for part in found)))
    together = digest("merged", version("lightmatch"), MERGED_PX, merged.masks_digest(), contents)
    done = []
    for picture in pictures:
        key = digest("merged keypoints", together, picture.name)
        places, votes = merged.keypoints(picture.name)
        own = matched_places(
            torch.from_numpy(places), torch.from_numpy(votes.astype(np.float32)), picture.image_size, matcher.name
        )
        if key not in features:
            features.write(key, own)
        done.append(replace(picture, key=key, num_keypoints=len(own)))
    keys = {pair: digest("merged matches", together, list(pair)) for pair in pairs}
    matches.write_missing(keys, merged.matches)
    return tuple(done), MatchedPairs(tuple(pairs), tuple(keys[pair] for pair in pairs), matches)


class _Merged:
    """The places matched in all pictures, by cell."""

    def __init__(self, pictures: dict[str, Picture], masks: Path, long_side_px: int) -> None:
        """long_side_px: what the matcher shrinks images to."""
        self._sizes = {name: picture.image_size for name, picture in pictures.items()}
        self._masks = masks
        self._long_side_px = long_side_px
        self._mask = lru_cache(_IN_MEMORY)(partial(working_mask, masks))
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
            cell_px = MERGED_PX * max(1.0, max(self._sizes[name]) / self._long_side_px)
            cells = np.floor((places + 0.5) / cell_px).astype(np.int64)
            numbers, index, votes = np.unique(
                cells[:, 1] * (1 << 32) + cells[:, 0], return_inverse=True, return_counts=True
            )
            middles = np.stack([np.bincount(index, places[:, axis], len(numbers)) / votes for axis in (0, 1)], 1)
            self._cells[name] = index, middles.astype(np.float32), votes
        return self._cells[name]

    def masks_digest(self) -> list[str]:
        """Changes with the masks."""
        paths = [mask_path(self._masks, name) for name in sorted(self._sizes)]
        return [file_digest(path) if path.is_file() else "" for path in paths]

    def _allowed(self, name: str, points: np.ndarray) -> np.ndarray:
        mask = self._mask(name)
        return np.ones(len(points), bool) if mask is None else points_in_mask(mask, points)
