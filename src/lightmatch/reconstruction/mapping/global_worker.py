"""COLMAP's global mapper as a process of its own: python global_worker.py DATABASE IMAGES OUTPUT OPTIONS_JSON.

The mapper cannot be cancelled, and a failed check inside it ends its process: so it is given one. Imports nothing of
the package, to start quickly. Rewrites DATABASE; writes OUTPUT/0, 1, … (binary COLMAP models).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(database: str, images: str, output: str, settings: dict[str, Any]) -> None:
    """Calibrate the pairs, map, write."""
    import pycolmap

    pycolmap.logging.minloglevel = 2  # errors
    seed: int | None = settings["seed"]
    pycolmap.set_random_seed(0 if seed is None else seed)
    if settings["calibrate"]:
        calibration = pycolmap.ViewGraphCalibrationOptions()
        calibration.random_seed = -1 if seed is None else seed
        pycolmap.calibrate_view_graph(database, calibration)
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = options.mapper.num_threads = settings["threads"]
    options.mapper.bundle_adjustment.ceres.solver_options.num_threads = settings["threads"]
    options.mapper.global_positioning.use_gpu = False
    options.mapper.bundle_adjustment.ceres.use_gpu = False
    options.min_model_size = settings["min_model_size"]
    options.mapper.bundle_adjustment.refine_focal_length = settings["refine"]
    options.mapper.bundle_adjustment.refine_extra_params = settings["refine"]
    options.mapper.refine_sensor_from_rig = False
    if seed is not None:
        options.random_seed = options.mapper.random_seed = seed
        options.mapper.rotation_averaging.random_seed = seed
        options.mapper.global_positioning.random_seed = seed
        options.mapper.retriangulation.random_seed = seed
    models = pycolmap.global_mapping(database, images, output, options)
    for number, model in sorted(models.items()):
        folder = Path(output) / "models" / str(number)
        folder.mkdir(parents=True)
        model.write_binary(folder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
