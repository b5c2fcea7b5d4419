"""LightGlue by calibrated thresholds: exits, rejections and pruning, each pair as if it were alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sharpened import random_pair, sharpened_lightglue

from lightmatch.errors import InvalidValueError
from lightmatch.matchers import LightGlue
from lightmatch.networks.adaptive import Calibration, LayerThresholds, Tokens
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.score_calibration import ScoreCalibration
from lightmatch.types import FeatureKind, Features

SIFT = FeatureKind("sift", 128, True)
SMALL = LightGlueConfig(
    "sift", 128, descriptor_dim=64, num_layers=3, num_heads=2, positions="xy_scale_orientation", filter_threshold=0.1
)
PAIRS = [random_pair(SIFT, 60 + 20 * n, 40, 15, n, ease=ease) for n, ease in enumerate((0.9, 0.6, 0.3, 0.0, 0.8))]


def calibrated(*layers: LayerThresholds) -> LightGlue:
    calibration = Calibration(layers, 0.99, 0.01, 0.05, 0, 0)
    return sharpened_lightglue(replace(SMALL, calibration=calibration))


NEVER = LayerThresholds()


def test_without_thresholds_all_layers_run_on_all_points() -> None:
    full = sharpened_lightglue(replace(SMALL, depth_confidence=None, width_confidence=None))
    for pair in PAIRS:
        got, want = calibrated(NEVER, NEVER)(*pair), full(*pair)
        assert torch.equal(got.indices, want.indices) and got.stop_layer == want.stop_layer == 3


def test_a_pair_of_a_low_ratio_leaves_with_the_matches_of_that_layer() -> None:
    all_leave = calibrated(NEVER, LayerThresholds(exit_ratio=1e9))
    shallow = sharpened_lightglue(replace(SMALL, depth_confidence=0.0, exit_rule="expected", width_confidence=None))
    for pair in PAIRS:
        assert all_leave(*pair).stop_layer == 2
        leaves_at_once = calibrated(LayerThresholds(exit_ratio=1e9), NEVER)(*pair)
        assert torch.equal(leaves_at_once.indices, shallow(*pair).indices)


def test_a_pair_of_a_high_ratio_is_rejected_without_matches() -> None:
    for pair in PAIRS:
        rejected = calibrated(LayerThresholds(reject_ratio=0.0), NEVER)(*pair)
        assert (len(rejected), rejected.stop_layer) == (0, 1)
        assert rejected.layers0 is not None and rejected.layers0.tolist() == [1] * len(pair[0])


def test_points_below_the_threshold_are_dropped_and_have_no_match() -> None:
    some = calibrated(LayerThresholds(prune_matchability=0.5), NEVER)
    dropped = 0
    for pair in PAIRS:
        matches = some(*pair)
        assert matches.layers0 is not None and matches.stop_layer is not None
        out = matches.layers0 < matches.stop_layer
        dropped += int(out.sum())
        assert not bool(out[matches.indices[:, 0]].any())
    assert 0 < dropped < sum(len(pair[0]) for pair in PAIRS)


def test_in_a_batch_each_pair_leaves_by_itself() -> None:
    matcher = calibrated(NEVER, NEVER)
    ratios = sorted(_ratio(matcher, pair) for pair in PAIRS)
    middle, high = (ratios[1] + ratios[2]) / 2, (ratios[-2] + ratios[-1]) / 2
    matcher = calibrated(LayerThresholds(exit_ratio=middle, reject_ratio=high, prune_matchability=0.3), NEVER)
    together, alone = matcher.match_batch(PAIRS), [matcher(*pair) for pair in PAIRS]
    assert sorted(len(one) == 0 for one in alone) == [False] * 4 + [True]
    assert sorted(one.stop_layer or 0 for one in alone) == [1, 1, 1, 3, 3]
    for got, want in zip(together, alone, strict=True):
        assert torch.equal(got.indices, want.indices) and got.stop_layer == want.stop_layer
        assert torch.allclose(got.scores, want.scores, atol=1e-5)


def _ratio(matcher: LightGlue, pair: tuple[Features, Features]) -> float:
    """That of the first layer."""
    tokens0, tokens1 = (Tokens.start([matcher.prepare(features)]) for features in pair)
    with torch.no_grad():
        return matcher.network.unsettled_ratios(0, *matcher.network.run_layer(0, tokens0, tokens1))[0]


def test_the_calibration_is_kept_with_the_weights(tmp_path: Path) -> None:
    matcher = calibrated(LayerThresholds(1.0, 20.0, 0.1), LayerThresholds(2.0))
    path = tmp_path / "m.safetensors"
    matcher.save(path)
    assert LightGlue.from_checkpoint(path).config == matcher.config


def test_thresholds_of_the_paper_replace_the_calibration_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    calibrated(LayerThresholds(1e9), NEVER).save(path)
    assert LightGlue.from_checkpoint(path)(*PAIRS[0]).stop_layer == 1
    assert LightGlue.from_checkpoint(path, depth_confidence=None).config.calibration is None
    assert LightGlue.from_checkpoint(path, width_confidence=0.5).config.calibration is None


def test_thresholds_for_another_number_of_layers_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="2 layers"):
        calibrated(NEVER)


def test_probabilities_come_with_the_matches_and_do_not_depend_on_the_threshold() -> None:
    scores = ScoreCalibration(-2.0, 0.5, 0.5, 5.0)
    calibration = Calibration((NEVER, LayerThresholds(exit_ratio=1e9)), 0.99, 0.01, 0.05, 0, 0, scores=scores)
    low, high = (
        sharpened_lightglue(replace(SMALL, calibration=calibration, filter_threshold=least)) for least in (0.0, 0.5)
    )
    plain = sharpened_lightglue(replace(SMALL, calibration=replace(calibration, scores=None)))
    for pair in PAIRS:
        every, best = low(*pair), high(*pair)
        assert every.probabilities is not None and best.probabilities is not None
        kept = every.scores > 0.5
        assert torch.equal(best.indices, every.indices[kept])
        assert torch.allclose(best.probabilities, every.probabilities[kept], atol=1e-6)
        assert torch.equal(plain(*pair).indices, low(*pair).subset(every.scores > 0.1).indices)
        assert plain(*pair).probabilities is None
    empty = PAIRS[0][0].select(torch.zeros(0, dtype=torch.int64))
    nothing = low(empty, PAIRS[0][1])
    assert nothing.probabilities is not None and len(nothing.probabilities) == 0
    never = replace(calibration, layers=(LayerThresholds(reject_ratio=0.0), NEVER))
    rejected = sharpened_lightglue(replace(SMALL, calibration=never))(*PAIRS[0])
    assert rejected.stop_layer == 1 and rejected.probabilities is not None and len(rejected.probabilities) == 0
    batched = low.match_batch(PAIRS)
    for pair, found in zip(PAIRS, batched, strict=True):
        alone = low(*pair).probabilities
        assert found.probabilities is not None and alone is not None
        assert torch.allclose(found.probabilities, alone, atol=1e-4)


def test_a_file_keeps_how_scores_are_calibrated(tmp_path: Path) -> None:
    scores = ScoreCalibration(-2.0, 0.5, 0.25, 5.0)
    calibration = Calibration((NEVER, NEVER), 0.99, 0.01, 0.05, 0, 0, scores=scores)
    sharpened_lightglue(replace(SMALL, calibration=calibration)).save(tmp_path / "w.safetensors")
    read = LightGlue.from_checkpoint(tmp_path / "w.safetensors").config.calibration
    assert read is not None and read.scores == scores
