"""Two photos of a scene: the teachers' keypoints in both that are one place, and views about such a place."""

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from lightmatch.extractors import create_extractor
from lightmatch.extractors.lightpoint import read_lightpoint
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid
from lightmatch.geometry.correspondence import Visibility, project_by_depth
from lightmatch.matchers import NearestNeighbor
from lightmatch.networks.lightpoint import LightPointConfig, LightPointNetwork
from lightmatch.scenes import RenderedScene
from lightmatch.training.lightpoint.objective import StudentObjective, StudentObjectiveConfig
from lightmatch.training.lightpoint.scenes import ScenePairs, ScenePairsConfig, neighbouring_pairs
from lightmatch.training.lightpoint.teachers import LabelStore
from lightmatch.training.lightpoint.validation import StudentValidation, mutual_share
from lightmatch.training.lightpoint.views import StudentViews, StudentViewsConfig

PACKAGED = files("lightmatch") / "pretrained" / "lightpoint.safetensors"
TEACHER = create_extractor("lightpoint", max_keypoints=300)
CONFIG = ScenePairsConfig(space="lightpoint", match_score=0.0)


@pytest.fixture
def pairs(scene_photos: Path, tmp_path: Path) -> ScenePairs:
    photos = sorted(scene_photos.glob("*.png"))[:3]
    store = LabelStore(tmp_path / "labels", photos, TEACHER, {"lightpoint": TEACHER})
    return ScenePairs(store, [(0, 1), (1, 2)], NearestNeighbor(ratio=None), tmp_path / "pairs", CONFIG)


def views(pairs: ScenePairs, **changes: object) -> StudentViews:
    plain = {"pairs_per_step": 2, "sizes": ((160, 128),), "points": 64, "scenes_share": 1.0}
    config = StudentViewsConfig(**(plain | changes))  # type: ignore[arg-type]
    return StudentViews(pairs.store, config, seed=3, scenes=pairs)


def test_matched_keypoints_lie_where_the_true_depth_puts_them(pairs: ScenePairs, scene: RenderedScene) -> None:
    matches = pairs.matches(0)
    assert len(matches) > 20
    keypoints = [pairs.store.labels(photo, 0).keypoints[matches[:, photo]] for photo in (0, 1)]
    motion = compose_rigid(scene.cam_from_world[1], invert_rigid(scene.cam_from_world[0]))
    truth = project_by_depth(keypoints[0], scene.depth[0], scene.K[0], scene.depth[1], scene.K[1], motion)
    known = truth.visibility == Visibility.VISIBLE
    error = (truth.points - keypoints[1])[known].norm(dim=1)
    assert float((error < 3).float().mean()) > 0.9


def test_matches_are_made_once(pairs: ScenePairs) -> None:
    first = pairs.matches(1)
    silent = ScenePairs(pairs.store, pairs.pairs, None, pairs.folder, CONFIG)  # type: ignore[arg-type]
    assert torch.equal(first, silent.matches(1))


def test_scenes_with_folders_and_photos_of_the_same_names_have_their_own_labels(
    pairs: ScenePairs, scene_photos: Path, tmp_path: Path
) -> None:
    photos = []
    for number in range(4):
        photos.append(tmp_path / f"scene_{number // 2}" / "images" / f"{number % 2}.png")
        photos[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scene_photos / f"view_{number}.png", photos[-1])
    store = replace(pairs.store, photos=photos)
    both = replace(pairs, store=store, pairs=[(0, 1), (2, 3)])
    assert len({store.path(photo, 0) for photo in range(4)}) == 4
    first, second = (both.matches(number) for number in range(2))
    assert not torch.equal(first, second)
    photos[0].write_bytes(photos[2].read_bytes())  # another photo at the same place
    assert not store.path(0, 0).exists()


def test_photos_far_apart_have_no_matches(pairs: ScenePairs) -> None:
    strict = ScenePairsConfig(space="lightpoint", match_score=0.0, min_inliers=10_000)
    none = ScenePairs(pairs.store, pairs.pairs, pairs.matcher, pairs.folder / "strict", strict)
    assert none.matches(0).shape == (0, 2)
    batch = views(none)[0]
    assert batch.points.shape == (4, 0, 2) and float(batch.targets.max()) > 0


def test_both_views_are_cut_about_one_place(pairs: ScenePairs) -> None:
    batch = views(pairs, shift=0.0, perspective=0.0, any_rotation_share=0.5)[0]
    assert not batch.warped.any() and len(batch) == 2
    middle = torch.tensor([79.5, 63.5])
    for pair in range(2):
        off = (batch.points[2 * pair : 2 * pair + 2] - middle).norm(dim=-1)
        assert float(off.amax(0).min()) < 1e-2


def test_each_view_has_the_descriptors_of_its_own_photo(pairs: ScenePairs) -> None:
    batch = views(pairs)[0]
    labels = [pairs.store.labels(photo, 0).descriptors["lightpoint"] for photo in range(3)]
    for row in range(4):
        given = batch.descriptors["lightpoint"][row][batch.valid[row]]
        nearest = max((given @ own.mT).amax(1).min() for own in labels)
        assert float(nearest) > 0.999


def test_places_are_compared_between_views_of_one_photo_alone(pairs: ScenePairs) -> None:
    config = LightPointConfig(
        16, (4, 8, 8, 8), merged_channels=16, score_channels=4, samples=4, spaces=(("lightpoint", 128),)
    )
    torch.manual_seed(0)
    network = LightPointNetwork(config)
    losses = StudentObjective(network, StudentObjectiveConfig(pair=0.2, place=1.0))(views(pairs)[0])
    assert float(losses.place) == 0 < float(losses.pair)
    losses.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_altered_views_have_the_configured_weight(pairs: ScenePairs) -> None:
    batch = views(pairs, scenes_share=0.0, plain_share=1.0)[0]
    assert batch.plain.tolist() == [True, False] * 2
    config = LightPointConfig(
        16, (4, 8, 8, 8), merged_channels=16, score_channels=4, samples=4, spaces=(("lightpoint", 128),)
    )
    torch.manual_seed(0)
    network = LightPointNetwork(config).eval()

    def space(altered_weight: float) -> float:
        return float(StudentObjective(network, StudentObjectiveConfig(altered_weight=altered_weight))(batch).space)

    # A weighted mean: at weight 0 only the plain views count, and halfway weights lie between.
    assert min(space(0.0), space(1.0)) < space(0.5) < max(space(0.0), space(1.0))


def test_recall_of_scenes_is_a_share(pairs: ScenePairs) -> None:
    config = LightPointConfig(
        16, (4, 8, 8, 8), merged_channels=16, score_channels=4, samples=4, spaces=(("lightpoint", 128),)
    )
    network = LightPointNetwork(config).eval()
    of_photos = views(pairs, scenes_share=0.0)
    scores = StudentValidation(of_photos, views(pairs), steps=1, points=50)(network)
    assert 0 <= scores["scene_recall"] <= 1
    with torch.no_grad():
        share = mutual_share(read_lightpoint(str(PACKAGED)).eval(), views(pairs)[0])
    assert share.shape == (2,) and float(share.min()) > 0.2


def test_pairs_are_photos_of_one_folder_so_many_apart() -> None:
    photos = [Path(f"{folder}/{name}.jpg") for folder in ("a", "b") for name in (2, 1, 3)]
    assert neighbouring_pairs(photos, range(6), (1, 2)) == [(1, 0), (0, 2), (1, 2), (4, 3), (3, 5), (4, 5)]
    assert neighbouring_pairs(photos, [0, 3], (1,)) == []


def test_a_view_at_half_the_size_is_not_as_the_teachers_saw_it(pairs: ScenePairs) -> None:
    """The labels of pairs of photos are those of the full size."""
    plain = [views(pairs, plain_share=1.0, scale=(0.2, 2.0))[step].plain[0::2].tolist() for step in range(8)]
    shares = sum(map(sum, plain)) / 16
    assert 0.2 < shares < 0.9
