"""COLMAP's database.db of any version: features, matches and verified pairs, read by SQL without pycolmap.

Pixels there have the centre of the first pixel at (0.5, 0.5), here at (0, 0). Scales there are σ, here diameters (2σ);
of affine keypoints COLMAP's own mean is taken. SIFT's descriptors are bytes there, 512 times the unit vector and cut
off at 255, here unit vectors again; all others are float32 in both. A pair of images is one number,
2147483647 · image_id1 + image_id2 with image_id1 < image_id2. There are no scores: 0 here for keypoints, 1 for matches.
Source: https://colmap.github.io/database.html; COLMAP, src/colmap/scene/database_sqlite.cc, feature/types.cc and
feature/utils.cc.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from lightmatch.colmap.model_types import CAMERA_PARAMS, ColmapCamera
from lightmatch.colmap.pairs import check_range, matches_from, swap_matches
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import colmap_from_pixels, invert_rigid, pixels_from_colmap
from lightmatch.geometry.quaternions import rotation_from_quaternion
from lightmatch.runtime.reading import LazyMapping, LazyPairs, V, reading
from lightmatch.types import FeatureKind, Features, GeometryModel, Matches, TwoViewGeometry

_PAIR_BASE = 2**31 - 1
KIND_NUMBERS = {"sift": 0, "aliked_n16rot": 1, "aliked_n32": 2, "loma_b": 3, "loma_b128": 4}
"""COLMAP's number of a kind of features; −1 for others."""
# COLMAP's number of a two-view configuration → ours, and the column of its matrix. Degenerate pairs, watermarks and
# several geometries at once have no matrix that would explain them.
_GEOMETRIES: dict[int, tuple[GeometryModel, str]] = {
    2: ("essential", "E"),  # calibrated
    9: ("essential", "E"),  # calibrated by a rig
    3: ("fundamental", "F"),
    4: ("homography", "H"),  # planar
    5: ("homography", "H"),  # panoramic
    6: ("homography", "H"),  # one of the two
}
_INVALID = (0, 1, 7)  # undefined, degenerate, watermark


@dataclass(frozen=True, eq=False)
class ImageKeypoints:
    """Keypoints of one image without descriptors."""

    xy: Tensor  # (n, 2) float32 px, the centre of the first pixel at (0, 0)
    image_size: tuple[int, int]  # (width, height) px, of the pixels as stored


@dataclass(frozen=True, eq=False)
class VerifiedPair:
    """Matches of a pair that passed COLMAP's verification, and the geometry they agree with.

    All of them are inliers, except of model "none", where COLMAP found no single geometry or did not keep its matrix.
    """

    matches: Matches
    geometry: TwoViewGeometry
    is_valid: bool  # False where COLMAP found no geometry at all, or matches of a watermark


def read_colmap_cameras(path: str | Path) -> dict[str, ColmapCamera]:
    """Cameras by image name, of the images whose camera COLMAP takes for known: from EXIF, or given to it.

    The others hold nothing but a guess, which would pass for knowledge when written again.
    Raises InvalidValueError where the file is not a COLMAP database.
    """
    with _opened(Path(path)) as database:
        query = "SELECT name, cameras.* FROM images JOIN cameras USING (camera_id) ORDER BY image_id"
        return {row["name"]: _camera(row) for row in database.execute(query) if row["prior_focal_length"]}


def read_colmap_features(path: str | Path, kind: FeatureKind) -> Mapping[str, Features]:
    """Features of the images that have keypoints, by name, read from the file each time they are looked up.

    kind: what the file holds. Newer databases know it of SIFT and of some others and are read as that alone.
    Raises InvalidValueError where the file is damaged, or holds other features or no descriptors, when opened or when
    read.
    """
    path = Path(path)
    with _opened(path) as database:
        query = "SELECT name, image_id FROM images JOIN keypoints USING (image_id) ORDER BY image_id"
        rows = database.execute(query).fetchall()
    return LazyMapping({row["name"]: partial(_read_features, path, row["image_id"], row["name"], kind) for row in rows})


def read_colmap_keypoints(path: str | Path) -> Mapping[str, ImageKeypoints]:
    """Keypoints of the images that have any, by name, whatever features they are of; read each time when looked up.

    Raises InvalidValueError where the file is damaged, when opened or when read.
    """
    path = Path(path)
    query = (
        "SELECT name, image_id, width, height FROM images JOIN keypoints USING (image_id)"
        " JOIN cameras USING (camera_id) ORDER BY image_id"
    )
    with _opened(path) as database:
        rows = database.execute(query).fetchall()
    return LazyMapping(
        {row["name"]: partial(_read_keypoints, path, row["image_id"], (row["width"], row["height"])) for row in rows}
    )


def list_colmap_images(path: str | Path) -> list[str]:
    """Names of all images, sorted, with keypoints or without. Raises InvalidValueError where the file is damaged."""
    with _opened(Path(path)) as database:
        return [row["name"] for row in database.execute("SELECT name FROM images ORDER BY name")]


def count_colmap_matches(path: str | Path, *, verified: bool) -> dict[tuple[str, str], int]:
    """Numbers of matches by pair of image names, before verification or of verified pairs, without reading them.

    Raises InvalidValueError where the file is damaged.
    """
    table = "two_view_geometries" if verified else "matches"
    with _opened(Path(path)) as database:
        names = {row["image_id"]: row["name"] for row in database.execute("SELECT image_id, name FROM images")}
        counts = {}
        for row in database.execute(f"SELECT pair_id, rows FROM {table} ORDER BY pair_id"):
            id0, id1 = divmod(row["pair_id"], _PAIR_BASE)
            counts[names[id0], names[id1]] = int(row["rows"])
        return counts


def read_colmap_matches(path: str | Path) -> Mapping[tuple[str, str], Matches]:
    """Matches before verification, by pair of image names, read each time they are looked up, and in either order.

    All scores are 1. Of several matches of one keypoint of image 0 the first is kept.
    Raises InvalidValueError where the file is damaged, when opened or when read.
    """
    return _pairs(Path(path), "matches", lambda _, matches: matches, swap_matches)


def read_colmap_verified(path: str | Path) -> Mapping[tuple[str, str], VerifiedPair]:
    """Verified pairs, by image names, read from the file each time they are looked up, and in either order.

    Their matches are not always among those before verification: guided matching finds new ones.
    Raises InvalidValueError where the file is damaged, when opened or when read.
    """
    return _pairs(Path(path), "two_view_geometries", _verified, _swap_verified)


@contextmanager
def _opened(path: Path) -> Generator[sqlite3.Connection]:
    # For reading alone: not a byte of the file changes, as pycolmap would do on opening it. A journal beside it holds
    # what a killed run wrote last, and can be read only where SQLite can make a file of its own beside it; else the
    # database is all there is.
    journal = path.with_name(f"{path.name}-wal").exists() and os.access(path.parent, os.W_OK)
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'' if journal else '&immutable=1'}"
    with (
        reading(path, "a COLMAP database", sqlite3.Error, ValueError, TypeError, KeyError),
        closing(sqlite3.connect(address, uri=True)) as database,
    ):
        database.row_factory = sqlite3.Row
        yield database


def _array(row: Mapping[str, Any], dtype: str) -> np.ndarray:
    """The `data` of a row, as (rows, cols)."""
    shape, data = (row["rows"], row["cols"]), row["data"] or b""
    if len(data) != np.dtype(dtype).itemsize * shape[0] * shape[1]:
        raise InvalidValueError(
            f"expected {shape[0]} × {shape[1]} values of {np.dtype(dtype)}, got {len(data)} bytes;"
            " extract or match these images again"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _camera(row: Mapping[str, Any]) -> ColmapCamera:
    models = list(CAMERA_PARAMS)
    if not 0 <= row["model"] < len(models):
        raise InvalidValueError(f"camera {row['camera_id']}: expected a known model, got number {row['model']}")
    params = tuple(np.frombuffer(row["params"], "<f8").tolist())
    return ColmapCamera(row["camera_id"], models[row["model"]], row["width"], row["height"], params)


def _read_features(path: Path, image_id: int, name: str, kind: FeatureKind) -> Features:
    with _opened(path) as database:

        def row(table: str, column: str, number: int) -> dict[str, Any]:
            found = database.execute(f"SELECT * FROM {table} WHERE {column} = ?", (number,)).fetchone()
            if found is None:
                raise InvalidValueError(f"{name}: expected an entry in {table}, found none; extract its features again")
            return dict(found)

        camera = row("cameras", "camera_id", row("images", "image_id", image_id)["camera_id"])
        keypoints = torch.from_numpy(_array(row("keypoints", "image_id", image_id), "<f4").copy())
        descriptors = _descriptors(row("descriptors", "image_id", image_id), kind, name)
        scales, orientations = _scales_and_orientations(keypoints, name) if kind.has_scale_orientation else (None, None)
        return Features(
            pixels_from_colmap(keypoints[:, :2]),
            torch.zeros(len(keypoints)),
            descriptors,
            (camera["width"], camera["height"]),
            kind,
            scales,
            orientations,
        )


def _read_keypoints(path: Path, image_id: int, image_size: tuple[int, int]) -> ImageKeypoints:
    with _opened(path) as database:
        row = database.execute("SELECT * FROM keypoints WHERE image_id = ?", (image_id,)).fetchone()
        if row is None:
            raise InvalidValueError(f"image {image_id}: expected keypoints, found none; extract its features again")
        return ImageKeypoints(pixels_from_colmap(torch.from_numpy(_array(row, "<f4")[:, :2].copy())), image_size)


def _scales_and_orientations(keypoints: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Diameters in px and radians, (n,) each, of (x, y, σ, orientation) or (x, y, a11, a12, a21, a22)."""
    width = keypoints.shape[1]
    if width == 4:
        return 2 * keypoints[:, 2], keypoints[:, 3].clone()
    if width == 6:
        a11, a12, a21, a22 = keypoints[:, 2:].unbind(1)
        return torch.hypot(a11, a21) + torch.hypot(a12, a22), torch.atan2(a21, a11)
    if not len(keypoints):
        return torch.zeros(0), torch.zeros(0)
    raise InvalidValueError(
        f"{name}: expected keypoints of 4 or 6 numbers, with scale and orientation, got {width};"
        " read them as a kind without"
    )


def _descriptors(row: Mapping[str, Any], kind: FeatureKind, name: str) -> Tensor:
    known = {number: name for name, number in KIND_NUMBERS.items()}
    stored = known.get(row.get("type", KIND_NUMBERS["sift"]), kind.name)
    width = kind.descriptor_dim * (1 if kind.name == "sift" else 4)
    if stored != kind.name or row["cols"] != width:
        raise InvalidValueError(
            f"{name}: expected descriptors of kind {kind.name} ({width} bytes each), got {row['cols']} bytes of"
            f" {stored}; read them as the kind they are"
        )
    if kind.name != "sift":
        return torch.from_numpy(_array({**row, "cols": kind.descriptor_dim}, "<f4").copy())
    return torch.nn.functional.normalize(torch.from_numpy(_array(row, "u1").astype(np.float32)), dim=1)


def _pairs(
    path: Path, table: str, make: Callable[[Mapping[str, Any], Matches], V], swap: Callable[[V], V]
) -> LazyPairs[V]:
    with _opened(path) as database:
        query = "SELECT image_id, name, rows FROM images LEFT JOIN keypoints USING (image_id)"
        images = {row["image_id"]: (row["name"], row["rows"] or 0) for row in database.execute(query)}
        pair_ids = [row["pair_id"] for row in database.execute(f"SELECT pair_id FROM {table} ORDER BY pair_id")]
        readers = {}
        for pair_id in pair_ids:
            try:
                (name0, count0), (name1, count1) = (images[image_id] for image_id in divmod(pair_id, _PAIR_BASE))
            except KeyError as error:
                raise InvalidValueError(
                    f"{table}: expected pairs of images in the database, got image {error}; match them again"
                ) from error
            pair, counts = (name0, name1), (count0, count1)
            readers[pair] = partial(_read_pair, path, table, pair_id, pair, counts, make)
    return LazyPairs(readers, swap)


def _read_pair(
    path: Path,
    table: str,
    pair_id: int,
    pair: tuple[str, str],
    counts: tuple[int, int],
    make: Callable[[Mapping[str, Any], Matches], V],
) -> V:
    with _opened(path) as database:
        row = dict(database.execute(f"SELECT * FROM {table} WHERE pair_id = ?", (pair_id,)).fetchone())
        indices = torch.from_numpy(_array(row, "<u4").astype(np.int64)).reshape(-1, 2)
        matches = matches_from(indices, torch.ones(len(indices)))
        check_range(matches, pair, counts)
        return make(row, matches)


def _verified(row: Mapping[str, Any], matches: Matches) -> VerifiedPair:
    model, column = _GEOMETRIES.get(row["config"], ("none", ""))
    is_valid = row["config"] not in _INVALID
    if model == "none" or not row[column]:
        return VerifiedPair(matches, TwoViewGeometry.none(len(matches)), is_valid)
    matrix = torch.from_numpy(np.frombuffer(row[column], "<f8").reshape(3, 3).copy())
    # `colmap_from_pixels`, as a matrix on homogeneous points.
    shift = torch.eye(3, dtype=torch.float64)
    shift[:2, 2] = colmap_from_pixels(shift[:2, 2])
    if model == "fundamental":
        matrix = shift.T @ matrix @ shift
    elif model == "homography":
        matrix = torch.linalg.inv(shift) @ matrix @ shift
    inliers = torch.ones(len(matches), dtype=torch.bool)
    return VerifiedPair(matches, TwoViewGeometry(model, matrix, inliers, _pose(row)), is_valid)


def _pose(row: Mapping[str, Any]) -> Tensor | None:
    """cam1_from_cam0 with a translation of length 1; None where there is none, or nothing but a rotation.

    Databases of before COLMAP 3.8 have no columns for it.
    """
    if not row.get("qvec") or not row.get("tvec"):
        return None
    quaternion, translation = (torch.tensor(np.frombuffer(row[column], "<f8")) for column in ("qvec", "tvec"))
    if not translation.norm() > 0:
        return None
    rotation = rotation_from_quaternion(quaternion.tolist())
    return torch.cat((rotation, (translation / translation.norm())[:, None]), 1)


def _swap_verified(pair: VerifiedPair) -> VerifiedPair:
    matches, geometry = swap_matches(pair.matches), pair.geometry
    if geometry.model == "none":
        return replace(pair, matches=matches)
    matrix = torch.linalg.inv(geometry.matrix) if geometry.model == "homography" else geometry.matrix.T
    pose = geometry.cam1_from_cam0
    inliers = torch.ones(len(matches), dtype=torch.bool)
    swapped = TwoViewGeometry(geometry.model, matrix, inliers, None if pose is None else invert_rigid(pose))
    return replace(pair, matches=matches, geometry=swapped)
