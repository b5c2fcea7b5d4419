"""Exports of a finished model: COLMAP's text format, and a folder for Gaussian splat trainers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import torch
from PIL import Image as PillowImage

from lightmatch.colmap.model_files import write_colmap_model
from lightmatch.colmap.model_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from lightmatch.colmap.models import registered_images
from lightmatch.geometry.coordinates import pixels_from_colmap
from lightmatch.images import ANY_NUMBER, load_image
from lightmatch.inputs.masks import mask_path, working_mask
from lightmatch.reconstruction.outputs.clouds import DensePoints, sparse_points, write_ply
from lightmatch.runtime.executor import Executor, Threads, forget, remembered
from lightmatch.runtime.files import replacing, replacing_folder
from lightmatch.sfm.undistortion import Undistorter

if TYPE_CHECKING:
    from pycolmap import Camera, Reconstruction

_OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # COLMAP's camera looks along z with y down, OpenGL's along −z with y up


def write_text_model(model: Reconstruction, folder: Path) -> None:
    """Write the model as COLMAP's text files, with rigs and frames; the folder is replaced atomically."""
    with replacing_folder(folder) as partial:
        model.write_text(partial)


def write_splat_folder(
    model: Reconstruction,
    images: Path,
    masks: Path | None,
    target: Path,
    *,
    cloud: DensePoints | None = None,
    depth_maps: Path | None = None,
    executor: Executor | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> None:
    """Write the input of splat trainers: undistorted images and their cameras; the folder is replaced atomically.

    images: the folder of the photos in the model. masks: the folder of `<name>.png`, where pixels of 0 are ignored;
    photos without a mask are used whole. cloud: the points of init.ply, by default the sparse points. depth_maps: a
    folder written by `DepthMapWriter`, moved to stereo/depth_maps/. executor: writes several images at a time; threads
    of this process by default. on_image: called for each image written.

    images/ keeps the names. sparse/0 is a binary COLMAP model with PINHOLE cameras and the sparse points with their
    observations. transforms.json is nerfstudio's, in the same frame. masks/<name>.png are written for all images if
    one has a mask, since nerfstudio requires all or none. Photos that are not in the model are left out.
    Photos of a camera without distortion are copied byte for byte.
    Raises InvalidValueError where a photo or a mask has another size than its camera, ImageReadError where one cannot
    be read.
    """
    photos = registered_images(model)
    undistorters = {number: Undistorter(model.camera(number)) for number in sorted({i.camera_id for i in photos})}
    masked = masks is not None and any(mask_path(masks, photo.name).is_file() for photo in photos)
    with replacing_folder(target) as folder:
        # Camera by camera, so that few distortion maps are in memory.
        taken = sorted((photo.camera_id, photo.name) for photo in photos)
        count = Counter(number for number, _ in taken)
        cameras = {number: model.camera(number) for number in count}
        several = frozenset(number for number in count if count[number] > 1)
        shared = SplatImages(uuid4().hex, cameras, several, images, masks if masked else None, folder)
        try:
            with closing((executor or Threads()).map(partial(write_splat_image, shared), taken)) as written:
                for _ in written:
                    on_image()
        finally:
            forget(shared.run)
        flat = undistorted_model(model, undistorters)
        write_colmap_model(flat, folder / "sparse" / "0", binary=True)
        if depth_maps is not None:
            (folder / "stereo").mkdir(exist_ok=True)
            shutil.move(depth_maps, folder / "stereo" / "depth_maps")
        points = sparse_points(model) if cloud is None else cloud
        write_ply(folder / "init.ply", points.points, points.colors, points.normals)
        content = json.dumps(transforms(flat, masked=masked), indent=1, ensure_ascii=False)
        (folder / "transforms.json").write_text(content + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class SplatImages:
    """What the jobs of all photos share."""

    run: str  # tells calls apart
    cameras: Mapping[int, Camera]  # by id
    several: frozenset[int]  # ids of cameras that took more than one photo
    images: Path
    masks: Path | None  # None: no photo has one
    target: Path

    def undistorter(self, camera_id: int) -> Undistorter:
        """A camera's; where it took several photos the same one for all threads of a process."""

        def prepared() -> Undistorter:
            undistorter = Undistorter(self.cameras[camera_id])
            undistorter.prepare()
            return undistorter

        return remembered(self.run, camera_id, prepared) if camera_id in self.several else prepared()


def write_splat_image(shared: SplatImages, taken: tuple[int, str]) -> None:
    """Write a photo without distortion, and its mask where photos have masks: a job of an executor.

    taken: id of the camera, and the photo's name.
    """
    camera_id, name = taken
    undistorter = shared.undistorter(camera_id)
    _write_picture(shared.images / name, undistorter, shared.target / "images" / name)
    if shared.masks is not None:
        mask = working_mask(shared.masks, name)
        whole = np.ones(undistorter.source_size[::-1], bool) if mask is None else mask
        values = np.where(undistorter.mask(whole), np.uint8(255), np.uint8(0))
        _save(PillowImage.fromarray(values), mask_path(shared.target / "masks", name))


def undistorted_model(model: Reconstruction, undistorters: Mapping[int, Undistorter]) -> ColmapModel:
    """The model with PINHOLE cameras: registered photos, points and undistorted observations.

    undistorters: by camera id, for each camera with a registered photo. Keypoints without a point are left out.
    """
    ids = sorted(model.points3D)
    row = {number: place for place, number in enumerate(ids)}
    chosen = [model.point3D(number) for number in ids]
    points = ColmapPoints(
        torch.tensor(ids, dtype=torch.int64),
        torch.from_numpy(np.array([point.xyz for point in chosen], np.float64).reshape(-1, 3)),
        torch.from_numpy(np.array([point.color for point in chosen], np.uint8).reshape(-1, 3)),
        torch.tensor([point.error if point.error >= 0 else np.nan for point in chosen], dtype=torch.float64),
    )
    images = {}
    for image in sorted(registered_images(model), key=lambda image: image.image_id):
        seen = image.get_observation_points2D()
        pixels = np.array([point.xy for point in seen], np.float64).reshape(-1, 2)
        images[image.image_id] = ColmapImage(
            image.image_id,
            image.name,
            image.camera_id,
            torch.from_numpy(np.array(image.cam_from_world().matrix())),
            pixels_from_colmap(torch.from_numpy(undistorters[image.camera_id].points(pixels))),
            torch.arange(len(seen)),
            torch.tensor([row[point.point3D_id] for point in seen], dtype=torch.int64),
        )
    cameras = {number: undistorter.camera for number, undistorter in sorted(undistorters.items())}
    return ColmapModel(cameras, images, points)


def transforms(model: ColmapModel, *, masked: bool) -> dict[str, Any]:
    """The transforms.json of nerfstudio for a model of PINHOLE cameras.

    Camera to world, camera axes x right, y up, z back; intrinsics for each frame where cameras differ; pixels as in
    COLMAP, with the origin at the corner of the first one. The camera model is "OPENCV" with zero distortion, since
    some readers accept no other name. masked: whether frames get a mask_path.
    """
    intrinsics = {number: _intrinsics(camera) for number, camera in model.cameras.items()}
    single = len(intrinsics) == 1
    frames = []
    for image in sorted(model.images.values(), key=lambda image: image.name):
        cam_from_world = np.vstack((image.cam_from_world.numpy(), [0, 0, 0, 1]))
        frame: dict[str, Any] = {"file_path": f"images/{image.name}"}
        if masked:
            frame["mask_path"] = f"masks/{image.name}.png"
        frame["transform_matrix"] = (np.linalg.inv(cam_from_world) @ _OPENGL_AXES).tolist()
        frame["colmap_im_id"] = image.image_id
        frames.append(frame | ({} if single else intrinsics[image.camera_id]))
    shared = next(iter(intrinsics.values())) if single else {}
    return {
        "camera_model": "OPENCV",
        **shared,
        "applied_transform": np.eye(4)[:3].tolist(),
        "ply_file_path": "init.ply",
        "frames": frames,
    }


def _intrinsics(camera: ColmapCamera) -> dict[str, float | int]:
    fx, fy, cx, cy = camera.params
    size = {"w": camera.width, "h": camera.height}
    return {**size, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}


def _write_picture(source: Path, undistorter: Undistorter, target: Path) -> None:
    pixels = load_image(source, ANY_NUMBER).pixels
    flat = undistorter.picture(pixels)  # checks the size, also where the file is copied
    if undistorter.is_identity:
        with replacing(target) as partial:
            shutil.copyfile(source, partial)
    else:
        _save(PillowImage.fromarray(flat), target)


def _save(picture: PillowImage.Image, target: Path) -> None:
    with replacing(target) as partial:
        if target.suffix.lower() in (".jpg", ".jpeg"):
            picture.save(partial, "JPEG", quality=95, subsampling="4:4:4")
        else:
            picture.save(partial, "PNG")
