"""Matches in the store → a COLMAP database of verified pairs, without those between look-alikes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightmatch.pipelines.reconstruct import first_pass
from lightmatch.pipelines.reconstruct.config import ReconstructConfig
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.matching import MatchedPairs
from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.pipelines.reconstruct.panorama_rigs import panorama_rigs, view_folders, with_view_intrinsics
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName
from lightmatch.reconstruction import (
    CameraPriors,
    MatchDatabase,
    PureRotation,
    PureRotationError,
    apply_rigs,
    drop_pairs,
    enter_intrinsics,
    find_doppelgangers,
    find_fisheyes,
    find_fixed_places,
    find_pure_rotations,
    group_by_camera,
    make_fisheyes,
    split_by_intrinsics,
    verified_matches,
)
from lightmatch.runtime.store import digest
from lightmatch.types import Matches

logger = logging.getLogger(__name__)

_MANY_IN_PLACE = 0.01  # of all matches: fewer that stay in place are not worth a word


@dataclass(frozen=True)
class PairSummary:
    """What is known of two photos that were matched."""

    name0: str
    name1: str
    num_matches: int  # without those in place
    num_in_place: int  # matches of what stays in place in the pictures while the scene moves; left out
    num_inliers: int  # that agree with one geometry; 0 where the pair was dropped
    probability: float | None  # that the photos overlap, 0…1, by the overlap classifier; None: not classified


@dataclass(frozen=True)
class DroppedPair:
    """Two photos that match, but show different places that look alike; their matches were dropped."""

    name0: str
    name1: str
    reason: str


@dataclass(frozen=True)
class _VerifiedFacts:
    """What is known of verified pairs, kept beside their database."""

    known_cameras: frozenset[int]  # ids of cameras whose intrinsics are given
    held_in_rigs: frozenset[int]  # ids of cameras whose place in their rig is given: those of panoramas' views
    pairs: tuple[PairSummary, ...]
    doppelgangers: tuple[DroppedPair, ...]
    is_ambiguous: bool  # whether places may look alike
    only_rotated: tuple[str, ...]  # photos of cameras that only rotated; their pairs were dropped
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Verified(_VerifiedFacts):
    """A database of verified pairs, and what is known of them."""

    key: str  # digest of all it depends on
    database: Path
    cameras: tuple[tuple[str, ...], ...]  # photos by camera

    @property
    def num_inliers(self) -> dict[Pair, int]:
        """Verified matches by pair; only pairs that have any."""
        return {(pair.name0, pair.name1): pair.num_inliers for pair in self.pairs if pair.num_inliers}


def verify_pairs(run: Run, pictures: Sequence[Picture], matched: MatchedPairs, known: CameraPriors | None) -> Verified:
    """Enter pictures and matches into a database, keep the matches that agree with one geometry, drop look-alikes.

    Matches of what stays in place in the pictures while the scene moves are left out before. Pairs that hardly overlap
    by the overlap classifier are not verified at all. All of it is one stage: it is
    there from an earlier run of the same pictures, matches and options, or made now.

    Photos of a camera that only rotated are left without a pair of them, for no depth can be had of them. Raises
    PureRotationError where all photos with good pairs are such, and no fewer than those with any others. With known
    poses all are kept.
    """
    config, images = run.config, run.layout.images
    features = FeaturesByName.of(run, pictures, config.max_keypoints)
    sizes = {picture.name: picture.image_size for picture in pictures}
    photos = {picture.name: picture.image_size for picture in pictures if picture.view_of is None}
    views = view_folders(pictures)
    cameras = group_by_camera(images, photos, "folder" if config.rig else config.cameras) + list(views.values())
    has_poses = known is not None and bool(known.poses)
    known = with_view_intrinsics(known, pictures)
    if known is not None:
        cameras = split_by_intrinsics(cameras, known, sizes)
    key = digest(
        "verified without cameras that only turned and what stays in place, panoramas as rigs, fisheyes, screened",
        [[picture.name, picture.key] for picture in pictures],
        [list(pair) for pair in matched.pairs],
        list(matched.keys),
        cameras,
        config.camera_model,
        config.max_keypoints,
        config.seed,
        None if known is None else known.key,
    )

    def make(folder: Path) -> _VerifiedFacts:
        found_pairs: dict[Pair, PairSummary] = {}
        fixed = find_fixed_places(features, ((pair, found.matches) for pair, found in matched.read()))

        def worth_verifying(step: Callable[[], None]) -> Iterator[tuple[Pair, Matches]]:
            for pair, found in matched.read():
                matches = fixed.without(features[pair[0]], features[pair[1]], found.matches)
                in_place = len(found.matches) - len(matches)
                found_pairs[pair] = PairSummary(*pair, len(matches), in_place, 0, found.probability)
                if found.worth_verifying and len(matches):
                    yield pair, matches
                else:
                    step()

        with run.progress.stage("verify", len(matched.pairs) + 1) as step:  # the last is to look for doppelgängers
            database = MatchDatabase(folder / "database.db", images, cameras, config.camera_model)
            held = frozenset() if known is None else enter_intrinsics(database.path, known).camera_ids
            database.write(features, worth_verifying(step))
            may_be = config.camera_model == ReconstructConfig.camera_model or "FISHEYE" in config.camera_model
            fisheyes = find_fisheyes(database.path, seed=config.seed) if may_be else []
            make_fisheyes(database.path, fisheyes)
            database.verify(seed=config.seed, on_pair=step, executor=run.executor)
            inliers = verified_matches(database.path)
            report = find_doppelgangers(database.path, dict.fromkeys(matched.by_few, first_pass.KEYPOINTS))
            drop_pairs(database.path, report.dropped)
            rotated, are_all = ([], False) if has_poses else find_pure_rotations(database.path)
            turned = [pair for pair in inliers if any(camera.rotations.keys() >= {*pair} for camera in rotated)]
            drop_pairs(database.path, turned)
            if are_all and _is_most(rotated, verified_matches(database.path)):
                raise PureRotationError(rotated)
            rigs = [] if has_poses else panorama_rigs(pictures)
            in_rigs = apply_rigs(database.path, rigs) if rigs else frozenset()
            step()
        dropped = {frozenset(names) for names in (*report.dropped, *turned)}
        pairs = tuple(
            replace(
                found_pairs[a, b],
                num_inliers=0 if frozenset((a, b)) in dropped else inliers.get((a, b), inliers.get((b, a), 0)),
            )
            for a, b in sorted(found_pairs)
        )
        return _VerifiedFacts(
            known_cameras=frozenset(held),
            held_in_rigs=frozenset(in_rigs),
            pairs=pairs,
            doppelgangers=tuple(DroppedPair(*pair.names, str(pair)) for pair in report.suspicious if pair.drop),
            is_ambiguous=report.is_ambiguous,
            only_rotated=tuple(name for camera in rotated for name in camera.rotations),
            warnings=(
                *filter(None, (_in_place_warning(pairs), report.warning())),
                *map(str, rotated),
                *(str(fisheye) for fisheye in fisheyes if "FISHEYE" not in config.camera_model),
            ),
        )

    stage = "verified_few" if matched.by_few else "verified"  # an ambiguous set needs both, and keeps them
    folder, facts = run.cache.folder(run.stage_name(stage), key, _VerifiedFacts, make)
    by_camera = tuple(tuple(names) for names in cameras)
    return Verified(**vars(facts), key=key, database=folder / "database.db", cameras=by_camera)


def _in_place_warning(pairs: Sequence[PairSummary]) -> str | None:
    """What to be wary of where a good part of the matches stayed in place."""
    in_place = [pair.num_in_place for pair in pairs if pair.num_in_place]
    if sum(in_place) < _MANY_IN_PLACE * (sum(in_place) + sum(pair.num_matches for pair in pairs)):
        return None
    return (
        f"{sum(in_place)} matches of {len(in_place)} pairs stay in place in the pictures while the scene moves (text, a"
        " logo, a frame, or a background that the camera moves with); they are left out, and what they show is not in"
        " the model"
    )


def _is_most(rotated: Sequence[PureRotation], left: Collection[Pair]) -> bool:
    """Whether cameras that only rotated took no fewer photos than are in the pairs that are left."""
    return sum(len(camera.rotations) for camera in rotated) >= len({name for pair in left for name in pair})
