"""Bundle adjustment of a finished model, each camera with those intrinsics free that it may have free."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lightmatch.colmap.log import FATAL, colmap_log
from lightmatch.colmap.options import MOST_SOLVED_DIRECTLY
from lightmatch.errors import InvalidValueError
from lightmatch.runtime.threads import num_threads

if TYPE_CHECKING:
    from pycolmap import Reconstruction

_ROUNDS = 3  # where cameras differ in what is free, they take turns


@dataclass(frozen=True)
class FreeIntrinsics:
    """Which intrinsics of a camera an adjustment may change."""

    focal_length: bool = True
    principal_point: bool = False
    distortion: bool = True

    @property
    def any(self) -> bool:
        """Whether anything is free."""
        return self.focal_length or self.principal_point or self.distortion


KNOWN = FreeIntrinsics(False, False, False)


@dataclass(frozen=True)
class AdjustOptions:
    """What an adjustment may change, how it counts errors, and when it ends."""

    free: FreeIntrinsics = FreeIntrinsics()  # of cameras that `cameras` does not name
    cameras: Mapping[int, FreeIntrinsics] = field(default_factory=dict)  # by COLMAP's id of the camera
    held_in_rigs: frozenset[int] = frozenset()  # ids of cameras whose place in their rig is given
    poses: bool = True  # whether cameras move; where they are known they do not
    points: bool = True  # whether points move; where they do not, each camera is adjusted alone
    max_iterations: int = 100
    tolerance: float = 1e-5  # relative change of the cost that ends it
    robust_px: float | None = None  # errors beyond this count less and less (Cauchy); None: squared all the way
    threads: int | None = None  # None: those of this process; results repeat to the bit on one only

    def of(self, camera_id: int) -> FreeIntrinsics:
        """What is free of one camera."""
        return self.cameras.get(camera_id, self.free)


def adjust(
    model: Reconstruction, options: AdjustOptions | None = None, *, images: Collection[int] | None = None
) -> None:
    """Move cameras and points of a model, in place, to where the (robust) squared reprojection error is least.

    images: ids of registered images to refine alone, a local window: they and the points that they see move. All other
    images that see these points take part, but stay, and so do their cameras' intrinsics, where images of the window
    have the same, and places of cameras in rigs. An image of a rig brings in the whole frame. None: all images.
    The gauge is fixed by the images that stay, at two cameras where there are none, or by all poses or points where
    they stay. The errors kept with the points are brought up to date. COLMAP frees the principal point of all variable
    cameras or of none, so cameras that differ in what is free take turns: those of one kind vary, the others stay, a
    few rounds. A model of less than two photos or without points stays as it is.
    Raises InvalidValueError for images that are not registered.
    Source: Triggs et al., Bundle Adjustment: A Modern Synthesis, 2000; of windows Mouragnon et al., CVPR 2006.
    """
    options = options or AdjustOptions()
    if model.num_reg_images() < 2 or not model.num_points3D():
        return
    window = None if images is None else _window_of(model, images)
    if window is not None and not window.points:
        return
    kinds: dict[FreeIntrinsics, set[int]] = {}
    for camera_id in used_cameras(model) if window is None else window.own_cameras:
        kinds.setdefault(options.of(camera_id), set()).add(camera_id)
    varying = [kind for kind in kinds if kind.any] or [KNOWN]  # the points move in any case
    for _ in range(_ROUNDS if len(varying) > 1 else 1):
        for kind in varying:
            with colmap_log(FATAL):
                _adjuster(model, kind, kinds.get(kind, set()), options, window).solve()
    model.update_point_3d_errors()


@dataclass(frozen=True)
class _Window:
    """What moves where not all images do; each sorted."""

    images: tuple[int, ...]
    frames: tuple[int, ...]
    cameras: tuple[int, ...]
    own_cameras: tuple[int, ...]  # that no image outside was taken with
    points: tuple[int, ...]
    is_held: bool  # whether images outside see some of the points


def _window_of(model: Reconstruction, images: Collection[int]) -> _Window:
    registered = set(model.reg_image_ids())
    if not registered.issuperset(images):
        raise InvalidValueError(
            f"adjust: expected ids of registered images, got {sorted(set(images) - registered)}, which are not"
        )
    frames = {model.image(image_id).frame_id for image_id in images}
    inside = {image_id for image_id in registered if model.image(image_id).frame_id in frames}
    points = {point.point3D_id for image_id in inside for point in model.image(image_id).get_observation_points2D()}
    cameras = {model.image(image_id).camera_id for image_id in inside}
    of_others = {model.image(image_id).camera_id for image_id in registered - inside}
    is_held = any(seen.image_id not in inside for point in points for seen in model.point3D(point).track.elements)
    return _Window(
        tuple(sorted(inside)),
        tuple(sorted(frames)),
        tuple(sorted(cameras)),
        tuple(sorted(cameras - of_others)),
        tuple(sorted(points)),
        is_held,
    )


def _adjuster(
    model: Reconstruction, kind: FreeIntrinsics, varying: set[int], options: AdjustOptions, window: _Window | None
) -> Any:
    """COLMAP's adjuster; intrinsics of the cameras in `varying` move, and only as `kind`."""
    import pycolmap

    settings = pycolmap.BundleAdjustmentOptions()
    settings.print_summary = False
    settings.refine_focal_length = kind.focal_length
    settings.refine_principal_point = kind.principal_point
    settings.refine_extra_params = kind.distortion
    settings.ceres.max_num_images_direct_sparse_cpu_solver = MOST_SOLVED_DIRECTLY  # COLMAP's 1000 are few for walks
    settings.ceres.solver_options.num_threads = options.threads or num_threads()
    settings.ceres.solver_options.max_num_iterations = options.max_iterations
    settings.ceres.solver_options.function_tolerance = options.tolerance
    if options.robust_px is not None:
        settings.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        settings.ceres.loss_function_scale = options.robust_px
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in sorted(model.reg_image_ids()) if window is None else window.images:
        config.add_image(image_id)
    for camera_id in used_cameras(model) if window is None else window.cameras:
        if camera_id not in varying:
            config.set_constant_cam_intrinsics(camera_id)
    for camera_id in options.held_in_rigs if window is None else window.cameras:
        if model.exists_camera(camera_id):
            config.set_constant_sensor_from_rig_pose(model.camera(camera_id).sensor_id)
    if window is not None and options.points:
        for point_id in window.points:
            config.add_variable_point(point_id)  # COLMAP adds what other images see of it, and holds their poses
    if not options.points:
        for point_id in sorted(model.point3D_ids()) if window is None else window.points:
            config.add_constant_point(point_id)
    if not options.poses:
        for frame_id in sorted(model.reg_frame_ids()) if window is None else window.frames:
            config.set_constant_rig_from_world_pose(frame_id)
    elif options.points and (window is None or not window.is_held):
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    return pycolmap.create_default_ceres_bundle_adjuster(settings, config, model)


def used_cameras(model: Reconstruction) -> list[int]:
    """Ids of the cameras that registered photos were taken with, sorted."""
    return sorted({model.image(image_id).camera_id for image_id in model.reg_image_ids()})
