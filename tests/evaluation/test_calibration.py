"""Calibration on pairs whose difficulty is known: what it allows must hold on other pairs of the same kind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sharpened import random_pair, sharpened_lightglue

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation import calibration
from lightmatch.evaluation.calibration import (
    CalibrationOptions,
    CalibrationResult,
    calibrate,
    calibration_steps,
    share_lost,
)
from lightmatch.matchers import LightGlue
from lightmatch.networks.adaptive import Calibration, LayerThresholds
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.types import FeatureKind, Features

SIFT = FeatureKind("sift", 128, True)
CONFIG = LightGlueConfig(
    "sift", 128, descriptor_dim=64, num_layers=3, num_heads=2, positions="xy_scale_orientation", depth_confidence=None
)
OPTIONS = CalibrationOptions(agreement=0.85, false_rejections=0.1, min_inliers=8)


def pairs(number: int, first_seed: int) -> list[tuple[Features, Features]]:
    """Half with many common points, half with none."""
    made = []
    for seed in range(first_seed, first_seed + number):
        common = 60 if seed % 2 else 0
        made.append(random_pair(SIFT, common, 30 + 60 - common, 30 + 60 - common, seed, ease=0.8 if seed % 2 else 0.1))
    return made


@pytest.fixture(scope="module")
def matcher() -> LightGlue:
    return sharpened_lightglue(CONFIG)


@pytest.fixture(scope="module")
def result(matcher: LightGlue) -> CalibrationResult:
    found = calibrate(matcher, pairs(400, 0), OPTIONS)
    assert matcher.config == CONFIG  # as it was
    return found


def test_what_is_allowed_holds_on_other_pairs_and_saves_layers(result: CalibrationResult) -> None:
    assert result.calibration.num_pairs == 267
    assert any(layer.exit_ratio is not None for layer in result.calibration.layers)
    assert result.calibration.scores is not None and result.score_errors is not None
    assert result.score_errors.probabilities < min(0.05, result.score_errors.scores)
    fast = sharpened_lightglue(replace(CONFIG, calibration=result.calibration))
    full = sharpened_lightglue(replace(CONFIG, width_confidence=None))
    lost, layers = [], []
    for pair in pairs(60, 1000):
        found, wanted = fast(*pair), full(*pair)
        confident = wanted.indices[wanted.scores >= 0.5]
        if len(found):
            lost.append(share_lost(confident, found.indices))
        layers.append(found.stop_layer)
    assert sum(lost) / len(lost) <= 0.15
    assert sum(layers) / len(layers) < 2.5


def test_steps_grow_bolder_and_the_last_that_holds_is_taken(result: CalibrationResult) -> None:
    depths = [step.mean_layers for step in result.steps]
    assert depths == sorted(depths, reverse=True)
    safe = [step for step in result.steps if step.p_value <= OPTIONS.error]
    assert result.calibration.layers == safe[-1].layers
    assert all(step.p_value <= OPTIONS.error for step in result.steps[:-1])


def test_with_too_few_pairs_nothing_leaves(matcher: LightGlue) -> None:
    steps = []
    result = calibrate(matcher, pairs(12, 0), CalibrationOptions(), on_step=lambda: steps.append(1))
    assert len(steps) == calibration_steps(12) == 12 + 8 + 12
    assert all(
        (layer.exit_ratio, layer.reject_ratio, layer.prune_matchability) == (None, None, None)
        for layer in result.calibration.layers
    )
    assert "no early exits" in result.calibration.summary() and "no rejections" in result.calibration.summary()


def test_no_rejection_is_allowed_that_too_few_overlapping_pairs_speak_for(
    matcher: LightGlue, result: CalibrationResult
) -> None:
    few = calibrate(matcher, pairs(240, 0), replace(OPTIONS, false_rejections=0.001))
    assert any(layer.reject_ratio is not None for layer in result.calibration.layers)
    assert all(layer.reject_ratio is None for layer in few.calibration.layers)


def test_share_lost() -> None:
    confident = torch.tensor([[0, 5], [1, 3], [2, 2], [7, 0]])
    assert share_lost(confident, torch.tensor([[1, 3], [0, 4], [7, 0], [9, 9]])) == 0.5
    assert share_lost(confident, confident.flip(0)) == 0.0
    assert share_lost(confident[:0], confident) == 0.0
    assert share_lost(confident, confident[:0]) == 1.0


def test_pairs_without_keypoints_do_not_count(matcher: LightGlue) -> None:
    empty = random_pair(SIFT, 0, 0, 20, 0)
    with pytest.raises(InvalidValueError, match="at least two pairs"):
        calibrate(matcher, [empty] * 5, OPTIONS)


@pytest.mark.parametrize("name", ["agreement", "false_rejections", "error"])
def test_shares_outside_0_to_1_are_refused(name: str) -> None:
    with pytest.raises(InvalidValueError, match=name):
        CalibrationOptions(**{name: 1.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", [0.1, 0.4])
def test_what_is_tested_is_what_the_matcher_does(matcher: LightGlue, threshold: float) -> None:
    """The depth and the loss of each pair, though it was never matched with the thresholds."""
    used, options = matcher.with_options(filter_threshold=threshold, pruning_min_points=20), replace(OPTIONS, seed=3)
    some = pairs(40, 500)
    truths = [calibration._full_depth(used, pair, options) for pair in some]
    low, high = np.quantile([truth.path.ratios for truth in truths], (0.2, 0.8), 0)
    prune, layers = (0.4, 0.4), tuple(LayerThresholds(*ratios, 0.4) for ratios in zip(low, high, strict=True))
    trial = used.with_options(calibration=Calibration(layers, 0.9, 0.1, 0.05, 0, 0))
    ends = set()
    for pair, truth in zip(some, truths, strict=True):
        depth, rejected, lost = calibration._pruned(used, pair, replace(truth, overlaps=True), prune).end(layers)
        found = trial(*pair)
        assert found.stop_layer == depth
        ends.add((depth, rejected))
        if rejected:
            assert len(found) == 0
        else:
            assert share_lost(truth.confident, found.indices) == pytest.approx(lost)
    assert len(ends) >= 4  # pairs of all kinds


def test_a_pair_that_leaves_with_nothing_is_lost(matcher: LightGlue) -> None:
    pair = pairs(2, 0)[1]
    used = matcher.with_options(pruning_min_points=0)
    truth = calibration._full_depth(used, pair, OPTIONS)
    assert truth.overlaps and len(truth.confident) > 0
    path = calibration._pruned(used, pair, truth, (2.0, None))
    assert path.losses.tolist()[1:] == [1, 1] and path.end([LayerThresholds(), LayerThresholds()]) == (3, False, 1.0)


def test_a_calibration_that_was_stopped_goes_on(matcher: LightGlue) -> None:
    kept: dict[str, object] = {}
    made: list[str] = []
    most = 25

    def keep(name: str, make: Callable[[], Any], /) -> Any:
        if name not in kept:
            if len(made) == most:
                raise KeyboardInterrupt
            made.append(name)
            kept[name] = make()
        return kept[name]

    with pytest.raises(KeyboardInterrupt):
        calibrate(matcher, pairs(30, 0), OPTIONS, keep=keep)
    made.clear()
    most = 1000
    found = calibrate(matcher, pairs(30, 0), OPTIONS, keep=keep)
    assert made[:6] == [*(f"pair {number}" for number in range(25, 30)), "pruned 10"]
    assert found == calibrate(matcher, pairs(30, 0), OPTIONS)
