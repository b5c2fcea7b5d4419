"""LightPoint with random weights: its file, its kinds, its precisions, and how far apart keypoints are."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import lightmatch as lm
from lightmatch.errors import FeatureMismatchError, InvalidValueError, WeightsError
from lightmatch.extractors.lightpoint import (
    LightPoint,
    LightPointAsAliked,
    LightPointExtractorConfig,
    local_maxima_with_opencv,
    read_lightpoint,
    write_lightpoint,
)
from lightmatch.matchers import create_matcher
from lightmatch.networks.lightpoint import LightPointConfig, LightPointNetwork, local_maxima, standardize
from lightmatch.types import FeatureKind, Image
from lightmatch.weights import read_tensors, write_tensors

SMALL = LightPointConfig(channels=(8, 16, 16, 32), spaces=(("aliked", 128),))


def texture(width: int, height: int, seed: int = 0) -> Image:
    colours = np.random.default_rng(seed).standard_normal((height, width, 3))
    return Image(np.clip(128 + 300 * cv2.GaussianBlur(colours, (0, 0), 2), 0, 255).astype(np.uint8))


def random_network(config: LightPointConfig = SMALL) -> LightPointNetwork:
    """Random weights, normalised by the statistics of a texture: what they make of it varies from place to place."""
    torch.manual_seed(0)
    network = LightPointNetwork(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(standardize(torch.from_numpy(texture(128, 96).pixels[None, None, ..., 0]) / 255))
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "lightpoint.safetensors"
    write_lightpoint(random_network(), path, {})
    return path


def create(weights: Path, kind: type[LightPoint] = LightPoint, **settings: object) -> LightPoint:
    chosen = {"weights": weights, "precision": "float32"} | settings
    return kind(LightPointExtractorConfig(**chosen))  # type: ignore[arg-type]


def test_what_is_written_is_read_in_half_precision(tmp_path: Path) -> None:
    network, path = random_network(), tmp_path / "lightpoint.safetensors"
    write_lightpoint(network, path, {"recipe": "lightpoint"})
    tensors, metadata = read_tensors(path)
    assert metadata["recipe"] == "lightpoint"
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    again = read_lightpoint(path)
    assert again.config == SMALL and not again.training
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():  # the counters of batch normalisation are not kept
            assert torch.equal(again.state_dict()[name], tensor.half().float())


def other_network(path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), path)


def no_metadata(path: Path) -> None:
    write_tensors(path, random_network().state_dict(), {})


def other_metadata(path: Path) -> None:
    write_tensors(path, random_network().state_dict(), {"config": '{"features": "sift", "num_layers": 9}'})


def no_table(path: Path) -> None:
    write_tensors(path, random_network().state_dict(), {"config": '"lightpoint"'})


def odd_width(path: Path) -> None:
    config = '{"descriptor_dim": 0, "channels": [8, 16, 16, 32], "score_channels": 16, "spaces": []}'
    write_tensors(path, random_network().state_dict(), {"config": config})


@pytest.mark.parametrize("make", [other_network, no_metadata, other_metadata, no_table, odd_width])
def test_a_file_of_anything_else_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / ("other.pth" if make is other_network else "other.safetensors")
    make(path)
    with pytest.raises(WeightsError, match=rf"^\S+{path.name}: (config|expected the weights) of LightPoint"):
        create(path)


def test_tensors_of_another_size_are_refused(weights: Path, tmp_path: Path) -> None:
    _, metadata = read_tensors(weights)
    other = random_network(LightPointConfig(channels=(8, 16, 16, 16)))
    write_tensors(tmp_path / "other.safetensors", other.state_dict(), metadata)
    with pytest.raises(WeightsError, match=r"other\.safetensors: expected the weights of LightPointNetwork, got"):
        create(tmp_path / "other.safetensors")


def test_descriptors_are_as_wide_as_those_of_the_weights(tmp_path: Path) -> None:
    """For a matcher of that width; the one inside the package refuses them. In another space they cannot be had."""
    path = tmp_path / "other.safetensors"
    write_lightpoint(LightPointNetwork(LightPointConfig(32, (8, 8, 8, 8))), path, {})
    extractor, photo = create(path, detection_threshold=0.0), texture(96, 64)
    assert extractor.kind == FeatureKind("lightpoint", 32) and LightPoint.kind == FeatureKind("lightpoint", 128)
    features = extractor(photo)
    assert len(features) > 20 and features.descriptors.shape == (len(features), 32)
    assert len(create_matcher("nearest", extractor.kind)(features, features)) == len(features)
    with pytest.raises(FeatureMismatchError, match="32"):
        create_matcher("lightglue", extractor.kind)(features, features)
    with pytest.raises(WeightsError, match=r"expected descriptors of aliked, 128 wide, got .* with none"):
        create(path, LightPointAsAliked)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"detection_threshold": 1.0}, "detection_threshold: expected at least 0 and less than 1, got 1.0"),
        ({"nms_radius": 0}, "nms_radius: expected at least 1, got 0"),
        ({"precision": "int8"}, "precision: expected one of auto, float32, .*; got 'int8'"),
    ],
)
def test_odd_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        LightPointExtractorConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16"])
def test_in_alikeds_space_keypoints_are_the_same_and_descriptors_alikeds(weights: Path, precision: str) -> None:
    image = texture(128, 96)
    own, aliked = (create(weights, kind, precision=precision)(image) for kind in (LightPoint, LightPointAsAliked))
    assert own.kind == FeatureKind("lightpoint", 128) and aliked.kind == FeatureKind("aliked", 128)
    assert torch.equal(own.keypoints, aliked.keypoints) and len(own) > 50
    assert own.descriptors.shape[1] == aliked.descriptors.shape[1] == 128
    for features in (own, aliked):
        torch.testing.assert_close(features.descriptors.norm(dim=1), torch.ones(len(features)))
    with torch.no_grad():
        space = read_lightpoint(weights).in_space(own.descriptors, "aliked")
    assert float((space * aliked.descriptors).sum(1).min()) > 0.999


def test_only_in_alikeds_space_does_a_matcher_for_aliked_take_them(weights: Path) -> None:
    matcher = lm.LightGlue(
        lm.LightGlueConfig("aliked", 128, descriptor_dim=32, num_layers=1, num_heads=2, positions="xy")
    )
    own, aliked = (
        lm.create_extractor(name, weights=weights, max_keypoints=50)(texture(128, 96))
        for name in ("lightpoint", "lightpoint_aliked")
    )
    assert matcher(aliked, aliked).stop_layer == 1
    with pytest.raises(FeatureMismatchError, match="aliked"):
        matcher(own, own)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_finds_keypoints_at_nearly_the_same_places(weights: Path, precision: str) -> None:
    image = texture(256, 192)
    exact, half = (create(weights, precision=name)(image) for name in ("float32", precision))
    distances, partner = torch.cdist(half.keypoints.double(), exact.keypoints.double()).min(1)
    near = distances < 0.25
    assert len(exact) > 200 and float(near.double().mean()) > 0.9 and float(distances.median()) < 0.05
    likeness = (half.descriptors[near] * exact.descriptors[partner[near]]).sum(1)
    assert float(likeness.median()) > 0.999


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_keypoints_are_apart_and_off_the_border(weights: Path, radius: int, precision: str) -> None:
    """Pixels of keypoints are radius + 1 px apart along x or y, and each place half a pixel from its pixel."""
    width, height = 256, 192
    options = {"nms_radius": radius, "precision": precision, "detection_threshold": 0.0, "max_keypoints": 100_000}
    keypoints = create(weights, **options)(texture(width, height)).keypoints
    apart = (keypoints[:, None] - keypoints).abs().amax(2).fill_diagonal_(torch.inf)
    assert len(keypoints) > 200 and float(apart.min()) >= radius - 1e-4
    limits = torch.tensor([width, height]) - 1 - (radius - 0.5)
    assert bool(((keypoints >= radius - 0.5) & (keypoints <= limits)).all())
    assert float((keypoints - keypoints.round()).abs().mean()) > 0.05


def test_stronger_keypoints_come_first_and_all_reach_the_threshold(weights: Path) -> None:
    image = texture(128, 96)
    every = create(weights, detection_threshold=0.0)(image)
    assert bool((every.scores.diff() <= 0).all())
    threshold = float(every.scores[len(every) // 2])
    some = create(weights, detection_threshold=threshold)(image)
    assert len(some) == int((every.scores > threshold).sum()) > 10
    assert torch.equal(some.keypoints, every.keypoints[: len(some)])
    assert len(create(weights, detection_threshold=0.9999)(image)) == 0


def test_masks_and_batches_in_half_precision(weights: Path) -> None:
    """As in single calls; convolutions of a batch may round otherwise, so nearly."""
    extractor = create(weights, precision="bfloat16", max_keypoints=50)
    images = [texture(96, 64, seed) for seed in range(3)]
    mask = np.zeros((64, 96), bool)
    mask[:, 48:] = True
    found = extractor.extract_batch(images, [None, mask, np.zeros_like(mask)])
    assert len(found[0]) > 20 and len(found[2]) == 0 and float(found[1].keypoints[:, 0].min()) >= 47.5
    for features, image, given in zip(found, images, [None, mask, np.zeros_like(mask)], strict=True):
        single = extractor(image, given)
        distances = torch.cdist(features.keypoints.double(), single.keypoints.double())
        assert int((distances < 0.1).any(1).sum()) >= 0.9 * len(single)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (5, 3), (15, 17), (33, 20)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_and_tiny_images_are_described_without_harm(weights: Path, size: tuple[int, int], value: int) -> None:
    image = Image(np.full((size[1], size[0], 3), value, np.uint8))
    extractor = create(weights)
    features = extractor(image)
    assert len(features) == 0 or min(size) >= 5
    given = extractor.describe(image, torch.tensor([[0.0, 0.0], [size[0] - 0.5, size[1] - 0.5]]))
    for found in (features, given):
        assert bool(found.descriptors.isfinite().all() and found.keypoints.isfinite().all())
    torch.testing.assert_close(given.descriptors.norm(dim=1), torch.ones(2))


def test_tiles_are_as_bright_as_the_photo_they_are_cut_from(weights: Path) -> None:
    """A photo that is dark on its left: by itself, each tile would be brought to a brightness of its own."""
    shade = np.linspace(0.15, 1, 500)[None, :, None]
    image = Image((texture(500, 400).pixels * shade).astype(np.uint8))
    whole, tiled = (create(weights, max_keypoints=2000, tile_size=size)(image) for size in (None, 320))
    same = torch.cdist(tiled.keypoints, whole.keypoints, compute_mode="donot_use_mm_for_euclid_dist") < 0.05
    found = same.any(0)
    assert len(whole) > 300 and float(found.float().mean()) > 0.95
    again = create(weights, tile_size=320).describe(image, whole.keypoints)
    likeness = (again.descriptors * whole.descriptors).sum(1)
    assert float(likeness.quantile(0.05)) > 0.99


def test_the_digest_of_the_weights_changes_with_them(weights: Path, tmp_path: Path) -> None:
    network, other = read_lightpoint(weights), tmp_path / "other.safetensors"
    with torch.no_grad():
        network.cells.weight[0, 0] += 0.5
    write_lightpoint(network, other, {})
    digests = [create(path).weights_digest() for path in (weights, weights, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_opencv_finds_the_same_local_maxima(radius: int, step: float) -> None:
    """With steps many neighbours are equal; some images are no larger than their border."""
    generator = torch.Generator().manual_seed(0)
    for size in [(50, 61), *((height, width) for height in range(1, 10) for width in (1, 2, 5, 9))]:
        logits = torch.randn(1, *size, generator=generator)
        if step:
            logits = (logits / step).round() * step
        assert torch.equal(local_maxima_with_opencv(logits, radius), local_maxima(logits, radius))
