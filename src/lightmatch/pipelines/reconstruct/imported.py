"""Keypoints and matches that another program found, in COLMAP's database or hloc's files, for mapping here.

They lie in the pixels of the photos as the files store them; here the photos are upright, and so are the keypoints that
go into the store. Descriptors are not read: nothing is matched again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from lightmatch.errors import InvalidValueError, ReconstructionError, import_optional
from lightmatch.extractors import Extractor
from lightmatch.extractors.base import ExtractorConfig
from lightmatch.images import features_in_upright_pixels, stored_size
from lightmatch.inputs import Inputs, mask_path, points_in_mask, read_facts, relative_name, working_mask
from lightmatch.interchange import (
    ImageKeypoints,
    VerifiedPair,
    count_hloc_keypoints,
    read_colmap_keypoints,
    read_colmap_matches,
    read_colmap_verified,
    read_hloc_keypoints,
    read_hloc_matches,
)
from lightmatch.matchers.base import matched_places
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.extraction import Picture
from lightmatch.pipelines.reconstruct.matching import MatchedPairs
from lightmatch.pipelines.reconstruct.pairs import Pair
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName
from lightmatch.runtime.executor import remembered
from lightmatch.runtime.files import file_digest
from lightmatch.runtime.reading import LazyMapping
from lightmatch.runtime.store import StoredMatches, digest
from lightmatch.types import Features, Image, Matches

_KIND = "imported"
_FILES = "COLMAP's database, or a folder with hloc's file of features and its file of matches"


@dataclass(frozen=True, eq=False)
class Imported:
    """What was found in the files of another program, by the names that it gives the photos."""

    source: Path
    keypoints: Mapping[str, ImageKeypoints]
    pairs: Mapping[Pair, Matches]  # the verified ones where there are any
    key: str  # digest of the files

    @classmethod
    def open(cls, source: Path) -> Imported:
        """source: COLMAP's database, or a folder with hloc's file of features and its file of matches.

        Raises InvalidValueError where it is neither, or is damaged.
        """
        if source.is_dir():
            features, matches = _hloc_files(source)
            keypoints, pairs = read_hloc_keypoints(features), read_hloc_matches(matches, count_hloc_keypoints(features))
            return cls(source, keypoints, pairs, digest("hloc", file_digest(features), file_digest(matches)))
        if not source.is_file():
            raise InvalidValueError(f"{source}: expected {_FILES}; found nothing there, check its name")
        verified = read_colmap_verified(source)
        inliers = LazyMapping(
            {
                pair: partial(_matches_of, verified, pair)
                for pair, found in verified.items()
                if found.is_valid and len(found.matches)
            }
        )
        journal = source.with_name(f"{source.name}-wal")
        parts = [file_digest(path) for path in (source, journal) if path.is_file()]
        return cls(
            source, read_colmap_keypoints(source), inliers or read_colmap_matches(source), digest("colmap", parts)
        )

    def check_names(self, inputs: Inputs, folder: Path) -> None:
        """Raise InvalidValueError where none of the photos has keypoints, or one of them is a video.

        folder: that names are relative to.
        """
        if inputs.videos:
            raise InvalidValueError(
                f"{inputs.videos[0].shown}: expected the photos of {self.source}, got a video; name the folder of its"
                " frames"
            )
        names = [relative_name(photo.path, folder) for photo in inputs.photos]
        if self.keypoints.keys().isdisjoint(names):
            known = next(iter(self.keypoints), "none")
            raise InvalidValueError(
                f"{self.source}: expected the names of photos in {folder}, such as {names[0]}, got others, such as"
                f" {known}; name the folder that they are relative to"
            )

    def match(self, run: Run, pictures: Sequence[Picture], names: Mapping[str, str]) -> MatchedPairs:
        """The matches of all pairs of the pictures, in the cache; without those that masks leave out.

        names: by `requested_name` of a picture, its name in the files. Raises ReconstructionError where there are none.
        """
        features, store = FeaturesByName.of(run, pictures), run.cache.matches
        name_of = {names[picture.requested_name]: picture.name for picture in pictures}
        pairs = [pair for pair in self.pairs if pair[0] in name_of and pair[1] in name_of]
        if not pairs:
            raise ReconstructionError(
                f"{self.source}: expected matches between the photos, found none; match them first"
            )

        @lru_cache(64)
        def allowed(name: str) -> np.ndarray | None:
            """(n,) bool: the keypoints that the mask of a picture leaves in."""
            mask = working_mask(run.layout.masks, name)
            return None if mask is None else points_in_mask(mask, features[name].keypoints.numpy())

        def matches_of(pair: Pair) -> StoredMatches:
            matches = self.pairs[pair]
            kept = torch.ones(len(matches), dtype=torch.bool)
            for side, name in enumerate(renamed[pair]):
                if (good := allowed(name)) is not None:
                    kept &= torch.from_numpy(good)[matches.indices[:, side]]
            return StoredMatches(matches.subset(kept), None, True)

        renamed = {pair: (name_of[pair[0]], name_of[pair[1]]) for pair in pairs}
        masks = [mask_path(run.layout.masks, picture.name) for picture in pictures]
        masked = [file_digest(path) if path.is_file() else "" for path in masks]
        keys = {pair: digest("imported", version("lightmatch"), self.key, list(pair), masked) for pair in pairs}
        store.write_missing(keys, matches_of)
        return MatchedPairs(tuple(renamed[pair] for pair in pairs), tuple(keys[pair] for pair in pairs), store)


@dataclass(frozen=True)
class ImportedExtractor:
    """What `ImportedKeypoints` are made from, in any process."""

    source: Path
    names: tuple[tuple[Path, str], ...]  # of photos in the files
    run: str  # tells runs apart

    def load(self) -> ImportedKeypoints:
        """The keypoints, read once in a process."""
        return remembered(self.run, self, lambda: ImportedKeypoints(Imported.open(self.source), dict(self.names)))


class ImportedKeypoints(Extractor):
    """Stands where an extractor does: the keypoints of a photo are looked up, not found."""

    def __init__(self, imported: Imported, names: Mapping[Path, str]) -> None:
        """names: by photo, its name in the files."""
        super().__init__(ExtractorConfig())
        self.imported = imported
        self._names = names
        self.kind = matched_places(torch.zeros(0, 2), torch.zeros(0), (1, 1), _KIND).kind

    def __call__(
        self, image: Image, mask: np.ndarray | None = None, region: tuple[int, int, int, int] | None = None
    ) -> Features:
        """All keypoints, for indices of matches count them; masks leave out matches (`Imported.match`).

        Raises InvalidValueError where the photo has none in the files, or is of another size there.
        """
        path = image.path
        name = self._names.get(path) if path is not None else None
        if path is None or name is None or name not in self.imported.keypoints:
            raise InvalidValueError(f"{name or path}: expected keypoints in {self.imported.source}, found none")
        found = self.imported.keypoints[name]
        orientation = read_facts(path).orientation
        stored = stored_size(image.size, orientation)
        if found.image_size not in (stored, image.size):
            raise InvalidValueError(
                f"{name}: expected keypoints of {stored[0]} x {stored[1]} px, got those of {found.image_size[0]} x"
                f" {found.image_size[1]}; name the photos that they were found in"
            )
        features = matched_places(found.xy, torch.zeros(len(found.xy)), found.image_size, _KIND)
        return features_in_upright_pixels(features, orientation) if found.image_size == stored else features

    def weights_digest(self) -> str:
        """Changes with the files."""
        return self.imported.key

    def _extract(self, image: Image, mask: np.ndarray | None) -> Features:
        return self(image)


def _matches_of(verified: Mapping[Pair, VerifiedPair], pair: Pair) -> Matches:
    return verified[pair].matches


def _hloc_files(folder: Path) -> tuple[Path, Path]:
    """The one file of features and the one of matches in a folder."""
    h5py = import_optional("h5py", "hloc")
    features, matches = [], []
    for path in sorted(folder.glob("*.h5")):
        datasets: set[str] = set()
        try:
            with h5py.File(path, "r") as file:
                file.visit(lambda name, datasets=datasets: datasets.add(name.rpartition("/")[2]))
        except OSError as error:
            raise InvalidValueError(f"{path}: expected hloc's HDF5 file, could not read it ({error})") from error
        if "matches0" in datasets:
            matches.append(path)
        elif "keypoints" in datasets:
            features.append(path)
    if len(features) != 1 or len(matches) != 1:
        raise InvalidValueError(
            f"{folder}: expected {_FILES}; found {len(features)} files of features and {len(matches)} of matches"
        )
    return features[0], matches[0]
