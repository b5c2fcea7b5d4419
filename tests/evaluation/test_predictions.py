"""Predictions: one matching, one file, the same values back."""

from pathlib import Path

import pytest
import stand_in_vismatch
import torch

from lightmatch.evaluation.features import FeatureFiles
from lightmatch.evaluation.methods import Method, create_method
from lightmatch.evaluation.pairs import EvaluationPair, HomographyTruth
from lightmatch.evaluation.predictions import Prediction, predict, predictions_path, read_predictions
from lightmatch.extractors import create_extractor
from lightmatch.extractors.sift import SIFT
from lightmatch.matchers import LightGlue, NearestNeighbor
from lightmatch.networks.lightglue import LightGlueConfig

EYE = HomographyTruth(torch.eye(3, dtype=torch.float64))


@pytest.fixture
def pairs(scene_photos: Path) -> list[EvaluationPair]:
    views = [scene_photos / f"view_{number}.png" for number in range(3)]
    return [EvaluationPair(f"0-{n}", "scene", views[0], views[n], EYE) for n in (1, 2)]


@pytest.fixture
def store(pairs: list[EvaluationPair], tmp_path: Path) -> FeatureFiles:
    store = FeatureFiles(tmp_path / "features", create_extractor("sift", max_keypoints=100), 480)
    for pair in pairs:
        for image in (pair.image0, pair.image1):
            store.extract(image)
    return store


def test_predictions_are_matches_of_the_features(pairs, store: FeatureFiles, tmp_path: Path) -> None:
    method = create_method("nearest:none", SIFT)
    found = predict(pairs, store, 80, method, tmp_path / "p.safetensors")
    features0, features1 = (store.load(image, 80).features for image in (pairs[1].image0, pairs[1].image1))
    want = NearestNeighbor(ratio=None)(features0, features1)
    assert found[1].indices is not None and torch.equal(found[1].indices, want.indices)
    assert torch.equal(found[1].scores, want.scores)
    assert torch.equal(found[1].points1, features1.keypoints[want.indices[:, 1]])
    assert found[1].num_keypoints == (80, 80) and found[1].stop_layer is None and found[1].match_ms > 0


def test_a_file_is_read_instead_of_matching_again(pairs, store: FeatureFiles, tmp_path: Path) -> None:
    layered = LightGlue(LightGlueConfig(descriptor_dim=32, num_layers=2, num_heads=1, filter_threshold=0))
    path, steps = tmp_path / "p.safetensors", []
    first = predict(pairs, store, 80, Method("toy", layered, 0.0, "toy"), path, lambda: steps.append(1))
    nobody = Method("toy", None, 0.0, "toy")  # type: ignore[arg-type]  # must not be called
    again = predict(pairs, store, 80, nobody, path, lambda: steps.append(1))
    assert len(steps) == 4
    for one, two in zip(first, again, strict=True):
        for name in ("indices", "scores", "points0", "points1"):
            assert torch.equal(getattr(one, name), getattr(two, name))
        assert (one.num_keypoints, one.match_ms, one.stop_layer) == (two.num_keypoints, two.match_ms, two.stop_layer)
        assert two.stop_layer in (1, 2)
    assert len(read_predictions(path)) == 2


def test_another_choice_has_another_file(pairs, store: FeatureFiles, tmp_path: Path) -> None:
    nearest, ratio = (create_method(name, SIFT) for name in ("nearest:none", "nearest:0.8"))
    other = FeatureFiles(store.folder, store.extractor, 240)
    names = [
        predictions_path(tmp_path, pairs, store, 80, nearest),
        predictions_path(tmp_path, pairs[:1], store, 80, nearest),
        predictions_path(tmp_path, pairs, store, 40, nearest),
        predictions_path(tmp_path, pairs, other, 80, nearest),
    ]
    assert len(set(names)) == 4
    assert names[0] == predictions_path(tmp_path, pairs, store, 80, ratio)  # a threshold on the same proposals


def test_above_keeps_the_better_matches() -> None:
    indices, points = torch.tensor([[0, 2], [1, 0], [4, 1]]), torch.arange(6.0).reshape(3, 2)
    whole = Prediction(indices, torch.tensor([0.1, 0.9, 0.5]), points, points + 1, (5, 3), 2.0, 4)
    kept = whole.above(0.1)
    assert (
        kept.indices is not None
        and kept.indices.tolist() == [[1, 0], [4, 1]]
        and kept.points1.tolist() == [[3, 4], [5, 6]]
    )
    assert (kept.num_keypoints, kept.stop_layer) == ((5, 3), 4)


def test_a_matcher_of_images_has_places_and_no_indices(
    pairs, store: FeatureFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_vismatch.install(monkeypatch)
    method = create_method("vismatch:sift-nn", SIFT)
    made, read = (predict(pairs, store, 80, method, tmp_path / "p.safetensors") for _ in range(2))
    for one, other in zip(made, read, strict=True):
        assert one.indices is None and other.indices is None and torch.equal(one.points0, other.points0)
        assert len(one.points0) > 20 and one.num_keypoints == (len(one.points0), len(one.points0))
        assert one.above(0.5).indices is None and len(one.above(1.0).scores) == 0
