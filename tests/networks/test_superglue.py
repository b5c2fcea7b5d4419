from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.networks.superglue import PointNorm, SuperGlueConfig, SuperGlueNetwork, keypoint_inputs

SMALL = SuperGlueConfig(
    features="sift", input_dim=16, descriptor_dim=32, num_layers=2, num_heads=4, keypoint_encoder_dims=(8, 16)
)


def random_images(*lengths: int, size: int = 2) -> list[tuple[Tensor, Tensor]]:
    """Descriptors (size, n, 16) and positions (size, n, 3) for each length n."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, n, 16, generator=generator), torch.rand(size, n, 3, generator=generator)) for n in lengths
    ]


def make_network(config: SuperGlueConfig = SMALL) -> SuperGlueNetwork:
    torch.manual_seed(0)
    return SuperGlueNetwork(config).eval()


def test_inputs_by_hand() -> None:
    keypoints = torch.tensor([[[0.0, 0.0], [400.0, 300.0], [800.0, 600.0]]])
    inputs = keypoint_inputs(keypoints, torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[800, 600]]))
    # The longer side is 800 px: 0.7 · 800 = 560.
    expected = torch.tensor([[[-400 / 560, -300 / 560, 0.1], [0.0, 0.0, 0.2], [400 / 560, 300 / 560, 0.3]]])
    torch.testing.assert_close(inputs, expected)


def test_names_are_those_of_the_released_weights() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    linear = ("weight", "bias")
    expected = {"bin_score", *(f"final_proj.{leaf}" for leaf in linear)}
    for number in (0, 3, 6, 9, 12):
        expected |= {f"kenc.encoder.{number}.{leaf}" for leaf in linear}
    for number in (1, 4, 7, 10):
        expected |= {f"kenc.encoder.{number}.{leaf}" for leaf in norm}
    for step in range(18):
        layer = f"gnn.layers.{step}"
        for name in ("attn.merge", "attn.proj.0", "attn.proj.1", "attn.proj.2", "mlp.0", "mlp.3"):
            expected |= {f"{layer}.{name}.{leaf}" for leaf in linear}
        expected |= {f"{layer}.mlp.1.{leaf}" for leaf in norm}
    network = SuperGlueNetwork(SuperGlueConfig())
    assert set(network.state_dict()) == expected
    # 12 M parameters, as the paper says (Sarlin et al. 2020, section 4).
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == 12


def test_batch_norm_is_blind_to_padding() -> None:
    torch.manual_seed(0)
    x, valid = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    expected, padded = torch.nn.BatchNorm1d(8), PointNorm(8)
    real = expected(x[valid])
    torch.testing.assert_close(padded(x, valid)[valid], real)
    torch.testing.assert_close(padded.running_mean, expected.running_mean)
    torch.testing.assert_close(padded.running_var, expected.running_var)
    assert not padded(x, valid)[~valid].any()


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(training: bool) -> None:
    """In training too, where the statistics of the batch are those of its real points."""
    network, again = make_network().train(training), make_network().train(training)
    (d0, p0), (d1, p1) = random_images(7, 5)
    alone = network(d0, d1, p0, p1)

    def pad(x: Tensor) -> Tensor:
        return torch.cat((x, torch.full((2, 4, x.shape[2]), 9.0)), 1)

    valid0, valid1 = torch.arange(11).expand(2, -1) < 7, torch.arange(9).expand(2, -1) < 5
    padded = again(pad(d0), pad(d1), pad(p0), pad(p1), valid0, valid1)
    torch.testing.assert_close(padded[:, [*range(7), 11]][:, :, [*range(5), 9]], alone, atol=1e-4, rtol=0)
    for (name, buffer), other in zip(network.named_buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=name)
    moved = [bool(norm.running_mean.any()) for norm in network.modules() if isinstance(norm, PointNorm)]  # type: ignore[union-attr]
    assert all(moved) if training else not any(moved)


def test_swapping_the_images_transposes() -> None:
    network = make_network()
    (d0, p0), (d1, p1) = random_images(7, 5)
    torch.testing.assert_close(network(d0, d1, p0, p1), network(d1, d0, p1, p0).mT, atol=1e-4, rtol=0)


def test_each_input_counts() -> None:
    network = make_network()
    (d0, p0), (d1, p1) = random_images(7, 5)
    log_p = network(d0, d1, p0, p1)
    for other in (network(d0 + 0.1, d1, p0, p1), network(d0, d1, p0, p1 * torch.tensor([1.0, 1.0, 2.0]))):
        assert not torch.allclose(other, log_p, atol=1e-3)


def test_everything_learns() -> None:
    network = make_network().train()
    (d0, p0), (d1, p1) = random_images(7, 5)
    valid0, valid1 = torch.arange(7) < torch.tensor([[7], [3]]), torch.arange(5) < torch.tensor([[2], [5]])
    log_p = network(d0, d1, p0, p1, valid0, valid1)
    (-(log_p[0, 0, 0] + log_p[1, 2, 4] + log_p[0, 5, -1] + log_p[1, -1, 1])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        # A bias before batch norm, or of keys before softmax, has no effect.
        assert bool(parameter.grad.any()) or name.endswith("bias"), name


def test_autocast_keeps_places_and_assignment_exact() -> None:
    network = make_network()
    (d0, p0), (d1, p1) = random_images(7, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert network.kenc(p0).dtype == torch.float32
        log_p = network(d0, d1, p0, p1)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p[:, :-1].exp().sum(2), torch.ones(2, 7), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_p, network(d0, d1, p0, p1), atol=0.2, rtol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"sinkhorn_iterations": 0}, "sinkhorn_iterations"),
        ({"num_heads": 5}, "multiple of num_heads = 5, got 32"),
        ({"keypoint_encoder_dims": (8, 0)}, "keypoint_encoder_dims"),
        ({"filter_threshold": 1.5}, "filter_threshold"),
    ],
)
def test_bad_configs(change: dict, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        replace(SMALL, **change)
