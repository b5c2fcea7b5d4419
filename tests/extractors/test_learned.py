"""What holds for every extractor with a network, with random weights; and that kornia run directly finds the same."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import lightmatch as lm
from lightmatch.errors import WeightsError
from lightmatch.extractors.learned import LearnedExtractor
from lightmatch.networks.superpoint import SuperPointNetwork
from lightmatch.types import Image

kornia = pytest.importorskip("kornia.feature")

# Thresholds that random weights reach.
OPTIONS: dict[str, dict[str, Any]] = {
    "aliked_t16": {"detection_threshold": 0.01},
    "disk": {"detection_threshold": -1e3},
    "xfeat": {"detection_threshold": 0.0},
    "dedode_b": {},
    "superpoint_open": {"detection_threshold": 0.0},
}


def networks(name: str) -> dict[str, nn.Module]:
    """By option, the networks with random weights whose files the extractor asks for."""
    torch.manual_seed(0)
    if name == "dedode_b":
        both = kornia.DeDoDe("L", "B", torch.float32)
        return {"weights": both.descriptor, "detector_weights": both.detector}
    makers = {
        "aliked_t16": lambda: kornia.ALIKED("aliked-t16"),
        "disk": kornia.DISK,
        "xfeat": lambda: kornia.XFeat().net,
        "superpoint_open": lambda: SuperPointNetwork(True),
    }
    return {"weights": makers[name]()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    folder, made = tmp_path_factory.mktemp("weights"), {}
    for name in OPTIONS:
        made[name] = {option: folder / f"{name}-{option}.pth" for option in networks(name)}
        for option, network in networks(name).items():
            state = network.state_dict()
            torch.save({"extractor": state} if name == "disk" else state, made[name][option])
    return made


def create(name: str, files: dict[str, dict[str, Path]], **options: object) -> LearnedExtractor:
    chosen: dict[str, Any] = OPTIONS[name] | files[name] | options
    extractor = lm.create_extractor(name, **chosen)
    assert isinstance(extractor, LearnedExtractor)
    return extractor


def texture(width: int, height: int, seed: int = 0) -> Image:
    colours = np.random.default_rng(seed).standard_normal((height, width, 3))
    return Image(np.clip(128 + 300 * cv2.GaussianBlur(colours, (0, 0), 2), 0, 255).astype(np.uint8))


def as_tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image.pixels).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [(5, 3), (33, 20), (97, 64)])
def test_any_size_works(name: str, size: tuple[int, int], files: dict[str, dict[str, Path]]) -> None:
    features = create(name, files)(texture(*size))
    assert features.image_size == size and features.descriptors.shape[1] == features.kind.descriptor_dim
    assert bool(((features.keypoints >= 0) & (features.keypoints <= torch.tensor(size) - 1)).all())
    lengths = features.descriptors.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    if min(size) > 60:
        assert len(features) > 20


@pytest.mark.parametrize("name", OPTIONS)
def test_nothing_lies_under_the_mask_or_beyond_the_limit(name: str, files: dict[str, dict[str, Path]]) -> None:
    image, mask = texture(128, 96), np.zeros((96, 128), bool)
    nothing = create(name, files)(image, mask)
    assert len(nothing) == 0 and nothing.descriptors.shape == (0, nothing.kind.descriptor_dim)
    mask[:, 64:] = True
    features = create(name, files)(image, mask)
    # Sub-pixel places may leave the mask by half the window.
    assert len(features) > 20 and float(features.keypoints[:, 0].min()) > 62
    few = create(name, files, max_keypoints=10)(image, mask)
    assert len(few) == 10
    if name != "dedode_b":  # whose scores depend on the number asked for only where keypoints are spread
        assert torch.equal(few.scores, features.scores[:10])


@pytest.mark.parametrize("name", OPTIONS)
def test_weights_of_another_network_are_refused(name: str, files: dict[str, dict[str, Path]]) -> None:
    other = files["disk" if name != "disk" else "xfeat"]["weights"]
    with pytest.raises(WeightsError, match="expected"):
        create(name, files, weights=other)


def test_disk_finds_what_kornia_finds(files: dict[str, dict[str, Path]]) -> None:
    image = texture(128, 96)
    ours = create("disk", files, max_keypoints=50)(image)
    network = networks("disk")["weights"].eval()
    with torch.no_grad():
        theirs = network(as_tensor(image), n=50, score_threshold=-1e3)[0]
    order = theirs.detection_scores.argsort(descending=True, stable=True)
    assert len(ours) == 50
    torch.testing.assert_close(ours.keypoints, theirs.keypoints[order])
    torch.testing.assert_close(ours.scores, theirs.detection_scores[order])
    torch.testing.assert_close(ours.descriptors, theirs.descriptors[order])


def test_xfeat_finds_what_kornia_finds(files: dict[str, dict[str, Path]]) -> None:
    image = texture(128, 96)
    ours = create("xfeat", files, max_keypoints=50)(image)
    torch.manual_seed(0)
    theirs = kornia.XFeat().eval().detectAndCompute(as_tensor(image), top_k=50, detection_threshold=0.0)[0]
    assert len(ours) == len(theirs["scores"]) == 50
    torch.testing.assert_close(ours.scores, theirs["scores"])
    torch.testing.assert_close(ours.keypoints, theirs["keypoints"])
    torch.testing.assert_close(ours.descriptors, theirs["descriptors"])


def test_dedode_finds_what_kornia_finds(files: dict[str, dict[str, Path]]) -> None:
    image = texture(100, 75)
    ours = create("dedode_b", files, max_keypoints=50)(image)
    torch.manual_seed(0)
    both = kornia.DeDoDe("L", "B", torch.float32)
    keypoints, scores, descriptors = (part[0] for part in both(as_tensor(image), n=50))
    torch.testing.assert_close(ours.scores, scores)
    torch.testing.assert_close(ours.keypoints, keypoints - 0.5)
    torch.testing.assert_close(ours.descriptors, nn.functional.normalize(descriptors, dim=1))
