"""The SuperPoint network: one encoder, a detector and a descriptor on it.

Source: DeTone, Malisiewicz, Rabinovich: SuperPoint: Self-Supervised Interest Point Detection and Description, 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, max_pool2d, normalize

STRIDE = 8  # pixels of a cell, of which the detector names one or none
DESCRIPTOR_DIM = 256
_CHANNELS = (64, 64, 128, 128)  # of the encoder, at full, half, quarter and eighth of the resolution
_HEAD_CHANNELS = 256


class ConvBlock(nn.Module):
    """Convolution, ReLU, batch normalisation, in this order; the last two may be left out."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, relu: bool, normalized: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2)
        self.activation = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.bn = nn.BatchNorm2d(channels_out, eps=1e-3) if normalized else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, channels_in, h, w) → (b, channels_out, h, w)."""
        return self.bn(self.activation(self.conv(x)))


class SuperPointNetwork(nn.Module):
    """Grey images to a score for every pixel and a descriptor for every cell of 8 × 8.

    normalized: with batch normalisation behind every ReLU, as the network trained anew has it (github.com/rpautrat/
    SuperPoint, whose names of the parameters these are); the first one has none.
    """

    def __init__(self, normalized: bool) -> None:
        super().__init__()
        stages = []
        for number, (before, after) in enumerate(zip((1, *_CHANNELS), _CHANNELS, strict=False)):
            blocks = [ConvBlock(before, after, 3, True, normalized), ConvBlock(after, after, 3, True, normalized)]
            halve = [nn.MaxPool2d(2)] if number < len(_CHANNELS) - 1 else []
            stages.append(nn.Sequential(*blocks, *halve))
        self.backbone = nn.Sequential(*stages)

        def head(channels: int) -> nn.Sequential:
            return nn.Sequential(
                ConvBlock(_CHANNELS[-1], _HEAD_CHANNELS, 3, True, normalized),
                ConvBlock(_HEAD_CHANNELS, channels, 1, False, normalized),
            )

        self.detector = head(STRIDE**2 + 1)  # the pixels of a cell, and the dustbin for "none of them"
        self.descriptor = head(DESCRIPTOR_DIM)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (b, h, w) and descriptors (b, 256, h/8, w/8) of unit length.

        images: (b, 1, h, w) grey in 0…1; h and w are multiples of 8.
        Source: DeTone et al. 2018, sections 3.2 and 3.3.
        """
        x = self.backbone(images)
        cells = self.detector(x).softmax(1)[:, :-1]
        scores = nn.functional.pixel_shuffle(cells, STRIDE).squeeze(1)
        return scores, normalize(self.descriptor(x), dim=1)


def suppress_non_maxima(scores: Tensor, radius: int) -> Tensor:
    """The scores (b, h, w), 0 at every pixel within `radius` (a square) of a higher one that stays.

    A pixel that is beaten only by one that is itself suppressed comes back, in two rounds; equal neighbours all stay.
    Source: Sarlin et al. 2020 (SuperGlue), its released code's rule.
    """
    if radius == 0:
        return scores

    def spread(values: Tensor) -> Tensor:
        return max_pool2d(values[:, None], 2 * radius + 1, stride=1, padding=radius)[:, 0]

    kept = scores == spread(scores)
    for _ in range(2):
        beaten = spread(kept.to(scores.dtype)) > 0
        rest = scores.masked_fill(beaten, 0)
        kept |= (rest == spread(rest)) & ~beaten
    return scores.masked_fill(~kept, 0)


def grey(images: Tensor) -> Tensor:
    """RGB (b, 3, h, w) → (b, 1, h, w)."""
    # A product of matrices: photos have their channels last, and a sum over the second axis would jump through them.
    return torch.einsum("bchw,c->bhw", images, images.new_tensor((0.299, 0.587, 0.114)))[:, None]


def sample_descriptors(descriptors: Tensor, keypoints: Tensor, *, drifting: bool) -> Tensor:
    """Descriptors (b, n, 256) of unit length at keypoints, between the four cells around each.

    descriptors: (b, 256, h/8, w/8). keypoints: (b, n, 2) px. drifting: as the first network was released: its grid
    of cells is stretched, so that samples drift from the right place at the upper left to 3.5 px off at the lower
    right.
    """
    sides = (descriptors.shape[3] * STRIDE, descriptors.shape[2] * STRIDE)  # px
    places = [
        (place - STRIDE / 2 + 0.5) / (side - STRIDE / 2 - 0.5) if drifting else (place + 0.5) / side
        for place, side in zip(keypoints.unbind(-1), sides, strict=True)
    ]
    grid = (2 * torch.stack(places, -1) - 1)[:, None].to(descriptors)
    found = grid_sample(descriptors, grid, mode="bilinear", align_corners=drifting)[:, :, 0]
    return normalize(found, dim=1).mT


def original_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of superpoint_v1.pth by the names of `SuperPointNetwork(normalized=False)`."""
    blocks = {f"conv{stage + 1}{'ab'[n]}": f"backbone.{stage}.{n}" for stage in range(4) for n in range(2)}
    for letter, head in (("P", "detector"), ("D", "descriptor")):
        blocks |= {f"conv{letter}{'ab'[n]}": f"{head}.{n}" for n in range(2)}
    return {
        f"{blocks[block]}.conv.{rest}" if (block := name.partition(".")[0]) in blocks else name: tensor
        for name, tensor in tensors.items()
        for rest in [name.partition(".")[2]]
    }
