"""Evaluators of pairs: ground truth scaled to the matched images; correct, incorrect and unlabelled matches."""

import math
from collections.abc import Callable

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.estimators import ModelSearch
from lightmatch.evaluation.evaluators import PairEvaluator, create_evaluator
from lightmatch.evaluation.features import ExtractedImage
from lightmatch.evaluation.metrics import KeypointAccuracy
from lightmatch.evaluation.pairs import Camera, CorrespondenceTruth, DepthTruth, HomographyTruth, PoseTruth, Truth
from lightmatch.geometry.depth import project
from lightmatch.images import keypoints_to_size
from lightmatch.types import FeatureKind, Features

TOY = FeatureKind("toy", 4)
K = torch.tensor([[200, 0, 99.5], [0, 200, 99.5], [0, 0, 1]], dtype=torch.float64)
ASIDE = torch.tensor([[1, 0, 0, -0.1], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.float64)  # at depth 1: 20 px left
SEARCH = ModelSearch("pycolmap", 1.0)


def extracted(keypoints: torch.Tensor, original: int = 200, matched: int = 200) -> ExtractedImage:
    """A square image of `original` px shrunk to `matched`; keypoints in px of the former."""
    small = keypoints_to_size(keypoints, (original, original), (matched, matched)).float()
    count = len(small)
    features = Features(small, torch.zeros(count), torch.ones(count, 4) / 2, (matched, matched), TOY)
    return ExtractedImage(features, (original, original), 1.0)


def spread(count: int) -> torch.Tensor:
    return torch.rand((count, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100 + 50


def evaluator_of(truth: Truth, image0: ExtractedImage, image1: ExtractedImage) -> tuple[PairEvaluator, torch.Tensor]:
    """The evaluator, and matches of each keypoint with the one of the same index."""
    count = min(len(image0.features), len(image1.features))
    return create_evaluator(truth, image0, image1, 3.0), torch.arange(count)[:, None].expand(-1, 2)


def labels_of(evaluator: PairEvaluator, indices: torch.Tensor, image0: ExtractedImage, image1: ExtractedImage):
    points0, points1 = image0.features.keypoints[indices[:, 0]], image1.features.keypoints[indices[:, 1]]
    return evaluator.label_matches(indices, points0, points1)


def planar_truth() -> tuple[Truth, torch.Tensor, torch.Tensor]:
    points0 = spread(20)
    return HomographyTruth(torch.diag(torch.tensor([1.0, 1.0, 1.0]).double())), points0, points0.clone()


def posed_truth() -> tuple[Truth, torch.Tensor, torch.Tensor]:
    points0 = spread(30)
    depth = torch.linspace(1, 4, 30, dtype=torch.float64)[:, None]
    in_space = torch.cat(((points0 - 99.5) / 200 * depth, depth), 1)
    return PoseTruth(Camera(K), Camera(K), ASIDE), points0, project(in_space + ASIDE[:, 3], K)[0]


def marked_truth() -> tuple[Truth, torch.Tensor, torch.Tensor]:
    _, points0, points1 = posed_truth()
    return CorrespondenceTruth(points0, points1, "general"), points0, points1


@pytest.mark.parametrize("make", [planar_truth, posed_truth, marked_truth])
@pytest.mark.parametrize(("size0", "size1"), [(200, 200), (100, 200), (200, 80)])
def test_correct_matches_give_the_true_model_at_any_size(make: Callable, size0: int, size1: int) -> None:
    truth, points0, points1 = make()
    image0, image1 = extracted(points0, 200, size0), extracted(points1, 200, size1)
    evaluator, indices = evaluator_of(truth, image0, image1)
    assert evaluator.model_error(image0.features.keypoints, image1.features.keypoints, SEARCH) < 0.1
    labels = labels_of(evaluator, indices, image0, image1)
    assert labels is None or (labels.correct.all() and not labels.incorrect.any())


def test_a_photo_of_another_size_than_its_camera_is_refused() -> None:
    _, points0, points1 = posed_truth()
    image0, image1 = extracted(points0), extracted(points1)
    create_evaluator(PoseTruth(Camera(K, (), (200, 200)), Camera(K), ASIDE), image0, image1, 3.0)
    with pytest.raises(InvalidValueError, match=r"expected photos of \(100, 200\) px, .* got \(200, 200\)"):
        create_evaluator(PoseTruth(Camera(K), Camera(K, (), (100, 200)), ASIDE), image0, image1, 3.0)


def test_matches_outside_the_field_of_view_are_incorrect_and_leave_the_model_unchanged() -> None:
    truth, points0, points1 = posed_truth()
    assert isinstance(truth, PoseTruth)
    beyond = torch.cat((points0, torch.tensor([[0.0, 0.0]])))
    image0, image1 = extracted(beyond), extracted(torch.cat((points1, points1[:1])))
    folded = Camera(truth.camera0.K, (-0.4, 0.0, 0.0, 0.0))
    evaluator = create_evaluator(PoseTruth(folded, truth.camera1, ASIDE), image0, image1, 3.0)
    indices = torch.arange(31)[:, None].expand(-1, 2)
    labels = labels_of(evaluator, indices, image0, image1)
    assert labels is not None and labels.incorrect[-1]
    assert math.isfinite(evaluator.model_error(image0.features.keypoints, image1.features.keypoints, SEARCH))


@pytest.mark.parametrize("make", [planar_truth, posed_truth, marked_truth])
def test_no_matches_give_no_model(make: Callable) -> None:
    truth, points0, points1 = make()
    image0, image1 = extracted(points0[:0]), extracted(points1)
    evaluator, indices = evaluator_of(truth, image0, image1)
    none = image0.features.keypoints
    assert evaluator.model_error(none, none, SEARCH) == math.inf
    labels = labels_of(evaluator, indices, image0, image1)
    assert labels is None or len(labels.correct) == 0
    assert not evaluator.num_true_matches


def test_distances_are_in_pixels_of_the_resized_image() -> None:
    H = HomographyTruth(torch.eye(3, dtype=torch.float64))
    points0 = spread(5)
    points1 = points0 + torch.tensor([4.0, 0.0])  # 4 px of the photo, 2 px as matched
    for size, right in ((200, False), (100, True)):
        image0, image1 = extracted(points0, 200, size), extracted(points1, 200, size)
        evaluator, indices = evaluator_of(H, image0, image1)
        labels = labels_of(evaluator, indices, image0, image1)
        assert labels is not None and labels.correct.tolist() == [right] * 5


def test_true_matches_of_a_plane_by_hand() -> None:
    H = torch.eye(3, dtype=torch.float64)
    image0 = extracted(torch.tensor([[50.0, 50], [90, 90], [120, 120]]))
    image1 = extracted(torch.tensor([[91.0, 90], [50, 52], [150, 150]]))
    evaluator = create_evaluator(HomographyTruth(H), image0, image1, 3.0)
    assert evaluator.num_true_matches == 2
    assert evaluator.keypoint_accuracy == KeypointAccuracy(2 / 3, 1.0)  # 1 and 2 px apart: the lower median
    labels = labels_of(evaluator, torch.tensor([[0, 1], [1, 2], [2, 2]]), image0, image1)
    assert labels is not None and labels.found is not None
    assert labels.correct.tolist() == labels.found.tolist() == [True, False, False]
    assert labels.incorrect.tolist() == [False, True, True]


def test_points_are_undistorted_before_epipolar_distances() -> None:
    _, points0, points1 = posed_truth()

    def bend(points: torch.Tensor) -> torch.Tensor:
        """By the first radial coefficient of OpenCV's model, −0.3."""
        ray = (points - 99.5) / 200
        return 200 * ray * (1 - 0.3 * ray.square().sum(1, keepdim=True)) + 99.5

    image0, image1 = extracted(bend(points0)), extracted(bend(points1))
    num_right = []
    for camera in (Camera(K, (-0.3, 0, 0, 0)), Camera(K)):
        evaluator = create_evaluator(PoseTruth(camera, camera, ASIDE), image0, image1, 0.05)
        labels = labels_of(evaluator, torch.arange(30)[:, None].expand(-1, 2), image0, image1)
        num_right.append(int(labels.correct.sum()) if labels else 0)
    assert num_right[0] == 30 and num_right[1] < 20


def test_depth_labels_matches_as_correct_incorrect_or_unknown() -> None:
    depth0, depth1 = torch.ones(200, 200), torch.ones(200, 200)
    depth0[150:] = 0  # a hole
    truth = DepthTruth(K, K, ASIDE, depth0, depth1)
    image0 = extracted(torch.tensor([[60.0, 60], [60, 100], [100, 180]]))
    image1 = extracted(torch.tensor([[40.0, 61], [60, 100], [80, 180]]))
    evaluator, indices = evaluator_of(truth, image0, image1)
    labels = labels_of(evaluator, indices, image0, image1)
    assert labels is not None and labels.found is not None and evaluator.num_true_matches == 1
    assert labels.correct.tolist() == labels.found.tolist() == [True, False, False]
    assert labels.incorrect.tolist() == [False, True, False]  # on the right line, at the wrong place; and over the hole
    with pytest.raises(InvalidValueError, match="shrunk to"):
        create_evaluator(truth, extracted(spread(2), 200, 100), image1, 3.0)


def test_marked_points_of_a_plane_label_by_their_homography() -> None:
    points = spread(8)
    H = torch.eye(3, dtype=torch.float64)
    image = extracted(points)
    planar, indices = evaluator_of(CorrespondenceTruth(points, points, "planar", H), image, image)
    labels = labels_of(planar, indices, image, image)
    assert labels is not None and labels.correct.all() and labels.found is None
    assert planar.keypoint_accuracy == KeypointAccuracy(1.0, 0.0)
    # All matches 2 px to the right: so is the model.
    shifted = image.features.keypoints + torch.tensor([2.0, 0.0])
    assert planar.model_error(image.features.keypoints, shifted, ModelSearch("dlt")) == pytest.approx(2, abs=1e-3)
