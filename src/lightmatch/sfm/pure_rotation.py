"""Photos of a camera that only turned: no depth can be had of them, whatever a mapper makes up.

Where the centre of the camera stays, each pair of photos is related by K·R·K⁻¹, and points at any depth agree with it
(Hartley & Zisserman: Multiple View Geometry, 2004, section 8.4). A mapper then invents depths, and held-out
observations do not show it, for invented points predict them as well as true ones. So it is tested before
mapping whether rotations explain the pairs, all with one focal length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.errors import ReconstructionError
from lightmatch.sfm.view_graph import TRUSTED_MATCHES

_NEAR = 0.004  # of the long side: so near to where the rotation puts it, a match is explained
_EXPLAINED = 0.95  # of the matches of a pair: so many explained, it only turned
_NEARLY_EXPLAINED = 0.8  # with a focal length near the best one: with less there is nothing to search for
_PAIRS = 0.97  # of the pairs of a group: so many only turned, the group did
_MOST_PAIRS, _MOST_MATCHES = 80, 150  # that are looked at, of a group and of a pair
_FOCAL_LENGTHS = np.geomspace(0.4, 4.0, 24)  # long sides, where nothing is known
_KNOWN_FOCAL_LENGTHS = np.geomspace(0.75, 1.35, 9)  # of what EXIF says
_K1 = (-0.24, -0.12, 0.0, 0.12)  # radial distortion
_RESTING = 0.01  # of the long side: a camera whose pictures moved by no more stood still


@dataclass(frozen=True)
class PhotoOrientation:
    """A photo of a camera that only rotated."""

    focal_px: float
    rotation_cam_from_first: tuple[tuple[float, ...], ...]  # (3, 3)


@dataclass(frozen=True)
class CameraOrientations:
    """A camera that only rotated, as orientations.json has it."""

    explained: float  # share of the verified matches
    largest_turn_deg: float
    resting: bool
    k1: float
    photos: Mapping[str, PhotoOrientation]  # by name


@dataclass(frozen=True)
class PureRotation:
    """How a camera turned that did not move."""

    rotations: Mapping[str, np.ndarray]  # (3, 3) by photo: camera from the frame of the first
    focal_px: Mapping[str, float]  # by photo
    k1: float  # radial distortion as in COLMAP's SIMPLE_RADIAL
    explained: float  # share of the verified matches
    largest_turn_deg: float  # between the viewing directions of two photos
    resting: bool  # it did not even turn, so focal lengths and k1 are guesses

    def __str__(self) -> str:
        did = "stood still" if self.resting else f"only turned, by up to {self.largest_turn_deg:.0f}°"
        return (
            f"the camera of {len(self.rotations)} photos {did} (rotations explain {self.explained:.0%} of their"
            " matches), so no depth can be had of them; step aside between photos"
        )

    def orientations(self) -> CameraOrientations:
        """What orientations.json holds, rounded."""
        return CameraOrientations(
            explained=round(self.explained, 4),
            largest_turn_deg=round(self.largest_turn_deg, 3),
            resting=self.resting,
            k1=round(self.k1, 5),
            photos={
                name: PhotoOrientation(round(self.focal_px[name], 2), tuple(map(tuple, np.round(rotation, 8).tolist())))
                for name, rotation in self.rotations.items()
            },
        )


class PureRotationError(ReconstructionError):
    """No depth can be had, for the camera only turned; `turned` says how, by group of photos that overlap."""

    def __init__(self, turned: Sequence[PureRotation]) -> None:
        super().__init__("; ".join(map(str, turned)))
        self.turned = tuple(turned)


def find_pure_rotations(database: Path) -> tuple[list[PureRotation], bool]:
    """Groups of photos that trusted pairs connect and whose camera only turned; whether that is all groups.

    database: verified matches in COLMAP's form.
    """
    photos, groups = _read(database)
    turned = [found for pairs in groups if (found := _turned(photos, pairs)) is not None]
    return turned, len(turned) == len(groups) > 0


@dataclass(frozen=True)
class _Photo:
    name: str
    long_side: int  # px
    focal_px: float | None  # as EXIF or somebody says


@dataclass(frozen=True)
class _Pair:
    photos: tuple[int, int]  # COLMAP's ids
    places: tuple[np.ndarray, np.ndarray]  # (n, 2) px each, from the middle of the picture


def _read(database: Path) -> tuple[dict[int, _Photo], list[list[_Pair]]]:
    """Photos by id, and the trusted pairs of each group of photos, those with most matches first.

    Of a large group _MOST_PAIRS, and those that connect its photos with them.
    """
    from networkx.utils import UnionFind

    groups, pairs = UnionFind(), []
    with open_database(database) as opened:
        cameras = opened.cameras
        images = {photo.image_id: photo for photo in sorted(opened.photos, key=lambda photo: photo.image_id)}
        middles = {
            i: np.array([cameras[m.camera_id].width, cameras[m.camera_id].height]) / 2 for i, m in images.items()
        }
        for (name0, name1), geometry in opened.verified():
            ids = (opened.photo(name0).image_id, opened.photo(name1).image_id)
            if len(geometry.inlier_matches) >= TRUSTED_MATCHES:
                groups.union(*ids)
                pairs.append((ids, np.array(geometry.inlier_matches, np.int64)))
        pairs.sort(key=lambda pair: (-len(pair[1]), pair[0]))
        by_group: dict[Hashable, list[tuple[tuple[int, int], np.ndarray]]] = {}
        for ids, matches in pairs:
            by_group.setdefault(groups[ids[0]], []).append((ids, matches))
        read = []
        for group in by_group.values():
            read.append([])
            for ids, matches in _sample(group):
                chosen = matches[np.linspace(0, len(matches) - 1, min(len(matches), _MOST_MATCHES)).astype(int)]
                places = [opened.keypoints(images[i].name)[chosen[:, side]] - middles[i] for side, i in enumerate(ids)]
                read[-1].append(_Pair(ids, (places[0], places[1])))
    photos = {}
    for image_id, image in images.items():
        camera = cameras[image.camera_id]
        focal_px = camera.mean_focal_length() if camera.has_prior_focal_length else None
        photos[image_id] = _Photo(image.name, max(camera.width, camera.height), focal_px)
    return photos, read


def _sample(pairs: Sequence[tuple[tuple[int, int], np.ndarray]]) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Half of them the first, half of them from all the others, and those that connect the photos.

    Of a camera that turned at two places the first are all of one place; only the others show that it moved.
    """
    from networkx.utils import UnionFind

    half, connected = _MOST_PAIRS // 2, UnionFind()
    others = np.linspace(half, len(pairs) - 1, half) if len(pairs) > _MOST_PAIRS else range(half, len(pairs))
    chosen = {*range(half), *map(int, others)}
    for number, (ids, matches) in enumerate(pairs):
        if number in chosen or connected[ids[0]] != connected[ids[1]]:
            connected.union(*ids)
            yield ids, matches


def _turned(photos: Mapping[int, _Photo], pairs: Sequence[_Pair]) -> PureRotation | None:
    rays = _Rays.of(photos, pairs)
    known = all(photos[i].focal_px for pair in pairs for i in pair.photos)
    steps = _KNOWN_FOCAL_LENGTHS if known else _FOCAL_LENGTHS
    if max(rays.explained(float(scale), 0.0)[0].mean() for scale in steps) < _EXPLAINED / 3:  # spares the search
        return None
    costs = np.array([[rays.cost(float(scale), k1) for k1 in _K1] for scale in steps])
    row, column = np.unravel_index(int(costs.argmin()), costs.shape)
    scale, k1 = float(steps[row]), _K1[column]
    if rays.explained(scale, k1)[0].mean() < _NEARLY_EXPLAINED:
        return None
    reach, spread = float(steps[1] / steps[0]), _K1[1] - _K1[0]
    for _ in range(6):
        scale = _least(partial(rays.cost, k1=k1), max(scale / reach, steps[0]), min(scale * reach, steps[-1]))
        k1 = _least(partial(rays.cost, scale), k1 - spread, k1 + spread)
        reach, spread = reach**0.7, 0.7 * spread
    explained, rotations = rays.explained(scale, k1)
    resting = bool(rays.moved.max() < _RESTING)
    at_the_limit = not steps[0] * 1.02 < scale < steps[-1] / 1.02
    if (explained >= _EXPLAINED).mean() < _PAIRS or (at_the_limit and not resting):
        return None
    together = _together([pair.photos for pair in pairs], rotations)
    axes = np.stack([rotation[2] for rotation in together.values()])
    return PureRotation(
        {photos[i].name: rotation for i, rotation in together.items()},
        {photos[i].name: scale * (photos[i].focal_px or photos[i].long_side) for i in together},
        k1,
        float(explained.mean()),
        math.degrees(math.acos(float(np.clip(axes @ axes.T, -1, 1).min()))),
        resting,
    )


@dataclass(frozen=True)
class _Rays:
    """Matches of p pairs, padded to n, in units in which 1 is the known focal length, or else the long side."""

    places: np.ndarray  # (2, p, n, 2)
    valid: np.ndarray  # (p, n) bool
    near: np.ndarray  # (p,) how near is explained, in the second photo's units

    @classmethod
    def of(cls, photos: Mapping[int, _Photo], pairs: Sequence[_Pair]) -> _Rays:
        longest = max(len(pair.places[0]) for pair in pairs)
        places = np.zeros((2, len(pairs), longest, 2))
        valid = np.zeros((len(pairs), longest), bool)
        near = np.zeros(len(pairs))
        for number, pair in enumerate(pairs):
            units = [photos[i].focal_px or photos[i].long_side for i in pair.photos]
            for side in (0, 1):
                places[side, number, : len(pair.places[side])] = pair.places[side] / units[side]
            valid[number, : len(pair.places[0])] = True
            near[number] = _NEAR * photos[pair.photos[1]].long_side / units[1]
        return cls(places, valid, near)

    @property
    def moved(self) -> np.ndarray:
        """(p,) median distance between the places of a match in both pictures, in those units."""
        apart = np.where(self.valid, np.linalg.norm(self.places[1] - self.places[0], axis=-1), np.nan)
        return np.nanmedian(apart, axis=1)

    def explained(self, scale: float, k1: float) -> tuple[np.ndarray, np.ndarray]:
        """(p,) share of each pair's matches that a rotation explains, and the (p, 3, 3) rotations, second from first.

        scale: focal length in those units.
        """
        rotations, apart = self._fit(scale, k1)
        return ((apart < self.near[:, None]) & self.valid).sum(1) / self.valid.sum(1), rotations

    def cost(self, scale: float, k1: float) -> float:
        """How badly rotations explain the matches, 0 to 1."""
        badness = np.minimum((self._fit(scale, k1)[1] / (2 * self.near[:, None])) ** 2, 1)
        return float(((badness * self.valid).sum(1) / self.valid.sum(1)).mean())

    def _fit(self, scale: float, k1: float) -> tuple[np.ndarray, np.ndarray]:
        """The rotations, and the distances (p, n) between each second place and where its rotation puts the first."""
        rays = [_rays(places / scale, k1) for places in self.places]
        weight = self.valid.astype(float)
        rotations, apart = np.zeros((len(weight), 3, 3)), np.zeros(weight.shape)
        for _ in range(4):
            # Wahba's problem, by the singular values of the weighted sum of outer products.
            u, _, vt = np.linalg.svd(np.einsum("pn,pni,pnj->pij", weight, rays[1], rays[0]))
            u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
            rotations = u @ vt
            put = np.einsum("pij,pnj->pni", rotations, rays[0])
            flat = put[..., :2] / np.where(put[..., 2:] > 0.05, put[..., 2:], 0.05)
            apart = scale * np.linalg.norm(flat - rays[1][..., :2] / rays[1][..., 2:], axis=-1)
            weight = self.valid / (1 + (apart / self.near[:, None]) ** 2) ** 2
        return rotations, apart


def _rays(places: np.ndarray, k1: float) -> np.ndarray:
    """Directions (…, 3) of unit length of places (…, 2) in focal lengths, without radial distortion."""
    straight = places
    for _ in range(4):
        straight = places / np.maximum(1 + k1 * (straight**2).sum(-1, keepdims=True), 0.2)
    rays = np.concatenate((straight, np.ones((*straight.shape[:-1], 1))), -1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _least(cost: Callable[[float], float], low: float, high: float, rounds: int = 12) -> float:
    """Where `cost` is least between `low` and `high`, by golden section."""
    golden = (math.sqrt(5) - 1) / 2
    inner = [high - golden * (high - low), low + golden * (high - low)]
    costs = [cost(value) for value in inner]
    for _ in range(rounds):
        if costs[0] < costs[1]:
            high, inner, costs = inner[1], [0.0, inner[0]], [0.0, costs[0]]
            inner[0] = high - golden * (high - low)
            costs[0] = cost(inner[0])
        else:
            low, inner, costs = inner[0], [inner[1], 0.0], [costs[1], 0.0]
            inner[1] = low + golden * (high - low)
            costs[1] = cost(inner[1])
    return (low + high) / 2


def _together(pairs: Sequence[tuple[int, int]], rotations: np.ndarray) -> dict[int, np.ndarray]:
    """Rotations (3, 3) by photo, from the frame of the first, of those between pairs; the best pairs come first."""
    found = {pairs[0][0]: np.eye(3)}
    while True:
        for (a, b), rotation in zip(pairs, rotations, strict=True):
            if (a in found) != (b in found):
                found |= {b: rotation @ found[a]} if a in found else {a: rotation.T @ found[b]}
                break
        else:
            break
    for _ in range(50):  # each as its neighbours say, in the mean
        for photo in list(found)[1:]:
            said = sum(
                rotation @ found[a] if b == photo else rotation.T @ found[b]
                for (a, b), rotation in zip(pairs, rotations, strict=True)
                if photo in (a, b)
            )
            u, _, vt = np.linalg.svd(said)
            found[photo] = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    first = found[min(found)]
    return {photo: found[photo] @ first.T for photo in sorted(found)}
