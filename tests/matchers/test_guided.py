"""Guided matching: what geometry allows is searched, all of it and nothing else."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from lightmatch.errors import FeatureMismatchError, InvalidValueError
from lightmatch.extractors import create_extractor
from lightmatch.geometry.coordinates import compose_rigid, invert_rigid, to_homogeneous
from lightmatch.geometry.depth import project, unproject, warp_with_depth
from lightmatch.geometry.homography import transfer
from lightmatch.matchers import NearestNeighbor, guided
from lightmatch.matchers.guided import GuidedOptions, match_guided
from lightmatch.matchers.guided_pairs import PosedViews
from lightmatch.scenes import RenderedScene, look_at, pinhole
from lightmatch.types import FeatureKind, Features, Image, Matches, TwoViewGeometry

SIZE = (640, 480)
SIDEWAYS = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)  # epipolar lines are the rows


def features(
    keypoints: Tensor, descriptors: Tensor, scales: Tensor | None = None, orientations: Tensor | None = None
) -> Features:
    kind = FeatureKind("toy", descriptors.shape[1], has_scale_orientation=scales is not None)
    return Features(
        keypoints.float(), torch.ones(len(keypoints)), descriptors.float(), SIZE, kind, scales, orientations
    )


def geometry(model: str, matrix: Tensor) -> TwoViewGeometry:
    return TwoViewGeometry(model, matrix.double(), torch.zeros(0, dtype=torch.bool))  # type: ignore[arg-type]


def random_features(count: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 2, generator=generator) * torch.tensor(SIZE)
    return features(places, torch.randn(count, 8, generator=generator) + 0.5)


def test_look_alikes_on_other_lines_are_no_rivals() -> None:
    """Two windows of a house look the same, but stand on different rows."""
    looks = torch.tensor([[1.0, 0.0], [1.0, 0.01]])
    features0 = features(torch.tensor([[100.0, 50], [100, 200]]), looks)
    features1 = features(torch.tensor([[80.0, 201], [70, 51]]), looks.flip(0) + torch.tensor([0, 0.005]))
    assert len(NearestNeighbor(ratio=0.8)(features0, features1)) < 2
    matches = match_guided(features0, features1, geometry("fundamental", SIDEWAYS))
    assert matches.indices.tolist() == [[0, 1], [1, 0]]
    assert (matches.scores > 0.9999).all()
    narrow = GuidedOptions(max_error_px=0.9)
    assert len(match_guided(features0, features1, geometry("fundamental", SIDEWAYS), narrow)) == 0


def test_two_alike_on_one_line_are_ambiguous_unless_they_share_the_spot() -> None:
    look = torch.tensor([[1.0, 0.2]])
    one = features(torch.tensor([[100.0, 50]]), look)
    for gap_px, count in ((40.0, 0), (2.0, 1)):
        two = features(torch.tensor([[80.0, 50], [80 + gap_px, 50]]), torch.tensor([[1.0, 0.21], [1.0, 0.19]]))
        assert len(match_guided(one, two, geometry("fundamental", SIDEWAYS))) == count
        assert len(match_guided(two, one, geometry("fundamental", SIDEWAYS))) == count
        assert len(match_guided(one, two, geometry("fundamental", SIDEWAYS), GuidedOptions(ratio=None))) == 1


def test_a_lone_candidate_must_be_like() -> None:
    one, other = (features(torch.tensor([[9.0, 9]]), torch.tensor([look])) for look in ([1.0, 0], [0.6, 0.8]))
    assert len(match_guided(one, other, geometry("fundamental", SIDEWAYS), GuidedOptions(min_similarity=0.61))) == 0
    found = match_guided(one, other, geometry("fundamental", SIDEWAYS), GuidedOptions(min_similarity=0.59))
    assert found.indices.tolist() == [[0, 0]]


def posed(eye1: tuple[float, float, float], roll_deg: float = 0.0, **depths: tuple[float, float]) -> PosedViews:
    """Camera 0 in the origin looks along x; camera 1 stands at `eye1` and looks at the same place 10 away."""
    target = torch.tensor([10.0, 0, 0])
    cam0, cam1 = look_at(torch.zeros(3), target), look_at(torch.tensor(eye1), target)
    sine, cosine = math.sin(math.radians(roll_deg)), math.cos(math.radians(roll_deg))
    roll = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    K = pinhole(60, SIZE)
    return PosedViews(compose_rigid(roll @ cam1, invert_rigid(cam0)), K, K, **depths)


def reference(features0: Features, features1: Features, allowed: Tensor, ratio: float, rival_px: float) -> list:
    """The definition, pair by pair."""
    unit = [torch.nn.functional.normalize(f.descriptors, dim=1) for f in (features0, features1)]
    likeness = torch.where(allowed, unit[0] @ unit[1].T, -torch.inf)

    def choose(likeness: Tensor, places: Tensor) -> list[int | None]:
        best, nearest = likeness.max(1)
        far = torch.cdist(places[nearest], places) > rival_px
        rival = torch.where(far, likeness, -torch.inf).amax(1)
        clear = (1 - best).clamp_min(0).sqrt() < ratio * (1 - rival).sqrt()
        return [int(j) if good else None for j, good in zip(nearest, clear & (best >= 0.2), strict=True)]

    forth, back = choose(likeness, features1.keypoints), choose(likeness.T, features0.keypoints)
    return [[i, j] for i, j in enumerate(forth) if j is not None and back[j] == i]


def epipolar_truth(F: Tensor, features0: Features, features1: Features, limit_px: float) -> Tensor:
    x0, x1 = to_homogeneous(features0.keypoints.double()), to_homogeneous(features1.keypoints.double())
    product = (x1 @ F @ x0.T).T.abs()
    line1, line0 = (x0 @ F.T)[:, :2].norm(dim=1), (x1 @ F)[:, :2].norm(dim=1)
    return (product <= limit_px * line1[:, None]) & (product <= limit_px * line0)


@pytest.mark.parametrize(
    "eye1", [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (3.0, 0.1, 0.0), (0.5, 2.0, 1.0), (-2.0, 0.3, -0.2)],
    ids=["sideways", "up", "forward, epipole in the picture", "any", "back"],
)  # fmt: skip
def test_blocks_leave_no_pair_out(eye1: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "_ROWS", 16)
    features0, features1 = random_features(300, 0), random_features(250, 1)
    F = posed(eye1, roll_deg=20).fundamental()
    match = partial(match_guided, options=GuidedOptions(12, ratio=0.95, min_similarity=0.2, rival_px=30))
    matches = match(features0, features1, geometry("fundamental", F))
    truth = epipolar_truth(F, features0, features1, 12.0)
    assert matches.indices.tolist() == reference(features0, features1, truth, 0.95, 30.0)
    assert len(matches) > 20
    backward = match(features1, features0, geometry("fundamental", F.T))
    assert sorted(backward.indices.flip(1).tolist()) == matches.indices.tolist()


def test_a_homography_allows_what_lies_where_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "_ROWS", 16)
    features0, features1 = random_features(300, 0), random_features(250, 1)
    H = torch.tensor([[0.9, -0.3, 60], [0.25, 0.8, 20], [2e-4, -1e-4, 1]], dtype=torch.float64)
    there, back = transfer(H, features0.keypoints.double()), transfer(H.inverse(), features1.keypoints.double())
    allowed = torch.cdist(there.nan_to_num(posinf=1e9), features1.keypoints.double()) <= 60
    allowed &= torch.cdist(features0.keypoints.double(), back.nan_to_num(posinf=1e9)) <= 60
    options = GuidedOptions(max_error_px=60, ratio=0.95, min_similarity=0.2, rival_px=9)
    matches = match_guided(features0, features1, geometry("homography", H), options)
    assert matches.indices.tolist() == reference(features0, features1, allowed, 0.95, 9) and len(matches) > 20


def test_an_essential_matrix_is_the_fundamental_one_with_intrinsics() -> None:
    features0, features1, views = random_features(300, 0), random_features(250, 1), posed((0.5, 2.0, 1.0))
    E = geometry("essential", views.K1.double().T @ views.fundamental() @ views.K0.double())
    match = partial(match_guided, options=GuidedOptions(12, min_similarity=0.2))
    by_matrix = match(features0, features1, E, K0=views.K0, K1=views.K1)
    by_F = match(features0, features1, geometry("fundamental", views.fundamental()))
    assert torch.equal(by_matrix.indices, by_F.indices) and len(by_F) > 5
    with pytest.raises(InvalidValueError, match="expected K0 and K1"):
        match_guided(features0, features1, E)


def seen(views: PosedViews, pixel0: tuple[float, float], depths: list[float]) -> Tensor:
    """Where a pixel of image 0 is seen in image 1 at each depth."""
    points = unproject(torch.tensor([pixel0] * len(depths)), torch.tensor(depths), views.K0)
    return project(points @ views.cam1_from_cam0[:, :3].T + views.cam1_from_cam0[:, 3], views.K1)[0]


@pytest.mark.parametrize("eye1", [(0.0, 1.0, 0.0), (2.0, 0.5, 0.1), (-2.0, 0.5, 0.1)])
def test_only_the_depths_given(eye1: tuple[float, float, float]) -> None:
    """One point, and what it would look like at six depths: those within the range are candidates, either way round."""
    depths = [4.0, 5.0, 6.0, 8.0, 11.0, 30.0]
    views = posed(eye1)
    places = seen(views, (330.0, 260.0), depths)
    one = features(torch.tensor([[330.0, 260.0]]), torch.tensor([[1.0, 0]]))
    for depth, place in zip(depths, places, strict=True):
        other = features(place[None], torch.tensor([[1.0, 0]]))
        ranged = posed(eye1, depths0=(5.5, 12.0))
        backward = PosedViews(invert_rigid(ranged.cam1_from_cam0), ranged.K1, ranged.K0, depths1=(5.5, 12.0))
        expected = 1 if 5.5 <= depth <= 12 else 0
        assert len(match_guided(one, other, ranged, GuidedOptions(max_error_px=0.5))) == expected, depth
        assert len(match_guided(other, one, backward, GuidedOptions(max_error_px=0.5))) == expected, depth
        assert len(match_guided(one, other, views, GuidedOptions(max_error_px=0.5))) == 1
    one_each = torch.tensor([5.5]), torch.tensor([torch.inf])
    far = features(places[-1:], torch.tensor([[1.0, 0]]))
    per_keypoint = PosedViews(views.cam1_from_cam0, views.K0, views.K1, one_each)
    assert len(match_guided(one, far, per_keypoint, GuidedOptions(max_error_px=0.5))) == 1


@pytest.mark.parametrize(
    ("eye1", "depth"), [((0.0, 1.0, 0.0), -8.0), ((20.0, 1.0, 0.0), 40.0)], ids=["of both", "of one that faces us"]
)
def test_behind_a_camera_is_nowhere(eye1: tuple[float, float, float], depth: float) -> None:
    views = posed(eye1)
    pixel = torch.tensor([[330.0, 260.0]])
    in_cam1 = unproject(pixel, torch.tensor([depth]), views.K0) @ views.cam1_from_cam0[:, :3].T
    in_cam1 = in_cam1 + views.cam1_from_cam0[:, 3]
    assert in_cam1[0, 2] < 0
    place = (in_cam1 @ views.K1.T)[:, :2] / in_cam1[:, 2:]
    one, other = (features(p, torch.tensor([[1.0, 0]])) for p in (pixel, place))
    assert len(match_guided(one, other, geometry("fundamental", views.fundamental()))) == 1
    assert len(match_guided(one, other, views)) == 0


def turned_pair(orientation1: float, scale1: float) -> tuple[Features, Features]:
    look = torch.tensor([[1.0, 0]])
    one = features(torch.tensor([[330.0, 260.0]]), look, torch.tensor([5.0]), torch.tensor([0.4]))
    place = seen(posed((0.0, 1.0, 0.0), roll_deg=70), (330.0, 260.0), [9.0])
    return one, features(place, look, torch.tensor([scale1]), torch.tensor([orientation1]))


def test_orientations_turn_with_the_camera_and_scales_keep() -> None:
    views, turn = posed((0.0, 1.0, 0.0), roll_deg=70), math.radians(70)
    right = turned_pair(0.4 + turn, 6.0)
    assert len(match_guided(*right, views, GuidedOptions(max_turn_deg=15, max_scale_ratio=1.3))) == 1
    assert len(match_guided(*right, views, GuidedOptions(max_scale_ratio=1.15))) == 0
    unturned = turned_pair(0.4, 5.0)
    assert len(match_guided(*unturned, views, GuidedOptions(max_turn_deg=15))) == 0
    assert len(match_guided(*unturned, views, GuidedOptions(max_turn_deg=75))) == 1


def test_a_homography_says_how_far_to_turn_and_zoom() -> None:
    quarter = torch.tensor([[0.0, -2, 500], [2, 0, 0], [0, 0, 1]])  # (1, 0) becomes (0, 2)
    look = torch.tensor([[1.0, 0]])
    one = features(torch.tensor([[100.0, 50]]), look, torch.tensor([5.0]), torch.tensor([0.4]))
    place = transfer(quarter, one.keypoints)
    for orientation, scale, expected in ((0.4 + math.pi / 2, 10.0, 1), (0.4, 10.0, 0), (0.4 + math.pi / 2, 5.0, 0)):
        other = features(place, look, torch.tensor([scale]), torch.tensor([orientation]))
        options = GuidedOptions(max_turn_deg=20, max_scale_ratio=1.5)
        found = match_guided(one, other, geometry("homography", quarter), options)
        assert len(found) == expected


def test_a_sheared_plane_turns_by_the_nearest_rotation() -> None:
    shear = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    look, angle = torch.tensor([[1.0, 0]]), torch.tensor([0.4])
    one = features(torch.tensor([[100.0, 50]]), look, torch.tensor([5.0]), angle)
    for turn, expected in ((-math.atan(0.5), 1), (0.0, 0)):  # least |shear − λ R| over rotations R and λ
        other = features(transfer(shear, one.keypoints), look, torch.tensor([5.0]), angle + turn)
        assert len(match_guided(one, other, geometry("homography", shear), GuidedOptions(max_turn_deg=5))) == expected


def test_nothing_gives_nothing() -> None:
    some, none = random_features(5, 0), random_features(0, 0)
    for pair in ((some, none), (none, some), (none, none)):
        assert match_guided(*pair, posed((0.0, 1.0, 0.0))).indices.shape == (0, 2)
    assert len(match_guided(some, some, TwoViewGeometry.none(0))) == 0
    still = PosedViews(torch.eye(3, 4), pinhole(60, SIZE), pinhole(60, SIZE))
    assert len(match_guided(some, some, still)) == 0  # without a baseline there are no epipolar lines
    assert len(match_guided(random_features(1, 0), random_features(1, 1), posed((0.0, 1.0, 0.0)))) <= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, g: GuidedOptions(max_error_px=0), "max_error_px: expected more than 0"),
        (lambda f, g: GuidedOptions(ratio=1.5), "0 < ratio"),
        (lambda f, g: GuidedOptions(min_similarity=2), "min_similarity: expected"),
        (lambda f, g: GuidedOptions(max_scale_ratio=0.5), "max_scale_ratio: expected at least 1"),
        (lambda f, g: GuidedOptions(max_turn_deg=-1), "max_turn_deg: expected at least 0"),
        (lambda f, g: match_guided(f, f, g, GuidedOptions(max_turn_deg=10)), "features with scale and orientation"),
        (lambda f, g: PosedViews(torch.eye(4), torch.eye(3), torch.eye(3)), r"shape \(3, 4\)"),
        (lambda f, g: posed((0.0, 1.0, 0.0), depths0=(0.0, 1.0)), "0 < nearest"),
        (lambda f, g: posed((0.0, 1.0, 0.0), depths0=(2.0, 1.0)), "nearest ≤ farthest"),
    ],
)
def test_bad_input(call: Callable[[Features, TwoViewGeometry], object], words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        call(random_features(3, 0), geometry("fundamental", SIDEWAYS))


def test_kinds_must_agree() -> None:
    with pytest.raises(FeatureMismatchError):
        match_guided(
            random_features(3, 0), features(torch.zeros(3, 2), torch.ones(3, 4)), geometry("fundamental", SIDEWAYS)
        )


def test_more_right_matches_than_without_guidance(scene: RenderedScene) -> None:
    extractor = create_extractor("sift", max_keypoints=1024, contrast_threshold=0.005)
    features0, features1 = (extractor(Image(np.asarray(scene.rgb[view]))) for view in (0, 1))
    pose = compose_rigid(scene.cam_from_world[1], invert_rigid(scene.cam_from_world[0]))

    def right(matches: Matches) -> int:
        points0, points1 = matches.points(features0, features1)
        there, visible = warp_with_depth(points0, scene.depth[0], scene.K[0], scene.depth[1], scene.K[1], pose)
        return int((visible & ((there - points1).norm(dim=1) < 3)).sum())

    free = NearestNeighbor(ratio=0.8)(features0, features1)
    led = match_guided(features0, features1, PosedViews(pose, scene.K[0], scene.K[1], depths0=(1.0, torch.inf)))
    assert right(led) > 1.2 * right(free) and right(led) > 0.95 * len(led)
