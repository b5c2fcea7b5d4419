"""A scorer prefers good models to bad ones, is not improved by fewer points, and does not let noise decide."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from synthetic_mapping import synthetic_model

from lightmatch.errors import InvalidValueError
from lightmatch.reconstruction.mapping.held_out import HeldOutScore, HeldOutScorer, compare
from lightmatch.sfm.bundle_adjustment import AdjustOptions
from lightmatch.sfm.tracks import Tracks, read_tracks
from lightmatch.sfm.triangulation import Observations, leave_one_out

OPTIONS = AdjustOptions(threads=1)


class Scene:
    def __init__(self, folder: Path, noise_px: float) -> None:
        self.truth = synthetic_model(folder / "d.db", num_points=300, noise_px=noise_px)
        self.tracks = read_tracks(folder / "d.db")
        self.scorer = HeldOutScorer(self.tracks)

    def copy(self) -> pycolmap.Reconstruction:
        return pycolmap.Reconstruction(self.truth)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("exact"), noise_px=0)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("noisy"), noise_px=0.5)


def move_photo(model: pycolmap.Reconstruction, number: int, by: float) -> str:
    image = model.image(sorted(model.reg_image_ids())[number])
    pose = image.cam_from_world()
    moved = pycolmap.Rigid3d(pose.rotation, np.array(pose.translation) + np.array([by, 0, 0]))
    model.frame(image.frame_id).set_cam_from_world(image.camera_id, moved)
    return image.name


def test_a_perfect_model_predicts_everything(exact: Scene) -> None:
    score = exact.scorer.score(exact.truth, OPTIONS)
    assert score.is_valid
    assert score.area > 0.999
    assert score.recall(1) == 1.0
    assert score.num_predicted == len(score.errors_px) == len(exact.scorer.held_out.photos)


def test_the_judged_model_stays_as_it_is(noisy: Scene) -> None:
    before = [noisy.truth.image(i).cam_from_world().matrix().tobytes() for i in sorted(noisy.truth.reg_image_ids())]
    num_points = noisy.truth.num_points3D()
    noisy.scorer.score(noisy.truth, OPTIONS)
    after = [noisy.truth.image(i).cam_from_world().matrix().tobytes() for i in sorted(noisy.truth.reg_image_ids())]
    assert before == after
    assert noisy.truth.num_points3D() == num_points


def test_what_is_held_out_is_not_seen(noisy: Scene) -> None:
    unseen = noisy.scorer.without(noisy.truth)
    held = noisy.scorer.held_out
    ids = {unseen.image(image_id).name: image_id for image_id in unseen.reg_image_ids()}
    for photo, keypoint in zip(held.photos.tolist(), held.keypoints.tolist(), strict=True):
        assert not unseen.image(ids[held.names[photo]]).point2D(keypoint).has_point3D()
    assert unseen.num_points3D() == noisy.truth.num_points3D() - len(held)


def test_errors_are_those_of_a_picture_of_1600_px(noisy: Scene) -> None:
    held = noisy.scorer.held_out
    double = Tracks(held.names, held.sizes * 2, held.starts, held.photos, held.keypoints, held.xy)
    noisy_again = HeldOutScorer(noisy.tracks)
    noisy_again.held_out = double
    np.testing.assert_allclose(
        noisy_again.measure(noisy.truth).errors_px * 2, noisy.scorer.measure(noisy.truth).errors_px
    )


def test_a_misplaced_photo_costs(noisy: Scene) -> None:
    good = noisy.scorer.measure(noisy.truth)
    bad = noisy.copy()
    name = move_photo(bad, 2, 0.3)
    score = noisy.scorer.measure(bad)
    assert compare(score, good).worsens
    assert min(score.by_photo(), key=lambda photo: score.by_photo()[photo].area) == name


def test_photos_left_out_are_misses_and_points_left_out_are_not(noisy: Scene) -> None:
    good = noisy.scorer.score(noisy.truth, OPTIONS)
    fewer_photos, fewer_points = noisy.copy(), noisy.copy()
    image = fewer_photos.image(min(fewer_photos.reg_image_ids()))
    fewer_photos.deregister_frame(image.frame_id)
    score = noisy.scorer.score(fewer_photos, OPTIONS)
    own = score.photos == score.names.index(image.name)
    assert np.isinf(score.errors_px[own]).all()
    assert compare(score, good).worsens

    for point_id in sorted(fewer_points.point3D_ids())[::4]:  # dropping points brings nothing
        fewer_points.delete_point3D(point_id)
    assert not compare(noisy.scorer.score(fewer_points, OPTIONS), good).improves


def test_noise_never_decides(noisy: Scene) -> None:
    good = noisy.scorer.measure(noisy.truth)
    generator = np.random.default_rng(0)
    rivals = []
    for _ in range(20):
        errors = np.abs(good.errors_px + generator.normal(0, 0.3, len(good.errors_px)))
        rivals.append(HeldOutScore(good.names, good.photos, good.tracks, errors))
    better = [compare(first, second).improves for first, second in zip(rivals[::2], rivals[1::2], strict=True)]
    assert sum(better) <= 1
    same = compare(good, good)
    assert not same.improves and not same.worsens


def test_the_worse_of_two_is_known_from_either_side(noisy: Scene) -> None:
    good = noisy.scorer.measure(noisy.truth)
    bad = noisy.copy()
    move_photo(bad, 1, 0.3)
    worse = noisy.scorer.measure(bad)
    assert compare(good, worse).improves and not compare(good, worse).worsens
    assert compare(worse, good).worsens and not compare(worse, good).improves


def test_scores_of_different_tracks_are_not_compared(noisy: Scene, exact: Scene) -> None:
    fewer = noisy.tracks.select(np.arange(len(noisy.tracks)) < 150)
    with pytest.raises(InvalidValueError, match="same held-out tracks"):
        compare(noisy.scorer.measure(noisy.truth), HeldOutScorer(fewer).score(noisy.truth, OPTIONS))


def test_too_few_tracks_give_no_score(noisy: Scene) -> None:
    few = noisy.tracks.select(np.arange(len(noisy.tracks)) < 40)
    assert not HeldOutScorer(few).score(noisy.truth, OPTIONS).is_valid
    none = noisy.tracks.select(np.zeros(len(noisy.tracks), bool))
    score = HeldOutScorer(none).score(noisy.truth, OPTIONS)
    assert (score.area, score.recall(4), score.num_predicted) == (0.0, 0.0, 0)
    assert score.summary().median_px is None


def observations(points: np.ndarray, centers: np.ndarray, spoil: dict[int, float] | None = None) -> Observations:
    """All points seen by cameras that look along z, one track after the other; some observations shifted by px."""
    local = points[:, None] - centers
    rays = (local[..., :2] / local[..., 2:]).reshape(-1, 2)
    for number, shift_px in (spoil or {}).items():
        rays[number, 0] += shift_px / 500
    count = len(rays)
    translations = np.tile(-centers, (len(points), 1))
    starts = np.arange(0, count + 1, len(centers))
    return Observations(starts, np.tile(np.eye(3), (count, 1, 1)), translations, rays, np.full(count, 500.0))


POINTS = np.array([[0.0, 0, 5], [1, -1, 8], [0.5, 2, 30]])


def test_each_observation_is_predicted_from_the_others() -> None:
    centers = np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 0.5]])
    found = leave_one_out(observations(POINTS, centers))
    assert found.supported.all()
    np.testing.assert_allclose(found.points, np.repeat(POINTS, 3, 0), atol=1e-5)
    # The first camera's point comes from the second and the third alone.
    first, second = POINTS[0] - centers[1], POINTS[0] - centers[2]
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert found.angles_deg[0] == pytest.approx(np.degrees(np.arccos(cosine)))


def test_one_wrong_observation_of_many_is_outvoted() -> None:
    centers = np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 0.5], [0.5, -1, 0], [-0.5, -1, 0.2]])
    found = leave_one_out(observations(POINTS[:1], centers, {1: 40.0}))
    assert found.supported.all()
    np.testing.assert_allclose(found.points, np.repeat(POINTS[:1], 5, 0), atol=0.02)


def test_two_photos_predict_nothing_and_two_that_disagree_are_not_believed() -> None:
    centers = np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 0.5]])
    alone = leave_one_out(observations(POINTS, centers[:2]))
    assert not alone.supported.any()
    assert np.isnan(alone.points).all()
    spoilt = leave_one_out(observations(POINTS[:1], centers, {2: 60.0}))
    assert spoilt.supported.tolist()[2]
    assert not all(spoilt.supported[:2]) or np.abs(spoilt.points[:2] - POINTS[0]).max() > 0.1


def test_a_point_behind_is_not_supported() -> None:
    centers = np.array([[-1.0, 0, 0], [1, 0, 0], [0, 1, 0.5]])
    behind = observations(np.array([[0.0, 0, -5]]), centers)
    assert not leave_one_out(behind).supported.any()


def test_nothing_asked_gives_nothing() -> None:
    empty = Observations(np.zeros(1, int), np.zeros((0, 3, 3)), np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))
    assert leave_one_out(empty).points.shape == (0, 3)
