"""Models → everything that a run leaves behind for people and for other programs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np

from lightmatch.geometry.poses import center_of
from lightmatch.inputs import mask_path
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.mapping import Mapped
from lightmatch.pipelines.reconstruct.panorama_rigs import is_first, panorama_poses
from lightmatch.pipelines.reconstruct.pictures import Gathered
from lightmatch.reconstruction import (
    DensifyOptions,
    DepthMapWriter,
    copy_database,
    densify,
    model_arrays,
    replacing_database,
    write_models,
    write_splat_folder,
    write_text_model,
    write_trajectory,
)
from lightmatch.report import draw_overview
from lightmatch.runtime import codec
from lightmatch.runtime.store import digest


def write_results(run: Run, gathered: Gathered, mapped: Mapped) -> None:
    """Write models, cloud, overview, database and trajectories, and what splat trainers read.

    Each is replaced as a whole, so that an interrupted run leaves old or new, and the next one writes what is missing.
    """
    best, pictures, layout = mapped.models[0], gathered.pictures, run.layout
    with run.progress.stage("write", 1) as step:
        _forget_pictures_not_used([*pictures, *gathered.set_aside], layout)
        for folder in (layout.sparse, layout.sparse_text, layout.trajectories):
            _remove(folder)
        write_models(list(mapped.models), layout.folder)
        write_text_model(best, layout.sparse_text / "0")
        _write_trajectories(pictures, mapped, layout.trajectories)
        _write_panoramas(pictures, mapped, layout.panoramas)
        with replacing_database(layout.database) as partial:
            copy_database(mapped.database, partial)
        arrays = model_arrays(best)
        draw_overview(layout.overview, arrays.points, arrays.colors, arrays.centers, arrays.rotations)
        step()
    if run.config.splat:
        _write_splat(run, mapped)
    else:
        _remove(layout.splat)


def _write_splat(run: Run, mapped: Mapped) -> None:
    """The folder for splat trainers, unless an earlier run has written it for the same model."""
    best, config, layout = mapped.models[0], run.config, run.layout
    target = layout.splat
    key = digest("splat", mapped.key, config.depth_maps)
    if not target.is_dir():
        run.cache.forget("splat")

    def make() -> bool:
        masks = layout.masks if (layout.masks).is_dir() else None
        count = best.num_reg_images()
        depth_maps = run.cache.stages / "depth_maps" if config.depth_maps else None
        maps = run.cache.scratch("depth", mapped.key)
        with run.progress.stage("dense", 2 * count) as step:
            cloud = densify(
                best,
                layout.images,
                masks,
                DensifyOptions(seed=config.seed or 0),
                maps=maps,
                on_depth=None if depth_maps is None else DepthMapWriter(best, depth_maps),
                executor=run.executor,
                progress=step,
            )
        with run.progress.stage("splat", count) as step:
            write_splat_folder(
                best,
                layout.images,
                masks,
                target,
                cloud=cloud,
                depth_maps=depth_maps,
                executor=run.executor,
                on_image=step,
            )
        shutil.rmtree(maps)
        return True

    run.cache.value("splat", key, bool, make)


def _write_trajectories(pictures: Sequence[Picture], mapped: Mapped, folder: Path) -> None:
    """One file for each video whose frames are in the best model; of a panoramic one the poses of its first views."""
    videos = sorted({picture.video for picture in pictures if picture.video is not None})
    for video in videos:
        times = {p.name: p.time_s for p in pictures if p.video == video and p.time_s is not None and is_first(p)}
        write_trajectory(mapped.models[0], times, folder / f"{video}.txt")


def _write_panoramas(pictures: Sequence[Picture], mapped: Mapped, path: Path) -> None:
    """Where each panorama was taken: world from panorama (3, 4), x right, y down, z to its middle; null: not known."""
    path.unlink(missing_ok=True)
    poses = panorama_poses(pictures, mapped.models[0])
    if not poses:
        return
    placed = {
        name: None if pose is None else np.column_stack([pose[:, :3].T, center_of(pose)]).tolist()
        for name, pose in sorted(poses.items())
    }
    codec.write(path, {"world_from_panorama": placed}, indent=1)


def _forget_pictures_not_used(pictures: Sequence[Picture], layout: Layout) -> None:
    """Remove working copies and masks of photos that are no longer among those named, or are a duplicate."""
    names = {picture.name for picture in pictures}
    used = {layout.images / name for name in names} | {mask_path(layout.masks, name) for name in names}
    for folder in (layout.images, layout.masks):
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif path.is_file() and path not in used and path.name != ".video":
                path.unlink()


def _remove(path: Path) -> None:
    """Remove a folder: first its name, so that a half-removed one is never taken for whole."""
    if path.is_dir():
        gone = path.with_name(f".{uuid4().hex}.gone")
        path.rename(gone)
        shutil.rmtree(gone)
