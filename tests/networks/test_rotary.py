import math

import torch

from lightmatch.networks.rotary import FourierPositions, normalize_keypoints, rotate


def test_normalised_keypoints_by_hand() -> None:
    keypoints = torch.tensor([[[0.0, 0.0], [400.0, 300.0], [800.0, 600.0]]])
    sizes = torch.tensor([[800, 600]])
    expected = torch.tensor([[[-1.0, -0.75], [0.0, 0.0], [1.0, 0.75]]])
    torch.testing.assert_close(normalize_keypoints(keypoints, sizes), expected)


def test_each_channel_pair_turns_by_its_angle() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).reshape(1, 1, 1, 4)
    angles = torch.tensor([math.pi / 2, math.pi]).reshape(1, 1, 2)
    turned = rotate(x, (angles.cos(), angles.sin()))
    torch.testing.assert_close(turned.flatten(), torch.tensor([0.0, 1.0, 0.0, -2.0]), atol=1e-6, rtol=0)


@torch.no_grad()
def test_attention_sees_relative_positions_only() -> None:
    """Equation 4: q_i·k_j depends on p_j − p_i, so moving both points alike changes nothing."""
    torch.manual_seed(0)
    encode = FourierPositions(2, 16)
    q, k = torch.randn(2, 1, 1, 1, 16)
    p_i, p_j, shift = torch.randn(3, 1, 1, 2)

    def similarity(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((rotate(q, encode(a)) * rotate(k, encode(b))).sum())

    assert abs(similarity(p_i, p_j) - similarity(p_i + shift, p_j + shift)) < 1e-5
    assert abs(similarity(p_i, p_j) - similarity(p_i, p_j + shift)) > 1e-3


def test_half_precision_keeps_exact_angles() -> None:
    torch.manual_seed(0)
    encode = FourierPositions(4, 16)
    positions = torch.tensor([[[0.5, 0.5, 60.0, 3.0]]])  # 60 px of scale: tens of turns
    encode.Wr.weight.data = encode.Wr.weight.data.bfloat16().float()
    exact = encode(positions)[0]
    rounded = encode.bfloat16()(positions)[0]
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=4e-3, rtol=0)
