"""Calibrate a LightGlue on photos: pairs that overlap and pairs that do not, thresholds that hold for them, a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.calibration import CalibrationOptions, CalibrationResult, calibrate, calibration_steps
from lightmatch.extractors import create_extractor
from lightmatch.images import list_images, load_image
from lightmatch.matchers import DEFAULT_MATCHER, LightGlue, create_matcher, parse_matcher
from lightmatch.pairing.retrieval import describe, learn_vocabulary, nearest_pairs, sample_descriptors, sample_size
from lightmatch.pipelines.progress import Progress
from lightmatch.types import Features

_MOST_PHOTOS = 400  # of a folder with more, as many are drawn
_OVERLAPPING = 0.75  # part of the pairs that are drawn from photos that look alike


@dataclass(frozen=True)
class CalibrateConfig:
    """On what to calibrate, and what must hold."""

    features: str = "sift"
    matcher: str = DEFAULT_MATCHER
    max_keypoints: tuple[int, ...] = (2048,)  # of a photo; of several numbers, each pair draws one
    num_pairs: int = 1500
    device: str = "cpu"
    precision: str = "auto"
    options: CalibrationOptions = field(default_factory=CalibrationOptions)

    def __post_init__(self) -> None:
        if self.num_pairs < 2 or not self.max_keypoints or min(self.max_keypoints) < 1:
            raise InvalidValueError(
                f"calibrate: expected at least 2 pairs and 1 keypoint, got {self.num_pairs} pairs and"
                f" {', '.join(map(str, self.max_keypoints))} keypoints"
            )


def calibrate_on_photos(
    photos: Sequence[str | Path],
    output: str | Path,
    config: CalibrateConfig | None = None,
    *,
    progress: Progress | None = None,
) -> CalibrationResult:
    """Choose the thresholds of a LightGlue on the photos of some folders, and write its weights with them.

    photos: folders, searched with all below. output: a .safetensors file; `--matcher lightglue:FILE` uses it.
    Raises InvalidValueError for fewer than three photos, or a matcher that is no LightGlue.
    """
    config, progress = config or CalibrateConfig(), progress or Progress()
    rng = np.random.default_rng(config.options.seed)
    paths = [path for folder in photos for path in list_images(Path(folder))]
    if len(paths) > _MOST_PHOTOS:
        paths = [paths[number] for number in sorted(rng.choice(len(paths), _MOST_PHOTOS, replace=False))]
    if len(paths) < 3:
        raise InvalidValueError(f"calibrate: expected at least three photos, got {len(paths)}")
    extractor = create_extractor(config.features, max_keypoints=max(config.max_keypoints), device=config.device)
    matcher = create_matcher(config.matcher, extractor.kind, device=config.device, precision=config.precision)
    if not isinstance(matcher, LightGlue):
        raise InvalidValueError(f"calibrate: expected a LightGlue, got {config.matcher!r}")
    with progress.stage("extract", len(paths)) as step:
        features = []
        for path in paths:
            features.append(extractor(load_image(path)))
            step()
    pairs = _draw_pairs(features, config, rng)
    source = f"{len(pairs)} pairs of {len(paths)} photos, {config.features}, " + " or ".join(
        f"{number}" for number in config.max_keypoints
    )
    with progress.stage("calibrate", calibration_steps(len(pairs))) as step:
        result = calibrate(matcher, pairs, config.options, source=f"{source} keypoints", on_step=step)
    # What calibrated may have been rounded to half precision, and run as an option said; the file keeps the weights.
    as_saved = replace(parse_matcher(config.matcher), options=())
    written = create_matcher(as_saved, extractor.kind, precision="float32")
    assert isinstance(written, LightGlue)  # it is of the same family
    written.with_options(calibration=result.calibration).save(output)
    return result


def _draw_pairs(
    features: Sequence[Features], config: CalibrateConfig, rng: np.random.Generator
) -> list[tuple[Features, Features]]:
    """Pairs of photos that look alike, and for a quarter any others, each with one of the numbers of keypoints."""
    samples = [sample_descriptors(one, sample_size(len(features))) for one in features]
    vocabulary = learn_vocabulary(samples)
    descriptors = np.stack([describe(one, vocabulary) for one in features])
    every = [(i, j) for i in range(len(features)) for j in range(i + 1, len(features))]
    # Enough neighbours for the pairs wanted; the rest is drawn from all, overlapping or not.
    neighbors = min(len(features) - 1, -(-2 * config.num_pairs // len(features)))
    alike = nearest_pairs(descriptors, neighbors)
    rng.shuffle(alike)
    chosen = alike[: round(_OVERLAPPING * config.num_pairs)]
    taken = set(chosen)
    others = [pair for pair in every if pair not in taken]
    rng.shuffle(others)
    chosen += others[: config.num_pairs - len(chosen)]
    strongest = {n: [one.strongest(n) for one in features] for n in config.max_keypoints}
    drawn = rng.choice(config.max_keypoints, len(chosen)).tolist()
    return [(strongest[n][i], strongest[n][j]) for (i, j), n in zip(chosen, drawn, strict=True)]
