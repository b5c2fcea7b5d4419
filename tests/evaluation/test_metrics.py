"""Metrics on cases worked out by hand, and against the published way to compute them."""

import math

import numpy as np
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.metrics import (
    KeypointAccuracy,
    area_under_curve,
    correct_by_epipolar_line,
    correct_by_homography,
    keypoint_accuracy,
    label_by_projection,
    pose_error_deg,
    recall_at_precision,
    share,
)
from lightmatch.geometry.correspondence import Correspondence, Projection, Visibility
from lightmatch.geometry.epipolar import skew

EYE = torch.eye(3, dtype=torch.float64)


def area_as_published(errors: np.ndarray, threshold: float) -> float:
    """The steps of SuperGlue's section 5.1, one after the other."""
    e = np.concatenate(([0.0], np.sort(errors)))
    recall = np.arange(len(e)) / len(errors)
    last = int(np.searchsorted(e, threshold))
    x, y = np.append(e[:last], threshold), np.append(recall[:last], recall[last - 1])
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / threshold)


def test_area_by_hand() -> None:
    # Up to (1, 1/2) in a straight line, level on to 2: 1/4 + 1/2 of 2.
    assert area_under_curve(np.array([1.0, 3.0]), [2]).tolist() == [0.375]
    # The second threshold sees (1, 1/2), (3, 1) and a level px: 1/4 + 3/2 + 1 of 4.
    assert area_under_curve(np.array([3.0, 1.0]), [2, 4]).tolist() == [0.375, 0.6875]
    assert area_under_curve(np.array([0.0, 0.0]), [5]).tolist() == [1]
    assert area_under_curve(np.array([np.inf]), [5]).tolist() == [0]
    assert area_under_curve(np.empty(0), [5]).tolist() == [0]


def test_area_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    errors = rng.exponential(8, (20, 31))
    errors[rng.random(errors.shape) < 0.2] = np.inf
    errors[:, 3] = 10.0  # as large as a threshold
    found = area_under_curve(errors, [5, 10, 20])
    want = [[area_as_published(row, t) for t in (5, 10, 20)] for row in errors]
    assert np.allclose(found, want, atol=1e-12)


@pytest.mark.parametrize(("errors", "threshold"), [([np.nan], 1), ([-1.0], 1), ([1.0], 0)])
def test_area_of_no_errors_is_refused(errors: list[float], threshold: float) -> None:
    with pytest.raises(InvalidValueError, match="expected errors ≥ 0"):
        area_under_curve(np.array(errors), [threshold])


def test_correct_by_homography_counts_both_images() -> None:
    H = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))  # one px of image 0 is two of image 1
    points0 = torch.tensor([[10.0, 10.0], [10.0, 10.0]])
    points1 = torch.tensor([[20.0, 23.0], [20.0, 24.0]])
    # Off by 3 and 1.5 px: √((9 + 2.25) / 2) = 2.37. Off by 4 and 2: 3.16.
    assert correct_by_homography(H, points0, points1, 3.0).tolist() == [True, False]


def test_correct_by_epipolar_line_ignores_the_position_along_the_line() -> None:
    F = skew(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))  # a step to the side: lines are rows
    points0 = torch.tensor([[10.0, 10.0], [10.0, 10.0], [10.0, 10.0]])
    points1 = torch.tensor([[90.0, 12.9], [10.0, 13.1], [-50.0, 10.0]])
    assert correct_by_epipolar_line(F, points0, points1, 3.0).tolist() == [True, False, True]


def test_matches_are_labelled_by_their_projections() -> None:
    at = torch.tensor([[5.0, 5.0]]).expand(4, 2)
    seen, hidden, unknown = int(Visibility.VISIBLE), int(Visibility.HIDDEN), int(Visibility.UNKNOWN)
    forth = Projection(at, torch.tensor([seen, seen, hidden, unknown], dtype=torch.uint8))
    back = Projection(at, torch.tensor([seen, seen, seen, seen], dtype=torch.uint8))
    points1 = torch.tensor([[5.0, 7.0], [5.0, 9.0], [5.0, 5.0], [5.0, 5.0]])
    correct, incorrect = label_by_projection(forth, back, at, points1, 3.0)
    assert correct.tolist() == [True, False, False, False]
    assert incorrect.tolist() == [False, True, True, False]


def test_pose_error_is_the_larger_of_two() -> None:
    along_x = torch.cat((EYE, torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)), 1)
    askew = torch.cat((EYE, torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)), 1)
    assert pose_error_deg(askew, along_x) == pytest.approx(45)
    assert pose_error_deg(torch.full((3, 4), torch.nan, dtype=torch.float64), along_x) == np.inf


def test_recall_at_precision_is_the_largest_with_enough_precision() -> None:
    precision = np.array([[0.5, 0.8, 0.7, 0.95, np.nan], [0.1, 0.2, 0.3, 0.4, np.nan]])
    recall = np.array([[0.9, 0.5, 0.6, 0.1, 0.0], [0.9, 0.5, 0.6, 0.1, 0.0]])
    assert recall_at_precision(precision, recall, 0.7).tolist() == [0.6, 0]
    assert recall_at_precision(precision, recall, np.array([[0.9], [0.3]])).tolist() == [0.1, 0.6]


def test_no_matches_have_no_precision() -> None:
    assert (share(0, 0), share(3, 4)) == (0, 0.75)


def test_keypoints_out_of_view_do_not_count_as_not_repeated() -> None:
    points0, points1 = torch.tensor([[10.0, 10], [20, 20], [90, 90]]), torch.tensor([[10.0, 12], [20, 20]])
    hidden = torch.ones(1, dtype=torch.uint8) * Visibility.HIDDEN
    seen = torch.ones(2, dtype=torch.uint8) * Visibility.VISIBLE
    forth, back = Projection(points0, torch.cat((seen, hidden))), Projection(points1, seen)
    nobody = torch.zeros(3, dtype=torch.bool)
    true = Correspondence(torch.tensor([[0, 0]]), nobody, nobody[:2])
    assert keypoint_accuracy(points0, points1, forth, back, true) == KeypointAccuracy(0.5, 2.0)
    none = Correspondence(torch.empty((0, 2), dtype=torch.int64), nobody, nobody[:2])
    lost = keypoint_accuracy(points0, points1, Projection(points0, hidden.expand(3)), back, none)
    assert math.isnan(lost.repeatability) and math.isnan(lost.localization_px)
