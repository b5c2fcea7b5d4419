"""Labels worked out by hand."""

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.correspondence import (
    Correspondence,
    Projection,
    Visibility,
    correspond,
    project_by_depth,
    project_by_homography,
)

SEEN, HIDDEN, UNKNOWN = Visibility.VISIBLE, Visibility.HIDDEN, Visibility.UNKNOWN


def shift(x: float, y: float = 0.0) -> torch.Tensor:
    return torch.tensor([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def projection(points: list[list[float]], visibility: list[int]) -> Projection:
    return Projection(
        torch.tensor(points, dtype=torch.float32).reshape(-1, 2), torch.tensor(visibility, dtype=torch.uint8)
    )


def test_a_shift_of_ten_pixels() -> None:
    keypoints0 = torch.tensor([[10.0, 10], [50, 50], [95, 20], [30, 30]])
    keypoints1 = torch.tensor([[61.0, 50], [20, 10], [44, 30], [5, 5]])
    forth = project_by_homography(shift(10), keypoints0, (100, 100))
    back = project_by_homography(shift(-10), keypoints1, (100, 100))
    assert forth.visibility.tolist() == [SEEN, SEEN, HIDDEN, SEEN]  # 95 + 10 is outside
    assert back.visibility.tolist() == [SEEN, SEEN, SEEN, HIDDEN]
    truth = correspond(keypoints0, keypoints1, forth, back)
    # (10,10)→(20,10) exactly, (50,50)→(60,50) 1 px off; (30,30)→(40,30) is 4 px from (44,30): undecided.
    assert truth.matches.tolist() == [[0, 1], [1, 0]]
    assert truth.unmatchable0.tolist() == [False, False, True, False]
    assert truth.unmatchable1.tolist() == [False, False, False, True]


def test_the_ignored_zone_ends_where_it_is_told() -> None:
    keypoints0, keypoints1 = torch.tensor([[10.0, 10]]), torch.tensor([[14.0, 10]])
    same = [project_by_homography(shift(0), k, (50, 50)) for k in (keypoints0, keypoints1)]
    undecided = correspond(keypoints0, keypoints1, *same, match_px=3, unmatchable_px=5)
    assert not len(undecided.matches) and not undecided.unmatchable0.any() and not undecided.unmatchable1.any()
    refused = correspond(keypoints0, keypoints1, *same, match_px=3, unmatchable_px=3)
    assert refused.unmatchable0.all() and refused.unmatchable1.all()
    accepted = correspond(keypoints0, keypoints1, *same, match_px=4.5)
    assert accepted.matches.tolist() == [[0, 0]]


def test_a_match_must_hold_in_both_images() -> None:
    # Image 1 is ten times smaller: 0.3 px there is 3 px in image 0.
    H = torch.diag(torch.tensor([0.1, 0.1, 1.0]))
    keypoints0, keypoints1 = torch.tensor([[100.0, 100]]), torch.tensor([[10.4, 10]])
    forth = project_by_homography(H, keypoints0, (20, 20))
    back = project_by_homography(H.inverse(), keypoints1, (200, 200))
    truth = correspond(keypoints0, keypoints1, forth, back)
    assert not len(truth.matches)  # 0.4 px in image 1, 4 px in image 0
    assert not truth.unmatchable0.any()


def test_distances_are_exact_far_from_the_origin() -> None:
    generator = torch.Generator().manual_seed(0)
    keypoints0 = torch.randint(20, 1580, (200, 2), generator=generator).unique(dim=0).float()
    keypoints1 = keypoints0 + torch.tensor([0.25, 0])
    same = [project_by_homography(shift(0), k, (1600, 1600)) for k in (keypoints0, keypoints1)]
    assert len(correspond(keypoints0, keypoints1, *same, match_px=0.26).matches) == len(keypoints0)
    assert not len(correspond(keypoints0, keypoints1, *same, match_px=0.24).matches)


def test_of_two_keypoints_only_the_nearer_matches_and_the_other_is_undecided() -> None:
    keypoints0, keypoints1 = torch.tensor([[10.0, 10]]), torch.tensor([[12.0, 10], [11, 10]])
    same = [project_by_homography(shift(0), k, (50, 50)) for k in (keypoints0, keypoints1)]
    truth = correspond(keypoints0, keypoints1, *same)
    assert truth.matches.tolist() == [[0, 1]]
    assert not truth.unmatchable1.any()


def test_keypoints_on_one_spot_go_to_the_like() -> None:
    keypoints = torch.tensor([[10.0, 10], [10, 10]])  # one place, two orientations
    same = project_by_homography(shift(0), keypoints, (50, 50))
    crossed = torch.tensor([[0.1, 0.9], [0.9, 0.1]])
    assert correspond(keypoints, keypoints, same, same, similarity=crossed).matches.tolist() == [[0, 1], [1, 0]]
    assert correspond(keypoints, keypoints, same, same, similarity=crossed.flip(0)).matches.tolist() == [[0, 0], [1, 1]]


def test_an_unknown_point_is_unmatchable_only_off_its_epipolar_line() -> None:
    # Pure sideways motion: epipolar lines are the rows.
    F = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    keypoints0, keypoints1 = torch.tensor([[10.0, 10], [10, 40]]), torch.tensor([[80.0, 12]])
    forth = projection([[0, 0], [0, 0]], [UNKNOWN, UNKNOWN])
    back = projection([[0, 0]], [UNKNOWN])
    truth = correspond(keypoints0, keypoints1, forth, back, fundamental=F)
    assert truth.unmatchable0.tolist() == [False, True]  # rows 10 and 40 against 12
    assert truth.unmatchable1.tolist() == [False]
    assert not correspond(keypoints0, keypoints1, forth, back).unmatchable0.any()


def test_no_keypoints_on_one_side_leave_all_others_unmatchable() -> None:
    none, some = torch.empty((0, 2)), torch.tensor([[1.0, 1]])
    truth = correspond(none, some, projection([], []), projection([[1.0, 1]], [SEEN]))
    assert truth.matches.shape == (0, 2) and truth.unmatchable1.tolist() == [True]
    assert truth.unmatchable0.shape == (0,)


def test_thresholds_out_of_order_are_refused() -> None:
    point = torch.tensor([[1.0, 1]])
    same = project_by_homography(shift(0), point, (5, 5))
    with pytest.raises(InvalidValueError, match="unmatchable_px"):
        correspond(point, point, same, same, match_px=3, unmatchable_px=2)


def test_proposals_are_right_wrong_or_beyond_judgement() -> None:
    alone0, alone1 = torch.tensor([False, False, True, False]), torch.tensor([False, True, False, False])
    truth = Correspondence(torch.tensor([[0, 0], [1, 2]]), alone0, alone1)
    proposals = torch.tensor([[0, 0], [1, 0], [2, 3], [3, 1], [3, 3], [3, 2]])
    right, wrong = truth.correct_and_incorrect(proposals)
    assert right.tolist() == [True, False, False, False, False, False]
    assert wrong.tolist() == [False, True, True, True, False, True]  # points 3 and 3 are both undecided


class TestDepth:
    """A wall at 4 m with a post at 2 m before it, seen by two cameras 0.5 m apart; f = 100 px."""

    K = torch.tensor([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
    sideways = torch.tensor([[1.0, 0, 0, -0.5], [0, 1, 0, 0], [0, 0, 1, 0]])

    @staticmethod
    def depth(post_from: int) -> torch.Tensor:
        depth = torch.full((101, 101), 4.0)
        depth[:, post_from : post_from + 10] = 2.0
        return depth

    def project(self, points: list[list[float]], **options: int) -> Projection:
        # The wall moves by 100 · 0.5 / 4 = 12.5 px, the post by 25 px.
        depth0, depth1 = self.depth(60), self.depth(35)
        return project_by_depth(torch.tensor(points).float(), depth0, self.K, depth1, self.K, self.sideways, **options)

    def test_visible_points_land_where_parallax_puts_them(self) -> None:
        seen = self.project([[90, 20], [65, 30]])
        assert seen.visibility.tolist() == [SEEN, SEEN]
        torch.testing.assert_close(seen.points, torch.tensor([[77.5, 20], [40, 30]]))

    def test_what_the_post_covers_is_hidden(self) -> None:
        # The wall at x = 50 would be at 37.5 in image 1, where the post stands.
        assert self.project([[50, 20]]).visibility.tolist() == [HIDDEN]

    def test_what_leaves_the_picture_is_hidden(self) -> None:
        assert self.project([[5, 20]]).visibility.tolist() == [HIDDEN]

    def test_a_point_on_the_edge_of_the_post_is_unknown(self) -> None:
        assert self.project([[61, 20]]).visibility.tolist() == [UNKNOWN]
        assert self.project([[61, 20]], edge_radius_px=0).visibility.tolist() == [SEEN]

    def test_no_keypoints_are_no_trouble(self) -> None:
        none = project_by_depth(torch.empty((0, 2)), self.depth(60), self.K, self.depth(35), self.K, self.sideways)
        assert none.points.shape == (0, 2) and none.visibility.shape == (0,)

    def test_holes_are_unknown(self) -> None:
        depth0, depth1 = torch.full((101, 101), 4.0), torch.full((101, 101), 4.0)
        depth0[18:23, 18:23], depth1[60:63, 60:65] = 0, torch.nan
        points = torch.tensor([[20.0, 20], [75, 61], [90, 90]])
        seen = project_by_depth(points, depth0, self.K, depth1, self.K, self.sideways)
        assert seen.visibility.tolist() == [UNKNOWN, UNKNOWN, SEEN]  # (75, 61) lands on (62.5, 61)
