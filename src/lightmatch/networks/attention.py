"""One LightGlue layer: self-attention within each image, then cross-attention between the two.

Parameter names are those of the released weights, so that official files load as they are.
Source: Lindenberger et al. 2023, section 3.1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lightmatch.networks.rotary import Rotary, rotate


def key_mask(valid: Tensor | None) -> Tensor | None:
    """Attention mask (b, 1, 1, n) that hides padding among the keys; None where there is none.

    valid: (b, n) bool, with at least one True in each row: a softmax over nothing is not a number.
    """
    return None if valid is None else valid[:, None, None]


def _feed_forward(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.LayerNorm(2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


class SelfAttention(nn.Module):
    """Points of one image look at each other, knowing their relative positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.Wqkv = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.ffn = _feed_forward(dim)

    def forward(self, x: Tensor, rotary: Rotary, valid: Tensor | None = None) -> Tensor:
        """x: (b, n, d) → (b, n, d). valid: (b, n) bool, None where nothing is padding."""
        qkv = self.Wqkv(x).unflatten(-1, (self.num_heads, -1, 3))
        # One copy that makes channels neighbours again: fused attention refuses strided ones.
        q, k, v = qkv.permute(4, 0, 2, 1, 3).contiguous()
        message = scaled_dot_product_attention(rotate(q, rotary), rotate(k, rotary), v, attn_mask=key_mask(valid))
        message = self.out_proj(message.transpose(1, 2).flatten(-2))
        return x + self.ffn(torch.cat((x, message), -1))


class CrossAttention(nn.Module):
    """Points of one image look at the other's; one projection makes queries and keys alike."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qk = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.Linear(dim, dim)
        self.ffn = _feed_forward(dim)

    def forward(
        self, x0: Tensor, x1: Tensor, valid0: Tensor | None = None, valid1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x0: (b, m, d), x1: (b, n, d) → the same shapes. valid0/1: (b, m), (b, n) bool.

        Two fused attentions are faster than one shared similarity matrix, which would have to be stored.
        """
        qk0, v0 = self._heads(self.to_qk, x0), self._heads(self.to_v, x0)
        qk1, v1 = self._heads(self.to_qk, x1), self._heads(self.to_v, x1)
        message0 = scaled_dot_product_attention(qk0, qk1, v1, attn_mask=key_mask(valid1))
        message1 = scaled_dot_product_attention(qk1, qk0, v0, attn_mask=key_mask(valid0))
        return self._update(x0, message0), self._update(x1, message1)

    def _heads(self, project: nn.Linear, x: Tensor) -> Tensor:
        return project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _update(self, x: Tensor, message: Tensor) -> Tensor:
        return x + self.ffn(torch.cat((x, self.to_out(message.transpose(1, 2).flatten(-2))), -1))


class TransformerLayer(nn.Module):
    """Self-attention on each side, then cross-attention."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, num_heads)
        self.cross_attn = CrossAttention(dim, num_heads)

    def forward(
        self,
        x0: Tensor,
        x1: Tensor,
        rotary0: Rotary,
        rotary1: Rotary,
        valid0: Tensor | None = None,
        valid1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x0: (b, m, d), x1: (b, n, d) → the same shapes. valid0/1: (b, m), (b, n) bool."""
        x0 = self.self_attn(x0, rotary0, valid0)
        x1 = self.self_attn(x1, rotary1, valid1)
        return self.cross_attn(x0, x1, valid0, valid1)
