"""One LightGlue layer: self-attention within each image, then cross-attention between the two.

Parameter names are those of the released weights, so that official files load as they are.
Source: Lindenberger et al. 2023, section 3.1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lightmatch.networks.rotary import Rotary, rotate


def attend(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None) -> Tensor:
    """What queries gather of the values, softmax(q·kᵀ/√c)·v, without the whole matrix of similarities.

    q: (b, heads, m, c), k and v: (b, heads, n, c) → (b, heads, m, c). valid: (b, n) bool, False for keys that are
    padding, with at least one True in each row: a softmax over nothing is not a number.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and not torch.is_grad_enabled():
        return _attend_by_blocks(q, k, v, valid)
    # Fused attention refuses channels that are no neighbours.
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=None if valid is None else valid[:, None, None])


# Similarities held at a time: four MiB of them stay in the cache.
_BLOCK_ELEMENTS = 1 << 21


def _attend_by_blocks(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
    """The same, a block of queries after the other.

    PyTorch's fused attention multiplies bfloat16 on a CPU no faster than float32. Plain matrix products into one block
    of memory, used again for each, take little more than half of its time.
    """
    batch, heads, m, channels = q.shape
    n = k.shape[2]
    q, k, v = (x.contiguous().flatten(0, 1) for x in (q * channels**-0.5, k, v))
    hidden = None if valid is None else ~valid.repeat_interleave(heads, 0)[:, None]
    rows = max(1, min(m, _BLOCK_ELEMENTS // (batch * heads * n)))
    similarity = q.new_empty(batch * heads, rows, n)
    gathered = torch.empty_like(q)
    for start in range(0, m, rows):
        block = similarity[:, : min(rows, m - start)]
        torch.bmm(q[:, start : start + rows], k.mT, out=block)
        if hidden is not None:
            block.masked_fill_(hidden, -torch.inf)
        torch.softmax(block, -1, out=block)
        torch.bmm(block, v, out=gathered[:, start : start + rows])
    return gathered.view(batch, heads, m, channels)


def _feed_forward(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.LayerNorm(2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


def _narrowed(x: Tensor, layer: nn.Linear) -> Tensor:
    """X in the precision of weights that are of half precision; else as it is, which autocast relies on."""
    dtype = layer.weight.dtype
    return x if dtype == torch.float32 else x.to(dtype)


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
        narrow = _narrowed(x, self.Wqkv)
        qkv = self.Wqkv(narrow).unflatten(-1, (self.num_heads, -1, 3))
        q, k, v = qkv.permute(4, 0, 2, 1, 3).contiguous()  # one copy that makes channels neighbours again
        message = attend(rotate(q, rotary), rotate(k, rotary), v, valid)
        message = self.out_proj(message.transpose(1, 2).flatten(-2))
        return x + self.ffn(torch.cat((narrow, message), -1))


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

        Two attentions are faster than one shared similarity matrix, which would have to be stored.
        """
        narrow0, narrow1 = _narrowed(x0, self.to_qk), _narrowed(x1, self.to_qk)
        qk0, v0 = self._heads(self.to_qk, narrow0), self._heads(self.to_v, narrow0)
        qk1, v1 = self._heads(self.to_qk, narrow1), self._heads(self.to_v, narrow1)
        change0 = self._change(narrow0, attend(qk0, qk1, v1, valid1))
        change1 = self._change(narrow1, attend(qk1, qk0, v0, valid0))
        return x0 + change0, x1 + change1

    def _heads(self, project: nn.Linear, x: Tensor) -> Tensor:
        return project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _change(self, x: Tensor, message: Tensor) -> Tensor:
        return self.ffn(torch.cat((x, self.to_out(message.transpose(1, 2).flatten(-2))), -1))


class TransformerLayer(nn.Module):
    """Self-attention on each side, then cross-attention.

    Its weights may be of half precision while states are float32: what each attention adds to them is then computed in
    half precision, and their sum is not rounded.
    """

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
