"""Bundle adjustment of the map, by COLMAP: all of it, or the keyframes around the latest one."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from lightmatch.colmap.models import rigid
from lightmatch.sfm.bundle_adjustment import KNOWN, AdjustOptions, adjust
from lightmatch.tracking.camera import TrackedCamera, in_colmap
from lightmatch.tracking.map import Map

if TYPE_CHECKING:
    from pycolmap import Reconstruction

ROBUST_PX = 1.0
_ITERATIONS = 12
_TOLERANCE = 1e-4
_LEFT, _RIGHT = 1, 2  # ids of cameras


def adjust_map(
    mapped: Map, camera: TrackedCamera, window: Collection[int], max_error_px: float, iterations: int = _ITERATIONS
) -> None:
    """Move keyframes of the window, and the points that they see, to where reprojection errors are least.

    Keyframes outside the window stay; at least one is: the first one is never moved. Observations that are farther
    than max_error_px from their point afterwards are dropped, and points with too few observations.
    """
    window = sorted(set(window) - {0})
    points = sorted({point for keyframe in window for point in mapped.points_of(keyframe)})
    if not points:
        return
    around = sorted({other for point in points for other in mapped.observers(point)})
    model = to_model(mapped, camera, around, points)
    options = AdjustOptions(
        free=KNOWN,
        held_in_rigs=frozenset({_RIGHT} if camera.baseline is not None else ()),
        robust_px=ROBUST_PX,
        max_iterations=iterations,
        tolerance=_TOLERANCE,
        threads=1,  # so that it repeats to the bit
    )
    window = sorted(set(window) & set(around))  # one that sees nothing stays
    adjust(model, options, images=[image_of(keyframe) for keyframe in window])
    poses = {keyframe: np.array(model.image(image_of(keyframe)).cam_from_world().matrix()) for keyframe in window}
    moved = [point for point in points if model.exists_point3D(point + 1)]
    xyz = np.reshape([model.point3D(point + 1).xyz for point in moved], (-1, 3))
    mapped.xyz[moved] = xyz  # points and poses at once: `step` may read them meanwhile
    for keyframe, pose in poses.items():
        mapped.keyframes[keyframe].cam_from_world = pose
    drop_outliers(mapped, camera, points, max_error_px)


def drop_outliers(mapped: Map, camera: TrackedCamera, points: Collection[int], max_error_px: float) -> None:
    """Drop observations of these points that are off, and points that fewer than two views, or no depth, hold."""
    for number in sorted({other for point in points for other in mapped.observers(point)}):
        keyframe = mapped.keyframes[number]
        seen = keyframe.seen
        chosen = keyframe.points[seen]
        places, depth = camera.project(mapped.xyz[chosen], keyframe.cam_from_world)
        off = (depth <= 0) | (np.linalg.norm(places - keyframe.places[seen], axis=1) > max_error_px)
        if camera.baseline is not None:
            right = camera.right_of(places, depth)
            off |= np.abs(right - keyframe.right_x[seen]) > 2 * max_error_px
        for point in chosen[off].tolist():
            mapped.forget(point, number)
    mapped.drop_unsupported(points)


def image_of(keyframe: int) -> int:
    """COLMAP's id of the image of a keyframe; that of the second camera is one more."""
    return 2 * keyframe + 1


def to_model(mapped: Map, camera: TrackedCamera, keyframes: Collection[int], points: Collection[int]) -> Reconstruction:
    """A COLMAP model of some keyframes and points, of the ideal camera; a rig of two where there is a second one."""
    import pycolmap

    model = pycolmap.Reconstruction()
    width, height = camera.image_size
    fx, fy, (cx, cy) = camera.K[0, 0], camera.K[1, 1], in_colmap(camera.K[:2, 2])
    sides = (_LEFT, _RIGHT) if camera.baseline is not None else (_LEFT,)
    rig = pycolmap.Rig(rig_id=1)
    for side in sides:
        ideal = pycolmap.Camera(
            camera_id=side, model="PINHOLE", width=width, height=height, params=[fx, fy, float(cx), float(cy)]
        )
        model.add_camera(ideal)
        if side == _LEFT:
            rig.add_ref_sensor(ideal.sensor_id)
        else:
            beside = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([-(camera.baseline or 0.0), 0.0, 0.0]))
            rig.add_sensor(ideal.sensor_id, beside)
    model.add_rig(rig)
    wanted = set(points)
    rows: dict[tuple[int, int], int] = {}  # of an image and a point: the place of its observation
    for number in keyframes:
        keyframe = mapped.keyframes[number]
        seen = [keypoint for keypoint in keyframe.seen.tolist() if int(keyframe.points[keypoint]) in wanted]
        images = []
        for side in sides:
            own = [k for k in seen if side == _LEFT or np.isfinite(keyframe.right_x[k])]
            xy = keyframe.places[own].copy().reshape(-1, 2)
            if side == _RIGHT:
                xy[:, 0] = keyframe.right_x[own] - camera.shift_px  # as a camera sees it that is not turned
            image_id = image_of(number) + side - _LEFT
            images.append(
                pycolmap.Image(
                    name=f"{number:06d}{'' if side == _LEFT else '-right'}.jpg",
                    camera_id=side,
                    image_id=image_id,
                    keypoints=in_colmap(xy),
                )
            )
            for place, keypoint in enumerate(own):
                rows[image_id, int(keyframe.points[keypoint])] = place
        frame = pycolmap.Frame(frame_id=number + 1, rig_id=1)
        for image in images:
            frame.add_data_id(image.data_id)
        frame.rig_from_world = rigid(keyframe.cam_from_world)
        model.add_frame(frame)
        for image in images:
            image.frame_id = frame.frame_id
            model.add_image(image)
        model.register_frame(frame.frame_id)
    by_point: dict[int, list[tuple[int, int]]] = {}
    for (image_id, point), place in rows.items():
        by_point.setdefault(point, []).append((image_id, place))
    for point in points:
        elements = [pycolmap.TrackElement(*seen) for seen in by_point.get(point, ())]
        if len(elements) >= 2:
            model.add_point3D_with_id(
                point + 1, pycolmap.Point3D(xyz=mapped.xyz[point], track=pycolmap.Track(elements=elements))
            )
    return model
