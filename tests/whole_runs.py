"""Whole runs of `reconstruct`, and what they write: to compare to the bit."""

from pathlib import Path

import cv2

from lightmatch.colmap.database_files import read_colmap_verified
from lightmatch.pipelines.reconstruct import ReconstructConfig, reconstruct
from lightmatch.runtime.executor import Executor

WHOLE = ReconstructConfig(max_keypoints=512, guided_keypoints=1024, depth_maps=True, seed=0)


def first_photos(count: int, scene_photos: Path, folder: Path) -> Path:
    """The folder, with that many of the photos of the scene, in half size for speed."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = cv2.imread(str(scene_photos / f"view_{number}.png"))
        assert pixels is not None
        half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"view_{number}.png"), half)
    return folder


def written_by(executor: Executor, photos: Path, output: Path) -> dict[str, bytes]:
    """The files of models, dense cloud and depth maps of a whole run, and the matches of its best model."""
    reconstruct(photos, output, WHOLE, executor=executor)
    files = sorted(path for name in ("sparse", "splat") for path in (output / name).rglob("*") if path.is_file())
    written = {path.relative_to(output).as_posix(): path.read_bytes() for path in files}
    for pair, found in read_colmap_verified(output / "database.db").items():
        written["matches of {} and {}".format(*pair)] = found.matches.indices.numpy().tobytes()
    return written
