"""Input paths → photos and videos to reconstruct."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lightmatch.errors import InvalidValueError, ReconstructionError
from lightmatch.images import is_image_file
from lightmatch.inputs.duplicates import same_files
from lightmatch.inputs.kinds import is_raw, what_to_do
from lightmatch.inputs.live_photos import live_photo_films
from lightmatch.inputs.mask_files import masked_by
from lightmatch.inputs.mask_search import MaskSearch
from lightmatch.inputs.names import folder_name, free_folders, free_names, name_problem, printable
from lightmatch.inputs.sources import InputRoot, open_sources, what_is
from lightmatch.inputs.values import Duplicate, Ignored, IgnoredKind, Inputs, PhotoInput, VideoInput
from lightmatch.video import is_video_file


@dataclass(frozen=True, eq=False)
class _Found:
    """A photo or a video that can be used."""

    path: Path
    source: InputRoot
    is_video: bool

    @property
    def relative(self) -> str:
        return self.path.relative_to(self.source.root).as_posix()

    @property
    def is_source(self) -> bool:
        """Whether it is a video named by itself."""
        return self.is_video and self.source.named_one_by_one


class _LeftOut(NamedTuple):
    path: Path
    kind: IgnoredKind
    reason: str
    lost: bool


def find_inputs(
    paths: Sequence[str | Path],
    *,
    output: str | Path,
    masks: str | Path | None = None,
    is_output: Callable[[Path], bool],
) -> Inputs:
    """All photos and videos at the given paths, each with the name of its working copy.

    paths: folders (searched with their subfolders), photos, videos, or several of all. output: where results will be
        written; it may lie among the photos, as may those of earlier runs, which `is_output` knows: both are left out.
    masks: a folder of masks; without it they are looked for in folders called "masks" inside and beside the photos
        (`mask_places`), and beside each photo or video by name (`masked_by`). Such pictures are never photos.

    Names are relative to the folder, where one is named; of several sources each gets a folder of its own, as a video
    always does. Listed as not used are: files with the same bytes as another, raw files and other kinds that cannot
    be read, names that COLMAP's files cannot hold, the films of live photos, masks without a photo.

    Raises ReconstructionError where a path does not exist, where nothing usable is found, where `output` would hold
    the photos or a photo is a link into it, and where `masks` is no folder or fits none of the photos.
    """
    given, output = [Path(path) for path in paths], Path(output)
    named_masks = Path(masks) if masks is not None else None
    if not given:
        raise InvalidValueError("paths: expected at least one folder, photo or video, got none; name one")
    if named_masks is not None:
        _check_masks(named_masks, given)
    sources = open_sources(given, output, named_masks, is_output)
    found, left_out, beside = _sort_out(sources, output)
    shown = _shown(sources)

    films = live_photo_films([f.path for f in found if f.is_video], [f.path for f in found if not f.is_video])
    left_out += [
        _LeftOut(film, "live photo", f"the short film of the live photo {shown[photo]}", lost=False)
        for film, photo in films.items()
    ]
    found = [each for each in found if each.path not in films]
    first = same_files([each.path for each in found])
    used = [each for each in found if each.path not in first]
    if not used:
        raise ReconstructionError(_nothing(given, shown, left_out))

    prefixes = _prefixes(sources, used)
    search = MaskSearch(named_masks, [(source, [f.path for f in found if f.source is source]) for source in sources])
    mask_of = {
        f.path: search.mask_of(f.path, f.source, prefixes[id(f.source)], is_video=f.is_video) or beside.get(f.path)
        for f in found
    }
    for path, earlier in first.items():  # two files of one photo: the mask of either
        mask_of[earlier] = mask_of[earlier] or mask_of[path]

    still = [each for each in used if not each.is_video]
    names = free_names([_join(prefixes[id(each.source)], each.relative) for each in still])
    photos = [
        PhotoInput(each.path, name, shown[each.path], mask_of[each.path])
        for each, name in zip(still, names, strict=True)
    ]
    moving = [each for each in used if each.is_video]
    folders = free_folders([_video_folder(each, prefixes[id(each.source)]) for each in moving], names)
    videos = [
        VideoInput(each.path, folder, shown[each.path], mask_of[each.path])
        for each, folder in zip(moving, folders, strict=True)
    ]
    ignored = [Ignored(shown[path], kind, reason, lost) for path, kind, reason, lost in left_out]
    ignored += search.unused(example=[*names, *folders][0])
    duplicates = [Duplicate(shown[path], shown[earlier]) for path, earlier in first.items()]
    return Inputs(
        tuple(sorted(photos, key=lambda photo: photo.name)),
        tuple(sorted(videos, key=lambda video: video.folder)),
        tuple(sorted(duplicates, key=lambda each: each.shown)),
        tuple(sorted(ignored, key=lambda each: (each.shown, each.kind))),
    )


def too_few(paths: Sequence[str | Path], num_readable: int, unreadable: Sequence[str], num_duplicates: int = 0) -> str:
    """The error message where fewer than two pictures can be read.

    unreadable: why, for each photo that cannot be. num_duplicates: photos that are a copy of another.
    """
    details = []
    if unreadable:
        details.append(f"{len(unreadable)} unreadable; the first: {unreadable[0]}")
    if num_duplicates:
        details.append(f"{num_duplicates} the same as another")
    message = f"{_listed(paths)}: expected at least two readable photos, got {num_readable}"
    return message + (f" ({'; '.join(details)})" if details else "") + "; add photos of the same place"


def _check_masks(masks: Path, given: Sequence[Path]) -> None:
    if not masks.is_dir():
        raise ReconstructionError(
            f"{masks}: expected a folder of masks, found {what_is(masks)}; give a folder with one PNG for each photo"
        )
    if {path.resolve() for path in given} == {masks.resolve()}:
        raise ReconstructionError(f"{masks}: expected a folder of masks, got that of the photos; give another")


def _sort_out(sources: Sequence[InputRoot], output: Path) -> tuple[list[_Found], list[_LeftOut], dict[Path, Path]]:
    """Photos and videos; pictures that cannot be used; and the masks among the photos, by photo or video."""
    ours = output.resolve()
    found: list[_Found] = []
    left_out: list[_LeftOut] = []
    masks: dict[Path, Path] = {}
    for source in sources:
        by_stem: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for path in source.files:
            if is_image_file(path) or is_video_file(path):
                by_stem[path.parent][path.stem.casefold()].append(path)
        for path in source.files:
            video = is_video_file(path)
            if is_image_file(path) and (masked := masked_by(path, by_stem[path.parent])):
                masks.update(dict.fromkeys(masked, path))
                continue
            if video or is_image_file(path):
                if ours in path.resolve().parents:
                    raise ReconstructionError(
                        f"{printable(str(path))}: expected photos outside the output folder, this one is a link into"
                        f" {output}; choose another output"
                    )
                each = _Found(path, source, video)
                if (problem := name_problem(each.relative)) is not None:
                    left_out.append(_LeftOut(path, "name", problem, lost=True))
                elif not _is_file(path):
                    reason = "expected a file, found a link to nothing or no permission to read; copy the file itself"
                    left_out.append(_LeftOut(path, "link", reason, lost=True))
                else:
                    found.append(each)
            elif is_raw(path) and (beside := [*filter(is_image_file, by_stem[path.parent][path.stem.casefold()])]):
                reason = f"a camera's raw file; {printable(beside[0].name)} beside it is used"
                left_out.append(_LeftOut(path, "raw", reason, lost=False))
            elif (unread := what_to_do(path)) is not None:
                left_out.append(_LeftOut(path, "raw" if is_raw(path) else "format", unread, lost=True))
            elif source.named_one_by_one:
                left_out.append(_LeftOut(path, "other", "neither a photo nor a video", lost=False))
    return found, left_out, masks


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no permission to look
        return False


def _shown(sources: Sequence[InputRoot]) -> dict[Path, str]:
    """How messages name each file: by its path in the folder where one folder was given."""
    one_folder = len(sources) == 1 and not sources[0].named_one_by_one
    return {
        path: printable(path.relative_to(source.root).as_posix() if one_folder else str(path))
        for source in sources
        for path in source.files
    }


def _prefixes(sources: Sequence[InputRoot], used: Iterable[_Found]) -> dict[int, str]:
    """The folder that the photos of each source go to, by the source's id; "" where there is only one source."""
    used = list(used)
    with_photos = [s for s in sources if any(each.source is s and not each.is_source for each in used)]
    alone = len(with_photos) + sum(each.is_source for each in used) == 1
    folders = [""] if alone and with_photos else free_folders([folder_name(source.root) for source in with_photos])
    return {id(source): "" for source in sources} | {
        id(source): folder for source, folder in zip(with_photos, folders, strict=True)
    }


def _video_folder(video: _Found, prefix: str) -> str:
    if video.is_source:
        return folder_name(video.path.with_suffix(""))
    return _join(prefix, video.relative[: -len(video.path.suffix)])


def _join(prefix: str, relative: str) -> str:
    return f"{prefix}/{relative}" if prefix else relative


def _listed(paths: Sequence[str | Path]) -> str:
    shown = [printable(str(path)) for path in paths]
    return ", ".join(shown) if len(shown) <= 3 else f"{shown[0]} and {len(shown) - 1} more"


def _nothing(given: Sequence[Path], shown: dict[Path, str], left_out: Sequence[_LeftOut]) -> str:
    message = f"{_listed(given)}: expected photos (JPEG, PNG, WebP, TIFF, BMP, HEIC) or videos, found none"
    message += " in it" if len(given) == 1 and given[0].is_dir() else ""
    if left_out:
        one = left_out[0]
        message += f" but {len(left_out)} that cannot be used; the first, {shown[one.path]}: {one.reason}"
    return message
