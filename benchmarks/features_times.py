"""What features and matchers cost: milliseconds of an image and of a pair, one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from common import describe_machine
from features_rows import Numbers, Timed

from lightmatch.evaluation.methods import create_method
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.images import load_image, resize_to_fit
from lightmatch.matchers import Matcher, create_matcher

PHOTOS = [("graf", 1, 2), ("graf", 1, 4), ("leuven", 1, 3), ("bikes", 1, 3)]  # of Oxford: scene, photo 0, photo 1
IMAGE_SIZE = 640  # px of the long side


def measure_times(features: str, matchers: list[str], keypoints: int, data: Path) -> list[Timed]:
    """A row for each of the matchers, as `lightmatch match` runs them: in the precision that is fastest here."""
    cv2.setNumThreads(torch.get_num_threads())  # OpenCV does not heed OMP_NUM_THREADS
    load = os.getloadavg()[0]
    extractor = create_extractor(features, max_keypoints=keypoints)
    folder = data / "eval" / "oxford_affine"
    files = [[next((folder / scene).glob(f"img{n}.*")) for n in numbers] for scene, *numbers in PHOTOS]
    pairs = [tuple(resize_to_fit(load_image(file), IMAGE_SIZE) for file in both) for both in files]
    image_ms = _spread([t for pair in pairs for image in pair for t in _repeat(partial(extractor, image), 2)])
    found = [tuple(extractor(image) for image in pair) for pair in pairs]
    machine = describe_machine()
    rows = []
    for name in matchers:
        matcher = _matcher(name, extractor)
        pair_ms = _spread([t for f0, f1 in found for t in _repeat(partial(matcher, f0, f1), 5)])
        where = str(machine["commit"]), str(machine["cpu"]), torch.get_num_threads(), round(load, 1)
        rows.append(Timed(features, name, keypoints, *where, image_ms, pair_ms))
    return rows


def _matcher(name: str, extractor: Extractor) -> Matcher:
    if name == "lightglue":
        return create_matcher(name, extractor.kind)
    return create_method(name, extractor.kind).matcher


def _repeat(run: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each run but the first, which warms caches up."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return times[1:]


def _spread(times: list[float]) -> Numbers:
    middle, low, high = np.percentile(times, [50, 10, 90])
    return round(float(middle), 1), round(float(low), 1), round(float(high), 1)
