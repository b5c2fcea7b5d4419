"""Photos → features, pairs or matches, in files that COLMAP and hloc read."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.inputs import Inputs, at_most, common_folder, find_inputs, too_few
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.output import is_output, resumable_output
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct.context import Run
from lightmatch.pipelines.reconstruct.image_matching import match_images
from lightmatch.pipelines.reconstruct.matching import MatchedPairs, match_pairs
from lightmatch.pipelines.reconstruct.models import Models, loaded_models
from lightmatch.pipelines.reconstruct.pairs import Pair, pairs_of
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
    with _work(photos, target, (".db", ".h5"), config, overwrite, progress) as work:
        target = work.target
        found = Found(work.named, work.features(), None, work.images)
        if is_database(target):
            write_database(target, found, work.config, work.progress)
        else:
            write_hloc(target, None, found, work.progress)
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
    with _work(photos, target, (".txt",), config, overwrite, progress) as work:
        target = work.target
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
    with _work(photos, target, (".db", ""), config, overwrite, progress, matching=True) as work:
        target = work.target
        if not is_database(target):
            check_names(photo.name for photo in work.named.values())
        matched = work.match()
        found = Found(work.named, work.features(), matched, work.images)
        if is_database(target):
            written, counts = (target,), write_database(target, found, work.config, work.progress)
        else:
            written = tuple(target / name for name in HLOC_FILES)
            counts = write_hloc(written[0], written[1], found, work.progress, work.config)
            write_pair_list(written[2], counts.pairs)
    return replace(
        work.result(written),
        num_pairs=len(counts.pairs),
        num_matches=counts.num_matches,
        num_verified_pairs=counts.num_verified_pairs,
    )


class _Work:
    """The stages in one working folder; features are extracted when it is made."""

    def __init__(self, run: Run, inputs: Inputs, models: Models, config: StageConfig, target: Path) -> None:
        self._run, self._models = run, models
        self.config, self.progress, self.target = config, run.progress, target
        self.gathered: Gathered = gather(run, inputs, models.extractor)
        self.named: dict[str, NamedPhoto] = {}  # by name of the working copy
        self.images = run.layout.images  # where the photos lie
        self.named_in = self.images  # the folder that the result tells people to use

    def features(self) -> FeaturesByName:
        """Of all photos, by name of the working copy."""
        return FeaturesByName.of(self._run, self.gathered.pictures)

    def pairs(self) -> list[Pair]:
        """Pairs of working copies."""
        if isinstance(self.config.pairs, Path):
            copies = {photo.name: copy for copy, photo in self.named.items()}
            return [(copies[a], copies[b]) for a, b in read_pair_list(self.config.pairs, copies)]
        return pairs_of(self._run, self.gathered.pictures)

    def match(self) -> MatchedPairs:
        """Matches of all pairs, in the cache."""
        pairs, pictures = self.pairs(), self.gathered.pictures
        if self._models.image_matcher is None:
            return match_pairs(self._run, pictures, pairs, self._models.matcher)
        pictures, matched = match_images(self._run, pictures, pairs, self._models.image_matcher)
        self.gathered = replace(self.gathered, pictures=pictures)
        return matched

    def result(self, written: tuple[Path, ...]) -> StageResult:
        """What is known of the photos."""
        gathered = self.gathered
        return StageResult(
            written, self.named_in, len(gathered.pictures), left_out=gathered.left_out, warnings=gathered.warnings
        )


@contextmanager
def _work(
    photos: Photos,
    target: str | Path,
    suffixes: tuple[str, ...],
    config: StageConfig | None,
    overwrite: bool,
    progress: Progress | None,
    *,
    matching: bool = False,
) -> Generator[_Work]:
    """The working folder, with features extracted; it is removed at the end unless the user named one.

    suffixes: that the target may have. matching: whether matchers are needed.
    """
    target, config = Path(target), config or StageConfig()
    check_target(target, suffixes, overwrite)
    paths = [Path(path) for path in ([photos] if isinstance(photos, str | Path) else photos)]
    beside = target.resolve()  # "." has no name
    folder = config.work or beside.with_name(f"{beside.name}.work")
    inputs = find_inputs(paths, output=folder, masks=config.masks, is_output=is_output)
    if config.max_images is not None:
        inputs = at_most(inputs, config.max_images)
    root = common_folder(paths)
    originals = find_originals(inputs, root) if config.images is None else {}
    if config.images is not None and config.images.exists() and any(config.images.iterdir()):
        raise InvalidValueError(f"{config.images}: expected an empty folder for copies, it holds files; choose another")
    options = config.for_reconstruct()
    target.parent.mkdir(parents=True, exist_ok=True)
    with loaded_models(options, matching=matching) as models, resumable_output(folder, overwrite=True):
        work = _Work(Run.of(folder, options, progress), inputs, models, config, target)
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
            for name in work.named:  # an earlier run may have left others
                copy = config.images / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(Layout(folder).images / name, copy)
    if config.work is None:
        shutil.rmtree(folder)
