"""Checkpoints of transformers' LightGlue and SuperGlue give the matches that transformers makes of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lightmatch.errors import WeightsError
from lightmatch.matchers import LightGlue, SuperGlue
from lightmatch.types import FeatureKind, Features, Matches

transformers: Any = pytest.importorskip("transformers")
SIZE, COUNT = (320, 240), 60


def make_pair() -> list[Features]:
    """Keypoints at random, and the same moved and seen with noise, in another order."""
    generator = torch.Generator().manual_seed(1)
    keypoints = torch.rand(COUNT, 2, generator=generator) * torch.tensor(SIZE)
    descriptors, noise = (torch.randn(COUNT, 256, generator=generator) for _ in range(2))
    scores, order = torch.rand(COUNT, generator=generator), torch.randperm(COUNT, generator=generator)
    kind = FeatureKind("superpoint", 256)
    first = Features(keypoints, scores, torch.nn.functional.normalize(descriptors, dim=1), SIZE, kind)
    seen = torch.nn.functional.normalize(descriptors + 0.3 * noise, dim=1)[order]
    return [first, Features(keypoints[order] * 0.9 + 5, scores[order], seen, SIZE, kind)]


def randomized(model: Any) -> Any:
    """Random weights large enough that pairs are distinguished; queries and keys that LightGlue shares are equal."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dtype.is_floating_point and "keypoint_detector" not in name:
                scale = 0.5 if name.endswith("projector.weight") else 1 / max(tensor.shape[-1:] or (1,)) ** 0.5
                tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
                if name.endswith(("running_var", "norm.weight")):
                    tensor.copy_(1 + tensor.abs())
        for name, tensor in model.state_dict().items():
            if "cross_attention.k_proj" in name:
                tensor.copy_(model.state_dict()[name.replace("k_proj", "q_proj")])
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def assert_same(found: Matches, matches: Tensor, scores: Tensor) -> None:
    """matches, scores: (n,) of the first image's points, -1 where there is none."""
    first = (matches > -1).nonzero()[:, 0]
    assert len(first) > 5
    assert torch.equal(found.indices, torch.stack((first, matches[first].long()), 1))
    torch.testing.assert_close(found.scores, scores[first], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("dim", [64, 256])
def test_lightglue(dim: int, tmp_path: Path) -> None:
    config = transformers.LightGlueConfig(
        keypoint_detector_config=transformers.SuperPointConfig(),
        descriptor_dim=dim,
        num_hidden_layers=3,
        num_attention_heads=dim // 32,
        depth_confidence=-1.0,
        width_confidence=-1.0,
        filter_threshold=0.0,
    )
    model = randomized(transformers.LightGlueForKeypointMatching(config))
    features = make_pair()
    with torch.inference_mode():
        expected = model._match_image_pair(
            torch.stack([one.keypoints for one in features])[None],
            torch.stack([one.descriptors for one in features])[None],
            SIZE[1],
            SIZE[0],
            mask=torch.ones(1, 2, COUNT, dtype=torch.int64),
        )
    matcher = LightGlue.from_checkpoint(
        saved(model, tmp_path), "superpoint", depth_confidence=None, width_confidence=None, filter_threshold=0.0
    )
    assert (matcher.config.descriptor_dim, matcher.config.num_layers, matcher.config.num_heads) == (dim, 3, dim // 32)
    assert_same(matcher(*features), expected[0].view(2, COUNT)[0], expected[1].view(2, COUNT)[0])


def test_a_cross_attention_that_lightglue_has_not_is_refused(tmp_path: Path) -> None:
    config = transformers.LightGlueConfig(keypoint_detector_config=transformers.SuperPointConfig(), num_hidden_layers=1)
    model = randomized(transformers.LightGlueForKeypointMatching(config))
    with torch.no_grad():
        model.state_dict()["transformer_layers.0.cross_attention.k_proj.bias"][0] += 1
    with pytest.raises(WeightsError, match="expected equal queries and keys"):
        LightGlue.from_checkpoint(saved(model, tmp_path), "superpoint")


def test_superglue(tmp_path: Path) -> None:
    config = transformers.SuperGlueConfig(
        keypoint_detector_config=transformers.SuperPointConfig(),
        gnn_layers_types=["self", "cross", "self", "cross"],
        sinkhorn_iterations=20,
        matching_threshold=0.0,
    )
    model = randomized(transformers.SuperGlueForKeypointMatching(config))
    features = make_pair()
    with torch.inference_mode():
        expected = model._match_image_pair(
            torch.stack([one.keypoints for one in features])[None],
            torch.stack([one.descriptors for one in features])[None],
            torch.stack([one.scores for one in features])[None],
            SIZE[1],
            SIZE[0],
            mask=torch.ones(1, 2, COUNT, dtype=torch.int64),
        )
    matcher = SuperGlue.from_checkpoint(
        saved(model, tmp_path), "superpoint", sinkhorn_iterations=20, filter_threshold=0.0
    )
    assert_same(matcher(*features), expected[0].view(2, COUNT)[0], expected[1].view(2, COUNT)[0])
