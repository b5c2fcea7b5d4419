"""Rendered views of procedural worlds with photos as textures, with exact depth and pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.extractors import Extractor
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid, scale_intrinsics
from lightmatch.geometry.correspondence import Projection, project_by_depth
from lightmatch.images import load_image
from lightmatch.scenes import (
    RenderedScene,
    World,
    WorldConfig,
    build_world,
    look_at,
    pinhole,
    procedural_textures,
    render,
)
from lightmatch.training.overlap import choose_views, depth_overlap, fitting_pairs
from lightmatch.training.photometric import augment
from lightmatch.training.photos import photo_states
from lightmatch.training.views import ViewGroup
from lightmatch.types import Image


@dataclass(frozen=True)
class WorldsConfig:
    """Options of the worlds and their cameras."""

    size: tuple[int, int] = (640, 480)  # px of the views
    views_per_group: int = 6
    repeated_share: float = 0.25  # part of the worlds with repeated objects, facades and tiles
    open_share: float = 0.25  # part of the worlds without facades
    backdrop_share: float = 0.6  # part of the worlds with distant images around instead of a plain sky
    painted_textures: int = 1  # of num_textures; the others are cut from photos
    num_textures: int = 20
    texture_size: int = 512  # px
    fov_deg: tuple[float, float] = (40.0, 80.0)  # horizontal
    turned_share: float = 0.15  # part of the views rolled by up to 90°; the others by up to 20°
    overlap: tuple[float, float] = (0.1, 0.8)  # of a pair: the smaller of both overlaps
    supersampling: int = 1  # colour samples along each side of a pixel

    def __post_init__(self) -> None:
        if self.views_per_group < 2 or not 0 <= self.painted_textures <= self.num_textures:
            raise InvalidValueError(
                "WorldsConfig: expected views_per_group ≥ 2 and painted_textures within 0…num_textures,"
                f" got {self.views_per_group}, {self.painted_textures} and {self.num_textures}"
            )
        if not 0 <= self.overlap[0] < self.overlap[1] <= 1:
            raise InvalidValueError(f"WorldsConfig.overlap: expected 0 ≤ low < high ≤ 1, got {self.overlap}")


@dataclass(frozen=True)
class WorldSource:
    """Groups of views, each of one world; the group of an index is always the same."""

    photos: Sequence[Path]
    surfaces: Sequence[Path] = ()  # photos of plain surfaces, such as walls and pavements
    seed: int = 0
    config: WorldsConfig = WorldsConfig()
    device: str = "cpu"  # where views are rendered; changes speed, not content

    def __post_init__(self) -> None:
        if not self.photos and self.config.painted_textures < self.config.num_textures:
            raise InvalidValueError("WorldSource: expected photos as textures of the worlds, got none; add some")

    def __repr__(self) -> str:
        # What the groups depend on, for the name of their folder.
        return f"WorldSource({photo_states(self.photos)}, {photo_states(self.surfaces)}, {self.seed}, {self.config})"

    def group(self, index: int, extractor: Extractor) -> ViewGroup:
        """Group number `index`: the views of one world."""
        scene = self.scene(index)
        rng = np.random.default_rng((self.seed, index, 1))
        features = [extractor(Image(augment(pixels.numpy(), rng))) for pixels in scene.rgb]
        # The sky gets a depth beyond every surface.
        depth = torch.where(scene.depth > 0, scene.depth, _SKY_DISTANCE)

        def project(i: int, j: int) -> Projection:
            motion = compose_rigid(scene.cam_from_world[j], invert_rigid(scene.cam_from_world[i]))
            return project_by_depth(features[i].keypoints, depth[i], scene.K[i], depth[j], scene.K[j], motion)

        views = range(len(features))
        return ViewGroup.from_projections(features, [[project(i, j) for j in views] for i in views])

    def scene(self, index: int) -> RenderedScene:
        """The world of group `index` and its views, on the CPU; before photometric augmentation."""
        config = self.config
        rng = np.random.default_rng((self.seed, index))
        furnishing = _random_furnishing(config, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        world = build_world(generator, furnishing, self._textures(furnishing.repeated_facades, generator, rng))
        world = replace(world, sky=_random_sky(rng), ambient=rng.uniform(0.55, 0.9)).to(self.device)
        K, poses = _place_cameras(world, furnishing, config, rng)
        exposure = torch.from_numpy(np.exp(rng.uniform(-0.2, 0.4, len(K))))
        seen = render(world, K, poses, config.size, supersampling=config.supersampling, exposure=exposure)
        return RenderedScene(world, K, poses, seen.rgb.cpu(), seen.depth.cpu())

    def _textures(self, tiled: bool, generator: torch.Generator, rng: np.random.Generator) -> Tensor:
        """(num_textures, size, size, 3) uint8 in random order: crops of a few photos, and painted ones."""
        size, count = self.config.texture_size, self.config.num_textures - self.config.painted_textures
        cut: list[np.ndarray] = []
        while len(cut) < count:
            pool = self.surfaces if self.surfaces and rng.random() < _SURFACE_SHARE else self.photos
            pixels = load_image(pool[int(rng.integers(len(pool)))]).pixels
            for _ in range(min(_CROPS_PER_PHOTO, count - len(cut))):
                piece = _richest_crop(pixels, rng)
                repeats = int(rng.integers(2, 5)) if tiled and rng.random() < _TILED_SHARE else 1
                part = -(-size // repeats)
                tile = cv2.resize(piece, (part, part), interpolation=cv2.INTER_AREA)
                cut.append(np.tile(tile, (repeats, repeats, 1))[:size, :size])
        painted = self.config.painted_textures
        textures = torch.from_numpy(np.stack(cut)) if cut else torch.empty((0, size, size, 3), dtype=torch.uint8)
        if painted:
            textures = torch.cat((textures, procedural_textures(generator, painted, size)))
        return textures[torch.from_numpy(rng.permutation(len(textures)))]


_SKY_DISTANCE = 1e5  # m
_SURFACE_SHARE = 0.3  # of the photos drawn
_CROPS_PER_PHOTO = 2
_TILED_SHARE = 0.3  # of the textures in worlds with repetition
_PROBE_SHRINK = 4  # candidate views are tested in images smaller by this factor
_TRIES = 3
_ENOUGH = 0.8  # part of the pairs of a group that must have the overlap of the config


def _random_furnishing(config: WorldsConfig, rng: np.random.Generator) -> WorldConfig:
    repeated = rng.random() < config.repeated_share
    return WorldConfig(
        extent=rng.uniform(6, 14),
        wall_height=0.0 if rng.random() < config.open_share else rng.uniform(2, 6),
        num_objects=int(rng.integers(3, 15)),
        repeated_objects=int(rng.integers(2, 7)) if repeated else 0,
        repeated_facades=bool(repeated and rng.random() < 0.5),
        num_backdrops=8 if rng.random() < config.backdrop_share else 0,
        relief=math.exp(rng.uniform(math.log(0.01), math.log(0.3))),
        texel_size=math.exp(rng.uniform(math.log(0.004), math.log(0.008))),
        num_textures=config.num_textures,
        texture_size=config.texture_size,
    )


def _random_sky(rng: np.random.Generator) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """RGB at the horizon and overhead: from grey to blue skies, with a random tint."""
    bright, blue = rng.uniform(120, 235), rng.uniform(0, 0.45)
    tint = rng.uniform(-12, 12, 3)
    horizon = bright * np.array([1 - 0.15 * blue, 1 - 0.05 * blue, 1]) + tint
    zenith = 0.9 * bright * np.array([1 - blue, 1 - 0.5 * blue, 1]) + tint
    return tuple(horizon.clip(0, 255).tolist()), tuple(zenith.clip(0, 255).tolist())


def _richest_crop(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The one of three random squares with the most detail: parts such as sky would give walls without texture."""
    short = min(pixels.shape[:2])
    best, most = pixels, -1.0
    for _ in range(3):
        side = int(short * rng.uniform(0.5, 1))
        top, left = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
        crop = pixels[top : top + side, left : left + side]
        small = cv2.resize(crop, (128, 128), interpolation=cv2.INTER_AREA)
        detail = float(np.log1p(np.abs(cv2.Laplacian(small, cv2.CV_32F))).mean())
        if detail > most:
            best, most = crop, detail
    return best


def _place_cameras(
    world: World, furnishing: WorldConfig, config: WorldsConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """K (v, 3, 3) and cam_from_world (v, 3, 4) of views that see part of the same.

    Candidates are drawn and looked at in small; of the best of a few tries those are taken that overlap as wished.
    """
    small = (config.size[0] // _PROBE_SHRINK, config.size[1] // _PROBE_SHRINK)
    count = config.views_per_group
    tries: list[tuple[int, Tensor, Tensor]] = []
    while len(tries) < _TRIES:
        K, poses = _candidates(furnishing, config, rng, 2 * count)
        K_small = scale_intrinsics(K, config.size, small)
        depth = render(world, K_small, poses, small, supersampling=1).depth.cpu()
        # No view from inside an object or with enlarged texels, and none mostly of sky.
        too_near = (0.35 * furnishing.texel_size * K[:, 0, 0])[:, None, None]
        good = (((depth > 0) & (depth < too_near)).float().mean((1, 2)) < 0.1).numpy()
        good &= ((depth > 0).float().mean((1, 2)) > 0.5).numpy()
        fits = fitting_pairs(depth_overlap(depth, K_small, poses).numpy(), *config.overlap)
        fits &= good & good[:, None]
        chosen = choose_views(fits, count, rng)
        tries.append((int(fits[np.ix_(chosen, chosen)].sum()), K[chosen], poses[chosen]))
        if tries[-1][0] >= _ENOUGH * count * (count - 1):
            break
    return max(tries, key=lambda one: one[0])[1:]


def _candidates(
    furnishing: WorldConfig, config: WorldsConfig, rng: np.random.Generator, count: int
) -> tuple[Tensor, Tensor]:
    """K (n, 3, 3) and cam_from_world (n, 3, 4) of cameras about a random place, or along a random walk."""
    fov = rng.uniform(*config.fov_deg) * np.exp(rng.uniform(-0.15, 0.15, count))
    K = torch.stack([pinhole(float(degrees), config.size) for degrees in fov.clip(*config.fov_deg)])
    texel_as_pixel = furnishing.texel_size * float(K[:, 0, 0].mean())  # m, distance at which one covers the other
    if rng.random() < 0.7:
        eyes, targets = _orbit(furnishing, texel_as_pixel, rng, count)
    else:
        eyes, targets = _walk(furnishing, rng, count)
    # Facades are not walked through.
    reach = 0.45 * furnishing.extent if furnishing.wall_height else furnishing.extent
    eyes[:, :2] = eyes[:, :2].clip(-reach, reach)
    eyes[:, 2] = eyes[:, 2].clip(0.4, 9)
    limit = np.where(rng.random(count) < config.turned_share, math.pi / 2, math.radians(20))
    roll = torch.from_numpy(rng.uniform(-limit, limit)).float()
    rotation = torch.zeros((count, 3, 3))
    rotation[:, 0, 0] = rotation[:, 1, 1] = roll.cos()
    rotation[:, 1, 0] = roll.sin()
    rotation[:, 0, 1] = -roll.sin()
    rotation[:, 2, 2] = 1
    return K, rotation @ look_at(torch.from_numpy(eyes).float(), torch.from_numpy(targets).float())


def _orbit(
    furnishing: WorldConfig, texel_as_pixel: float, rng: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Eyes and targets (n, 3) around a place among the objects or on a facade, from close by to far off."""
    half = furnishing.extent / 2
    towards = rng.uniform(0, 2 * math.pi)
    on_facade = furnishing.wall_height > 0 and rng.random() < 0.3
    away = 0.85 * half if on_facade else 0.5 * half * math.sqrt(rng.random())
    height = rng.uniform(0.2, 0.6 * furnishing.wall_height) if on_facade else rng.uniform(0, 1.2)
    target = np.array([away * math.cos(towards), away * math.sin(towards), height])
    spread = math.exp(rng.uniform(math.log(math.radians(8)), math.log(math.radians(75))))
    middle = towards + math.pi if on_facade else rng.uniform(0, 2 * math.pi)
    azimuth = middle + spread * rng.uniform(-1, 1, count)
    elevation = rng.uniform(0.05, 0.5) + 0.3 * spread * rng.uniform(-1, 1, count)
    elevation = elevation.clip(0.03, 1.2)
    distance = texel_as_pixel * np.exp(rng.uniform(math.log(0.5), math.log(2.2)) + rng.uniform(-0.5, 0.5, count))
    offset = np.stack((np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)), -1)
    return target + distance[:, None] * offset, target + 0.1 * distance[:, None] * rng.standard_normal((count, 3))


def _walk(furnishing: WorldConfig, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Eyes and targets (n, 3) along a straight walk across the plaza, looking much the same way."""
    half = furnishing.extent / 2
    start, end = (0.85 * half * rng.uniform(-1, 1, 3) for _ in range(2))
    eyes = start + np.linspace(0, 1, count)[:, None] * rng.uniform(0.3, 1) * (end - start)
    eyes[:, 2] = rng.uniform(0.8, 2.5) + 0.15 * rng.standard_normal(count)
    # Towards the middle, so that there is something to see.
    heading = math.atan2(*-(start + end)[1::-1]) + 0.4 * rng.standard_normal() + 0.25 * rng.standard_normal(count)
    pitch = rng.uniform(-0.35, 0.05) + 0.08 * rng.standard_normal(count)
    ahead = np.stack((np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)), -1)
    return eyes, eyes + ahead
