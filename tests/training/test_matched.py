"""Photos labelled by another matcher: what it says, and the geometry confirms, becomes the truth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightmatch.errors import InvalidValueError, TrainingError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.correspondence import Visibility, project_by_depth
from lightmatch.matchers import LightGlue
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.scenes import RenderedScene
from lightmatch.training.matched import MatchedConfig, MatchedSource, draw_nearby, rotation_matrix
from lightmatch.types import Features

SIFT = create_extractor("sift", max_keypoints=400)
CONFIG = MatchedConfig(views_per_group=3, augmented_share=0.0, rotated_share=0.0, scale=(1.0, 1.0), neighbours=0.7)
MATCHER = LightGlue.from_pretrained("sift")


def source(folder: Path, **changes: Any) -> MatchedSource:
    return MatchedSource([folder], SIFT, MATCHER, config=replace(CONFIG, **changes))


def test_the_teachers_matches_lie_where_the_true_depth_puts_them(scene: RenderedScene, scene_photos: Path) -> None:
    found = source(scene_photos)
    group = found.group(0, SIFT)
    chosen = draw_nearby(len(scene.rgb), 3, CONFIG.neighbours, np.random.default_rng((0, 0)))
    checked = 0
    for i, j in ((0, 1), (1, 2), (2, 0)):
        seen = group.projection(i, j)
        visible = seen.visibility == Visibility.VISIBLE
        a, b = chosen[i], chosen[j]
        motion = compose_rigid(scene.cam_from_world[b], invert_rigid(scene.cam_from_world[a]))
        keypoints = group.features[i].keypoints[visible]
        truth = project_by_depth(keypoints, scene.depth[a], scene.K[a], scene.depth[b], scene.K[b], motion)
        known = truth.visibility == Visibility.VISIBLE
        error = (truth.points - seen.points[visible])[known].norm(dim=1)
        checked += len(error)
        if len(error):
            assert float((error < 3).float().mean()) > 0.9
    assert checked > 30


def test_a_rotated_view_keeps_its_partners(scene_photos: Path) -> None:
    group = source(scene_photos, rotated_share=1.0).group(0, SIFT)
    sizes = {features.image_size for features in group.features}
    assert len(sizes) > 1  # rotated photos have other outlines
    assert int((group.projection(0, 1).visibility == Visibility.VISIBLE).sum()) >= CONFIG.min_inliers
    # What is visible one way is so the other way, and points back. SIFT may put several keypoints on one spot.
    forth, back = group.projection(0, 1), group.projection(1, 0)
    for n in (forth.visibility == Visibility.VISIBLE).nonzero()[:5, 0].tolist():
        spot = (group.features[1].keypoints - forth.points[n]).norm(dim=1) < 1e-3
        apart = (back.points[spot] - group.features[0].keypoints[n]).norm(dim=1)
        assert float(apart.min()) <= CONFIG.same_px


def test_keypoints_at_one_place_share_the_match_of_one(scene_photos: Path) -> None:
    # LightPoint's descriptors are upright: keypoints of SIFT at one place with several orientations have the same one.
    teacher = create_extractor("lightpoint")
    found = MatchedSource([scene_photos], teacher, LightGlue.from_pretrained("lightpoint"), config=CONFIG)
    group = found.group(0, SIFT)
    shared = 0
    for i, j in ((0, 1), (1, 0), (1, 2), (2, 1)):
        seen, keypoints = group.projection(i, j), group.features[i].keypoints
        visible, hidden = (seen.visibility == value for value in (Visibility.VISIBLE, Visibility.HIDDEN))
        places, count = keypoints[visible].unique(dim=0, return_counts=True)
        shared += int((count > 1).sum())
        assert not (visible ^ (keypoints[:, None] == places).all(2).any(1)).any()
        assert hidden.any()
        assert float((keypoints[hidden][:, None] - places).norm(dim=2).min()) > CONFIG.unmatchable_px
    assert shared > 10


class OneForAll(LightGlue):
    """A teacher that gives all keypoints of the first image the same partner, its best choice, with a score of 0.1."""

    def log_assignment(self, features0: Features, features1: Features) -> torch.Tensor:
        scores = torch.full((len(features0), len(features1)), 1e-3)
        scores[:, 0] = 0.1
        return scores.log()


def test_a_keypoint_with_a_likely_partner_is_not_hidden_though_another_one_has_it(scene_photos: Path) -> None:
    teacher = OneForAll(LightGlueConfig(descriptor_dim=64, num_layers=1, num_heads=1))
    group = MatchedSource([scene_photos], SIFT, teacher, config=replace(CONFIG, views_per_group=2)).group(0, SIFT)
    assert (group.projection(1, 0).visibility == Visibility.UNKNOWN).all()
    assert (group.projection(0, 1).visibility == Visibility.HIDDEN).sum() == len(group.features[0]) - 1


def test_groups_are_the_same_again(scene_photos: Path) -> None:
    one, same = (source(scene_photos, rotated_share=0.5, augmented_share=0.5).group(1, SIFT) for _ in range(2))
    assert torch.equal(one.projections, same.projections) and torch.equal(one.visibility, same.visibility)


def test_rotation_fits_the_picture_into_its_new_outline() -> None:
    matrix, size = rotation_matrix((100, 60), np.pi / 2, 0.5)
    assert size == (30, 50)
    corners = matrix @ np.array([[-0.5, 99.5, 99.5, -0.5], [-0.5, -0.5, 59.5, 59.5], [1, 1, 1, 1]])
    np.testing.assert_allclose([corners[0].min(), corners[0].max()], [-0.5, 29.5], atol=1e-6)
    np.testing.assert_allclose([corners[1].min(), corners[1].max()], [-0.5, 49.5], atol=1e-6)


def test_scenes_held_out_are_for_validation_alone(scene_photos: Path) -> None:
    held_out = source(scene_photos, validation_scenes=(scene_photos.name,))
    with pytest.raises(TrainingError, match="for train"):
        held_out.group(0, SIFT)
    assert len(replace(held_out, split="validation").group(0, SIFT)) == 3


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="views_per_group"):
        MatchedConfig(views_per_group=1)
    with pytest.raises(InvalidValueError, match="same_px"):
        MatchedConfig(same_px=6.0)
