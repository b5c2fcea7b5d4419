"""Features and matches in files: COLMAP's database, hloc's HDF5 files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from lightmatch.colmap.cameras import group_by_camera
from lightmatch.colmap.database import replacing_database
from lightmatch.colmap.database_files import read_colmap_verified
from lightmatch.colmap.verification import MatchDatabase, verified_matches
from lightmatch.errors import InvalidValueError
from lightmatch.interchange import write_hloc_features, write_hloc_matches
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.matching import MatchedPairs
from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.pipelines.stages.config import StageConfig
from lightmatch.pipelines.stages.stored_photos import NamedPhoto, StoredFeatures
from lightmatch.types import Features, Matches

HLOC_FILES = ("features.h5", "matches.h5", "pairs.txt")


@dataclass(frozen=True, eq=False)
class Found:
    """What is to be written."""

    photos: Mapping[str, NamedPhoto]  # by name of the working copy
    upright: Mapping[str, Features]  # by name of the working copy
    matched: MatchedPairs | None  # of working copies
    images: Path  # folder of the photos, for names and EXIF

    @property
    def features(self) -> StoredFeatures:
        """By the names that are written."""
        return StoredFeatures(self.upright, self.photos)

    def matches(self, *, worth_verifying: bool) -> Iterator[tuple[Pair, Matches]]:
        """By the names that are written. worth_verifying: only of pairs that overlap by the classifier."""
        for (copy0, copy1), found in self.matched.read() if self.matched else ():
            if found.worth_verifying or not worth_verifying:
                yield (self.photos[copy0].name, self.photos[copy1].name), found.matches


class Counts(NamedTuple):
    """What was written."""

    pairs: list[Pair]
    num_matches: int
    num_verified_pairs: int | None


class _Tally:
    """Counts pairs and matches on their way into a file."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.num_matches = 0

    def of(self, source: Iterator[tuple[Pair, Matches]]) -> Iterator[tuple[Pair, Matches]]:
        """The same, counted as it is read."""
        for pair, matches in source:
            self.pairs.append(pair)
            self.num_matches += len(matches)
            yield pair, matches


def is_database(target: Path) -> bool:
    """Whether the name is one of a COLMAP database."""
    return target.suffix.lower() in (".db", ".sqlite", ".sqlite3")


def check_target(target: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Raise InvalidValueError where `target` has none of the suffixes ("": a folder), or is there."""
    suffix = ".db" if is_database(target) else target.suffix.lower()
    if suffix not in suffixes:
        kinds = {".db": "database.db (COLMAP)", ".h5": "features.h5 (hloc)", ".txt": "pairs.txt", "": "a folder (hloc)"}
        raise InvalidValueError(
            f"{target}: expected {' or '.join(kinds[suffix] for suffix in suffixes)} to write to, got another name"
        )
    if suffix == "":
        if target.exists() and not target.is_dir():
            raise InvalidValueError(f"{target}: expected a folder to write to, found a file; choose another name")
        there = [target / name for name in HLOC_FILES if (target / name).exists()]
    else:
        if target.is_dir():
            raise InvalidValueError(f"{target}: expected a file to write to, found a folder; choose another name")
        there = [target] if target.exists() else []
    if there and not overwrite:
        raise InvalidValueError(
            f"{there[0]}: expected a new file, found one that may hold more; choose another name, or replace it with"
            " --overwrite"
        )


def write_database(target: Path, found: Found, config: StageConfig, progress: Progress) -> Counts:
    """A new database with cameras, keypoints, descriptors and matches, and two-view geometries where asked for."""
    verify = config.verify is not False and found.matched is not None
    with replacing_database(target) as partial:
        described = any(value.kind.descriptor_dim > 1 for value in islice(found.upright.values(), 1))
        return _fill(partial, found, config, progress, verify=verify, descriptors=described)


def write_hloc(
    features: Path, matches: Path | None, found: Found, progress: Progress, config: StageConfig | None = None
) -> Counts:
    """Write hloc's file of features, and of matches where it is named: with `config.verify` the verified ones alone."""
    stored = found.features
    with progress.stage("write", 1) as step:
        write_hloc_features(features, stored)
        step()
    if matches is None or config is None:
        return Counts([], 0, None)
    lengths = {name: len(value) for name, value in stored.items()}
    tally = _Tally()
    if not config.verify:
        write_hloc_matches(matches, tally.of(found.matches(worth_verifying=False)), lengths)
        return Counts(tally.pairs, tally.num_matches, None)
    with tempfile.TemporaryDirectory(dir=matches.parent) as scratch:
        database = Path(scratch, "database.db")
        _fill(database, found, config, progress, verify=True, descriptors=False)
        write_hloc_matches(matches, tally.of(_verified(database, found)), lengths)
    return Counts(tally.pairs, tally.num_matches, len(tally.pairs))


def _fill(
    path: Path, found: Found, config: StageConfig, progress: Progress, *, verify: bool, descriptors: bool
) -> Counts:
    sizes = {photo.name: photo.image_size for photo in found.photos.values()}
    cameras = group_by_camera(found.images, sizes, config.cameras)
    tally = _Tally()
    with progress.stage("write", 1) as step:
        database = MatchDatabase(path, found.images, cameras, config.camera_model)
        database.write(found.features, tally.of(found.matches(worth_verifying=verify)), descriptors=descriptors)
        step()
    if not verify:
        return Counts(tally.pairs, tally.num_matches, None)
    with progress.stage("verify", len(tally.pairs)) as step:
        database.verify(seed=config.seed, on_pair=step)
    return Counts(tally.pairs, tally.num_matches, len(verified_matches(path)))


def _verified(database: Path, found: Found) -> Iterator[tuple[Pair, Matches]]:
    """The matches that were verified, with their scores."""
    verified = read_colmap_verified(database)
    for pair, matches in found.matches(worth_verifying=True):
        if pair in verified and verified[pair].geometry.num_inliers:
            kept = {tuple(row) for row in verified[pair].matches.indices.tolist()}
            rows = torch.tensor([tuple(row) in kept for row in matches.indices.tolist()], dtype=torch.bool)
            yield pair, matches.subset(rows)
