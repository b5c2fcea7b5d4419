"""Cameras that only rotated are distinguished from those that moved, with their focal length and how they turned."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from lightmatch.reconstruction import find_pure_rotations

SIZE, FOCAL_PX = (640, 480), 600.0
Kind = tuple[list[np.ndarray], np.ndarray, np.ndarray]  # rotations, centres, points


def turning(num: int = 6, step_deg: float = 9.0) -> list[np.ndarray]:
    """Rotations, camera from world, to the right and up."""
    angles = np.radians([[0.3 * step_deg * (n % 3), step_deg * (n - num / 2), n % 2] for n in range(num)])
    return [cv2.Rodrigues(np.array([x, 0.0, z]))[0] @ cv2.Rodrigues(np.array([0.0, y, 0.0]))[0] for x, y, z in angles]


def scattered(num: int = 1500, nearest: float = 4.0, farthest: float = 12.0) -> np.ndarray:
    """Points (num, 3) in front, at any depth."""
    rng = np.random.default_rng(0)
    rays = np.column_stack((rng.uniform(-1.6, 1.6, num), rng.uniform(-0.8, 0.8, num), np.ones(num)))
    return rays * rng.uniform(nearest, farthest, (num, 1))


def write(
    path: Path, groups: Sequence[Kind], *, k1: float = 0.0, told_px: float | None = None, noise_px: float = 0.4
) -> Path:
    """A database of the photos g-n.jpg of all groups, by one camera, with all that two photos of a group both see."""
    rng = np.random.default_rng(1)
    half = np.array(SIZE) / 2
    with pycolmap.Database.open(path) as opened:
        camera = pycolmap.Camera.create_from_model_id(0, pycolmap.CameraModelId.SIMPLE_RADIAL, told_px or 768.0, *SIZE)
        camera.has_prior_focal_length = told_px is not None
        camera_id = opened.write_camera(camera)
        for g, (rotations, centres, points) in enumerate(groups):
            seen: list[tuple[int, np.ndarray]] = []
            for n, (rotation, centre) in enumerate(zip(rotations, centres, strict=True)):
                image_id = opened.write_image(pycolmap.Image(name=f"{g}-{n}.jpg", camera_id=camera_id))
                placed = (points - centre) @ rotation.T
                flat = placed[:, :2] / np.where(placed[:, 2:] > 0.1, placed[:, 2:], np.nan)
                bent = flat * (1 + k1 * (flat**2).sum(1, keepdims=True))
                pixels = FOCAL_PX * bent + rng.normal(0, noise_px, bent.shape)
                inside = (np.abs(pixels) < half).all(1) & ((flat**2).sum(1) < 1)
                opened.write_keypoints(image_id, np.nan_to_num(pixels + half, nan=-1.0).astype(np.float32))
                seen.append((image_id, inside))
            for a, (id0, inside0) in enumerate(seen):
                for id1, inside1 in seen[a + 1 :]:
                    both = np.flatnonzero(inside0 & inside1).astype(np.uint32)
                    geometry = pycolmap.TwoViewGeometry()
                    geometry.inlier_matches = np.column_stack((both, both))
                    opened.write_two_view_geometry(id0, id1, geometry)
    return path


def on_the_spot(num: int = 6) -> Kind:
    return turning(num), np.zeros((num, 3)), scattered()


def walking(step: float) -> Kind:
    return turning(), np.outer(np.arange(6), [step, 0.0, 0.0]), scattered()


@pytest.mark.parametrize(("k1", "told_px"), [(0.0, None), (-0.12, None), (0.0, 640.0)])
def test_a_turning_camera_is_found_with_its_focal_length_and_rotations(
    k1: float, told_px: float | None, tmp_path: Path
) -> None:
    (found,), is_all = find_pure_rotations(write(tmp_path / "d.db", [on_the_spot()], k1=k1, told_px=told_px))
    assert is_all and not found.resting and found.explained > 0.97
    assert set(found.rotations) == set(found.focal_px) == {f"0-{n}.jpg" for n in range(6)}
    assert all(abs(focal / FOCAL_PX - 1) < 0.02 for focal in found.focal_px.values())
    assert found.k1 == pytest.approx(k1, abs=0.03)
    true = turning()
    for n in range(6):
        off = found.rotations[f"0-{n}.jpg"] @ (true[n] @ true[0].T).T
        assert np.degrees(np.arccos((np.trace(off) - 1) / 2)) < 0.4
    assert found.largest_turn_deg == pytest.approx(45, abs=3)
    assert "only turned, by up to 4" in str(found) and "step aside" in str(found)
    assert np.array_equal(found.orientations().photos["0-0.jpg"].rotation_cam_from_first, np.eye(3))


def test_photos_that_few_matches_connect_are_not_lost_among_many_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sides of a view: the pairs with most matches are within them."""
    monkeypatch.setattr("lightmatch.sfm.pure_rotation._MOST_PAIRS", 6)
    angles = np.radians([-12, -11, -10, 10, 11, 12])
    rotations = [cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0] for angle in angles]
    (found,), _ = find_pure_rotations(write(tmp_path / "d.db", [(rotations, np.zeros((6, 3)), scattered())]))
    assert set(found.rotations) == {f"0-{n}.jpg" for n in range(6)}
    assert found.largest_turn_deg == pytest.approx(24, abs=3)


def test_a_camera_that_turns_at_two_places_did_not_only_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pairs with most matches are within the two places; all others show the way between."""
    monkeypatch.setattr("lightmatch.sfm.pure_rotation._MOST_PAIRS", 40)
    angles = np.radians([*range(-14, -2), *range(2, 14)])
    rotations = [cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0] for angle in angles]
    centres = np.repeat([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], 12, 0)
    assert find_pure_rotations(write(tmp_path / "d.db", [(rotations, centres, scattered())])) == ([], False)


@pytest.mark.parametrize("told_px", [None, FOCAL_PX])
@pytest.mark.parametrize("step", [0.05, 0.3])
def test_a_camera_that_moves_while_it_turns_is_not(step: float, told_px: float | None, tmp_path: Path) -> None:
    """By 5 cm a photo in a room of 4 to 12 m, and by 30 cm."""
    assert find_pure_rotations(write(tmp_path / "d.db", [walking(step)], told_px=told_px)) == ([], False)


@pytest.mark.parametrize("told_px", [None, FOCAL_PX])
def test_walking_along_a_wall_is_not_turning(told_px: float | None, tmp_path: Path) -> None:
    """Pairs are related by homographies, but not by those of rotations."""
    wall = scattered(nearest=5, farthest=5)
    along = ([np.eye(3)] * 6, np.outer(np.arange(6), [0.6, 0.0, 0.0]), wall)
    assert find_pure_rotations(write(tmp_path / "d.db", [along], told_px=told_px)) == ([], False)


def test_a_camera_that_rests_is_said_to(tmp_path: Path) -> None:
    still = ([np.eye(3)] * 4, np.zeros((4, 3)), scattered())
    (found,), is_all = find_pure_rotations(write(tmp_path / "d.db", [still]))
    assert is_all and found.resting and "stood still" in str(found)


def test_of_two_groups_the_one_that_turned_is_named(tmp_path: Path) -> None:
    (found,), is_all = find_pure_rotations(write(tmp_path / "d.db", [walking(0.3), on_the_spot(4)]))
    assert not is_all and set(found.rotations) == {f"1-{n}.jpg" for n in range(4)}


def test_without_pairs_nothing_is_said(tmp_path: Path) -> None:
    alone = ([np.eye(3)], np.zeros((1, 3)), scattered())
    assert find_pure_rotations(write(tmp_path / "d.db", [alone])) == ([], False)
