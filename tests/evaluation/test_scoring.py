"""Scores of pairs and the sweep over score thresholds, by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightmatch.evaluation.estimators import ModelSearch
from lightmatch.evaluation.features import FeatureFiles
from lightmatch.evaluation.methods import Method
from lightmatch.evaluation.pairs import EvaluationPair, HomographyTruth
from lightmatch.evaluation.predictions import Prediction
from lightmatch.evaluation.scoring import Scores, error_key, score_predictions
from lightmatch.extractors import create_extractor
from lightmatch.matchers import NearestNeighbor

PLANE = HomographyTruth(torch.eye(3, dtype=torch.float64))
NOBODY = NearestNeighbor()


@pytest.fixture
def store(scene_photos: Path, tmp_path: Path) -> FeatureFiles:
    store = FeatureFiles(tmp_path, create_extractor("sift", max_keypoints=40, upright=True), 480)
    store.extract(scene_photos / "view_0.png")
    return store


def scored(store: FeatureFiles, photo: Path, indices: list[list[int]], scores: list[float], *limits: float):
    """Scores of one photo matched with itself, which every keypoint k does rightly as (k, k)."""
    features = store.load(photo, 40).features
    index = torch.tensor(indices, dtype=torch.int64).reshape(-1, 2)
    points0, points1 = features.keypoints[index[:, 0]], features.keypoints[index[:, 1]]
    prediction = Prediction(index, torch.tensor(scores), points0, points1, (40, 40), 5.0, 3)
    methods = [Method(f"above {limit}", NOBODY, limit, "one") for limit in limits]
    pair = EvaluationPair("a-a", "scene", photo, photo, PLANE)
    predictions = [(method, [prediction]) for method in methods]
    return score_predictions([pair], store, 40, predictions, [ModelSearch("dlt")], 0.5)


def apart(store: FeatureFiles, photo: Path, count: int) -> list[int]:
    """Keypoints without another one near, so that only (k, k) is right."""
    keypoints = store.load(photo, 40).features.keypoints
    distance = torch.cdist(keypoints, keypoints).fill_diagonal_(torch.inf).amin(1)
    chosen = torch.nonzero(distance > 3)[:count, 0].tolist()
    assert len(chosen) == count
    return chosen


def test_numbers_of_a_pair_by_hand(store: FeatureFiles, scene_photos: Path) -> None:
    photo = scene_photos / "view_0.png"
    a, b, c, d, e, f = apart(store, photo, 6)
    indices = sorted([[a, a], [b, b], [c, c], [d, d], [e, f]])
    scores = [{a: 0.9, b: 0.8, c: 0.7, d: 0.2, e: 0.6}[i] for i, _ in indices]
    every, best = scored(store, photo, indices, scores, 0.0, 0.6)
    assert every.sweep is not None
    true = float(every.sweep.num_true[0])
    assert {name: float(v[0]) for name, v in every.values.items() if name != "extract_ms"} == {
        "num_matches": 5,
        "num_keypoints": 40,
        "match_ms": 5,
        "stop_layer": 3,
        error_key(ModelSearch("dlt")): pytest.approx(every.values["error, dlt"][0]),
        "precision": 0.8,
        "matching_score": 4 / 40,
        "recall": 4 / true,
        "repeatability": true / 40,
        "localization_px": 0,
    }
    assert best.values["precision"][0] == 1 and best.values["num_matches"][0] == 3
    # DLT fits the wrong match too; without it, three matches are too few.
    assert every.values["error, dlt"][0] > 1 and best.values["error, dlt"][0] == np.inf


def test_the_sweep_counts_what_lies_above(store: FeatureFiles, scene_photos: Path) -> None:
    photo = scene_photos / "view_0.png"
    a, b, c, d = apart(store, photo, 4)
    indices = sorted([[a, a], [b, b], [c, d]])
    scores = [{a: 0.5, b: 0.25, c: 0.75}[i] for i, _ in indices]
    low, high = scored(store, photo, indices, scores, -np.inf, 0.375)
    sweep = low.sweep
    assert sweep is not None and sweep.thresholds.tolist() == [-np.inf, 0.25, 0.375, 0.5, 0.75]
    assert sweep.labelled.tolist() == [[3, 2, 2, 1, 0]]
    assert sweep.correct.tolist() == sweep.found.tolist() == [[2, 1, 1, 0, 0]]
    assert (sweep.column(-np.inf), high.sweep.column(0.375)) == (0, 2)  # type: ignore[union-attr]


def test_no_matches_at_all(store: FeatureFiles, scene_photos: Path) -> None:
    (found,) = scored(store, scene_photos / "view_0.png", [], [], 0.0)
    assert found.values["precision"][0] == found.values["recall"][0] == 0
    assert found.values["error, dlt"][0] == np.inf
    assert found.sweep is not None and found.sweep.correct.tolist() == [[0]]


def test_some_of_the_pairs(store: FeatureFiles, scene_photos: Path) -> None:
    (one,) = scored(store, scene_photos / "view_0.png", [[0, 0]], [0.5], 0.0)
    assert one.sweep is not None
    two = Scores("x", "x", 40, 0.0, {"recall": np.array([0.25, 0.5])}, None)
    assert two.of_pairs(np.array([1])).values["recall"].tolist() == [0.5]
    assert one.of_pairs(np.array([0, 0])).sweep.correct.shape == (2, len(one.sweep.thresholds))  # type: ignore[union-attr]
