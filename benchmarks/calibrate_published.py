"""Calibrate the LightGlue inside the package on the scenes that took no part in its training, and write its weights.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/calibrate_published.py --features sift [--only-scores]
                                                                                              [--work DIR]
Pairs of photos of one scene and of two, at 640 px and 512, 1024 or 2048 keypoints. `--only-scores` keeps the thresholds
of early exits, rejections and pruning, and fits the probabilities of the matches alone. `--work` keeps what
is done so far, to go on with after a stop; an empty folder for every new state of the code.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from lightmatch.evaluation.calibration import CalibrationOptions, calibrate, with_scores
from lightmatch.evaluation.score_calibration import FeaturePair
from lightmatch.extractors import create_extractor
from lightmatch.images import list_images, load_image
from lightmatch.matchers import LightGlue
from lightmatch.runtime import codec
from lightmatch.types import Features
from lightmatch.weights import matcher_weights, read_tensors, write_tensors

PLACES = {  # their scenes, below train3/
    **{name: (name,) for name in ("boof_stonesign", "gopro_campus", "toni_office", "nineveh_panel17", "boof_xmas")},
    "bogota_niza": tuple(f"bogota_niza_{number}" for number in (1, 2, 3, 4)),
}
KEYPOINTS = (512, 1024, 2048)
IMAGE_SIZE = 640  # px of the longer side
SEED = 0
T = TypeVar("T")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds train3/")
    parser.add_argument("--features", required=True)
    parser.add_argument("--pairs", type=int, default=2600, help="of photos of one place")
    parser.add_argument("--others", type=int, default=400, help="pairs of photos of two places")
    parser.add_argument("--only-scores", action="store_true")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    pairs = draw_pairs(arguments.data / "train3", arguments.features, arguments.pairs, arguments.others)
    matcher = LightGlue.from_pretrained(arguments.features)
    options = CalibrationOptions(seed=SEED)
    source = (
        f"{arguments.pairs} pairs of photos of one place and {arguments.others} of two (nine scenes, {IMAGE_SIZE} px),"
        f" {matcher.config.features}, {', '.join(map(str, KEYPOINTS[:-1]))} or {KEYPOINTS[-1]} keypoints"
    )
    if arguments.only_scores:
        assert matcher.config.calibration is not None
        calibration, errors = with_scores(matcher, matcher.config.calibration, pairs, options)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            result = calibrate(matcher, pairs, options, source=source, keep=Pickles(arguments.work or Path(scratch)))
        calibration, errors = result.calibration, result.score_errors
        for step in result.steps:
            print(step, flush=True)
    print(calibration, errors, sep="\n")
    path = matcher_weights("lightglue", arguments.features)
    tensors, metadata = read_tensors(path)  # as they are there, in half precision
    config = replace(matcher.config, calibration=calibration)
    write_tensors(path, tensors, {**metadata, "config": codec.dumps(config)})


class Pickles:
    """A folder that remembers results by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, make: Callable[[], T], /) -> T:
        """What was made under the name before, or now."""
        path = self._folder / f"{name}.pickle"
        if not path.exists():
            partial = path.with_suffix(".partial")
            partial.write_bytes(pickle.dumps(make()))
            partial.replace(path)
        return pickle.loads(path.read_bytes())


def draw_pairs(root: Path, features: str, num_same: int, num_others: int) -> list[FeaturePair]:
    """Pairs in random order, each with one of the numbers of keypoints."""
    rng = np.random.default_rng(SEED)
    extractor = create_extractor(features, max_keypoints=max(KEYPOINTS), max_image_size=IMAGE_SIZE)
    photos = [
        [extractor(load_image(path)) for scene in scenes for path in list_images(root / scene)]
        for scenes in PLACES.values()
    ]
    same = [pair for place in photos for pair in itertools.combinations(place, 2)]
    drawn = [same[number] for number in rng.permutation(len(same))[:num_same]]
    for _ in range(num_others):
        place0, place1 = rng.choice(len(photos), 2, replace=False)
        drawn.append((_any(photos[place0], rng), _any(photos[place1], rng)))
    rng.shuffle(drawn)
    numbers = rng.choice(KEYPOINTS, len(drawn)).tolist()
    return [(a.strongest(number), b.strongest(number)) for (a, b), number in zip(drawn, numbers, strict=True)]


def _any(photos: list[Features], rng: np.random.Generator) -> Features:
    return photos[int(rng.integers(len(photos)))]


if __name__ == "__main__":
    main()
