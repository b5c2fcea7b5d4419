"""Tracks are what matches join, cut where they contradict; held out are always the same ones, whoever asks."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_mapping import synthetic_model

from lightmatch.errors import InvalidValueError
from lightmatch.sfm.tracks import MIN_LENGTH, Tracks, hold_out, join_matches, read_tracks

NAMES = ["a", "b", "c", "d"]
SIZES = np.full((4, 2), 100)


def pair(a: int, b: int, *matches: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    return a, b, np.array(matches)


def spread_keypoints(count: int = 6) -> list[np.ndarray]:
    return [np.arange(2.0 * count).reshape(count, 2) * 10 for _ in NAMES]


def contents(tracks: Tracks) -> list[list[tuple[int, int]]]:
    seen = list(zip(tracks.photos.tolist(), tracks.keypoints.tolist(), strict=True))
    return sorted(seen[start:end] for start, end in zip(tracks.starts[:-1], tracks.starts[1:], strict=True))


def many_tracks(num_tracks: int = 4000, num_photos: int = 10) -> Tracks:
    generator = np.random.default_rng(0)
    photos = [np.sort(generator.choice(num_photos, generator.integers(2, 6), replace=False)) for _ in range(num_tracks)]
    lengths = [len(seen) for seen in photos]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    names = tuple(f"{number:02}.jpg" for number in range(num_photos))
    keypoints = np.repeat(np.arange(num_tracks), lengths)
    xy = generator.random((starts[-1], 2))
    return Tracks(names, np.full((num_photos, 2), 100), starts, np.concatenate(photos), keypoints, xy)


def test_matches_join_to_tracks() -> None:
    tracks = join_matches(
        NAMES, SIZES, spread_keypoints(), [pair(0, 1, (0, 1), (2, 2)), pair(1, 2, (1, 5)), pair(2, 3, (5, 0), (4, 4))]
    )
    assert contents(tracks) == [[(0, 0), (1, 1), (2, 5), (3, 0)], [(0, 2), (1, 2)], [(2, 4), (3, 4)]]
    assert tracks.num_contradictory == 0
    np.testing.assert_array_equal(tracks.xy[tracks.keypoints == 5], [[100, 110]])


def test_a_contradiction_is_cut_at_the_pair_with_fewest_matches() -> None:
    strong = [(number, number) for number in range(5)]
    # c's keypoint 0 and 1 would both be a's 0: the single match of a and c is the one to doubt.
    pairs = [pair(0, 1, *strong), pair(1, 2, *strong), pair(0, 2, (0, 1))]
    tracks = join_matches(NAMES, SIZES, spread_keypoints(), pairs)
    assert tracks.num_contradictory == 1  # the group of keypoints 0 and 1 of a, b and c
    assert contents(tracks) == [[(0, number), (1, number), (2, number)] for number in range(5)]


def test_keypoints_in_one_place_are_one_point() -> None:
    keypoints = spread_keypoints()
    keypoints[2][1] = keypoints[2][0] + 0.4  # found twice, in two orientations
    tracks = join_matches(NAMES, SIZES, keypoints, [pair(0, 1, (0, 0)), pair(1, 2, (0, 0)), pair(0, 2, (0, 1))])
    assert tracks.num_contradictory == 0
    assert contents(tracks) == [[(0, 0), (1, 0), (2, 0)]]


def test_no_matches_give_no_tracks() -> None:
    tracks = join_matches(NAMES, SIZES, spread_keypoints(), [])
    assert len(tracks) == 0
    assert hold_out(tracks).shape == (0,)


def test_an_eighth_is_held_out_of_long_tracks_only() -> None:
    tracks = many_tracks()
    held = hold_out(tracks)
    assert (tracks.lengths[held] >= MIN_LENGTH).all()
    share = held.sum() / (tracks.lengths >= MIN_LENGTH).sum()
    assert 0.12 < share < 0.14
    # Chosen by a hash, so no more of the long ones than of the short ones.
    assert abs(tracks.lengths[held].mean() - tracks.lengths[tracks.lengths >= MIN_LENGTH].mean()) < 0.15


def test_the_choice_depends_on_names_and_keypoints_alone() -> None:
    tracks = many_tracks()
    held = hold_out(tracks)
    order = np.random.default_rng(1).permutation(len(tracks))
    lengths = tracks.lengths[order]
    index = np.concatenate([np.flatnonzero(tracks.track_of == track) for track in order.tolist()])
    shuffled = Tracks(
        tracks.names,
        tracks.sizes,
        np.concatenate(([0], np.cumsum(lengths))),
        tracks.photos[index],
        tracks.keypoints[index],
        tracks.xy[index] + 5,
    )
    np.testing.assert_array_equal(hold_out(shuffled), held[order])


def test_every_photo_is_asked_where_it_can_be() -> None:
    tracks = many_tracks(num_tracks=3000)
    rare = tracks.photos == 0  # photo 0 keeps 60 observations only, 30 of them in long tracks at least
    drop = np.flatnonzero(rare)[60:]
    kept = np.setdiff1d(np.arange(len(tracks.photos)), drop)
    lengths = np.bincount(tracks.track_of[kept], minlength=len(tracks))
    thinned = Tracks(
        tracks.names,
        tracks.sizes,
        np.concatenate(([0], np.cumsum(lengths))),
        tracks.photos[kept],
        tracks.keypoints[kept],
        tracks.xy[kept],
    )
    held_out = np.bincount(thinned.photos[hold_out(thinned)[thinned.track_of]], minlength=10)
    assert held_out[0] >= 12
    assert held_out[0] <= 20 + 8  # not much beyond a third of the photo's own


def test_read_tracks_finds_the_points_of_a_scene(tmp_path: Path) -> None:
    truth = synthetic_model(tmp_path / "d.db", num_points=60)
    tracks = read_tracks(tmp_path / "d.db")
    ids = {truth.image(image_id).name: image_id for image_id in truth.reg_image_ids()}
    for start, end in zip(tracks.starts[:-1], tracks.starts[1:], strict=True):
        members = zip(tracks.photos[start:end].tolist(), tracks.keypoints[start:end].tolist(), strict=True)
        seen = [truth.image(ids[tracks.names[photo]]).point2D(keypoint) for photo, keypoint in members]
        assert len({point.point3D_id for point in seen if point.has_point3D()}) == 1
    assert len(tracks) == 60


def test_select_wants_a_mask() -> None:
    with pytest.raises(InvalidValueError, match="chosen: expected"):
        many_tracks(10).select(np.arange(10))
