"""Layers as matching runs them against layers as training does."""

import pytest
import torch

from lightmatch.networks.attention import TransformerLayer
from lightmatch.networks.folded import FoldedLayer
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork
from lightmatch.networks.rotary import FourierPositions


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_folded_layer_is_the_layer(dtype: torch.dtype, tolerance: float, padded: bool) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(64, 4)
    for parameter in layer.parameters():  # biases and norms that are not zeros and ones
        parameter.add_(0.1 * torch.randn_like(parameter))
    place = FourierPositions(2, 16)
    x0, x1 = torch.randn(2, 30, 64), torch.randn(2, 21, 64)
    rotary0, rotary1 = place(torch.rand(2, 30, 2)), place(torch.rand(2, 21, 2))
    valid0 = valid1 = None
    if padded:
        valid0, valid1 = (torch.arange(n) < torch.tensor([[n - 7], [n]]) for n in (30, 21))
    expected0, expected1 = layer(x0, x1, rotary0, rotary1, valid0, valid1)

    folded = FoldedLayer(layer.to(dtype))
    states0, states1 = folded.self_attn(x0, rotary0, valid0), folded.self_attn(x1, rotary1, valid1)
    found0, found1 = folded.cross_attn(states0, states1, valid0, valid1)
    for found, expected, valid in ((found0, expected0, valid0), (found1, expected1, valid1)):
        kept = torch.ones(expected.shape[:2], dtype=torch.bool) if valid is None else valid
        assert found.dtype == torch.float32  # states are not rounded
        torch.testing.assert_close(found[kept], expected[kept], atol=tolerance, rtol=tolerance)


def test_changed_weights_are_folded_anew() -> None:
    torch.manual_seed(0)
    network = LightGlueNetwork(LightGlueConfig(descriptor_dim=16, num_layers=2, num_heads=2))
    descriptors, positions = torch.randn(5, 128), torch.rand(5, 4)
    before = network.prepare(descriptors, positions).states
    with torch.no_grad():
        network.transformers[0].self_attn.out_proj.weight.mul_(2)  # type: ignore[union-attr]
    after = network.prepare(descriptors, positions).states
    assert not torch.equal(before, after)
    network.load_state_dict({name: torch.zeros_like(value) for name, value in network.state_dict().items()})
    assert not network.prepare(descriptors, positions).states.any()
