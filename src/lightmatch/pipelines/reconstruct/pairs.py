"""Which pictures to match with which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from lightmatch.images.walk import by_numbers
from lightmatch.pairing import (
    EXHAUSTIVE_LIMIT,
    NUM_NEIGHBORS,
    OVERLAP,
    Pairing,
    Vocabulary,
    choose_pairs,
    describe,
    learn_vocabulary,
    needs_descriptors,
    sample_descriptors,
    sample_size,
)
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.panorama_rigs import without_same_panorama
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName
from lightmatch.runtime.store import digest

Pair = tuple[str, str]
"""Names of two pictures."""


def pairs_of(run: Run, pictures: Sequence[Picture]) -> list[Pair]:
    """Pairs of names, by the way of pairing that the run's options name; by the keypoints that will be matched."""
    config, features = run.config, FeaturesByName.of(run, pictures, run.config.max_keypoints)
    names = [picture.name for picture in pictures]
    pairing: Pairing = config.pairs
    runs = _runs(pictures)
    if pairing == "sequential":  # photos that are in no video are a sequence by the numbers in their names
        alone = sorted(set(range(len(names))).difference(*runs), key=lambda place: by_numbers(names[place]))
        runs += [alone] if alone else []
    describing = needs_descriptors(pairing, len(names)) or pairing in ("sequential", "spatial")
    contents = [[picture.name, picture.key] for picture in pictures]
    key = digest("pairs", pairing, NUM_NEIGHBORS, OVERLAP, runs, contents, config.max_keypoints, config.seed)

    def make() -> tuple[tuple[int, int], ...]:
        descriptors = _descriptors(run, names, features) if describing else None
        positions = [
            None if (gps := picture.gps) is None else (gps.latitude_deg, gps.longitude_deg, gps.altitude_m)
            for picture in pictures
        ]
        chosen = choose_pairs(pairing, len(names), descriptors=descriptors, positions=positions, sequences=runs)
        return tuple((int(i), int(j)) for i, j in chosen)

    stage = run.stage_name("pairs")
    found = [(names[i], names[j]) for i, j in run.cache.value(stage, key, tuple[tuple[int, int], ...], make)]
    return without_same_panorama(found, pictures)


def expected_pairs(num_images: int, pairing: Pairing) -> int:
    """About how many pairs that will be: for an estimate before anything is read."""
    every = num_images * (num_images - 1) // 2
    if pairing == "exhaustive" or (pairing == "auto" and num_images <= EXHAUSTIVE_LIMIT):
        return every
    return min(every, num_images * NUM_NEIGHBORS)


def _runs(pictures: Sequence[Picture]) -> list[list[int]]:
    """The places of the frames of each video, in their order; of a panoramic one those of each view."""
    runs: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        if picture.video is not None and picture.time_s is not None:
            view = picture.view_of.view if picture.view_of else ""
            runs[picture.video, view].append((picture.time_s, place))
    return [[place for _, place in sorted(frames)] for _, frames in sorted(runs.items())]


def _descriptors(run: Run, names: Sequence[str], features: FeaturesByName) -> np.ndarray:
    """(n, d): what each picture looks like, in words learned from all of them."""
    seed = run.config.seed or 0
    with run.progress.stage("describe", 2 * len(names)) as step:
        samples = run.map_within(step, partial(sample_picture, features, sample_size(len(names)), seed), names)
        vocabulary = learn_vocabulary(samples, seed=seed)
        return np.stack(run.map_within(step, partial(describe_picture, features, vocabulary), names))


def sample_picture(features: FeaturesByName, number: int, seed: int, name: str) -> Tensor:
    """(m, d): some descriptors of a picture: a job of an executor."""
    return sample_descriptors(features[name], number, seed)


def describe_picture(features: FeaturesByName, vocabulary: Vocabulary, name: str) -> np.ndarray:
    """(d,): what a picture looks like: a job of an executor."""
    return describe(features[name], vocabulary)
