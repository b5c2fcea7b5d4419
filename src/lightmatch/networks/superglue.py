"""The SuperGlue network: positions added once, attention within and between images, optimal transport.

Parameter names and the order of channels are those of the released weights.
Source: Sarlin, DeTone, Malisiewicz, Rabinovich: SuperGlue: Learning Feature Matching with Graph Neural
Networks, CVPR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn

from lightmatch.errors import InvalidValueError
from lightmatch.networks.attention import attend
from lightmatch.networks.projection import descriptor_projection
from lightmatch.networks.rotary import normalize_keypoints
from lightmatch.networks.sinkhorn import log_optimal_transport


@dataclass(frozen=True)
class SuperGlueConfig:
    """Size of the network, and how its assignment becomes matches."""

    features: str = "superpoint"  # name of the FeatureKind it belongs to
    input_dim: int = 256  # descriptor width of those features; a linear map where it is not descriptor_dim
    descriptor_dim: int = 256
    num_layers: int = 9  # each a self- and a cross-attention
    num_heads: int = 4
    keypoint_encoder_dims: tuple[int, ...] = (32, 64, 128, 256)
    sinkhorn_iterations: int = 100
    filter_threshold: float = 0.2  # least probability of a match

    def __post_init__(self) -> None:
        for name in ("input_dim", "descriptor_dim", "num_layers", "num_heads", "sinkhorn_iterations"):
            if getattr(self, name) < 1:
                raise InvalidValueError(f"SuperGlueConfig.{name}: expected at least 1, got {getattr(self, name)}")
        if any(width < 1 for width in self.keypoint_encoder_dims):
            raise InvalidValueError(
                "SuperGlueConfig.keypoint_encoder_dims: expected widths of at least 1,"
                f" got {self.keypoint_encoder_dims}"
            )
        if self.descriptor_dim % self.num_heads:
            raise InvalidValueError(
                f"SuperGlueConfig.descriptor_dim: expected a multiple of num_heads = {self.num_heads},"
                f" got {self.descriptor_dim}"
            )
        if not 0 <= self.filter_threshold <= 1:
            raise InvalidValueError(f"SuperGlueConfig.filter_threshold: expected 0…1, got {self.filter_threshold}")


def keypoint_inputs(keypoints: Tensor, scores: Tensor, image_sizes: Tensor) -> Tensor:
    """What the keypoint encoder takes of each keypoint: place and score, (b, n, 3).

    keypoints: (b, n, 2) px. scores: (b, n). image_sizes: (b, 2), (width, height) px.
    Places are (xy − size/2) / (0.7 · longer side). Source: Sarlin et al. 2020, released code.
    """
    return torch.cat((normalize_keypoints(keypoints, image_sizes) / 1.4, scores[..., None]), -1)


class PointNorm(nn.BatchNorm1d):
    """Batch norm over the real points of all images, blind to padding."""

    def forward(self, input: Tensor, valid: Tensor | None = None) -> Tensor:
        """input: (b, n, c) → (b, n, c). valid: (b, n) bool; in training, padding comes out as 0."""
        if valid is None or not self.training:
            return super().forward(input.flatten(0, 1)).view_as(input)
        output = torch.zeros_like(input)
        output[valid] = super().forward(input[valid])
        return output


class PointMlp(nn.Sequential):
    """Of each point for itself: linear, batch norm and ReLU for every hidden width, then linear."""

    def __init__(self, input_dim: int, *dims: int) -> None:
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((input_dim, *dims[:-1])):
            layers += [nn.Linear(narrow, wide), PointNorm(wide), nn.ReLU()]
        last = nn.Linear((input_dim, *dims)[-2], dims[-1])
        nn.init.zeros_(last.bias)
        super().__init__(*layers, last)

    def forward(self, input: Tensor, valid: Tensor | None = None) -> Tensor:
        """input: (b, n, input_dim) → (b, n, last of dims). valid: (b, n) bool."""
        for layer in self:
            input = layer(input, valid) if isinstance(layer, PointNorm) else layer(input)
        return input


class KeypointEncoder(nn.Module):
    """Where a keypoint lies and how strong it is, in the space of descriptors."""

    def __init__(self, hidden_dims: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.encoder = PointMlp(3, *hidden_dims, dim)

    def forward(self, positions: Tensor, valid: Tensor | None = None) -> Tensor:
        """positions: (b, n, 3), from `keypoint_inputs` → (b, n, dim). float32 in autocast too, as places need it."""
        with torch.autocast(positions.device.type, enabled=False):
            return self.encoder(positions.float(), valid)


class Attention(nn.Module):
    """Multi-head attention from points to a source. Heads are interleaved: channel = index in head · heads + head."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.merge = nn.Linear(dim, dim)
        self.proj = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))  # query, key, value

    def forward(self, x: Tensor, source: Tensor, valid_source: Tensor | None = None) -> Tensor:
        """x: (b, m, d), source: (b, n, d), valid_source: (b, n) bool → (b, m, d)."""
        inputs = zip(self.proj, (x, source, source), strict=True)
        q, k, v = (project(y).unflatten(-1, (-1, self.num_heads)).permute(0, 3, 1, 2) for project, y in inputs)
        message = attend(q, k, v, valid_source)
        return self.merge(message.permute(0, 2, 3, 1).flatten(-2))


class Propagation(nn.Module):
    """One step of message passing: attention, and an MLP that makes of it a change of the state."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.attn = Attention(dim, num_heads)
        self.mlp = PointMlp(2 * dim, 2 * dim, dim)

    def forward(
        self, x: Tensor, source: Tensor, valid: Tensor | None = None, valid_source: Tensor | None = None
    ) -> Tensor:
        """x: (b, m, d) → the same shape. source: (b, n, d). valid, valid_source: (b, m), (b, n) bool."""
        return x + self.mlp(torch.cat((x, self.attn(x, source, valid_source)), -1), valid)


class AttentionalNetwork(nn.Module):
    """Self- and cross-attention in turn; one step has the same weights for both images."""

    def __init__(self, config: SuperGlueConfig) -> None:
        super().__init__()
        dim, num_steps = config.descriptor_dim, 2 * config.num_layers
        self.layers = nn.ModuleList(Propagation(dim, config.num_heads) for _ in range(num_steps))

    def forward(
        self, x0: Tensor, x1: Tensor, valid0: Tensor | None = None, valid1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x0: (b, m, d), x1: (b, n, d) → the same shapes. valid0/1: (b, m), (b, n) bool."""
        for number, layer in enumerate(self.layers):
            if number % 2 == 0:
                x0, x1 = layer(x0, x0, valid0, valid0), layer(x1, x1, valid1, valid1)
            else:
                x0, x1 = layer(x0, x1, valid0, valid1), layer(x1, x0, valid1, valid0)
        return x0, x1


class SuperGlueNetwork(nn.Module):
    """Keypoint encoder, attentional network, and the assignment with its learned dustbin."""

    def __init__(self, config: SuperGlueConfig) -> None:
        super().__init__()
        dim = config.descriptor_dim
        self.num_iterations = config.sinkhorn_iterations
        # Unit descriptors stay of unit length, which is SuperPoint's.
        self.input_proj = nn.Identity() if config.input_dim == dim else descriptor_projection(config.input_dim, dim)
        self.kenc = KeypointEncoder(config.keypoint_encoder_dims, dim)
        self.gnn = AttentionalNetwork(config)
        self.final_proj = nn.Linear(dim, dim)
        self.bin_score = nn.Parameter(torch.tensor(1.0))

    def compute_in(self, dtype: torch.dtype) -> Self:
        """Let everything compute in `dtype` but the optimal transport, which is float32."""
        return self.to(dtype)

    def forward(
        self,
        descriptors0: Tensor,
        descriptors1: Tensor,
        positions0: Tensor,
        positions1: Tensor,
        valid0: Tensor | None = None,
        valid1: Tensor | None = None,
    ) -> Tensor:
        """Log assignment (b, m + 1, n + 1) float32, dustbins last; −inf where a point is padding.

        descriptors: (b, m or n, input_dim). positions: (b, m or n, 3), from `keypoint_inputs`. valid: (b, m or n)
        bool, at least one True in each row, None where nothing is padding.
        """
        x0 = self._start(descriptors0, positions0, valid0)
        x1 = self._start(descriptors1, positions1, valid1)
        x0, x1 = self.gnn(x0, x1, valid0, valid1)
        scale = x0.shape[-1] ** -0.25  # on both sides, for half precision's sake
        final0, final1 = ((self.final_proj(x) * scale).float() for x in (x0, x1))
        with torch.autocast(x0.device.type, enabled=False):
            similarity = final0 @ final1.mT
        return log_optimal_transport(similarity, self.bin_score, valid0, valid1, num_iterations=self.num_iterations)

    def _start(self, descriptors: Tensor, positions: Tensor, valid: Tensor | None) -> Tensor:
        states = self.input_proj(descriptors.to(self.final_proj.weight.dtype))
        return states + self.kenc(positions, valid).to(states)
