"""Statistics over pairs, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from lightmatch.evaluation.measures import Area, Mean, Median, RecallAtPrecision, precision_and_recall
from lightmatch.evaluation.scoring import Scores, Sweep

ALL = np.array([[0, 1]])
SWEEP = Sweep(
    np.array([0.1, 0.5, 0.9], dtype=np.float32),
    correct=np.array([[6, 4, 0], [2, 2, 2]]),
    labelled=np.array([[12, 4, 0], [8, 4, 2]]),
    found=np.array([[5, 3, 0], [2, 2, 1]]),
    num_true=np.array([10, 2]),
)


def scores(min_score: float = 0.5, **values: list[float]) -> Scores:
    return Scores("x", "x", 512, min_score, {name: np.array(v) for name, v in values.items()}, SWEEP)


def test_mean_leaves_out_what_is_not_known() -> None:
    one = scores(recall=[0.25, np.nan])
    assert Mean("recall", "recall", 100)(one, np.array([[0, 1], [0, 0], [1, 1]])).tolist() == [
        25,
        25,
        pytest.approx(np.nan, nan_ok=True),
    ]
    assert not Mean("layers", "stop_layer").applies(one)


def test_median_and_area() -> None:
    one = scores(ms=[4, 6], error=[1, np.inf])
    assert Median("ms", "ms")(one, ALL).tolist() == [5]
    # To (1, 1/2) in a straight line, then level to 2: 0.75 of 2.
    assert Area("AUC", "error", 2)(one, np.array([[0, 1], [1, 1]])).tolist() == [37.5, 0]


def test_every_pair_weighs_the_same() -> None:
    precision, recall = precision_and_recall(SWEEP, np.array([[0, 1], [1, 1]]))
    assert np.allclose(precision, [[3 / 8, 3 / 4, 1 / 2], [2 / 8, 2 / 4, 1]])
    assert np.allclose(recall, [[3 / 4, 13 / 20, 1 / 4], [1, 1, 1 / 2]])


def test_pairs_without_true_matches_have_no_recall() -> None:
    sweep = replace(SWEEP, num_true=np.array([10, 0]), found=np.array([[5, 3, 0], [0, 0, 0]]))
    _, recall = precision_and_recall(sweep, np.array([[0, 1], [1, 1]]))
    assert np.allclose(recall, [[0.5, 0.3, 0], [np.nan] * 3], equal_nan=True)


def test_recall_at_a_precision_and_at_that_of_another() -> None:
    assert RecallAtPrecision("r", 0.7)(scores(), ALL).tolist() == pytest.approx([65])
    assert RecallAtPrecision("r", 0.8)(scores(), ALL).tolist() == [0]
    baseline = scores(min_score=0.1)  # its precision is 3/8
    assert RecallAtPrecision("r", baseline)(scores(), ALL).tolist() == pytest.approx([75])
    assert not RecallAtPrecision("r", 0.7).applies(Scores("x", "x", 512, 0, {}, None))
