"""Posed photos: written from a rendered world in each layout, and read back with the truth where it was."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from lightmatch.colmap.dense_maps import write_colmap_array
from lightmatch.colmap.model_files import write_colmap_model
from lightmatch.colmap.model_types import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints
from lightmatch.errors import InvalidValueError, MissingDependencyError, TrainingError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.coordinates import (
    colmap_from_pixels,
    compose_rigid,
    invert_rigid,
    scale_intrinsics,
    transform_points,
)
from lightmatch.geometry.correspondence import Visibility
from lightmatch.geometry.depth import project, sample_depth, unproject, warp_with_depth
from lightmatch.geometry.epipolar import epipolar_distance_px
from lightmatch.images import keypoints_to_size
from lightmatch.scenes import RenderedScene, WorldConfig, build_world, camera_ring, pinhole, render
from lightmatch.training.overlap import depth_overlap
from lightmatch.training.posed import PosedConfig, PosedSource
from lightmatch.training.views import ViewGroup
from lightmatch.types import Image

SIZE = (320, 240)
RADIAL = 0.08  # of the camera with distortion
SIFT = create_extractor("sift", max_keypoints=400)


@pytest.fixture(scope="module")
def scene() -> RenderedScene:
    """Eight neighbouring views of a small world."""
    generator = torch.Generator().manual_seed(1)
    world = build_world(
        generator, WorldConfig(extent=9.0, num_objects=8, num_textures=3, texture_size=512, texel_size=0.012)
    )
    poses = camera_ring((0, 0, 0.5), 3.6, 1.2, 8, 0.03, generator, arc_deg=100)
    K = pinhole(65.0, SIZE).expand(len(poses), 3, 3)
    seen = render(world, K, poses, SIZE)
    return RenderedScene(world, K, poses, seen.rgb, seen.depth)


def write_colmap(folder: Path, scene: RenderedScene, *, distorted: bool = False) -> Path:
    """A reconstruction whose 3D points are keypoints of every view, observed wherever they are visible."""
    (folder / "images").mkdir(parents=True)
    keypoints = [SIFT(Image(pixels.numpy())).keypoints[:150].double() for pixels in scene.rgb]
    points, observers = [], []
    for view, places in enumerate(keypoints):
        depth, _ = sample_depth(scene.depth[view].double(), places)
        in_camera = unproject(places, depth, scene.K[view].double())
        points.append(transform_points(invert_rigid(scene.cam_from_world[view].double()), in_camera))
        observers.append(torch.stack([warp(scene, view, other, places)[1] for other in range(len(scene.rgb))], 1))
    seen, xyz = torch.cat(observers), torch.cat(points)
    name, extra = ("SIMPLE_RADIAL", (RADIAL,)) if distorted else ("SIMPLE_PINHOLE", ())
    focal, centre = float(scene.K[0, 0, 0]), colmap_from_pixels(scene.K[0, :2, 2]).tolist()
    images = {}
    for view, pose in enumerate(scene.cam_from_world.double()):
        picture = distort(scene.rgb[view].numpy(), scene.K[view].numpy()) if distorted else scene.rgb[view].numpy()
        cv2.imwrite(str(folder / "images" / f"{view}.png"), picture[..., ::-1])
        observed = seen[:, view].nonzero()[:, 0]
        places = project(transform_points(pose, xyz[observed]), scene.K[view].double())[0]
        images[view] = ColmapImage(view, f"{view}.png", 1, pose, places, torch.arange(len(places)), observed)
    camera = ColmapCamera(1, name, *SIZE, (focal, *centre, *extra))
    rows = ColmapPoints(
        torch.arange(len(xyz)), xyz, torch.zeros((len(xyz), 3), dtype=torch.uint8), torch.zeros(len(xyz)).double()
    )
    write_colmap_model(ColmapModel({1: camera}, images, rows), folder / "sparse" / "0", binary=True)
    return folder


def distort(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """What a lens with RADIAL makes of a pinhole's picture."""
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    grid = np.stack((x, y), -1).reshape(-1, 1, 2)
    source = cv2.undistortPoints(grid, K, np.array([RADIAL, 0, 0, 0]), P=K).reshape(*x.shape, 2).astype(np.float32)
    return np.asarray(cv2.remap(pixels, source[..., 0], source[..., 1], cv2.INTER_CUBIC))


def write_megadepth(root: Path, scene: RenderedScene) -> Path:
    """The world as MegaDepth is laid out, with a photo that could not be reconstructed."""
    h5py = pytest.importorskip("h5py")
    count = len(scene.rgb)
    for folder in ("scene_info", "Undistorted_SfM/0001/images", "depths"):
        (root / folder).mkdir(parents=True)
    for view in range(count):
        picture = scene.rgb[view].numpy()[..., ::-1]
        cv2.imwrite(str(root / "Undistorted_SfM/0001/images" / f"{view}.png"), picture)
        with h5py.File(root / "depths" / f"{view}.h5", "w") as file:
            file["depth"] = scene.depth[view].numpy()
    K = scene.K.clone()
    K[:, :2, 2] = colmap_from_pixels(K[:, :2, 2])
    poses = torch.cat((scene.cam_from_world, torch.tensor([0.0, 0, 0, 1]).expand(count, 1, 4)), 1)
    overlap = np.zeros((count + 1, count + 1), np.float32)
    overlap[1:, 1:] = depth_overlap(scene.depth, scene.K, scene.cam_from_world).numpy()
    np.savez(
        root / "scene_info" / "0001.npz",
        image_paths=with_gap([f"Undistorted_SfM/0001/images/{view}.png" for view in range(count)]),
        depth_paths=with_gap([f"depths/{view}.h5" for view in range(count)]),
        intrinsics=with_gap(list(K.numpy())),
        poses=with_gap(list(poses.numpy())),
        overlap_matrix=overlap,
    )
    return root


def with_gap(values: list) -> np.ndarray:
    array = np.empty(len(values) + 1, dtype=object)
    array[1:] = values
    return array


def warp(scene: RenderedScene, view0: int, view1: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """Exact places in view 1 of full-size pixels of view 0, and whether they are seen there."""
    depth, K, pose = scene.depth.double(), scene.K.double(), scene.cam_from_world.double()
    motion = compose_rigid(pose[view1], invert_rigid(pose[view0]))
    return warp_with_depth(places, depth[view0], K[view0], depth[view1], K[view1], motion)


def numbers_of(group: ViewGroup, scene: RenderedScene, long_side: int) -> list[int]:
    """Which views of the scene the group has: found by extracting their features again."""
    size = (long_side, long_side * SIZE[1] // SIZE[0])
    pictures = [cv2.resize(pixels.numpy(), size, interpolation=cv2.INTER_AREA) for pixels in scene.rgb]
    every = [SIFT(Image(np.asarray(picture))).keypoints for picture in pictures]
    return [next(i for i, k in enumerate(every) if torch.equal(k, f.keypoints)) for f in group.features]


def check_dense(group: ViewGroup, scene: RenderedScene, long_side: int) -> None:
    """Compare all projections with the rendered truth."""
    numbers, size = numbers_of(group, scene, long_side), (long_side, long_side * SIZE[1] // SIZE[0])
    every = [torch.arange(len(f)) for f in group.features]
    num_visible = num_occluded = 0
    for i in range(len(group)):
        for j in range(len(group)):
            if i == j:
                continue
            features, _, truth = group.pair(i, j, every[i], every[j])
            exact, seen = warp(
                scene, numbers[i], numbers[j], keypoints_to_size(features.keypoints, size, SIZE).double()
            )
            exact = keypoints_to_size(exact, SIZE, size)
            visibility = truth.projection0.visibility
            visible, hidden = visibility == Visibility.VISIBLE, visibility == Visibility.HIDDEN
            errors = (truth.projection0.points - exact)[visible].norm(dim=1)
            assert errors.median() < 0.1 and errors.quantile(0.95) < 0.5
            assert seen[visible].double().mean() > 0.97
            assert seen[hidden].double().mean() < 0.05
            inside = ((exact > 1) & (exact < torch.tensor(size) - 2)).all(1)
            num_visible += int(visible.sum())
            num_occluded += int((hidden & inside).sum())
    assert num_visible > 1000 and num_occluded > 100


def test_colmap_with_depth_maps(scene: RenderedScene, tmp_path: Path) -> None:
    """Depth maps are smaller than the photos, and these larger than what the matcher gets."""
    folder = write_colmap(tmp_path / "model", scene)
    half = (SIZE[0] // 2, SIZE[1] // 2)
    small = render(scene.world, scale_intrinsics(scene.K, SIZE, half), scene.cam_from_world, half).depth
    (folder / "stereo" / "depth_maps").mkdir(parents=True)
    for view in range(7):  # the last one has none, and so takes no part
        write_colmap_array(small[view], folder / "stereo" / "depth_maps" / f"{view}.png.geometric.bin")
    config = PosedConfig(views_per_group=4, long_side=280)
    for index in range(2):
        group = PosedSource([folder], "train", 0, config).group(index, SIFT)
        assert len(group) == 4 and 7 not in numbers_of(group, scene, 280)
        check_dense(group, scene, 280)


def test_megadepth(scene: RenderedScene, tmp_path: Path) -> None:
    root = write_megadepth(tmp_path, scene)
    group = PosedSource([root], "train", 0, PosedConfig(views_per_group=4)).group(0, SIFT)
    check_dense(group, scene, SIZE[0])


def test_a_finished_reconstruction(scene: RenderedScene, tmp_path: Path) -> None:
    """Only keypoints at 3D points have a known place; of the others the epipolar line is known."""
    folder = write_colmap(tmp_path / "model", scene)
    group = PosedSource([folder], "train", 0, PosedConfig(views_per_group=4)).group(0, SIFT)
    numbers = numbers_of(group, scene, SIZE[0])
    every = [torch.arange(len(f)) for f in group.features]
    features0, features1, truth = group.pair(0, 1, every[0], every[1])
    exact, seen = warp(scene, numbers[0], numbers[1], features0.keypoints.double())
    visibility = truth.projection0.visibility
    visible, hidden = visibility == Visibility.VISIBLE, visibility == Visibility.HIDDEN
    assert visible.sum() > 30
    assert seen[visible].double().mean() > 0.9
    errors = (truth.projection0.points - exact)[visible & seen].norm(dim=1)
    assert errors.median() < 0.2
    outside = ~((exact >= -1) & (exact < torch.tensor(SIZE))).all(1)
    assert outside[hidden].double().mean() > 0.9
    assert (visibility == Visibility.UNKNOWN).double().mean() > 0.2
    labels = truth.label(features0, features1, 3.0, 5.0)
    assert len(labels.matches) > 15
    assert truth.fundamental is not None
    places0, places1 = features0.keypoints[labels.matches[:, 0]], features1.keypoints[labels.matches[:, 1]]
    assert epipolar_distance_px(truth.fundamental, places0, places1).median() < 0.7


def test_distortion_is_taken_out(scene: RenderedScene, tmp_path: Path) -> None:
    """As many keypoints lie at 3D points as without distortion, which bends the picture by up to 16 px."""
    config = PosedConfig(views_per_group=4)
    num_known = []
    for distorted in (False, True):
        folder = write_colmap(tmp_path / str(distorted), scene, distorted=distorted)
        group = PosedSource([folder], "train", 0, config).group(0, SIFT)
        num_known.append(int((group.visibility == Visibility.VISIBLE).sum()))
    assert num_known[1] > 0.7 * num_known[0]


def test_held_out_photos_never_train(scene: RenderedScene, tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model", scene)
    config = PosedConfig(views_per_group=3)
    used = {}
    for split in ("train", "validation"):
        source = PosedSource([folder], split, 0, config)
        used[split] = {n for index in range(4) for n in numbers_of(source.group(index, SIFT), scene, SIZE[0])}
    assert used["validation"] == {0, 1}  # the first photo and the one that sees most of the same
    assert used["train"] <= set(range(2, 8)) and len(used["train"]) > 3
    first, again = (PosedSource([folder], "train", 5, config).group(1, SIFT) for _ in range(2))
    assert torch.equal(first.projections, again.projections)


def test_bad_input(scene: RenderedScene, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="expected posed photos"):
        PosedSource([tmp_path / "empty"]).group(0, SIFT)
    folder = write_colmap(tmp_path / "turned", scene)
    for path in (folder / "images").iterdir():
        cv2.imwrite(str(path), np.zeros((SIZE[0], SIZE[1], 3), np.uint8))
    with pytest.raises(TrainingError, match=r"320×240 px, got 240×320"):
        PosedSource([folder]).group(0, SIFT)
    few = write_colmap(tmp_path / "few", replace(scene, **{n: getattr(scene, n)[:3] for n in VIEW_FIELDS}))
    with pytest.raises(TrainingError, match="at least 4 posed photos"):
        PosedSource([few]).group(0, SIFT)
    with pytest.raises(InvalidValueError, match="views_per_group"):
        PosedConfig(views_per_group=1)


VIEW_FIELDS = ("K", "cam_from_world", "rgb", "depth")


def test_a_missing_library_raises(scene: RenderedScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_megadepth(tmp_path, scene)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match="h5py"):
        PosedSource([root]).group(0, SIFT)


class Harmful:
    """Would run code where a pickle is loaded without care."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("harm",)


def test_scene_infos_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scene_info").mkdir()
    np.savez("scene_info/0001.npz", image_paths=np.array([Harmful()], dtype=object))
    with pytest.raises(TrainingError, match="mkdir"):
        PosedSource([tmp_path]).group(0, SIFT)
    assert not Path("harm").exists()


def test_a_model_that_was_made_anew_gives_other_groups(scene: RenderedScene, tmp_path: Path) -> None:
    """Groups are kept in a folder whose name comes from this."""
    model = write_colmap(tmp_path, scene)
    before = repr(PosedSource([model]))
    assert before == repr(PosedSource([model]))
    points = model / "sparse" / "0" / "points3D.bin"
    os.utime(points, ns=(0, 0))
    assert repr(PosedSource([model])) != before
