"""Learned Fourier rotary positions: where a keypoint lies, as a rotation of queries and keys."""

from typing import Literal

import torch
from torch import Tensor, nn

Rotary = tuple[Tensor, Tensor]  # cosines and sines, (b, n, head_dim / 2) each


def normalize_keypoints(keypoints: Tensor, image_sizes: Tensor) -> Tensor:
    """Centre keypoints on the image and scale its longer side to −1…1.

    keypoints: (b, n, 2) px. image_sizes: (b, 2), (width, height) px. Returns (b, n, 2).
    Source: Lindenberger et al. 2023, released code.
    """
    sizes = image_sizes.to(keypoints)[:, None]
    return (keypoints - sizes / 2) / (sizes.amax(-1, keepdim=True) / 2)


Positions = Literal["xy", "xy_scale_orientation", "xy_logscale_orientation"]
"""What a keypoint's rotary encoding is made of.

The released SIFT weights take scales in pixels ("xy_scale_orientation"). Their logarithm
("xy_logscale_orientation") makes the difference between two points the ratio of their scales, whatever
the resolution.
"""

# The released SIFT matchers saw scales in pixels of a photo whose long side is 1024.
_SCALE_LONG_SIDE_PX = 1024
_LEAST_SCALE_PX = 1e-3


def position_inputs(
    positions: Positions, keypoints: Tensor, image_sizes: Tensor, scales: Tensor | None, orientations: Tensor | None
) -> Tensor:
    """What `FourierPositions` takes of each keypoint: (b, n, 2), or (b, n, 4) with scale and orientation.

    keypoints: (b, n, 2) px. image_sizes: (b, 2), (width, height) px. scales: (b, n) px, orientations: (b, n) rad;
    needed unless positions is "xy".
    """
    places = normalize_keypoints(keypoints, image_sizes)
    if positions == "xy":
        return places
    assert scales is not None and orientations is not None  # the kind of the features was checked
    scales = scales * (_SCALE_LONG_SIDE_PX / image_sizes.amax(1, keepdim=True))
    if positions == "xy_logscale_orientation":
        scales = scales.clamp_min(_LEAST_SCALE_PX).log2()
    return torch.cat((places, scales[..., None], orientations[..., None]), -1)


class FourierPositions(nn.Module):
    """Angles that are learned linear maps of a position, shared by all layers and heads.

    Source: Lindenberger et al. 2023, section 3.1 (rotary encoding, b_k·(p_j − p_i)).
    """

    def __init__(self, position_dim: int, head_dim: int) -> None:
        super().__init__()
        self.Wr = nn.Linear(position_dim, head_dim // 2, bias=False)
        nn.init.normal_(self.Wr.weight)

    def forward(self, positions: Tensor) -> Rotary:
        """Positions (b, n, position_dim) → cosines and sines, (b, n, head_dim / 2) each, in the weights' dtype.

        The angles are computed in float32 whatever the weights' dtype, in autocast too: a half-precision angle of a
        few turns would place points pixels away.
        """
        with torch.autocast(positions.device.type, enabled=False):
            angles = nn.functional.linear(positions.float(), self.Wr.weight.float())
        return angles.cos().to(self.Wr.weight), angles.sin().to(self.Wr.weight)


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate each channel pair (2i, 2i+1) of x by its angle i.

    x: (b, heads, n, head_dim). rotary: (b, n, head_dim / 2) each. Returns the shape of x.
    Source: Su et al. 2021, equation 34; Lindenberger et al. 2023, equation 5.
    """
    cos, sin = (part[:, None].to(x) for part in rotary)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
