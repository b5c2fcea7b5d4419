"""The options that all of COLMAP's mapping and triangulation here begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightmatch.runtime.threads import num_threads

if TYPE_CHECKING:
    from pycolmap import IncrementalPipelineOptions

MAX_SEED = (1 << 31) - 1  # seeds are C integers there
MOST_SOLVED_DIRECTLY = 4000  # photos of a bundle adjustment; of more, equations are solved by conjugate gradients


def pipeline_options(seed: int | None) -> IncrementalPipelineOptions:
    """COLMAP's defaults on the threads of this process, or seeded.

    COLMAP is deterministic on one thread only, so a seeded run uses one. Rigs that a database has while mapping are
    given ones: they stay. Points get no colours: `colmap.models.extract_colors` reads the photos once, in the end.
    """
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = options.mapper.num_threads = num_threads() if seed is None else 1
    options.ba_refine_sensor_from_rig = False
    options.extract_colors = False
    if seed is not None:
        options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    return options
