"""SuperPoint against transformers' on the same random weights, and each step on cases worked out by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lightmatch.errors import WeightsError
from lightmatch.extractors.superpoint import SuperPoint, SuperPointConfig, SuperPointOpen
from lightmatch.networks.superpoint import SuperPointNetwork, grey, sample_descriptors, suppress_non_maxima
from lightmatch.types import Image


def noise(width: int, height: int, seed: int = 0) -> Image:
    grey = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((height, width)), (0, 0), 2)
    grey = np.clip(128 + 400 * grey, 0, 255).astype(np.uint8)
    return Image(np.repeat(grey[..., None], 3, 2))


@pytest.fixture(scope="module")
def peer():
    """transformers' SuperPoint with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.SuperPointForKeypointDetection(transformers.SuperPointConfig(keypoint_threshold=0.02)).eval()
    for parameter in model.parameters():  # livelier than they are made
        torch.nn.init.normal_(parameter, std=1.6 / max(1, parameter[0].numel()) ** 0.5)
    return model


def original_file(peer, path: Path) -> Path:
    """The peer's weights by the names of superpoint_v1.pth."""
    names = {f"encoder.conv_blocks.{n}.conv_{c}": f"conv{n + 1}{c}" for n in range(4) for c in "ab"}
    names |= {f"keypoint_decoder.conv_score_{c}": f"convP{c}" for c in "ab"}
    names |= {f"descriptor_decoder.conv_descriptor_{c}": f"convD{c}" for c in "ab"}
    state = {}
    for name, tensor in peer.state_dict().items():
        layer, _, part = name.rpartition(".")
        state[f"{names[layer]}.{part}"] = tensor
    torch.save(state, path)
    return path


def open_file(path: Path) -> Path:
    torch.manual_seed(1)
    torch.save(SuperPointNetwork(normalized=True).state_dict(), path)
    return path


@torch.no_grad()
def test_the_original_equals_transformers(peer, tmp_path: Path) -> None:
    image = noise(160, 120)
    config = SuperPointConfig(
        weights=original_file(peer, tmp_path / "superpoint_v1.pth"), detection_threshold=0.02, max_keypoints=10_000
    )
    ours = SuperPoint(config)(image)
    grey = torch.from_numpy(image.pixels[..., 0]).float() / 255
    theirs = peer(grey.expand(1, 3, -1, -1))
    size = torch.tensor([160.0, 120.0])
    keypoints = theirs.keypoints[0] * size
    # Theirs keeps keypoints at the right and lower border: it takes the image for eight times as large.
    inside = (keypoints < size - 4).all(1) & theirs.mask[0].bool()
    keypoints, scores, descriptors = (values[inside] for values in (keypoints, theirs.scores[0], theirs.descriptors[0]))
    assert len(ours) == len(keypoints) > 50
    distance, partner = torch.cdist(ours.keypoints, keypoints).min(1)
    assert float(distance.max()) < 1e-3
    torch.testing.assert_close(ours.scores, scores[partner], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(ours.descriptors, descriptors[partner], atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels_last", [True, False])
def test_grey_is_the_weighted_sum_of_the_channels(channels_last: bool) -> None:
    images = torch.rand(2, 3, 19, 23, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    red, green, blue = images.unbind(1)
    torch.testing.assert_close(grey(images), (0.299 * red + 0.587 * green + 0.114 * blue)[:, None], atol=1e-7, rtol=0)


def test_the_highest_stays_and_frees_those_beyond() -> None:
    scores = torch.zeros(1, 1, 9)
    scores[0, 0, [1, 3, 5, 8]] = torch.tensor([0.9, 0.8, 0.7, 0.1])
    kept = suppress_non_maxima(scores, 2).nonzero()[:, 2].tolist()
    assert kept == [1, 5, 8]  # 3 falls to 1, and so 5, which only 3 beats, comes back
    assert torch.equal(suppress_non_maxima(scores, 0), scores)


def ramp(width: int, height: int) -> Tensor:
    """Descriptors (2, height, width) from which the column they were sampled at can be read."""
    x = torch.arange(width).float().expand(height, width)
    return torch.stack((torch.cos(x / width), torch.sin(x / width)))


def column(descriptors: Tensor, width: int) -> Tensor:
    return torch.atan2(descriptors[:, 1], descriptors[:, 0]) * width


def test_samples_are_taken_where_the_keypoint_is() -> None:
    width = 40
    keypoints = torch.tensor([[3.5, 4.0], [7.5, 4.0], [160.0, 10.0], [300.0, 20.0]])
    cells = (keypoints[:, 0] + 0.5) / 8 - 0.5
    exact = column(sample_descriptors(ramp(width, 5)[None], keypoints[None], drifting=False)[0], width)
    torch.testing.assert_close(exact, cells, atol=2e-3, rtol=0)
    drift_px = 8 * (column(sample_descriptors(ramp(width, 5)[None], keypoints[None], drifting=True)[0], width) - cells)
    assert abs(float(drift_px[0])) < 0.02 and 3 < abs(float(drift_px[3])) < 3.5


@pytest.mark.parametrize("size", [(5, 3), (8, 8), (37, 22), (161, 119)])
def test_any_size_works(size: tuple[int, int], tmp_path: Path) -> None:
    config = SuperPointConfig(weights=open_file(tmp_path / "open.pth"), detection_threshold=0.0, border_px=1)
    features = SuperPointOpen(config)(noise(*size))
    limit = torch.tensor(size) - 1
    assert features.kind.name == "superpoint_open" and bool((features.keypoints <= limit - 1).all())
    torch.testing.assert_close(features.descriptors.norm(dim=1), torch.ones(len(features)))
    if min(size) > 30:
        assert len(features) > 20


def test_no_keypoint_lies_under_the_mask(tmp_path: Path) -> None:
    image = noise(96, 64)
    mask = np.zeros((64, 96), bool)
    mask[:, 40:] = True
    config = SuperPointConfig(weights=open_file(tmp_path / "open.pth"), detection_threshold=0.0)
    features = SuperPointOpen(config)(image, mask)
    assert len(features) > 5 and float(features.keypoints[:, 0].min()) >= 40


def test_a_threshold_above_all_gives_no_keypoint(tmp_path: Path) -> None:
    config = SuperPointConfig(weights=open_file(tmp_path / "open.pth"), detection_threshold=1.0)
    features = SuperPointOpen(config)(noise(64, 64))
    assert len(features) == 0 and features.descriptors.shape == (0, 256)


def test_a_checkpoint_of_the_other_variant_is_refused(peer, tmp_path: Path) -> None:
    path = original_file(peer, tmp_path / "superpoint_v1.pth")
    with pytest.raises(WeightsError, match=r"superpoint_v1\.pth.*unknown: conv1a\.bias"):
        SuperPointOpen(SuperPointConfig(weights=path))
