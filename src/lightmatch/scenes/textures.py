"""Procedural textures with corners at every scale and without repetition.

A texture is painted in layers: colour noise, one structure (bricks, cells, stripes or paint),
shapes of all sizes with writing-like strokes, and fine grain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError

Shape = Callable[[Tensor, Tensor], Tensor]  # (dx, dy) px from the centre → signed distance px, negative inside


def smooth_noise(generator: torch.Generator, size: int, cells: int, channels: int = 1) -> Tensor:
    """Smooth random values with about `cells` bumps along each side.

    Returns (channels, size, size) float32, roughly in −1…1: uniform noise on a grid, interpolated by
    Catmull–Rom splines along both sides.
    """
    grid = torch.rand((channels, cells + 3, cells + 3), generator=generator) * 2 - 1
    position = torch.arange(size) * (cells / size)
    first = position.long()
    t = (position - first)[:, None]
    taps = torch.cat([t * (-1 + t * (2 - t)), 2 + t * t * (3 * t - 5), t * (1 + t * (4 - 3 * t)), t * t * (t - 1)], 1)
    spline = torch.zeros(size, cells + 3).scatter_(1, first[:, None] + torch.arange(4), taps / 2)
    return spline @ grid @ spline.T


def fractal_noise(
    generator: torch.Generator, size: int, coarsest: int, octaves: int, channels: int = 1, gain: float = 0.6
) -> Tensor:
    """Sum of `octaves` smooth noises, each twice as fine and `gain` times as strong as the last.

    Returns (channels, size, size) float32, roughly in −1…1; octaves finer than two pixels are left out.
    """
    total = torch.zeros((channels, size, size))
    weight = 1.0
    norm = 0.0
    for octave in range(octaves):
        cells = coarsest * 2**octave
        if octave and cells > size // 2:
            break
        total += weight * smooth_noise(generator, size, cells, channels)
        norm += weight**2
        weight *= gain
    return total / math.sqrt(norm)


def procedural_textures(generator: torch.Generator, count: int, size: int) -> Tensor:
    """`count` different textures, colourful and full of corners.

    Returns (count, size, size, 3) uint8 RGB on the CPU. The same generator state gives the same bits.
    Raises InvalidValueError where count < 1 or size < 16.
    """
    if count < 1 or size < 16:
        raise InvalidValueError(
            f"procedural_textures: expected count ≥ 1 and size ≥ 16 pixels, got {count} and {size}; raise them"
        )
    return torch.stack([_texture(generator, number, size) for number in range(count)])


def _texture(generator: torch.Generator, number: int, size: int) -> Tensor:
    structures = (_bricks, _cells, _patchwork, _cells)
    palette = _palette(generator)
    picture = structures[number % len(structures)](generator, size, palette)
    picture += 0.1 * fractal_noise(generator, size, 4, 5, channels=3).permute(1, 2, 0)
    _scatter_shapes(generator, picture, palette)
    grain = fractal_noise(generator, size, max(size // 12, 2), 3, gain=1.0)[0]
    picture *= 1 + 0.22 * grain[..., None]
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _palette(generator: torch.Generator) -> Tensor:
    """(8, 3): muted colours around one hue from dark to bright, and two saturated ones."""
    base = 0.52 + 0.12 * (torch.rand(3, generator=generator) - 0.5)
    light = torch.linspace(0.3, 1.7, 8)[torch.randperm(8, generator=generator)]
    tint = 0.04 * torch.randn((8, 3), generator=generator)
    tint[:2] *= 4
    return (base * light[:, None] + tint).clamp(0.04, 0.96)


def _pick(generator: torch.Generator, palette: Tensor, count: int) -> Tensor:
    """(count, 3): palette colours, each a little different."""
    index = torch.randint(len(palette), (count,), generator=generator)
    return (palette[index] + 0.06 * torch.randn((count, 3), generator=generator)).clamp(0.02, 0.98)


def _cuts(generator: torch.Generator, size: int, low: float, high: float) -> list[int]:
    """Increasing positions from 0 to `size`, their distances random between low and high."""
    steps = _random_steps(generator, math.ceil(size / low) + 1, low, high)
    inner = [int(p) for p in steps.cumsum(0).tolist() if p < size - low / 2]
    return [0, *inner, size]


def _random_steps(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _bricks(generator: torch.Generator, size: int, palette: Tensor) -> Tensor:
    picture = _pick(generator, palette, 1).expand(size, size, 3).clone()
    height = _uniform(generator, 0.02, 0.035) * size
    gap = max(1, round(0.06 * height))
    rows = _cuts(generator, size, 0.7 * height, 1.4 * height)
    for top, bottom in pairwise(rows):
        columns = _cuts(generator, size, 1.0 * height, 3.2 * height)
        colours = _pick(generator, palette, len(columns))
        for left, right, colour in zip(columns, columns[1:], colours, strict=False):
            picture[top : bottom - gap, left : right - gap] = colour
    return picture


def _patchwork(generator: torch.Generator, size: int, palette: Tensor) -> Tensor:
    """Rectangles over rectangles, large ones first."""
    picture = _pick(generator, palette, 1).expand(size, size, 3).clone()
    count = 260
    colours = _pick(generator, palette, count)
    boxes = torch.rand((count, 4), generator=generator).tolist()
    for number, ((x, y, w, h), colour) in enumerate(zip(boxes, colours, strict=True)):
        largest = 0.2 * (1 - number / count) ** 2 + 0.025
        width, height = ((0.1 + 0.9 * side) * largest for side in (w, h))
        left, top = (round((1.1 * start - 0.1) * size) for start in (x, y))
        right, bottom = left + max(2, round(width * size)), top + max(2, round(height * size))
        picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour
    return picture


def _cells(generator: torch.Generator, size: int, palette: Tensor) -> Tensor:
    """Voronoi cells of jittered grid points: paving stones with dark joints."""
    count = max(3, int(_uniform(generator, 0.024, 0.045) * size))
    cell = size / count
    # Kept from the borders of its grid square, a point's cell reaches no farther than the next square.
    jitter = 0.12 + 0.76 * torch.rand((count + 2, count + 2, 2), generator=generator)
    colours = _pick(generator, palette, (count + 2) ** 2)
    axis = torch.arange(size) / cell + 1
    home = axis.floor().long()
    nearest = torch.full((size, size), torch.inf)
    second = nearest.clone()
    owner = torch.zeros((size, size), dtype=torch.int64)
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            row, column = (home + dy).clamp(0, count + 1), (home + dx).clamp(0, count + 1)
            seed = jitter[row[:, None], column[None]]
            apart = torch.hypot(
                (column + 0.0)[None] + seed[..., 0] - axis[None], (row + 0.0)[:, None] + seed[..., 1] - axis[:, None]
            )
            closer = apart < nearest
            second = torch.where(closer, nearest, torch.minimum(second, apart))
            owner = torch.where(closer, row[:, None] * (count + 2) + column[None], owner)
            nearest = torch.where(closer, apart, nearest)
    joint = (((second - nearest) - 0.06) * cell / 2).clamp(0, 1)
    return colours[owner] * (0.35 + 0.65 * joint)[..., None]


def _scatter_shapes(generator: torch.Generator, picture: Tensor, palette: Tensor) -> None:
    """Paint polygons, rings, blobs and strokes of all sizes into `picture`, in place."""
    size = len(picture)
    count = 600
    colours = _pick(generator, palette, count)
    for number in range(count):
        # Log-uniform sizes, large ones first, so that every scale keeps its own corners.
        fraction = 1 - number / count
        radius = 3.0 * (0.05 * size / 3.0) ** (fraction**2 * _uniform(generator, 0.7, 1))
        x, y = (_uniform(generator, 0, size) for _ in range(2))
        colour = colours[number]
        kind = int(torch.randint(8, (), generator=generator))
        if kind < 4:
            _paint(picture, x, y, radius, colour, _polygon(generator, radius, 3 + kind))
        elif kind == 4:
            _paint(picture, x, y, radius, colour, _ellipse(generator, radius))
        elif kind == 5:
            _paint(picture, x, y, radius, colour, _stroke(generator, radius, max(1.0, 0.12 * radius)))
        else:  # a sign: a few thick strokes around one place, like a letter
            pen = max(0.9, 0.16 * radius)
            for _ in range(3):
                dx, dy = (_uniform(generator, -0.5, 0.5) * radius for _ in range(2))
                _paint(picture, x + dx, y + dy, radius, colour, _stroke(generator, 0.8 * radius, pen))


def _paint(picture: Tensor, x: float, y: float, radius: float, colour: Tensor, shape: Shape) -> None:
    """Blend `colour` into `picture` where `shape`, centred at (x, y) px, lies; edges are one pixel soft."""
    size = len(picture)
    reach = math.ceil(radius) + 2
    left, right = max(int(x) - reach, 0), min(int(x) + reach + 1, size)
    top, bottom = max(int(y) - reach, 0), min(int(y) + reach + 1, size)
    if left >= right or top >= bottom:
        return
    distance = shape(torch.arange(left, right)[None] - x, torch.arange(top, bottom)[:, None] - y)
    cover = (0.5 - distance).clamp(0, 1)[..., None]
    picture[top:bottom, left:right].lerp_(colour, cover)


def _polygon(generator: torch.Generator, radius: float, corners: int) -> Shape:
    """A convex polygon: the meeting of half-planes in random directions."""
    turn = torch.arange(corners) + 0.6 * torch.rand(corners, generator=generator) - 0.3
    angles = turn * (2 * math.pi / corners) + _uniform(generator, 0, 2 * math.pi)
    offsets = radius * _random_steps(generator, corners, 0.3, 0.6)

    def distance(dx: Tensor, dy: Tensor) -> Tensor:
        sides = angles.cos()[:, None, None] * dx + angles.sin()[:, None, None] * dy - offsets[:, None, None]
        # Half-planes of a triangle can meet outside the painted window: the disc bounds them.
        return torch.maximum(sides.amax(0), torch.hypot(dx, dy) - radius)

    return distance


def _ellipse(generator: torch.Generator, radius: float) -> Shape:
    angle = _uniform(generator, 0, math.pi)
    narrow = _uniform(generator, 0.4, 1)

    def distance(dx: Tensor, dy: Tensor) -> Tensor:
        along = math.cos(angle) * dx + math.sin(angle) * dy
        across = math.cos(angle) * dy - math.sin(angle) * dx
        return (torch.hypot(along, across / narrow) - radius) * narrow

    return distance


def _stroke(generator: torch.Generator, radius: float, half_width: float) -> Shape:
    """A straight pen stroke with round ends."""
    angle = _uniform(generator, 0, math.pi)
    half_length = max(radius - half_width, 0.0)

    def distance(dx: Tensor, dy: Tensor) -> Tensor:
        along = math.cos(angle) * dx + math.sin(angle) * dy
        across = math.cos(angle) * dy - math.sin(angle) * dx
        return torch.hypot((along.abs() - half_length).clamp_min(0), across) - half_width

    return distance
