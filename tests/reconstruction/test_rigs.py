"""Two cameras on a bar: found from a model without the rig, and better with it."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from seen_points import see, verify, write_database

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.geometry.coordinates import compose_rigid, rotation_angle_deg
from lightmatch.reconstruction import map_incrementally
from lightmatch.reconstruction.priors.cameras import CameraPriors, IntrinsicsPrior, enter_intrinsics
from lightmatch.reconstruction.priors.rigs import (
    CameraRig,
    RigCamera,
    apply_rigs,
    derive_rig,
    folders_of,
    moments_of,
    rig_of,
)
from lightmatch.scenes import camera_ring, pinhole

SIZE = (320, 240)
K = pinhole(60.0, SIZE).double()
KNOWN = CameraPriors("truth", {"*": (IntrinsicsPrior("SIMPLE_PINHOLE", (float(K[0, 0]), 160, 120), SIZE),)})
MOMENTS = 8
LEFT = camera_ring((0, 0, 0), 5.0, 1.5, MOMENTS, 0.03, torch.Generator().manual_seed(0), arc_deg=120).double()
COSINE, SINE = math.cos(0.1), math.sin(0.1)
RIGHT_FROM_LEFT = torch.tensor([[COSINE, 0, SINE, -0.8], [0, 1, 0, 0.0], [-SINE, 0, COSINE, 0.1]], dtype=torch.float64)
NAMES = [f"{side}/{n}.png" for side in ("left", "right") for n in range(MOMENTS)]
FOLDERS = ["left", "right"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight moments of two cameras, 320 × 240, keypoints with a noise of 1 px; verified."""
    poses = torch.cat([LEFT, compose_rigid(RIGHT_FROM_LEFT, LEFT)])
    points = 1.5 * torch.randn((300, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = see(NAMES, poses, K, SIZE, points, noise_px=1.0)
    path = write_database(tmp_path_factory.mktemp("rig"), seen, [NAMES[:MOMENTS], NAMES[MOMENTS:]])
    enter_intrinsics(path, KNOWN)
    verify(path)
    return path


def errors(rig: CameraRig) -> tuple[float, float]:
    """Of the right camera's pose on the bar: rotation and direction of the translation, degrees."""
    pose = rig.cameras[1].cam_from_rig
    assert pose is not None
    found, true = torch.from_numpy(pose), RIGHT_FROM_LEFT
    cosine = torch.nn.functional.cosine_similarity(found[:, 3], true[:, 3], dim=0)
    return float(rotation_angle_deg(found[:, :3], true[:, :3])), math.degrees(math.acos(min(1.0, float(cosine))))


def moment_errors(model: object) -> np.ndarray:
    """(m, 2) errors of single moments: what the model says without averaging."""
    found = []
    for n in range(MOMENTS):
        names = [f"{folder}/{n}.png" for folder in FOLDERS]
        left, right = (torch.from_numpy(model.find_image_with_name(name).cam_from_world().matrix()) for name in names)  # type: ignore[attr-defined]
        rotation = right[:, :3] @ left[:, :3].mT
        pose = torch.cat([rotation, (right[:, 3] - rotation @ left[:, 3])[:, None]], 1)
        found.append(errors(rig_of(FOLDERS, {"right": pose.numpy()})))
    return np.array(found)


def test_a_rig_makes_relative_poses_better(database: Path, tmp_path: Path) -> None:
    shutil.copy(database, tmp_path / "d.db")
    without = map_incrementally(database, database.parent / "images", seed=0)[0]
    rig = derive_rig(without, FOLDERS)
    assert rig.num_moments == MOMENTS and rig.spread_deg < 1
    apply_rigs(tmp_path / "d.db", [rig])
    within = map_incrementally(tmp_path / "d.db", database.parent / "images", seed=0)[0]
    assert within.num_reg_images() == 2 * MOMENTS and within.num_reg_frames() == MOMENTS
    after = derive_rig(within, FOLDERS)
    assert after.spread_deg < 1e-5  # rigid now
    single, kept = moment_errors(without).mean(0), moment_errors(within).mean(0)
    assert kept[0] < 0.5 * single[0] and kept[1] < single[1]
    assert errors(after)[0] < 0.1 and errors(after)[1] < 1.5


def test_a_model_gets_the_rig_and_the_photos_it_lacked(database: Path, tmp_path: Path) -> None:
    shutil.copy(database, tmp_path / "d.db")
    model = map_incrementally(database, database.parent / "images", seed=0)[0]
    model.deregister_frame(model.find_image_with_name("right/3.png").frame_id)
    assert model.num_reg_images() == 2 * MOMENTS - 1
    apply_rigs(tmp_path / "d.db", [derive_rig(model, FOLDERS)], model)
    assert model.num_reg_images() == 2 * MOMENTS and model.num_rigs() == 1
    assert moment_errors(model)[3, 0] < 1


def test_cameras_that_move_against_each_other_are_not_a_rig(database: Path) -> None:
    model = map_incrementally(database, database.parent / "images", seed=0)[0]
    for image_id in model.reg_image_ids():
        image = model.image(image_id)
        number = int(image.name[-5])
        if image.name.startswith("right"):
            import pycolmap

            turn = np.eye(3, 4)
            angle = 0.4 * number
            turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            model.frame(image.frame_id).rig_from_world = pycolmap.Rigid3d(turn) * image.cam_from_world()
    with pytest.raises(ReconstructionError, match="they rotate against each other by more than 5° in"):
        derive_rig(model, FOLDERS)
    with pytest.raises(ReconstructionError, match="a photo of top and one of left in the model, found none"):
        derive_rig(model, ["left", "top"])


def test_moments_have_one_name_in_all_folders() -> None:
    names = ["a/1.png", "a/x/2.png", "b/1.png", "b/3.png", "other/1.png"]
    assert moments_of(names, ["a/", "b"]) == {
        "1.png": {"a": "a/1.png", "b": "b/1.png"},
        "x/2.png": {"a": "a/x/2.png"},
        "3.png": {"b": "b/3.png"},
    }


def test_folders_that_share_moments_are_one_rig() -> None:
    frames = [["a/left", "a/right"], ["b/top"], ["b/top", "b/left"], ["a/right", "a/up"], ["alone"]]
    assert folders_of(frames) == [["a/left", "a/right", "a/up"], ["b/left", "b/top"]]


def test_two_rigs_side_by_side(tmp_path: Path) -> None:
    import pycolmap

    names = [f"{rig}/{side}/{n}.png" for rig in "ab" for side in ("left", "right") for n in range(2)] + ["free/0.png"]
    seen = see(names, LEFT[[n % 8 for n in range(9)]], K, SIZE, torch.zeros(1, 3).double())
    path = write_database(tmp_path, seen, [names[i : i + 2] for i in range(0, 9, 2)])
    known = rig_of(["a/left", "a/right"], {"a/right": RIGHT_FROM_LEFT.numpy()})
    apply_rigs(path, [known, rig_of(["b/left/", "b/right"])])
    with pycolmap.Database.open(path) as opened:
        images = {image.image_id: image.name for image in opened.read_all_images()}
        frames = sorted(sorted(images[data.id] for data in frame.data_ids) for frame in opened.read_all_frames())
        rigs = [list(rig.non_ref_sensors.values()) for rig in opened.read_all_rigs()]
    assert frames == [
        ["a/left/0.png", "a/right/0.png"],
        ["a/left/1.png", "a/right/1.png"],
        ["b/left/0.png", "b/right/0.png"],
        ["b/left/1.png", "b/right/1.png"],
        ["free/0.png"],
    ]
    ((pose,), unknown, alone) = rigs
    assert pose is not None
    np.testing.assert_allclose(pose.matrix(), RIGHT_FROM_LEFT, atol=1e-12)
    assert known.known and unknown == [None] and alone == []


def test_bad_rigs(database: Path) -> None:
    with pytest.raises(InvalidValueError, match="expected two or more different folders, got left"):
        rig_of(["left"])
    with pytest.raises(InvalidValueError, match="expected folders beside each other"):
        rig_of(["left", "left/deep"])
    with pytest.raises(InvalidValueError, match="got one of top"):
        rig_of(FOLDERS, {"top": np.eye(3, 4)})
    with pytest.raises(InvalidValueError, match="as the rig's frame, with the identity"):
        CameraRig((RigCamera("left", RIGHT_FROM_LEFT.numpy()), RigCamera("right")))
    with pytest.raises(InvalidValueError, match="photos of one camera in top, got no photos; check the name"):
        apply_rigs(database, [rig_of(["left", "top"])])
    with pytest.raises(InvalidValueError, match="expected each folder in one rig"):
        apply_rigs(database, [rig_of(FOLDERS), rig_of(["top", "right"])])


def test_each_folder_has_one_camera(tmp_path: Path) -> None:
    seen = see(NAMES[6:10], LEFT[:4], K, SIZE, torch.zeros(1, 3).double())
    path = write_database(tmp_path / "a", seen, [NAMES[6:7], NAMES[7:8], NAMES[8:10]])
    with pytest.raises(InvalidValueError, match="photos of one camera in left, got 2 cameras; let the photos"):
        apply_rigs(path, [rig_of(FOLDERS)])
    path = write_database(tmp_path / "b", seen, [NAMES[6:8], NAMES[8:10]])
    with pytest.raises(InvalidValueError, match="expected files of the same name in at least two folders"):
        apply_rigs(path, [rig_of(FOLDERS)])
