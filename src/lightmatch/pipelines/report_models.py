"""COLMAP models as the page shows them: cameras, points, what sees what, and by how much they miss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightmatch.colmap.model_types import CAMERA_PARAMS, ColmapCamera, ColmapModel
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.reconstruction.georegistration.upright import find_up
from lightmatch.report.page import PageLens, PageModel
from lightmatch.report.page.limits import MAX_OBSERVATIONS, MAX_POINTS, points_within_limits

_WIDEST = 1.75  # half of a picture at depth 1: wider cameras are drawn as one of 120°
_LESSER_MODELS_SHARE = 0.1  # of points and observations, kept for models after the first

Direction = tuple[float, float, float]


def page_models(
    folders: Sequence[Path], models: Sequence[ColmapModel], rows: Mapping[str, int], up: Direction | None = None
) -> Iterable[PageModel]:
    """Each model with the photos' rows on the page; the first has most of the page's points and observations.

    folders: where the models lie, which names them. rows: of each photo on the page, by name. up: direction in
    the world where it is known; else it is what the cameras and the ground below them suggest.
    """
    kept = _LESSER_MODELS_SHARE if len(models) > 1 else 0.0
    for number, (folder, model) in enumerate(zip(folders, models, strict=False)):
        share = 1 - kept if number == 0 else kept / (len(models) - 1)
        yield _page_model(f"sparse/{folder.name}", model, rows, up, share)


def _page_model(
    name: str, model: ColmapModel, rows: Mapping[str, int], up: Direction | None, share: float
) -> PageModel:
    """One model; `share` of the page's points and observations is for it."""
    images = sorted(model.images.values(), key=lambda image: rows[image.name])
    lengths = np.zeros(len(model.points), np.int64)
    for image in images:
        # One photo may see a point twice; it is one photo all the same.
        lengths[np.unique(image.observed.numpy())] += 1
    shown = points_within_limits(lengths, int(MAX_POINTS * share), int(MAX_OBSERVATIONS * share))
    new_row = np.full(len(lengths), -1, np.int64)
    new_row[shown] = np.arange(len(shown))

    lenses = sorted(model.cameras.values(), key=lambda camera: camera.camera_id)
    xyz = model.points.xyz.numpy()
    starts, observed, places, residuals = [0], [], [], []
    for image in images:
        camera = model.cameras[image.camera_id]
        seen = new_row[image.observed.numpy()]
        keypoints = colmap_from_pixels(image.keypoints[image.observing]).numpy()[seen >= 0]
        seen = seen[seen >= 0]
        pose = image.cam_from_world.numpy()
        projected = _project(camera, xyz[shown[seen]] @ pose[:, :3].T + pose[:, 3])
        starts.append(starts[-1] + len(seen))
        observed.append(seen)
        places.append(keypoints / (camera.width, camera.height))
        residuals.append(projected - keypoints)
    measured = {camera.camera_id: _half_size(camera) for camera in lenses}
    drawn = {camera.camera_id: measured[camera.camera_id] or _widest_half_size(camera) for camera in lenses}
    poses = np.stack([image.cam_from_world.numpy() for image in images])
    centers = -np.einsum("cji,cj->ci", poses[:, :, :3], poses[:, :, 3])
    return PageModel(
        name=name,
        photos=np.array([rows[image.name] for image in images], np.int64),
        lenses=np.array([[lens.camera_id for lens in lenses].index(image.camera_id) for image in images], np.int64),
        cam_from_world=poses,
        half_sizes=np.array([drawn[image.camera_id] for image in images]).reshape(-1, 2),
        lens_table=tuple(_lens(camera, measured[camera.camera_id]) for camera in lenses),
        points=xyz[shown],
        colors=model.points.rgb.numpy()[shown],
        errors_px=model.points.error_px.numpy()[shown],
        track_lengths=lengths[shown],
        starts=np.array(starts, np.int64),
        observed=np.concatenate(observed),
        places=np.concatenate(places).reshape(-1, 2),
        residuals_px=np.concatenate(residuals).reshape(-1, 2),
        up=_up(poses[:, :, :3], centers, xyz[shown]) if up is None else up,
        num_points=len(lengths),
        num_observations=np.array([len(image.observed) for image in images], np.int64),
    )


def _colmap_camera(camera: ColmapCamera) -> Any:
    import pycolmap

    return pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=list(camera.params))


def _project(camera: ColmapCamera, points: np.ndarray) -> np.ndarray:
    """Points before the camera, (n, 3), on the picture: (n, 2) in COLMAP's px; NaN where they have no image."""
    if not len(points):
        return np.zeros((0, 2))
    return np.asarray(_colmap_camera(camera).img_from_cam(np.ascontiguousarray(points)), np.float64).reshape(-1, 2)


def _half_size(camera: ColmapCamera) -> tuple[float, float] | None:
    """Half width and half height of the picture at depth 1; None where it is too wide for that."""
    edges = np.array(
        [
            [0, camera.height / 2],
            [camera.width, camera.height / 2],
            [camera.width / 2, 0],
            [camera.width / 2, camera.height],
        ]
    )
    rays = np.asarray(_colmap_camera(camera).cam_from_img(edges), np.float64).reshape(-1, 2)
    width, height = abs(rays[1, 0] - rays[0, 0]) / 2, abs(rays[3, 1] - rays[2, 1]) / 2
    if not np.isfinite([width, height]).all() or max(width, height) > _WIDEST or min(width, height) <= 0:
        return None
    return float(width), float(height)


def _widest_half_size(camera: ColmapCamera) -> tuple[float, float]:
    """What a picture of this shape is drawn as where it is too wide."""
    longer = max(camera.width, camera.height)
    return _WIDEST * camera.width / longer, _WIDEST * camera.height / longer


def _lens(camera: ColmapCamera, half_size: tuple[float, float] | None) -> PageLens:
    names = CAMERA_PARAMS[camera.model].split()
    params = tuple(zip(names, camera.params, strict=True))
    focal = [value for name, value in params if name in ("f", "fx", "fy")]
    return PageLens(
        model=camera.model,
        size=(camera.width, camera.height),
        params=params,
        focal_px=float(np.mean(focal)) if focal else None,
        field_of_view_deg=None if half_size is None else float(np.degrees(2 * np.arctan(half_size[0]))),
    )


def _up(rotations: np.ndarray, centers: np.ndarray, points: np.ndarray) -> Direction:
    up = find_up(rotations, centers, points).direction
    return float(up[0]), float(up[1]), float(up[2])
