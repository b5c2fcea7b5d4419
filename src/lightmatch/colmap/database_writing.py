"""A new COLMAP database of our features and matches; `database_files` says how their values differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightmatch.colmap.database import replacing_database
from lightmatch.colmap.database_files import KIND_NUMBERS
from lightmatch.colmap.model_types import ColmapCamera
from lightmatch.colmap.pairs import checked_pairs
from lightmatch.errors import InvalidValueError
from lightmatch.geometry.coordinates import colmap_from_pixels
from lightmatch.types import Features, Matches

_BYTES_PER_UNIT = 512
_UNKNOWN_KIND = -1
_FOCAL_GUESS = 1.2  # times the longer side, as COLMAP's feature extraction has it


def write_colmap_database(
    path: str | Path,
    features: Mapping[str, Features],
    matches: Mapping[tuple[str, str], Matches],
    cameras: Mapping[str, ColmapCamera] | None = None,
) -> None:
    """Write a new database of images by name, with keypoints, descriptors and matches, for COLMAP to verify and map.

    cameras: by image name, where they are known; images of equal cameras share one. Every other image gets its own,
    a SIMPLE_RADIAL with COLMAP's first guess of the focal length, 1.2 times the longer side.
    Keypoints lose up to 6e-8 px near 0 to the shift by half a pixel, SIFT's descriptors all but 8 bits.
    Raises InvalidValueError where the file is there already, a camera is for no image or for another size, a pair comes
    twice, or matches point outside the keypoints.
    """
    import pycolmap

    path = Path(path)
    if path.exists():
        raise InvalidValueError(f"{path}: expected a new file, found one that may hold more; choose another name")
    known = cameras or {}
    unknown = sorted(known.keys() - features.keys())
    if unknown:
        raise InvalidValueError(f"cameras: expected names of images with features, got {unknown[0]!r}; leave it out")
    rigs: dict[ColmapCamera | str, Any] = {}
    image_ids: dict[str, int] = {}
    counts: dict[str, int] = {}
    with (
        replacing_database(path) as unfinished,
        pycolmap.Database.open(unfinished) as database,
        pycolmap.DatabaseTransaction(database),
    ):
        for name, value in features.items():
            camera = _checked_camera(name, value.image_size, known.get(name))
            shared = camera or name
            if shared not in rigs:
                rigs[shared] = _write_rig(database, camera, value.image_size)
            image_ids[name] = _write_image(database, name, rigs[shared])
            counts[name] = len(value)
            database.write_keypoints(image_ids[name], keypoint_rows(value))
            database.write_descriptors(image_ids[name], colmap_descriptors(value))
        for name0, name1, found in checked_pairs(matches.items(), counts):
            indices = np.ascontiguousarray(found.indices.numpy().astype(np.uint32))
            database.write_matches(image_ids[name0], image_ids[name1], indices)


def _checked_camera(name: str, size: tuple[int, int], camera: ColmapCamera | None) -> ColmapCamera | None:
    if camera is not None and (camera.width, camera.height) != size:
        raise InvalidValueError(
            f"{name}: expected a camera for {size[0]} × {size[1]} px, got one for {camera.width} × {camera.height};"
            " give the camera of the image that the features were found in"
        )
    return camera


def _write_rig(database: Any, known: ColmapCamera | None, size: tuple[int, int]) -> Any:
    """Enter a camera, guessed where it is not known, and the rig of this camera alone, which the mapper asks for."""
    import pycolmap

    if known is None:
        camera = pycolmap.Camera.create_from_model_name(0, "SIMPLE_RADIAL", _FOCAL_GUESS * max(size), *size)
    else:
        camera = pycolmap.Camera(model=known.model, width=known.width, height=known.height, params=known.params)
        camera.has_prior_focal_length = True
    camera.camera_id = database.write_camera(camera)
    rig = pycolmap.Rig()
    rig.add_ref_sensor(camera.sensor_id)
    rig.rig_id = database.write_rig(rig)
    return rig


def _write_image(database: Any, name: str, rig: Any) -> int:
    """Enter an image taken by the camera of `rig`, and the frame of this image alone."""
    import pycolmap

    image = pycolmap.Image(name=name, camera_id=rig.ref_sensor_id.id)
    image.image_id = database.write_image(image)
    frame = pycolmap.Frame()
    frame.rig_id = rig.rig_id
    frame.add_data_id(image.data_id)
    database.write_frame(frame)
    return image.image_id


def keypoint_rows(features: Features) -> np.ndarray:
    """(n, 4) float32 as COLMAP stores keypoints: x, y, σ in px and orientation in radians; (n, 2) of kinds without."""
    columns = [colmap_from_pixels(features.keypoints)]
    if features.scales is not None and features.orientations is not None:
        columns += [features.scales[:, None] / 2, features.orientations[:, None]]
    return np.ascontiguousarray(torch.cat(columns, 1).detach().cpu().numpy())


def colmap_descriptors(features: Features) -> Any:
    """pycolmap.FeatureDescriptors, bytes: SIFT's quantized as COLMAP does it, others the bytes of their float32."""
    import pycolmap

    kind, values = features.kind.name, features.descriptors.detach().cpu().contiguous().numpy()
    number = pycolmap.FeatureExtractorType(KIND_NUMBERS.get(kind, _UNKNOWN_KIND))
    if kind != "sift":
        return pycolmap.FeatureDescriptors(number, values.view(np.uint8))
    return pycolmap.FeatureDescriptors(number, np.rint(_BYTES_PER_UNIT * values).clip(0, 255).astype(np.uint8))
