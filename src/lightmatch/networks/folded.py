"""Inference form of a trained transformer layer: the same function with fewer operations, by folding its weights.

The output projection of attention is merged into the linear map that follows it, the scale of similarities into
queries and keys, and queries and keys have their even channels before the odd ones, so that the rotary encoding
rotates two halves instead of neighbouring channels. Source of the layer: Lindenberger et al. 2023, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from lightmatch.networks.attention import CrossAttention, SelfAttention, TransformerLayer, attend, attend_mutually
from lightmatch.networks.rotary import Rotary

Linear = tuple[Tensor, Tensor]  # weight (out, in) and bias (out,)


class FoldedLayer:
    """`TransformerLayer` for inference, in the precision of its weights."""

    def __init__(self, layer: TransformerLayer) -> None:
        self.self_attn = FoldedSelfAttention(layer.self_attn)
        self.cross_attn = FoldedCrossAttention(layer.cross_attn)


class FoldedSelfAttention:
    """`SelfAttention` for inference."""

    def __init__(self, attention: SelfAttention) -> None:
        self._heads = attention.num_heads
        weight, bias = _float(attention.Wqkv)
        # Rows in the order head, channel, one of q, k, v → one of q, k, v, head, channel.
        weight, bias = (part.unflatten(0, (self._heads, -1, 3)).movedim(2, 0).clone() for part in (weight, bias))
        for part in (weight, bias):
            part[:2] = torch.cat((part[:2, :, ::2], part[:2, :, 1::2]), 2)
            part[:2] *= part.shape[2] ** -0.25
        self._qkv = _like(attention.Wqkv, weight.flatten(0, 2), bias.flatten())
        self._feed_forward = FoldedFeedForward(attention.ffn, attention.out_proj)

    def __call__(self, x: Tensor, rotary: Rotary, valid: Tensor | None = None) -> Tensor:
        """x: (b, n, d) → (b, n, d). valid: (b, n) bool, None where nothing is padding."""
        narrow = x.to(self._qkv[0].dtype)
        qkv = linear(narrow, *self._qkv).unflatten(-1, (3, self._heads, -1))
        q, k = _rotated(qkv[:, :, :2], rotary)
        message = attend(q, k, qkv[:, :, 2].transpose(1, 2), valid, scale=1)
        return x + self._feed_forward(narrow, message)


class FoldedCrossAttention:
    """`CrossAttention` for inference."""

    def __init__(self, attention: CrossAttention) -> None:
        self._heads = attention.num_heads
        (weight, bias), value = _float(attention.to_qk), _float(attention.to_v)
        scale = (weight.shape[0] // self._heads) ** -0.25
        parts = ((weight * scale, bias * scale), value)
        self._qkv = _like(attention.to_qk, *(torch.cat(both) for both in zip(*parts, strict=True)))
        self._feed_forward = FoldedFeedForward(attention.ffn, attention.to_out)

    def __call__(
        self, x0: Tensor, x1: Tensor, valid0: Tensor | None = None, valid1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x0: (b, m, d), x1: (b, n, d) → the same shapes. valid0/1: (b, m), (b, n) bool."""
        narrow0, narrow1 = (x.to(self._qkv[0].dtype) for x in (x0, x1))
        (qk0, v0), (qk1, v1) = (
            linear(x, *self._qkv).unflatten(-1, (2, self._heads, -1)).permute(2, 0, 3, 1, 4) for x in (narrow0, narrow1)
        )
        message0, message1 = attend_mutually(qk0, qk1, v0, v1, valid0, valid1)
        return x0 + self._feed_forward(narrow0, message0), x1 + self._feed_forward(narrow1, message1)


class FoldedFeedForward:
    """The projection of a message, and the MLP of a state and that projected message.

    W·[x; P·m + p] + b is V·x + (W'·P)·m + (W'·p + b), with V the columns of W for x and W' those for the message.
    """

    def __init__(self, ffn: nn.Sequential, projection: nn.Linear) -> None:
        first, norm, _, last = ffn
        assert isinstance(first, nn.Linear) and isinstance(norm, nn.LayerNorm) and isinstance(last, nn.Linear)
        (weight, bias), (inner, inner_bias) = _float(first), _float(projection)
        of_state, of_message = weight.chunk(2, 1)
        self._state = _like(first, of_state, of_message @ inner_bias + bias)
        self._message = (of_message @ inner).T.contiguous().to(first.weight.dtype)  # (in, out)
        self._norm = norm.normalized_shape, norm.weight.detach(), norm.bias.detach(), norm.eps
        self._last = last.weight.detach(), last.bias.detach()

    def __call__(self, x: Tensor, message: Tensor) -> Tensor:
        """x: (b, n, d), message: (b, heads, n, d / heads) → (b, n, d)."""
        hidden = linear(x, *self._state)
        hidden.flatten(0, 1).addmm_(message.transpose(1, 2).flatten(2).flatten(0, 1), self._message)
        return linear(gelu(layer_norm(hidden, *self._norm)), *self._last)


def _rotated(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate channel i of each half of x together by its angle i: `rotate`, for halves, and into another order.

    x: (b, n, parts, heads, head_dim). rotary: (b, n, head_dim / 2) each. Returns (parts, b, heads, n, head_dim).
    """
    cos, sin = (part[:, :, None, None].to(x) for part in rotary)
    rotated = x.new_empty([x.shape[axis] for axis in (2, 0, 3, 1, 4)])
    first, second = x.chunk(2, -1)
    rotated_first, rotated_second = rotated.permute(1, 3, 0, 2, 4).chunk(2, -1)
    torch.mul(first, cos, out=rotated_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=rotated_second).addcmul_(first, sin)
    return rotated


def _float(layer: nn.Linear) -> Linear:
    return layer.weight.detach().float(), layer.bias.detach().float()


def _like(layer: nn.Linear, weight: Tensor, bias: Tensor) -> Linear:
    """In the precision of the layer, rounded once."""
    return weight.to(layer.weight.dtype).contiguous(), bias.to(layer.weight.dtype)
