"""Attention by blocks against the fused one."""

import pytest
import torch

from lightmatch.networks import attention
from lightmatch.networks.attention import attend


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("batch", "heads", "m", "n"), [(1, 2, 37, 50), (3, 4, 64, 9), (2, 1, 1, 1)])
def test_blocks_give_what_fused_attention_gives(
    batch: int, heads: int, m: int, n: int, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_BLOCK_ELEMENTS", 10 * heads * batch * n)  # several blocks, the last not full
    q, k, v = (torch.randn(batch, length, heads, 16).transpose(1, 2).bfloat16() for length in (m, n, n))
    lengths = torch.tensor([max(1, n - 3 * row) for row in range(batch)])
    valid = torch.arange(n) < lengths[:, None] if padded else None
    with torch.no_grad():
        expected = attend(q.float(), k.float(), v.float(), valid)
        found = attend(q, k, v, valid)
    assert found.dtype == torch.bfloat16 and found.shape == expected.shape
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)


def test_gradients_flow_in_bfloat16() -> None:
    q, k, v = (torch.randn(1, 2, 5, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    attend(q, k, v).sum().backward()
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in (q, k, v))
