"""Attention by blocks against the fused one."""

from threading import Thread

import pytest
import torch

from lightmatch.networks import attention
from lightmatch.networks.attention import attend, attend_mutually


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


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("gain", [1.0, 6.0, 60.0])  # the last one's exponents are beyond what one shift fits
@pytest.mark.parametrize(("batch", "heads", "m", "n"), [(1, 2, 37, 50), (3, 4, 64, 9), (2, 1, 1, 1)])
@torch.no_grad()
def test_both_directions_share_their_exponentials(
    batch: int, heads: int, m: int, n: int, gain: float, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_BLOCK_ELEMENTS", 10 * heads * batch * n)
    torch.manual_seed(0)
    qk0, v0, qk1, v1 = (
        (factor * torch.randn(batch, length, heads, 16)).transpose(1, 2).bfloat16()
        for length, factor in ((m, 0.5 * gain), (m, 1.0), (n, 0.5), (n, 1.0))
    )
    lengths0, lengths1 = (torch.tensor([max(1, k - 3 * row) for row in range(batch)])[:, None] for k in (m, n))
    valid0, valid1 = (torch.arange(m) < lengths0, torch.arange(n) < lengths1) if padded else (None, None)
    expected0 = attend(qk0.float(), qk1.float(), v1.float(), valid1, scale=1)
    expected1 = attend(qk1.float(), qk0.float(), v0.float(), valid0, scale=1)
    found0, found1 = attend_mutually(qk0, qk1, v0, v1, valid0, valid1)
    assert found0.dtype == found1.dtype == torch.bfloat16
    kept0, kept1 = (
        torch.ones(batch, k, dtype=torch.bool) if valid is None else valid for valid, k in ((valid0, m), (valid1, n))
    )
    # Sums of large exponents are rounded to 8 bits: that moves weights by a share of the greatest exponent.
    tolerance = 0.02 * max(1.0, gain)
    for found, expected, kept in ((found0, expected0, kept0), (found1, expected1, kept1)):
        difference = (found.float() - expected).transpose(1, 2)[kept].abs()
        assert float(difference.mean()) < tolerance and bool(difference.isfinite().all())


def test_a_call_in_inference_mode_leaves_the_next_one_free() -> None:
    qk, v = torch.randn(2, 1, 2, 20, 16).bfloat16()
    results = []

    def attend_in_both_modes() -> None:
        with torch.inference_mode():
            results.append(attend_mutually(qk, qk, v, v)[0])
        with torch.no_grad():
            results.append(attend_mutually(qk, qk, v, v)[0])

    thread = Thread(target=attend_in_both_modes)  # which has no block yet
    thread.start()
    thread.join()
    assert len(results) == 2 and torch.equal(*results)


def test_gradients_flow_in_bfloat16() -> None:
    q, k, v = (torch.randn(1, 2, 5, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    attend(q, k, v).sum().backward()
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in (q, k, v))
