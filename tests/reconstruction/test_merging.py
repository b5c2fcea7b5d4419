"""Two models that share points become one; two that do not stay two."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from synthetic_mapping import names_of, synthetic_model

from lightmatch.colmap.models import model_arrays
from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.reconstruction.mapping.held_out import HeldOutScorer
from lightmatch.reconstruction.mapping.merging import find_join, merge_models
from lightmatch.sfm.bundle_adjustment import AdjustOptions
from lightmatch.sfm.tracks import Tracks, read_tracks

OPTIONS = AdjustOptions(threads=1)
ELSEWHERE = pycolmap.Sim3d(2.5, pycolmap.Rotation3d(np.array([0.3, 0.5, 0.1, 0.8])), np.array([1.0, 2.0, 3.0]))


class Halves:
    """A scene and two models of its halves, the second in a world of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "d.db"
        self.truth = synthetic_model(self.database, num_photos=10, num_points=250, track_length=10)
        self.tracks: Tracks = read_tracks(self.database)
        self.scorer = HeldOutScorer(self.tracks)
        ids = sorted(self.truth.reg_image_ids())
        self.first, self.second = self.only(ids[:6]), self.only(ids[6:])
        self.second.transform(ELSEWHERE)

    def only(self, kept: list[int]) -> pycolmap.Reconstruction:
        model = pycolmap.Reconstruction(self.truth)
        for image_id in sorted(model.reg_image_ids()):
            if image_id not in kept:
                model.deregister_frame(model.image(image_id).frame_id)
        return model


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Halves:
    return Halves(tmp_path_factory.mktemp("halves"))


def test_the_similarity_is_found_from_points_alone(halves: Halves) -> None:
    join = find_join(halves.first, halves.second, halves.tracks)
    assert join.is_sound
    assert join.num_shared == join.num_agreeing == 250
    expected = ELSEWHERE.inverse().matrix()
    np.testing.assert_allclose(join.similarity, expected, atol=0.02)


def test_halves_become_the_whole(halves: Halves) -> None:
    models, trials = merge_models([halves.first, halves.second], halves.database, halves.tracks, halves.scorer, OPTIONS)
    assert [trial.kept for trial in trials] == [True]
    assert set(trials[0].photos) == names_of(halves.second)
    assert len(models) == 1
    assert names_of(models[0]) == names_of(halves.truth)
    assert names_of(halves.first) != names_of(halves.truth)  # the parts stay as they were
    found, true = model_arrays(models[0]), model_arrays(halves.truth)
    arrays = (found.rotations, found.centers, true.rotations, true.centers)
    turn_deg, away = aligned_pose_errors(*(torch.from_numpy(array) for array in arrays))
    assert turn_deg.max() < 0.2
    assert away.max() < 0.05  # cameras stand about 5 from the middle


def test_wrong_shared_points_are_outvoted(halves: Halves) -> None:
    spoilt = pycolmap.Reconstruction(halves.second)
    for number, point_id in enumerate(sorted(spoilt.point3D_ids())):
        if number % 2:
            spoilt.point3D(point_id).xyz = spoilt.point3D(point_id).xyz + np.array([5.0, -9.0, 4.0])
    join = find_join(halves.first, spoilt, halves.tracks)
    assert join.num_agreeing < 150
    np.testing.assert_allclose(join.similarity, ELSEWHERE.inverse().matrix(), atol=0.05)


def test_models_without_common_points_stay_apart(halves: Halves) -> None:
    other = pycolmap.Reconstruction(halves.second)
    for point_id in sorted(other.point3D_ids())[5:]:
        other.delete_point3D(point_id)
    models, trials = merge_models([halves.first, other], halves.database, halves.tracks, halves.scorer, OPTIONS)
    assert len(models) == 2
    assert not trials[0].kept
    assert "of 5 points they share" in trials[0].why
    assert trials[0].comparison is None


def test_a_model_inside_another_is_dropped(halves: Halves) -> None:
    models, trials = merge_models([halves.truth, halves.second], halves.database, halves.tracks, halves.scorer, OPTIONS)
    assert models == [halves.truth]
    assert trials == []
    assert merge_models([], halves.database, halves.tracks, halves.scorer) == ([], [])
