"""Mip-mapped texture lookup: every texture at every scale in one flat table, read by gathers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lightmatch.errors import InvalidValueError


@dataclass(frozen=True, eq=False)
class TexturePyramid:
    """Square textures of one size with all their half-size copies (Williams 1983)."""

    texels: Tensor  # (count · stride, 4) uint8: RGB and an unused byte, since aligned reads are faster
    size: int  # texels along a side of the finest level
    count: int

    @property
    def level_sizes(self) -> list[int]:
        """Texels along a side of each level, finest first."""
        sizes = [self.size]
        while sizes[-1] > 1:
            sizes.append(sizes[-1] // 2)
        return sizes

    @property
    def stride(self) -> int:
        """Texels of one texture with all its levels."""
        return sum(size * size for size in self.level_sizes)

    @classmethod
    def from_textures(cls, textures: Tensor) -> TexturePyramid:
        """The pyramid of `textures` (count, size, size, 3) uint8 RGB.

        Raises InvalidValueError on any other shape or dtype.
        """
        good = textures.ndim == 4 and textures.shape[1] == textures.shape[2] and textures.shape[3] == 3
        if not good or textures.dtype != torch.uint8 or textures.numel() == 0:
            raise InvalidValueError(
                "textures: expected a non-empty uint8 tensor of shape (count, size, size, 3) in RGB order,"
                f" got shape {tuple(textures.shape)} and {textures.dtype}; crop and resize photos to one square size"
            )
        count, size = textures.shape[:2]
        level = textures.permute(0, 3, 1, 2).float()
        levels = []
        while True:
            levels.append(level.round().to(torch.uint8).flatten(2))
            if level.shape[-1] == 1:
                break
            level = functional.adaptive_avg_pool2d(level, level.shape[-1] // 2)
        flat = torch.cat(levels, 2).permute(0, 2, 1).reshape(-1, 3)
        return cls(functional.pad(flat, (0, 1)).contiguous(), int(size), int(count))

    def to(self, device: torch.device | str) -> TexturePyramid:
        """The same pyramid on `device`."""
        return TexturePyramid(self.texels.to(device), self.size, self.count)

    def sample(self, texture: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
        """Trilinear lookup.

        texture: (n,) int64. u, v: (n,) position in 0…1, right and down; outside, the border is repeated.
        footprint: (n,) extent of one sample in u or v, which selects the level.
        Returns (n, 3) float32 in 0…255.
        """
        last = len(self.level_sizes) - 1
        level = (footprint.clamp_min(1e-12) * self.size).log2().clamp(0, last)
        fine = level.floor().long()
        coarse = (fine + 1).clamp_max(last)
        low = self._bilinear(texture, u, v, fine)
        high = self._bilinear(texture, u, v, coarse)
        return torch.lerp(low, high, (level - fine)[:, None])

    def _bilinear(self, texture: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
        sizes = torch.tensor(self.level_sizes, device=u.device)
        starts = (sizes * sizes).cumsum(0) - sizes * sizes
        size = sizes[level]
        start = texture * self.stride + starts[level]
        x = torch.minimum((u * size - 0.5).clamp_min(0), size - 1.0)
        y = torch.minimum((v * size - 0.5).clamp_min(0), size - 1.0)
        x0, y0 = x.long(), y.long()
        right = torch.minimum(x0 + 1, size - 1)
        row0, row1 = start + y0 * size, start + torch.minimum(y0 + 1, size - 1) * size
        along_x = (x - x0)[:, None]
        upper = torch.lerp(self._read(row0 + x0), self._read(row0 + right), along_x)
        lower = torch.lerp(self._read(row1 + x0), self._read(row1 + right), along_x)
        return torch.lerp(upper, lower, (y - y0)[:, None])

    def _read(self, index: Tensor) -> Tensor:
        return self.texels.index_select(0, index)[:, :3].float()
