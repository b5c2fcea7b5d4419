"""The bundled procedural scene, reconstructed and compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image as PillowImage

from lightmatch.errors import ReconstructionError
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.output import finish_output, prepare_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, Summary, reconstruct
from lightmatch.reconstruction import model_arrays, read_model
from lightmatch.scenes import demo_scene


@dataclass(frozen=True)
class DemoResult:
    """The reconstruction, and how far each camera is from where it truly stood."""

    summary: Summary
    names: tuple[str, ...]
    rotation_errors_deg: tuple[float, ...]
    position_errors_percent: tuple[float, ...]  # of the diagonal of the box around the true cameras


def run_demo(
    output: str | Path, *, num_views: int = 20, seed: int = 0, overwrite: bool = False, progress: Progress | None = None
) -> DemoResult:
    """Render a scene to output/photos, reconstruct it to output/model, compare with the truth."""
    output = Path(output)
    progress = progress or Progress()
    prepare_output(output, ("photos", "model"), overwrite)
    photos = output / "photos"
    photos.mkdir()
    with progress.stage("render", 1) as step:
        scene = demo_scene(seed, num_views=num_views)
        step()
    names = [f"view_{number:02d}.png" for number in range(num_views)]
    for name, pixels in zip(names, scene.rgb, strict=True):
        PillowImage.fromarray(pixels.cpu().numpy()).save(photos / name)
    summary = reconstruct(photos, output / "model", ReconstructConfig(seed=seed, splat=False), progress=progress)
    found = model_arrays(read_model(Layout(output / "model").best_model))
    if len(found.names) < 3:
        raise ReconstructionError(f"expected at least 3 cameras to compare with the truth, got {len(found.names)}")
    true_poses = scene.cam_from_world.double().cpu()[[names.index(name) for name in found.names]]
    true_centers = invert_rigid(true_poses)[:, :, 3]
    rotation_deg, position = aligned_pose_errors(
        torch.from_numpy(found.rotations), torch.from_numpy(found.centers), true_poses[:, :, :3], true_centers
    )
    extent = (true_centers.amax(0) - true_centers.amin(0)).norm()
    finish_output(output)
    return DemoResult(
        summary, tuple(found.names), tuple(rotation_deg.tolist()), tuple((100 * position / extent).tolist())
    )
