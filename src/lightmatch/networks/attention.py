"""One LightGlue layer: self-attention within each image, then cross-attention between the two.

Parameter names are those of the released weights, so that official files load as they are.
Source: Lindenberger et al. 2023, section 3.1.
"""

import math
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lightmatch.networks.rotary import Rotary, rotate


def attend(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None = None, scale: float | None = None) -> Tensor:
    """What queries gather of the values, softmax(scale·q·kᵀ)·v, without the whole matrix of similarities.

    q: (b, heads, m, c), k and v: (b, heads, n, c) → (b, heads, m, c). valid: (b, n) bool, False for keys that are
    padding, with at least one True in each row: a softmax over nothing is not a number. scale: 1/√c where it is None.
    """
    if _by_blocks(q):
        q = q * (q.shape[-1] ** -0.5 if scale is None else scale) if scale != 1 else q
        return _attend_by_blocks(q, k, v, valid)
    # Fused attention refuses channels that are no neighbours.
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    mask = None if valid is None else valid[:, None, None]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def attend_mutually(
    qk0: Tensor, qk1: Tensor, v0: Tensor, v1: Tensor, valid0: Tensor | None = None, valid1: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What each side gathers of the other's values, where queries and keys are the same: similarities qk0·qk1ᵀ.

    qk0, v0: (b, heads, m, c), qk1, v1: (b, heads, n, c) → the same shapes. valid0/1: (b, m), (b, n) bool, with at
    least one True in each row.
    """
    if _by_blocks(qk0) and (messages := _attend_mutually_by_blocks(qk0, qk1, v0, v1, valid0, valid1)):
        return messages
    return attend(qk0, qk1, v1, valid1, scale=1), attend(qk1, qk0, v0, valid0, scale=1)


def _by_blocks(x: Tensor) -> bool:
    """Whether plain products, a block of queries after the other, beat the library's fused attention.

    PyTorch's multiplies bfloat16 on a CPU no faster than float32. Plain matrix products into one block of memory, used
    again for each, take little more than half of its time.
    """
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.is_grad_enabled()


# Similarities held at a time: four MiB of them stay in the cache.
_BLOCK_ELEMENTS = 1 << 21


def _attend_by_blocks(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
    """`attend` with scale 1: softmax(q kᵀ) v. Shapes as there."""
    batch, heads, m, channels = q.shape
    n = k.shape[2]
    q, k, v = (x.contiguous().flatten(0, 1) for x in (q, k, v))
    hidden = None if valid is None else ~valid.repeat_interleave(heads, 0)[:, None]
    gathered = torch.empty_like(q)
    for rows, block in _blocks(batch * heads, m, n, q.dtype):
        torch.bmm(q[:, rows], k.mT, out=block)
        if hidden is not None:
            block.masked_fill_(hidden, -torch.inf)
        torch.softmax(block, -1, out=block)
        torch.bmm(block, v, out=gathered[:, rows])
    return gathered.view(batch, heads, m, channels)


_kept = threading.local()  # each thread's block: memory that is given back and taken again has to be cleared each time


def _blocks(matrices: int, m: int, n: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Rows of (matrices, m, n), a block at a time: which ones, and where to put them; the next block overwrites it."""
    size = max(1, min(m, _BLOCK_ELEMENTS // (matrices * n)))
    needed = matrices * size * n
    if getattr(_kept, "block", None) is None or _kept.block.numel() < needed or _kept.block.dtype != dtype:
        with torch.inference_mode(False):  # an inference tensor could be used in inference mode alone
            _kept.block = torch.empty(max(needed, _BLOCK_ELEMENTS), dtype=dtype)
    block = _kept.block[:needed].view(matrices, size, n)
    for start in range(0, m, size):
        stop = min(start + size, m)
        yield slice(start, stop), block[:, : stop - start]


# e to this power, times values and thousands of points, is within bfloat16, and so is e to its negative.
_MOST_EXPONENT = 70.0
_LEAST_TOTAL = math.exp(-_MOST_EXPONENT)


def _attend_mutually_by_blocks(
    qk0: Tensor, qk1: Tensor, v0: Tensor, v1: Tensor, valid0: Tensor | None, valid1: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """`attend_mutually` with the same exponentials for both directions; None where that would lose a point.

    A softmax may subtract any number from its exponents. One number for a head lets its rows and columns share their
    exponentials, as long as no sum overflows, which the norms of queries and keys bound, and none vanishes.
    """
    batch, heads, m, channels = qk0.shape
    n = qk1.shape[2]
    bound = qk0.float().norm(dim=-1).amax(-1) * qk1.float().norm(dim=-1).amax(-1)  # (b, h)
    shift = (bound - _MOST_EXPONENT).clamp_min(0).flatten()[:, None, None].to(qk0.dtype)
    qk0, qk1, v0, v1 = (x.contiguous().flatten(0, 1) for x in (qk0, qk1, v0, v1))
    hidden0, hidden1 = (None if v is None else ~v.repeat_interleave(heads, 0) for v in (valid0, valid1))
    message0, total0 = torch.empty_like(v0), v0.new_empty(batch * heads, m, 1)
    message1, total1 = torch.zeros_like(v1, dtype=torch.float32), v1.new_zeros((batch * heads, n), dtype=torch.float32)
    for rows, block in _blocks(batch * heads, m, n, qk0.dtype):
        torch.bmm(qk0[:, rows], qk1.mT, out=block)
        block.sub_(shift).exp_()
        if hidden1 is not None:
            block.masked_fill_(hidden1[:, None], 0)
        torch.bmm(block, v1, out=message0[:, rows])
        torch.sum(block, -1, keepdim=True, out=total0[:, rows])
        if not float(total0[:, rows].amin()) > _LEAST_TOTAL:
            return None
        if hidden0 is not None:
            block.masked_fill_(hidden0[:, rows, None], 0)
        message1 += block.mT @ v0[:, rows]
        total1 += block.sum(-2)
    if hidden1 is not None:
        total1.masked_fill_(hidden1, 1)
    if not float(total1.amin()) > _LEAST_TOTAL:
        return None
    message0, message1 = message0 / total0, (message1 / total1[..., None]).to(v1.dtype)
    return message0.view(batch, heads, m, channels), message1.view(batch, heads, n, channels)


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
