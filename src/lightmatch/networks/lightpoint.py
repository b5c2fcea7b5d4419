"""The LightPoint network: from a grey image to a score for every pixel and a descriptor map at a quarter of the size.

Fully convolutional, about 0.9 million parameters. The layout follows XFeat (cheap early layers) and EdgePoint2 (scores
by pixel shuffle, descriptors from a quarter); keypoints are placed between pixels by a parabola through the scores.
A descriptor is computed for each keypoint from samples of the map at learned offsets.
Sources: Potje et al.: XFeat, 2024, section 3.1; Yao et al.: EdgePoint2, 2025, section 3; Zhao et al.: ALIKED, 2023,
section III-B (sparse deformable descriptor head).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, max_pool2d, normalize, pixel_shuffle, relu
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightmatch.errors import InvalidValueError

STRIDE = 16  # height and width of the input are multiples of it
CELL = 4  # px of the input for a cell of the map that descriptors are made from


@dataclass(frozen=True)
class LightPointConfig:
    """Number of channels of the network."""

    descriptor_dim: int = 128
    channels: tuple[int, int, int, int] = (16, 32, 64, 128)  # at 1/2, 1/4, 1/8 and 1/16 of the resolution
    merged_channels: int = 128  # at 1/4, where all resolutions are merged
    score_channels: int = 16
    sample_channels: int = 64
    samples: int = 16  # of a descriptor, beside the one at its keypoint: the square of a number
    spaces: tuple[tuple[str, int], ...] = ()  # kinds of features whose descriptors are read off ours, and their widths

    def __post_init__(self) -> None:
        widths = (self.descriptor_dim, *self.channels, self.merged_channels, self.score_channels, self.sample_channels)
        if len(self.channels) != 4 or min(widths) < 1:
            raise InvalidValueError(f"LightPointConfig: expected positive widths, four of them in channels, got {self}")
        if self.samples < 1 or math.isqrt(self.samples) ** 2 != self.samples:
            raise InvalidValueError(f"LightPointConfig: expected samples to be a square, got {self.samples}")


class LightPointMaps(NamedTuple):
    """What the network makes of b images of h × w pixels."""

    logits: Tensor  # (b, h, w), the score of a keypoint is their sigmoid
    cells: Tensor  # (b, c, h/4, w/4), what descriptors are made from


class _ConvNorm(nn.Module):
    """Convolution without bias and batch normalisation; `fold` makes them one convolution."""

    def __init__(self, before: int, after: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size, stride, (kernel_size - 1) // 2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))

    def fold(self) -> None:
        assert isinstance(self.bn, nn.BatchNorm2d)
        self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()


class _Residual(nn.Module):
    """Two 3 × 3 convolutions beside the identity, or beside a 1 × 1 convolution where the width changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(before, after, 3)
        self.conv2 = _ConvNorm(after, after, 3)
        self.shortcut = nn.Identity() if before == after else _ConvNorm(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _relu(self.conv2(_relu(self.conv1(x))) + self.shortcut(x))


class _DescriptorHead(nn.Module):
    """A descriptor from the map at a keypoint and at `samples` places about it, which what lies at it chooses."""

    def __init__(self, channels: int, samples: int, descriptor_dim: int) -> None:
        super().__init__()
        self.samples = samples
        self.offset1 = nn.Linear(channels, channels)
        self.offset2 = nn.Linear(channels, 2 * samples)
        self.middle = nn.Linear(channels, descriptor_dim)
        self.around = nn.Linear(samples * channels, descriptor_dim, bias=False)
        nn.init.zeros_(self.offset2.weight)
        self.offset2.bias.data = _square_grid(math.isqrt(samples)).flatten()

    def forward(self, cells: Tensor, keypoints: Tensor) -> Tensor:
        """(b, n, d), not normalised. cells: (b, c, h/4, w/4). keypoints: (b, n, 2) px."""
        dtype = self.middle.weight.dtype
        middle = sample_cells(cells, keypoints[:, :, None])[:, :, 0].to(dtype)
        offsets = self.offset2(_relu(self.offset1(middle))).to(keypoints.dtype)  # cells
        places = keypoints[:, :, None] + CELL * offsets.unflatten(-1, (self.samples, 2))
        around = sample_cells(cells, places).to(dtype)
        return self.middle(middle) + self.around(around.flatten(2))


def _square_grid(side: int) -> Tensor:
    """Places (side², 2) about the origin, a step and a half apart."""
    along = 1.5 * (torch.arange(side) - (side - 1) / 2)
    return torch.stack(torch.meshgrid(along, along, indexing="xy"), -1).reshape(-1, 2)


class LightPointNetwork(nn.Module):
    """Scores and descriptors from grey images, (b, 1, h, w) with h and w multiples of 16; see the module."""

    def __init__(self, config: LightPointConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LightPointConfig()
        half, quarter, eighth, sixteenth = config.channels
        merged, score = config.merged_channels, config.score_channels
        self.stem = _ConvNorm(1, half, 4, stride=2)
        self.at_half = _Residual(half, half)
        self.at_quarter = _ConvNorm(half, quarter, 3)
        self.at_eighth = nn.Sequential(_Residual(quarter, eighth), _Residual(eighth, eighth))
        self.at_sixteenth = nn.Sequential(_Residual(eighth, sixteenth), _Residual(sixteenth, sixteenth))
        self.laterals = nn.ModuleList(_ConvNorm(width, merged, 1) for width in (quarter, eighth, sixteenth))
        self.cells = nn.Conv2d(merged, config.sample_channels, 1)
        self.descriptor = _DescriptorHead(config.sample_channels, config.samples, config.descriptor_dim)
        self.score_fine = _ConvNorm(half, score, 1)
        self.score_coarse = _ConvNorm(merged, score, 1)
        self.score1 = _ConvNorm(score, score, 3)
        self.score2 = _ConvNorm(score, score, 3)
        self.score3 = nn.Conv2d(score, 4, 3, padding=1)
        nn.init.constant_(self.score3.bias, -4.0)  # type: ignore[arg-type]  # few pixels are keypoints
        self.spaces = nn.ModuleDict({name: nn.Linear(config.descriptor_dim, width) for name, width in config.spaces})

    def forward(self, images: Tensor) -> LightPointMaps:
        """images: (b, 1, h, w), grey, see `standardize`; h and w are multiples of 16."""
        half = self.at_half(_relu(self.stem(images)))
        quarter = _relu(self.at_quarter(avg_pool2d(half, 2)))
        eighth = self.at_eighth(avg_pool2d(quarter, 2))
        sixteenth = self.at_sixteenth(avg_pool2d(eighth, 2))
        merged = self.laterals[2](sixteenth)
        merged = self.laterals[1](eighth) + _doubled(merged)
        merged = _relu(self.laterals[0](quarter) + _doubled(merged))
        score = _relu(self.score_fine(half) + _doubled(self.score_coarse(merged)))
        score = self.score3(_relu(self.score2(_relu(self.score1(score)))))
        return LightPointMaps(pixel_shuffle(score.float(), 2).squeeze(1), _relu(self.cells(merged)).float())

    def describe(self, cells: Tensor, keypoints: Tensor) -> Tensor:
        """Descriptors (b, n, d) float32 of unit length at keypoints (b, n, 2) px. cells: as in `LightPointMaps`."""
        return normalize(self.descriptor(cells, keypoints).float(), dim=-1)

    def fold(self) -> LightPointNetwork:
        """Make every batch normalisation a part of its convolution, in place: for inference alone."""
        self.eval()
        for module in list(self.modules()):
            if isinstance(module, _ConvNorm):
                module.fold()
        return self

    def in_space(self, descriptors: Tensor, name: str) -> Tensor:
        """Descriptors (…, d) of unit length as those of the features called `name`, (…, width) of unit length."""
        space = self.spaces[name]
        assert isinstance(space, nn.Linear)
        return normalize(space(descriptors.to(space.weight.dtype)).float(), dim=-1)


def _relu(x: Tensor) -> Tensor:
    return relu(x, inplace=True)  # of sums and of normalised values, which nothing else reads


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def brightness(grey: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (b, 1, 1, 1) each, of grey images (b, 1, h, w).

    inside: (b, 1, h, w) bool, the pixels that count; where none does, both are 0. None: all count.
    """
    if inside is None:
        mean = grey.mean((2, 3), keepdim=True)
        return mean, (grey - mean).square().mean((2, 3), keepdim=True).sqrt()  # std_mean takes ten times as long
    share = inside / inside.sum((2, 3), keepdim=True).clamp_min(1)
    mean = (grey * share).sum((2, 3), keepdim=True)
    return mean, ((grey - mean).square() * share).sum((2, 3), keepdim=True).sqrt()


def standardize(grey: Tensor, of: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Grey images (b, 1, h, w) in 0…1, each with mean 0 and standard deviation 1, or less where it is nearly blank.

    of: the mean and standard deviation that are taken out, where they are not those of the images themselves.
    """
    mean, std = of or brightness(grey)
    return (grey - mean) / (std + _LEAST_CONTRAST)


_LEAST_CONTRAST = 0.01


def sample_cells(cells: Tensor, places: Tensor) -> Tensor:
    """Values (b, n, k, c) at places (b, n, k, 2) px of the input, between the middles of the four cells around each.

    cells: (b, c, h/4, w/4); beyond the middle of the outermost cells the nearest of them holds.
    """
    sides = (cells.shape[3] * CELL, cells.shape[2] * CELL)  # px
    grid = torch.stack([2 * (place + 0.5) / side - 1 for place, side in zip(places.unbind(-1), sides, strict=True)], -1)
    found = grid_sample(cells, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.permute(0, 2, 3, 1)


def local_maxima(logits: Tensor, radius: int) -> Tensor:
    """Pixels (b, h, w) bool that are the highest within `radius` (a square) and `radius` px or more from the border.

    Of equal neighbours the first is taken, row by row: half precision often leaves two, whose sub-pixel places agree.
    """
    side = 2 * radius + 1
    own = torch.arange(logits[0].numel(), device=logits.device).view(logits.shape[1:])
    row_maxima, first_x = max_pool2d(logits[:, None], (1, side), 1, (0, radius), return_indices=True)
    first_y = max_pool2d(row_maxima, (side, 1), 1, (radius, 0), return_indices=True)[1]
    row, column = (torch.arange(length, device=logits.device) for length in logits.shape[1:])
    inner_y, inner_x = (torch.minimum(place, place.flip(0)) >= radius for place in (row, column))
    return ((first_x == own) & (first_y == own))[:, 0] & inner_y[:, None] & inner_x


def subpixel_offsets(logits: Tensor, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where the maximum of a parabola lies beside each pixel, (n, 2) px in −½…½ along x and y.

    logits: (b, h, w). image, x, y: (n,) int64; each pixel has neighbours on all four sides. Differentiable.
    """
    middle = logits[image, y, x]
    offsets = [
        _vertex(logits[image, y, x - 1], middle, logits[image, y, x + 1]),
        _vertex(logits[image, y - 1, x], middle, logits[image, y + 1, x]),
    ]
    return torch.stack(offsets, -1)


def _vertex(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    curvature = (2 * middle - before - after).clamp_min(1e-3)
    return (0.5 * (after - before) / curvature).clamp(-0.5, 0.5)
