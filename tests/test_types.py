"""Values refuse what breaks their contract, in words that say what to do."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.types import FeatureBatch, FeatureKind, Features, Image, Matches, TwoViewGeometry

PLAIN = FeatureKind("plain", 4)
SCALED = FeatureKind("scaled", 4, has_scale_orientation=True)


def features(count: int, kind: FeatureKind = PLAIN, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    scaled = kind.has_scale_orientation
    return Features(
        torch.rand(count, 2, generator=generator),
        torch.rand(count, generator=generator),
        torch.rand(count, kind.descriptor_dim, generator=generator),
        (640, 480),
        kind,
        torch.rand(count, generator=generator) if scaled else None,
        torch.rand(count, generator=generator) if scaled else None,
    )


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("kind", [PLAIN, SCALED])
def test_features_of_any_number(count: int, kind: FeatureKind) -> None:
    value = features(count, kind)
    assert len(value) == count
    assert value.numpy()["keypoints"].shape == (count, 2)
    assert value.to("cpu").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"keypoints": torch.zeros(5, 3)}, r"Features.keypoints: expected a tensor of shape \(any, 2\)"),
        ({"keypoints": torch.zeros(5, 2, dtype=torch.float64)}, r"torch.float32, got .*torch.float64"),
        ({"keypoints": np.zeros((5, 2))}, r"got an array of shape \(5, 2\)"),
        ({"scores": torch.zeros(4)}, r"Features.scores: expected a tensor of shape \(5\)"),
        ({"descriptors": torch.zeros(5, 3)}, r"Features.descriptors: expected a tensor of shape \(5, 4\)"),
        ({"scales": torch.zeros(5)}, "has no scale and orientation"),
        ({"kind": SCALED}, "Features.scales"),
        ({"descriptors": torch.full((5, 4), torch.nan)}, "Features.descriptors: expected finite values"),
        ({"image_size": (640.0, 480.0)}, "two positive integers"),
        ({"image_size": (0, 480)}, "two positive integers"),
    ],
)
def test_bad_features(change: dict, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        replace(features(5), **change)


@pytest.mark.parametrize("bad", [[math.nan], [math.inf], [-math.inf], [math.inf, -math.inf], [3e38, 3e38, math.inf]])
def test_one_value_that_is_not_finite_is_refused(bad: list[float]) -> None:
    descriptors = torch.rand(5, 4)
    descriptors.view(-1)[4 : 4 + len(bad)] = torch.tensor(bad)
    with pytest.raises(InvalidValueError, match=r"Features.descriptors: expected finite values"):
        replace(features(5), descriptors=descriptors)


def test_finite_values_are_taken_though_their_sum_is_not() -> None:
    huge = torch.full((5, 4), 3e38)
    assert replace(features(5), descriptors=huge).descriptors is huge


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        features(1).image_size = (1, 1)  # type: ignore[misc]


def test_select_by_index_and_by_mask() -> None:
    value = features(4, SCALED)
    assert torch.equal(value.select(torch.tensor([2, 0])).keypoints, value.keypoints[[2, 0]])
    chosen = value.select(torch.tensor([True, False, False, True]))
    assert chosen.scales is not None and value.scales is not None
    assert torch.equal(chosen.scales, value.scales[[0, 3]])


def test_the_strongest_are_the_first() -> None:
    value = features(4, SCALED)
    assert torch.equal(value.strongest(3).keypoints, value.keypoints[:3])
    assert value.strongest(4) is value


@pytest.mark.parametrize("kind", [PLAIN, SCALED])
def test_a_batch_gives_back_what_went_in(kind: FeatureKind) -> None:
    parts = [features(count, kind, seed=count) for count in (3, 0, 5)]
    batch = FeatureBatch.from_features(parts)
    assert batch.keypoints.shape == (3, 5, 2)
    assert batch.valid.sum(1).tolist() == [3, 0, 5]
    for before, after in zip(parts, batch.unbatch(), strict=True):
        assert before.image_size == after.image_size and before.kind == after.kind
        for name, value in before.numpy().items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, after.numpy()[name])


def test_a_batch_has_one_kind_and_something_in_it() -> None:
    with pytest.raises(InvalidValueError, match="plain, scaled"):
        FeatureBatch.from_features([features(1), features(1, SCALED)])
    with pytest.raises(InvalidValueError, match="at least one"):
        FeatureBatch.from_features([])


@pytest.mark.parametrize(
    ("indices", "scores", "says"),
    [
        ([[1, 0], [0, 1]], [0.5, 0.5], "strictly increasing"),
        ([[0, 0], [0, 1]], [0.5, 0.5], "strictly increasing"),
        ([[0, -1]], [0.5], "non-negative"),
        ([[0, 0]], [1.5], "0…1"),
        ([[0, 0]], [float("nan")], "0…1"),
        ([[0, 0]], [0.5, 0.5], "Matches.scores"),
    ],
)
def test_bad_matches(indices: list, scores: list, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        Matches(torch.tensor(indices), torch.tensor(scores))


@pytest.mark.parametrize("probabilities", [[0.5], [0.5, 1.5], [0.5, float("nan")]])
def test_bad_probabilities(probabilities: list) -> None:
    with pytest.raises(InvalidValueError, match=r"Matches\.probabilities"):
        Matches(torch.tensor([[0, 0], [1, 1]]), torch.ones(2), probabilities=torch.tensor(probabilities))


def test_a_subset_of_matches_keeps_what_belongs_to_them() -> None:
    matches = Matches(torch.tensor([[0, 3], [1, 1], [4, 0]]), torch.tensor([0.3, 0.9, 0.5]), 4)
    kept = torch.tensor([True, False, True])
    some = matches.subset(kept)
    assert some.indices.tolist() == [[0, 3], [4, 0]] and some.scores.tolist() == pytest.approx([0.3, 0.5])
    assert some.stop_layer == 4 and some.probabilities is None
    said = replace(matches, probabilities=torch.tensor([0.1, 0.2, 0.4])).subset(kept)
    assert said.probabilities is not None and said.probabilities.tolist() == pytest.approx([0.1, 0.4])


def test_no_geometry_is_a_value() -> None:
    none = TwoViewGeometry.none(7)
    assert none.model == "none" and none.num_inliers == 0 and none.inliers.shape == (7,)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="expected one of homography"):
        TwoViewGeometry("affine", torch.eye(3).double(), torch.zeros(3, dtype=torch.bool))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["homography", "none"])
def test_a_geometry_is_found_or_not(model: str) -> None:
    matrix = torch.full((3, 3), torch.nan) if model == "homography" else torch.eye(3)
    with pytest.raises(InvalidValueError, match="finite matrix"):
        TwoViewGeometry(model, matrix.double(), torch.zeros(3, dtype=torch.bool))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_bad_images(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidValueError, match=r"expected a non-empty uint8 array of shape \(height, width, 3\)"):
        Image(pixels)


def test_image_size_is_width_height() -> None:
    assert Image(np.zeros((3, 5, 3), np.uint8)).size == (5, 3)


def test_an_image_of_a_view_of_another_array_can_be_a_tensor() -> None:
    bgr = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image = Image(bgr[:, ::-1, ::-1])
    assert torch.from_numpy(image.pixels)[0, 0].tolist() == bgr[0, -1, ::-1].tolist()
    contiguous = np.ascontiguousarray(bgr)
    assert Image(contiguous).pixels is contiguous
