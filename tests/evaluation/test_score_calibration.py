"""Probabilities of matches: fitted on pairs of different difficulty, true on others, in the order of the scores."""

import numpy as np
import pytest
import torch

from lightmatch.evaluation.reliability import expected_calibration_error
from lightmatch.evaluation.score_calibration import LabelledScores, calibrate_scores, fit_scores
from lightmatch.networks.score_calibration import ScoreCalibration

TRUE = ScoreCalibration(-3.0, 0.5, 0.8, 6.0)


def drawn(number: int, seed: int) -> list[LabelledScores]:
    """Pairs from easy to hopeless, whose matches are right with the probabilities of TRUE."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(number):
        scores = np.clip(rng.beta(rng.uniform(0.5, 5), 1, 200), 0.11, 0.999).astype(np.float32)
        right = rng.random(200) < TRUE.probabilities(torch.from_numpy(scores)).numpy()
        pairs.append(LabelledScores(scores, right))
    return pairs


def test_what_pairs_were_drawn_by_is_found() -> None:
    found = fit_scores(drawn(400, 0))
    scores = torch.linspace(0.11, 0.99, 50)
    assert found.probabilities(scores).numpy() == pytest.approx(TRUE.probabilities(scores).numpy(), abs=0.03)


def test_errors_are_those_of_pairs_that_took_no_part() -> None:
    result = calibrate_scores(drawn(200, 1))
    assert result is not None
    calibration, errors = result
    assert errors.probabilities < 0.02 < errors.scores
    others = drawn(200, 2)
    said = np.concatenate([calibration.probabilities(torch.from_numpy(one.scores)).numpy() for one in others])
    assert expected_calibration_error(said, np.concatenate([one.right for one in others])) < 0.02


def test_the_order_of_the_matches_stays_whatever_the_labels() -> None:
    # Right matches score low here: probabilities must not fall where scores rise.
    upside_down = [LabelledScores(one.scores, one.scores < 0.5) for one in drawn(50, 3)]
    found = fit_scores(upside_down)
    probabilities = found.probabilities(torch.linspace(0.11, 0.99, 50))
    assert bool((probabilities.diff() >= 0).all())


def test_without_right_matches_nothing_is_calibrated() -> None:
    hopeless = [LabelledScores(one.scores, np.zeros_like(one.right)) for one in drawn(20, 4)]
    assert calibrate_scores(hopeless) is None
    assert calibrate_scores([]) is None


def test_a_match_means_more_where_the_others_match_well() -> None:
    easy, hard = torch.tensor([0.5, 0.9, 0.95]), torch.tensor([0.5, 0.2, 0.15])
    assert TRUE.probabilities(easy)[0] > TRUE.probabilities(hard)[0] + 0.3


def test_matches_that_do_not_count_change_nothing_for_others() -> None:
    counted = torch.tensor([0.3, 0.8])
    with_rest = torch.tensor([0.3, 0.8, 0.01, 0.099, 0.0])
    assert torch.allclose(TRUE.probabilities(with_rest)[:2], TRUE.probabilities(counted), atol=1e-6)
    assert TRUE.probabilities(with_rest[2:]).isfinite().all()
    assert TRUE.probabilities(counted[:0]).shape == (0,)
