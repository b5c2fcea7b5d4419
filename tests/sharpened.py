"""Random matchers that behave like trained ones: they match, and LightGlue leaves early and prunes.

Plain random weights of this size match nothing and never exit. Here the assignment heads compare the
descriptors themselves, and matchability and confidence spread over 0…1, so that every decision of the
network is taken both ways.
"""

from typing import Any

import torch

from lightmatch.matchers.lightglue import LightGlue
from lightmatch.matchers.superglue import SuperGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.networks.rotary import position_inputs
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.types import FeatureBatch, FeatureKind, Features

IMAGE_SIZE = (1024, 768)


def sharpened_lightglue(config: LightGlueConfig, seed: int = 0) -> LightGlue:
    torch.manual_seed(seed)
    matcher = LightGlue(config)
    network: Any = matcher.network
    kind = FeatureKind(config.features, config.input_dim, config.positions != "xy")
    batches = [FeatureBatch.from_features([features]) for features in random_pair(kind, 200, 50, 50, seed, ease=0.2)]
    (x0, rotary0), (x1, rotary1) = (
        network.embed(
            b.descriptors, position_inputs(config.positions, b.keypoints, b.image_sizes, b.scales, b.orientations)
        )
        for b in batches
    )
    with torch.no_grad():
        easy = network.input_proj(_easy(config.input_dim)) - network.input_proj(torch.zeros(config.input_dim))
        for layer, head in enumerate(network.log_assignment):
            block = network.transformers[layer]
            for attention in (block.self_attn, block.cross_attn):  # keep what the descriptors said
                attention.ffn[3].weight.mul_(0.2)
            x0, x1 = block(x0, x1, rotary0, rotary1)
            x = torch.cat((x0, x1), 1)[0]
            centred = x - x.mean(0)
            gain = 12 / centred.norm(dim=1).mean()
            head.final_proj.weight.copy_(torch.eye(config.descriptor_dim) * gain)
            head.final_proj.bias.copy_(-gain * x.mean(0))
            _spread(head.matchability, x, torch.randn_like(x[0]), mean=2.0, std=4.0)
            if layer < len(network.token_confidence):
                direction = torch.randn_like(x[0]) + 15 * easy / easy.norm()
                _spread(network.token_confidence[layer].token[0], x, direction, mean=1.0 + 0.4 * layer, std=1.2)
    return matcher


def sharpened_superglue(config: SuperGlueConfig) -> SuperGlue:
    """Random weights and batch statistics that keep what the descriptors said, so that most common points match."""
    torch.manual_seed(0)
    matcher = SuperGlue(config)
    network: Any = matcher.network
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm1d):
                assert norm.running_mean is not None and norm.running_var is not None
                norm.running_mean.normal_(std=0.1)
                norm.running_var.uniform_(0.5, 2)
        for mlp, gain in (*((layer.mlp, 0.02) for layer in network.gnn.layers), (network.kenc.encoder, 0.2)):
            mlp[-1].weight.mul_(gain)
        # Scores are 24 times the cosine.
        network.final_proj.weight.copy_(24**0.5 * config.descriptor_dim**0.25 * torch.eye(config.descriptor_dim))
        network.bin_score.fill_(12)
    return matcher


def _spread(head: torch.nn.Linear, x: torch.Tensor, direction: torch.Tensor, mean: float, std: float) -> None:
    """Make the logits of `head` on x have this mean and spread."""
    direction = direction * std / (x @ direction).std()
    head.weight.copy_(direction[None])
    head.bias.fill_(mean - (x @ direction).mean())


def _easy(width: int) -> torch.Tensor:
    """What the descriptors of an easy pair have in common, for the confidence heads to see."""
    return torch.full((width,), width**-0.5)


def random_pair(
    kind: FeatureKind, num_common: int, num_only0: int, num_only1: int, seed: int, ease: float = 0.3
) -> tuple[Features, Features]:
    """Two images that share `num_common` points, moved a little; the larger `ease`, the earlier they exit."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(n: int, low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    def describe(n: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(n, kind.descriptor_dim, generator=generator), dim=1)

    def place(n: int) -> torch.Tensor:
        return torch.stack((uniform(n, 100, IMAGE_SIZE[0] - 100), uniform(n, 100, IMAGE_SIZE[1] - 100)), -1)

    common, shift = place(num_common), torch.tensor([30.0, -20.0])
    descriptors = describe(num_common)
    images = []
    for moved, num_only in ((torch.zeros(2), num_only0), (shift, num_only1)):
        order = torch.randperm(num_common + num_only, generator=generator)
        wobble = torch.randn(num_common, kind.descriptor_dim, generator=generator) * 0.3 / kind.descriptor_dim**0.5
        keypoints = torch.cat((common + moved, place(num_only)))[order]
        described = torch.nn.functional.normalize(torch.cat((descriptors + wobble, describe(num_only))), dim=1)[order]
        described = described + ease * _easy(kind.descriptor_dim)
        scaled = kind.has_scale_orientation
        images.append(
            Features(
                keypoints,
                uniform(len(order), 0, 1),
                described,
                IMAGE_SIZE,
                kind,
                scales=uniform(len(order), 2, 30) if scaled else None,
                orientations=uniform(len(order), 0, 6.28) if scaled else None,
            )
        )
    return images[0], images[1]
