"""COLMAP's incremental mapper step by step, for more photos than its own pipeline solves directly.

Beyond 1000 photos COLMAP's pipeline solves the equations of a bundle adjustment by conjugate gradients, and has no
option to choose. On long walks these converge slowly; a sparse factorization is fast as long as each photo shares
points with few others, as where pairs are chosen by retrieval. The steps, their order and thresholds are COLMAP's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lightmatch.colmap.database import incremental_pipeline
from lightmatch.colmap.options import MOST_SOLVED_DIRECTLY

if TYPE_CHECKING:
    from pathlib import Path

    from pycolmap import (
        IncrementalMapper,
        IncrementalMapperOptions,
        IncrementalPipeline,
        IncrementalPipelineOptions,
        Reconstruction,
    )


_RELAXED_STARTS = ((1, 1), (2, 1), (2, 2), (4, 2), (4, 4))  # divisors of the first pair's inliers, and of its angle


class GrownModels:
    """Models of a database, made one photo at a time.

    `cancel` may be called from another thread; COLMAP lets other threads wait while it adjusts all cameras.
    """

    def __init__(
        self,
        database: Path,
        options: IncrementalPipelineOptions,
        on_image: Callable[[], None],
        extend: Reconstruction | None = None,
    ) -> None:
        """database: verified matches. on_image: called for each photo placed. extend: as for `map_incrementally`."""
        self._database = database
        self._options = options
        self._on_image = on_image
        self._extend = extend
        self._cancelled = False

    def cancel(self) -> None:
        """Stop after the photo that is being placed."""
        self._cancelled = True

    def grow(self) -> list[Reconstruction]:
        """All models, in the order in which they were started; none where cancelled."""
        import pycolmap

        options = self._options
        pipeline = incremental_pipeline(self._database, options)
        mapper = pycolmap.IncrementalMapper(pipeline.database_cache)
        if self._extend is not None:
            model = pycolmap.Reconstruction(self._extend)
            mapper.begin_reconstruction(model)
            self._add_photos(pipeline, mapper, model)
            mapper.end_reconstruction(False)
            return [] if self._cancelled else [model]
        models: list[Reconstruction] = []
        settings = options.get_mapper()
        inliers, angle_deg = settings.init_min_num_inliers, settings.init_min_tri_angle
        for fewer_inliers, smaller_angle in _RELAXED_STARTS:
            settings.init_min_num_inliers = inliers // fewer_inliers
            settings.init_min_tri_angle = angle_deg / smaller_angle
            mapper.reset_initialization_stats()
            models = self._started(pipeline, mapper, settings)
            if models or self._cancelled:
                break
        return [] if self._cancelled else models

    def _started(
        self, pipeline: IncrementalPipeline, mapper: IncrementalMapper, settings: IncrementalMapperOptions
    ) -> list[Reconstruction]:
        """Models that begin with pairs that fulfil the settings, each with all photos that can be added."""
        import pycolmap

        options, status = self._options, pycolmap.IncrementalPipelineStatus
        models: list[Reconstruction] = []
        for _ in range(options.init_num_trials):
            model = pycolmap.Reconstruction()
            mapper.begin_reconstruction(model)
            started = pipeline.initialize_reconstruction(mapper, settings, model)
            if started != status.SUCCESS:
                mapper.end_reconstruction(True)
                if started == status.BAD_INITIAL_PAIR:
                    continue
                break
            self._on_image()
            self._on_image()
            self._add_photos(pipeline, mapper, model)
            too_small = bool(models) and model.num_reg_frames() < options.min_model_size
            mapper.end_reconstruction(too_small)
            if not too_small:
                models.append(model)
            num_left = pipeline.database_cache.num_images() - mapper.num_total_reg_images()
            is_last = not options.multiple_models or len(models) >= options.max_num_models or num_left <= 1
            if is_last or self._cancelled:
                break
        return models

    def _add_photos(self, pipeline: IncrementalPipeline, mapper: IncrementalMapper, model: Reconstruction) -> None:
        """Place photos until none can be."""
        options = self._options
        adjusted = model.num_reg_frames(), model.num_points3D()
        may_end = False  # whether all is adjusted since the last photo was placed
        while mapper.num_shared_reg_images() < options.max_model_overlap and not self._cancelled:
            image_id = self._place_next(mapper)
            if image_id is None:
                if may_end:
                    break
                self._adjust_all(mapper)
                adjusted, may_end = (model.num_reg_frames(), model.num_points3D()), True
                continue
            may_end = False
            self._on_image()
            for data_id in model.frame(model.image(image_id).frame_id).image_ids:
                mapper.triangulate_image(options.get_triangulation(), data_id.id)
            mapper.iterative_local_refinement(
                options.ba_local_max_refinements,
                options.ba_local_max_refinement_change,
                options.get_mapper(),
                options.get_local_bundle_adjustment(),
                options.get_triangulation(),
                image_id,
            )
            if pipeline.check_run_global_refinement(model, *adjusted):
                self._adjust_all(mapper)
                adjusted = model.num_reg_frames(), model.num_points3D()
        if adjusted != (model.num_reg_frames(), model.num_points3D()) and not self._cancelled:
            self._adjust_all(mapper)

    def _place_next(self, mapper: IncrementalMapper) -> int | None:
        """The photo that was placed, of those that see most points the first that can be."""
        settings = self._options.get_mapper()
        for image_id in mapper.find_next_images(settings, structure_less=False):
            if mapper.register_next_image(settings, image_id):
                return image_id
        return None

    def _adjust_all(self, mapper: IncrementalMapper) -> None:
        options = self._options
        adjustment = options.get_global_bundle_adjustment()
        adjustment.ceres.max_num_images_direct_sparse_cpu_solver = MOST_SOLVED_DIRECTLY
        mapper.iterative_global_refinement(
            options.ba_global_max_refinements,
            options.ba_global_max_refinement_change,
            options.get_mapper(),
            adjustment,
            options.get_triangulation(),
        )
