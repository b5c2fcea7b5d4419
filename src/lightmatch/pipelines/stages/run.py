"""Photos → features, pairs or matches, in files that COLMAP and hloc read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.extractors import Extractor, create_extractor
from lightmatch.inputs import Inputs, at_most, common_folder, find_inputs, too_few
from lightmatch.matchers import ImageMatcher, Matcher, create_image_matcher, create_matcher, takes_images
from lightmatch.pairing import CLASSIFIER_VERSION
from lightmatch.pipelines.output import is_output, resumable_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.image_matching import match_images
from lightmatch.pipelines.reconstruct.matching import MatchedPairs, Pair, match_pairs
from lightmatch.pipelines.reconstruct.pairs import pairs_of
from lightmatch.pipelines.reconstruct.panoramas import PanoramaOptions
from lightmatch.pipelines.reconstruct.pictures import FeaturesByName, Gathered, gather
from lightmatch.pipelines.stages.config import StageConfig, StageResult
from lightmatch.pipelines.stages.pair_lists import check_names, read_pair_list, write_pair_list
from lightmatch.pipelines.stages.stored_photos import (
    NamedPhoto,
    find_originals,
    name_copies,
    name_originals,
)
from lightmatch.pipelines.stages.writing import HLOC_FILES, Found, check_target, is_database, write_database, write_hloc
from lightmatch.runtime.stages import Stages
from lightmatch.runtime.store import FeatureStore, MatchStore, digest

Photos = str | Path | Sequence[str | Path]


def write_features(
    photos: Photos,
    target: str | Path,
    config: StageConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> StageResult:
    """Extract features of all photos and write them: to COLMAP's database (`.db`) or hloc's file (`.h5`).

    photos: folders, photos, videos, or several of all; names are relative to the folder. target: a new file, or one
    to replace with `overwrite`. Raises InvalidValueError for a target of another kind or that is there, and for photos
    that COLMAP cannot read where they lie (StageConfig.images); ReconstructionError where no photo can be read.
    """
    target, config, progress = Path(target), config or StageConfig(), progress or Progress()
    check_target(target, (".db", ".h5"), overwrite)
    with _work(photos, target, config, progress) as work:
        found = Found(work.named, work.features(), None, work.images)
        if is_database(target):
            write_database(target, found, config, progress)
        else:
            write_hloc(target, None, found, progress)
    return work.result((target,))


def write_pairs(
    photos: Photos,
    target: str | Path,
    config: StageConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> StageResult:
    """Choose which photos to match with which and write them as text: two names on a line, as COLMAP and hloc read it.

    As `write_features`; the target ends with .txt, and names have no spaces.
    """
    target, config, progress = Path(target), config or StageConfig(), progress or Progress()
    check_target(target, (".txt",), overwrite)
    with _work(photos, target, config, progress) as work:
        check_names(photo.name for photo in work.named.values())
        pairs = work.pairs()
        write_pair_list(target, [(work.named[a].name, work.named[b].name) for a, b in pairs])
    return replace(work.result((target,)), num_pairs=len(pairs))


def match_all(
    photos: Photos,
    target: str | Path,
    config: StageConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> StageResult:
    """Extract, choose pairs, match, verify, and write for `colmap mapper` or for hloc.

    target: COLMAP's database (`.db`), or a folder for hloc: features.h5, matches.h5 and pairs.txt. As
    `write_features`. Where pairs are verified, those that hardly overlap by the classifier on their matches are left
    out.
    """
    target, config, progress = Path(target), config or StageConfig(), progress or Progress()
    check_target(target, (".db", ""), overwrite)
    with _work(photos, target, config, progress, matching=True) as work:
        if not is_database(target):
            check_names(photo.name for photo in work.named.values())
        matched = work.match()
        found = Found(work.named, work.features(), matched, work.images)
        if is_database(target):
            written, counts = (target,), write_database(target, found, config, progress)
        else:
            written = tuple(target / name for name in HLOC_FILES)
            counts = write_hloc(written[0], written[1], found, progress, config)
            write_pair_list(written[2], counts.pairs)
    return replace(
        work.result(written),
        num_pairs=len(counts.pairs),
        num_matches=counts.num_matches,
        num_verified_pairs=counts.num_verified_pairs,
    )


@dataclass(frozen=True)
class _Models:
    """What extracts and matches; made before any work, so that a wrong name ends a run at once."""

    extractor: Extractor
    matcher: Matcher | None
    of_images: ImageMatcher | None

    @classmethod
    def of(cls, config: StageConfig, *, matching: bool) -> _Models:
        device = config.device
        extractor = create_extractor(config.features, max_keypoints=config.max_keypoints, device=device)
        if not matching:
            return cls(extractor, None, None)
        if takes_images(config.matcher):
            of_images = create_image_matcher(config.matcher, max_keypoints=config.max_keypoints, device=device)
            return cls(extractor, None, of_images)
        matcher = create_matcher(config.matcher, extractor.kind, device=device, precision=config.precision)
        return cls(extractor, matcher, None)


class _Work:
    """The stages in one working folder; features are extracted when it is made."""

    def __init__(self, folder: Path, inputs: Inputs, models: _Models, config: StageConfig, progress: Progress) -> None:
        self.folder = folder
        self._models, self._config, self._progress = models, config, progress
        self._stages = Stages(folder / "store" / "stages")
        self._store = FeatureStore(folder / "store" / "features")
        self.gathered: Gathered = gather(
            inputs,
            folder,
            models.extractor,
            self._store,
            self._stages,
            progress,
            config.max_pixels,
            PanoramaOptions(config.panorama),
        )
        self.named: dict[str, NamedPhoto] = {}  # by name of the working copy
        self.images = folder / "images"  # where the photos lie
        self.named_in = self.images  # the folder that the result tells people to use

    def features(self) -> FeaturesByName:
        """Of all photos, by name of the working copy."""
        return FeaturesByName(self.gathered.pictures, self._store)

    def pairs(self) -> list[Pair]:
        """Pairs of working copies."""
        if isinstance(self._config.pairs, Path):
            copies = {photo.name: copy for copy, photo in self.named.items()}
            return [(copies[a], copies[b]) for a, b in read_pair_list(self._config.pairs, copies)]
        options = self._config.for_reconstruct()
        return pairs_of(self.gathered.pictures, self.features(), options, self._stages, self._progress)

    def match(self) -> MatchedPairs:
        """Matches of all pairs, in the store."""
        config, store = self._config, MatchStore(self.folder / "store" / "matches")
        pairs, pictures = self.pairs(), self.gathered.pictures
        if self._models.of_images is not None:
            pictures, matched = match_images(
                pictures, pairs, self._models.of_images, self.folder, self._store, store, self._progress
            )
            self.gathered = replace(self.gathered, pictures=pictures)
            return matched
        assert self._models.matcher is not None  # of `match_all`
        described = digest(config.matcher, config.device, config.precision, config.max_keypoints, CLASSIFIER_VERSION)
        return match_pairs(pictures, pairs, self.features(), self._models.matcher, described, store, self._progress)

    def result(self, written: tuple[Path, ...]) -> StageResult:
        """What is known of the photos."""
        gathered = self.gathered
        return StageResult(
            written, self.named_in, len(gathered.pictures), left_out=gathered.left_out, warnings=gathered.warnings
        )


@contextmanager
def _work(
    photos: Photos, target: Path, config: StageConfig, progress: Progress, *, matching: bool = False
) -> Iterator[_Work]:
    """The working folder, with features extracted; it is removed at the end unless the user named one."""
    paths = [Path(path) for path in ([photos] if isinstance(photos, str | Path) else photos)]
    folder = config.work or target.with_name(f"{target.name}.work")
    inputs = find_inputs(paths, output=folder, masks=config.masks, is_output=is_output)
    if config.max_images is not None:
        inputs = at_most(inputs, config.max_images)
    root = common_folder(paths)
    originals = find_originals(inputs, root) if config.images is None else {}
    if config.images is not None and config.images.exists() and any(config.images.iterdir()):
        raise InvalidValueError(f"{config.images}: expected an empty folder for copies, it holds files; choose another")
    models = _Models.of(config, matching=matching)
    target.parent.mkdir(parents=True, exist_ok=True)
    with resumable_output(folder, overwrite=True):
        work = _Work(folder, inputs, models, config, progress)
        pictures = work.gathered.pictures
        if len(pictures) < (2 if matching else 1):
            unreadable = [left.reason for left in work.gathered.left_out if left.kind == "unreadable"]
            raise ReconstructionError(too_few(paths, len(pictures), unreadable))
        if config.images is None:
            work.named, work.images, work.named_in = name_originals(pictures, originals), root, root
        else:
            work.named, work.named_in = name_copies(pictures), config.images
        yield work
        if config.images is not None:  # at the end, so that a run that was stopped finds the folder empty
            ignored = shutil.ignore_patterns(".video")
            shutil.copytree(folder / "images", config.images, dirs_exist_ok=True, ignore=ignored)
    if config.work is None:
        shutil.rmtree(folder)
