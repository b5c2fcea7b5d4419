"""Overlap of views with depth, and groups of views that overlap as wished."""

import numpy as np
import torch

from lightmatch.training.overlap import choose_views, depth_overlap, fitting_pairs


def test_overlap_before_a_wall() -> None:
    """Cameras before a wall at depth 2, the second half a picture to the right, the third with it behind a screen."""
    size, focal = 80, 40.0
    K = torch.tensor([[focal, 0, (size - 1) / 2], [0, focal, (size - 1) / 2], [0, 0, 1]]).expand(3, 3, 3)
    poses = torch.eye(3, 4).repeat(3, 1, 1)
    poses[1:, 0, 3] = -2.0  # the wall's visible part is 80 / 40 · 2 = 4 wide
    depth = torch.full((3, size, size), 2.0)
    depth[2] = 0.5
    overlap = depth_overlap(depth, K, poses)
    torch.testing.assert_close(overlap.diagonal(), torch.ones(3))
    torch.testing.assert_close(overlap[0, 1], torch.tensor(0.5))
    torch.testing.assert_close(overlap[1, 0], torch.tensor(0.5))
    assert overlap[0, 2] == overlap[2, 0] == overlap[1, 2] == 0


def test_a_pair_fits_by_the_lesser_of_its_overlaps() -> None:
    overlap = np.array([[1, 0.9, 0.5], [0.05, 1, 0.5], [0.6, 0.9, 1]])
    fits = fitting_pairs(overlap, 0.1, 0.7)
    assert fits.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_views_that_fit_each_other_are_chosen() -> None:
    fits = np.zeros((6, 6), bool)
    fits[np.ix_([1, 3, 4], [1, 3, 4])] = True
    fits[0, 1] = fits[1, 0] = True  # view 0 fits one only
    np.fill_diagonal(fits, False)
    for seed in range(10):
        assert sorted(choose_views(fits, 3, np.random.default_rng(seed))) == [1, 3, 4]
    # Asked for more, it fills up with what is left, each view once.
    assert sorted(choose_views(fits, 6, np.random.default_rng(0))) == list(range(6))
