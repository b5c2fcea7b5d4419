"""Tracks: points seen in several photos, by verified matches alone, and those of them held out to score models.

They come from the database, not from a model, so that every model made from it is scored on the same observations: one
that drops what it cannot explain gains nothing by it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lightmatch.colmap.database import open_database
from lightmatch.errors import InvalidValueError

SAME_POINT_PX = 3.0  # two keypoints of a photo this near are one point found twice (SIFT gives one per orientation)
MIN_LENGTH = 3  # photos of a held-out track: two triangulate the point, the third is predicted

_SHARE = 0.125  # of the tracks long enough: held out
_MAX_SHARE = 0.25  # where there are few tracks
_WANTED = 400  # held-out tracks: fewer are noisy
_MOST = 4000  # more only cost time
_WANTED_PER_PHOTO = 12  # held-out observations
_MAX_SHARE_PER_PHOTO = 1 / 3  # of a photo's own tracks


@dataclass(frozen=True)
class Tracks:
    """Groups of keypoints that verified matches join, each with one keypoint per photo.

    Observations lie one track after the other, in a track by the photo's number. Pixels are COLMAP's.
    """

    names: tuple[str, ...]  # (c) photos, sorted; a photo's number is its place here
    sizes: np.ndarray  # (c, 2) int64 width and height, px
    starts: np.ndarray  # (t + 1,) int64: track i holds the observations starts[i]:starts[i + 1]
    photos: np.ndarray  # (m,) int64 number of the photo
    keypoints: np.ndarray  # (m,) int64 number of the keypoint in its photo
    xy: np.ndarray  # (m, 2) float64 COLMAP's px
    num_contradictory: int = (
        0  # groups with two distant keypoints of one photo, which were cut where matches are fewest
    )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(t,) number of photos of each track."""
        return np.diff(self.starts)

    @cached_property
    def track_of(self) -> np.ndarray:
        """(m,) number of the track of each observation."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def select(self, chosen: np.ndarray) -> Tracks:
        """Only some tracks. chosen: (t,) bool. Photos keep their numbers."""
        if chosen.shape != (len(self),) or chosen.dtype != np.bool_:
            raise InvalidValueError(f"chosen: expected ({len(self)},) bool, got {chosen.shape} {chosen.dtype}")
        kept = chosen[self.track_of]
        starts = np.concatenate(([0], np.cumsum(self.lengths[chosen])))
        return Tracks(
            self.names,
            self.sizes,
            starts,
            self.photos[kept],
            self.keypoints[kept],
            self.xy[kept],
            self.num_contradictory,
        )


def read_tracks(database: Path) -> Tracks:
    """The tracks of a verified COLMAP database.

    Matches are joined pair by pair, pairs with most verified matches first, and a join that would give one group two
    keypoints of a photo more than SAME_POINT_PX apart is refused: one of the matches on the way is false, and it is
    more likely one of a weak pair. (Dropping such groups whole would drop most of what repeated structure shows.)
    Groups of one photo are no tracks.
    """
    with open_database(database) as opened:
        photos = opened.photos
        cameras = {camera_id: (camera.width, camera.height) for camera_id, camera in opened.cameras.items()}
        keypoints = [opened.keypoints(photo.name) for photo in photos]
        numbers = {photo.name: number for number, photo in enumerate(photos)}
        pairs = []
        for pair, geometry in opened.verified():
            matches = np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
            if len(matches):
                first, second = (numbers[name] for name in pair)
                # Ordered by names: which ids photos have must not change the tracks.
                pairs.append((first, second, matches) if first < second else (second, first, matches[:, ::-1]))
    sizes = np.array([cameras[photo.camera_id] for photo in photos], np.int64).reshape(-1, 2)
    return join_matches([photo.name for photo in photos], sizes, keypoints, pairs)


def join_matches(
    names: list[str], sizes: np.ndarray, keypoints: list[np.ndarray], pairs: list[tuple[int, int, np.ndarray]]
) -> Tracks:
    """Tracks from verified matches, as `read_tracks` describes.

    names: (c) sorted. sizes: (c, 2) px. keypoints: (c) arrays (n, 2) of COLMAP's px. pairs: two numbers of photos and
    the (k, 2) numbers of matching keypoints in them.
    """
    offsets = np.concatenate(([0], np.cumsum([len(points) for points in keypoints]))).astype(np.int64)
    xy = np.concatenate(keypoints) if keypoints else np.zeros((0, 2))
    photo_of = np.repeat(np.arange(len(keypoints)), np.diff(offsets))
    ordered = sorted(pairs, key=lambda pair: (-len(pair[2]), pair[0], pair[1]))
    edges = [np.column_stack((found[:, 0] + offsets[a], found[:, 1] + offsets[b])) for a, b, found in ordered]
    joined = np.concatenate(edges) if edges else np.zeros((0, 2), np.int64)

    labels = _components(len(xy), joined)
    clean = _agree(labels, photo_of, xy)
    num_contradictory = int((~clean).sum())
    if num_contradictory:
        doubtful = joined[~clean[labels[joined[:, 0]]]]
        labels = _cut(labels, doubtful, photo_of, xy)

    # One observation per photo and track: of keypoints in one place, the first.
    order = np.lexsort((np.arange(len(xy)), photo_of, labels))
    label, photo = labels[order], photo_of[order]
    first = np.ones(len(order), bool)
    first[1:] = (label[1:] != label[:-1]) | (photo[1:] != photo[:-1])
    order = order[first]
    _, track, lengths = np.unique(labels[order], return_inverse=True, return_counts=True)
    order = order[lengths[track] > 1]
    lengths = lengths[lengths > 1]
    return Tracks(
        tuple(names),
        sizes,
        np.concatenate(([0], np.cumsum(lengths))),
        photo_of[order],
        order - offsets[photo_of[order]],
        xy[order],
        num_contradictory,
    )


def hold_out(tracks: Tracks) -> np.ndarray:
    """(t,) bool: which tracks score models and are kept from mapping.

    Chosen by a hash of the names and keypoints, so the same for every model and in every run: an eighth of the tracks
    of MIN_LENGTH photos and more (up to a quarter where there are few), then more for photos that have too few for
    a score, never beyond a third of the tracks of a photo.
    """
    eligible = tracks.lengths >= MIN_LENGTH
    count = int(eligible.sum())
    if not count:
        return np.zeros(len(tracks), bool)
    share = float(np.clip(_WANTED / count, _SHARE, _MAX_SHARE))
    wanted = min(int(np.ceil(share * count)), _MOST)
    priority = _hashes(tracks)
    candidates = np.flatnonzero(eligible)
    candidates = candidates[np.argsort(priority[candidates], kind="stable")]
    chosen = np.zeros(len(tracks), bool)
    chosen[candidates[:wanted]] = True

    track_of, num_photos = tracks.track_of, len(tracks.names)
    have = np.bincount(tracks.photos[chosen[track_of]], minlength=num_photos)
    limit = np.floor(_MAX_SHARE_PER_PHOTO * np.bincount(tracks.photos, minlength=num_photos))
    wanted_per_photo = np.minimum(_WANTED_PER_PHOTO, limit)
    for track in candidates[wanted:] if (have < wanted_per_photo).any() else ():
        photos = tracks.photos[tracks.starts[track] : tracks.starts[track + 1]]
        if (have[photos] < wanted_per_photo[photos]).any() and (have[photos] < limit[photos]).all():
            chosen[track] = True
            have[photos] += 1
    return chosen


def _components(count: int, edges: np.ndarray) -> np.ndarray:
    """(count,) the smallest member of each one's connected component."""
    labels = np.arange(count)
    while True:
        low = np.minimum(labels[edges[:, 0]], labels[edges[:, 1]])
        new = labels.copy()
        np.minimum.at(new, labels[edges[:, 0]], low)
        np.minimum.at(new, labels[edges[:, 1]], low)
        while (jumped := new[new]).tobytes() != new.tobytes():
            new = jumped
        if (new == labels).all():
            return labels
        labels = new


def _agree(labels: np.ndarray, photo_of: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(n,) bool by label: all keypoints of one photo lie in one place."""
    order = np.lexsort((photo_of, labels))
    label, photo, place = labels[order], photo_of[order], xy[order]
    starts = np.flatnonzero(np.concatenate(([True], (label[1:] != label[:-1]) | (photo[1:] != photo[:-1]))))
    clean = np.ones(len(labels), bool)
    if len(order):
        spread = np.maximum.reduceat(place, starts) - np.minimum.reduceat(place, starts)
        clean[label[starts[(spread > SAME_POINT_PX).any(1)]]] = False
    return clean


def _cut(labels: np.ndarray, edges: np.ndarray, photo_of: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Join the members of contradictory groups anew, edge by edge, refusing joins that contradict."""
    labels = labels.copy()
    members: dict[int, dict[int, list[int]]] = {}  # root: photo: keypoints
    root_of: dict[int, int] = {}
    for member in np.unique(edges).tolist():
        labels[member] = root_of[member] = member
        members[member] = {int(photo_of[member]): [member]}
    for first, second in edges.tolist():
        root0, root1 = root_of[first], root_of[second]
        if root0 == root1:
            continue
        if len(members[root0]) < len(members[root1]):
            root0, root1 = root1, root0
        large, small = members[root0], members[root1]
        if any(
            np.abs(xy[a] - xy[b]).max() > SAME_POINT_PX
            for photo in small.keys() & large.keys()
            for a in small[photo]
            for b in large[photo]
        ):
            continue
        for photo, added in members.pop(root1).items():
            large.setdefault(photo, []).extend(added)
            for member in added:
                root_of[member] = root0
    for root, photos in members.items():
        everyone = [member for added in photos.values() for member in added]
        labels[everyone] = min(everyone) if root_of else root
    return labels


def _hashes(tracks: Tracks) -> np.ndarray:
    """(t,) uint64 by the names and keypoints of each track alone."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in tracks.names]
    seeds = np.array([int.from_bytes(digest, "little") for digest in digests], np.uint64)
    mixed = seeds[tracks.photos] + (tracks.keypoints.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in (
        (30, 0xBF58476D1CE4E5B9),
        (27, 0x94D049BB133111EB),
        (31, 1),
    ):  # splitmix64, Steele et al. 2014
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.bitwise_xor.reduceat(mixed, tracks.starts[:-1]) if len(tracks) else mixed
