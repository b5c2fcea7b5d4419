"""hloc's HDF5 files of local features and of matches.

Features: one group for each image, with '/' in its name as nested groups. `keypoints` (n, 2) px with the centre of the
first pixel at (0, 0), as ours (hloc adds COLMAP's 0.5 when it fills a database), except from hloc's own SIFT;
`descriptors` (d, n), ours transposed; `scores` (n,); `image_size` (width, height). hloc's SIFT adds `scales` (n,),
COLMAP's σ in px (ours are diameters, 2σ), and `oris` (n,) in degrees, clockwise on screen; its keypoints are those of
pycolmap.Sift as they are, whose first pixel has its centre at (0.5, 0.5).
Matches: group name0/name1, where '-' stands for each '/' in a name, or name0_name1 in older files. `matches0` (n0,):
which keypoint of image 1, or −1; `matching_scores0` (n0,).
Source: https://github.com/cvg/Hierarchical-Localization, hloc/extract_features.py, match_features.py, utils/io.py,
utils/parsers.py and extractors/dog.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lightmatch.colmap.database_files import ImageKeypoints
from lightmatch.colmap.pairs import check_range, checked_pairs, matches_from, swap_matches
from lightmatch.errors import InvalidValueError, import_optional
from lightmatch.runtime.files import replacing
from lightmatch.runtime.reading import LazyMapping, LazyPairs, reading
from lightmatch.types import FeatureKind, Features, Matches

_Matches = Iterable[tuple[tuple[str, str], Matches]]


def read_hloc_features(path: str | Path, kind: FeatureKind, *, first_pixel: float = 0.0) -> Mapping[str, Features]:
    """Features by image name, read from the file each time they are looked up.

    kind: what the file holds; hloc does not say it. first_pixel: where the file has the centre of the first pixel, px
    in x and in y, which it does not say either: 0.5 in those of hloc's own SIFT with pycolmap 0.5 or newer. Files in
    half precision (hloc's as_half) are read too, with a UserWarning where that makes keypoints coarse. The attribute
    `uncertainty` of keypoints has no place in Features.
    Raises InvalidValueError where the file is damaged or holds other features, when opened or when read;
    MissingDependencyError without h5py.
    """
    path = Path(path)
    with _opened(path) as file:
        names = list(_keypoint_counts(file))
        coarse = [name for name in names if file[name]["keypoints"].dtype == np.float16]
        longest = max((int(_array(file[name], "image_size", np.int64, (2,)).max()) for name in coarse), default=0)
    if coarse:
        step = float(np.spacing(np.float16(longest - 1)))
        warnings.warn(
            f"{path}: keypoints are in half precision, whose values lie {step:g} px apart at the far side of its"
            f" largest image ({longest} px); extract the features again with as_half=False for exact places",
            stacklevel=2,
        )
    return LazyMapping({name: partial(_read_features, path, name, kind, first_pixel) for name in names})


def read_hloc_keypoints(path: str | Path) -> Mapping[str, ImageKeypoints]:
    """Keypoints by image name, whatever features they are of; read from the file each time they are looked up.

    Raises InvalidValueError where the file is damaged or holds no features, when opened or when read;
    MissingDependencyError without h5py.
    """
    path = Path(path)
    return LazyMapping({name: partial(_read_keypoints, path, name) for name in count_hloc_keypoints(path)})


def count_hloc_keypoints(path: str | Path) -> dict[str, int]:
    """Number of keypoints by image name in a file of features, without reading them.

    Raises InvalidValueError where the file is damaged or holds no features; MissingDependencyError without h5py.
    """
    with _opened(Path(path)) as file:
        return _keypoint_counts(file)


def write_hloc_features(
    path: str | Path,
    features: Mapping[str, Features],
    *,
    half_descriptors: bool = False,
    uncertainty_px: float = 1.0,
) -> None:
    """Write features by image name; a file that is there is replaced at once, or left as it was on an error.

    half_descriptors: descriptors in half the space; everything else keeps full precision. uncertainty_px: noise of the
    keypoints, by which hloc scales its thresholds. Raises InvalidValueError for a name that would come back as
    another, such as ./a.jpg; MissingDependencyError without h5py.
    """
    h5py = import_optional("h5py", "hloc")
    with replacing(Path(path)) as unfinished, h5py.File(unfinished, "w") as file:
        for name, value in features.items():
            arrays = value.numpy()
            group = file.create_group(_checked_name(name))
            group["keypoints"] = arrays["keypoints"]
            group["keypoints"].attrs["uncertainty"] = uncertainty_px
            group["descriptors"] = arrays["descriptors"].T.astype(np.float16 if half_descriptors else np.float32)
            group["scores"] = arrays["scores"]
            group["image_size"] = np.array(value.image_size, np.int64)
            if value.kind.has_scale_orientation:
                group["scales"] = arrays["scales"] / 2
                # In float64, so that degrees come back as the same radians.
                group["oris"] = np.rad2deg(arrays["orientations"].astype(np.float64))


def read_hloc_matches(path: str | Path, num_keypoints: Mapping[str, int]) -> Mapping[tuple[str, str], Matches]:
    """Matches by pair of image names, read from the file each time they are looked up, and in either order.

    num_keypoints: of all images in the file, by name, as `count_hloc_keypoints` gives them; the file alone does not
    distinguish '/' from '-', nor say how many keypoints image 1 has. Where the file has no scores, all are 1. In the
    order that the file has not, of several matches of one keypoint the best is kept.
    Raises InvalidValueError where the file is damaged or belongs to other features, when opened or when read;
    MissingDependencyError without h5py.
    """
    path = Path(path)
    with _opened(path) as file:
        places = _places(file, num_keypoints)
    readers = {
        (name0, name1): partial(
            _read_matches, path, place, (name0, name1), (num_keypoints[name0], num_keypoints[name1])
        )
        for (name0, name1), place in places.items()
    }
    return LazyPairs(readers, swap_matches)


def write_hloc_matches(
    path: str | Path,
    matches: Mapping[tuple[str, str], Matches] | _Matches,
    num_keypoints: Mapping[str, int],
) -> None:
    """Write matches by pair of image names; a file that is there is replaced at once, or left as it was on an error.

    matches: also one by one, for more of them than memory holds. num_keypoints: of every image, by name.
    Raises InvalidValueError where a pair comes twice, an image is unknown,
    its matches point outside its keypoints or its name is one that features cannot be written under;
    MissingDependencyError without h5py.
    """
    h5py = import_optional("h5py", "hloc")
    one_by_one = cast(_Matches, matches.items() if isinstance(matches, Mapping) else matches)
    stored = {_checked_name(name): encoded for encoded, name in _by_stored_name(num_keypoints).items()}
    with replacing(Path(path)) as unfinished, h5py.File(unfinished, "w") as file:
        for name0, name1, found in checked_pairs(one_by_one, num_keypoints):
            matches0 = torch.full((num_keypoints[name0],), -1, dtype=torch.int32)
            scores0 = torch.zeros(num_keypoints[name0])
            matches0[found.indices[:, 0]] = found.indices[:, 1].int()
            scores0[found.indices[:, 0]] = found.scores
            group = file.create_group(f"{stored[name0]}/{stored[name1]}")
            group["matches0"] = matches0.numpy()
            group["matching_scores0"] = scores0.numpy()


def _checked_name(name: str) -> str:
    """The name, if HDF5 keeps it as it is."""
    path = PurePosixPath(name)
    if name in ("", ".") or path.is_absolute() or ".." in path.parts or path.as_posix() != name:
        raise InvalidValueError(f"expected the name of an image relative to its folder, such as a/b.jpg, got {name!r}")
    return name


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    h5py = import_optional("h5py", "hloc")
    with reading(path, "hloc's HDF5 file", OSError, RuntimeError), h5py.File(path, "r") as file:
        yield file


def _groups_with(file: Any, dataset: str) -> list[str]:
    """Names of all groups that hold a dataset of this name."""
    h5py = import_optional("h5py", "hloc")
    found = []

    def visit(name: str, item: Any) -> None:
        group, _, last = name.rpartition("/")
        if last == dataset and group and isinstance(item, h5py.Dataset):
            found.append(group)

    file.visititems(visit)
    if len(file) and not found:
        raise InvalidValueError(
            f"expected groups with a dataset {dataset}, found none among {', '.join(list(file)[:3])};"
            " hloc writes local features, global ones and matches to files of their own"
        )
    return found


def _array(group: Any, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
    """The dataset `name` as `dtype`; None in `shape` stands for any length."""
    return np.asarray(_dataset(group, name, dtype, shape), dtype)


def _dataset(group: Any, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> Any:
    """The dataset `name`, checked but not read."""
    if name not in group:
        raise InvalidValueError(f"{group.name[1:]}: expected a dataset {name}, got only {', '.join(group)}")
    data = group[name]
    got = getattr(data, "shape", ())
    fits = len(got) == len(shape) and all(want in (None, n) for want, n in zip(shape, got, strict=True))
    if not fits or not np.can_cast(data.dtype, dtype, "same_kind"):
        want = ", ".join("any" if n is None else str(n) for n in shape)
        raise InvalidValueError(
            f"{group.name[1:]}/{name}: expected shape ({want}) and {np.dtype(dtype)}, got {got} and"
            f" {getattr(data, 'dtype', 'a group')}; does it belong to these features?"
        )
    return data


def _keypoint_counts(file: Any) -> dict[str, int]:
    names = _groups_with(file, "keypoints")
    return {name: len(_dataset(file[name], "keypoints", np.float32, (None, 2))) for name in names}


def _read_features(path: Path, name: str, kind: FeatureKind, first_pixel: float) -> Features:
    with _opened(path) as file:
        group = file[name]

        def tensor(dataset: str, *shape: int | None) -> Tensor:
            return torch.from_numpy(_array(group, dataset, np.float32, shape))

        keypoints = tensor("keypoints", None, 2)
        count = len(keypoints)
        width, height = _array(group, "image_size", np.int64, (2,)).tolist()
        return Features(
            keypoints - first_pixel,
            tensor("scores", count),
            tensor("descriptors", kind.descriptor_dim, count).T.contiguous(),
            (width, height),
            kind,
            scales=2 * tensor("scales", count) if kind.has_scale_orientation else None,
            orientations=_radians(group, count) if kind.has_scale_orientation else None,
        )


def _read_keypoints(path: Path, name: str) -> ImageKeypoints:
    with _opened(path) as file:
        group = file[name]
        width, height = _array(group, "image_size", np.int64, (2,)).tolist()
        return ImageKeypoints(torch.from_numpy(_array(group, "keypoints", np.float32, (None, 2))), (width, height))


def _radians(group: Any, count: int) -> Tensor:
    return torch.from_numpy(np.deg2rad(_array(group, "oris", np.float64, (count,)))).float()


def _by_stored_name(names: Iterable[str]) -> dict[str, str]:
    """Image names by what hloc makes of them in a file of matches."""
    stored: dict[str, str] = {}
    for name in names:
        other = stored.setdefault(name.replace("/", "-"), name)
        if other != name:
            raise InvalidValueError(
                f"expected names that differ when '-' stands for '/', as in hloc's files of matches,"
                f" got {other} and {name}; rename one of them"
            )
    return stored


def _places(file: Any, names: Iterable[str]) -> dict[tuple[str, str], str]:
    """The group of each pair. Names in older files are joined by a '_', which may be part of them too."""
    stored = _by_stored_name(names)
    places = {}
    for place in _groups_with(file, "matches0"):
        separator = "/" if "/" in place else "_"
        cuts = (i for i, letter in enumerate(place) if letter == separator)
        pairs = [
            (stored[place[:i]], stored[place[i + 1 :]]) for i in cuts if {place[:i], place[i + 1 :]} <= stored.keys()
        ]
        if len(pairs) != 1:
            raise InvalidValueError(
                f"{place}: expected two of the {len(stored)} images whose number of keypoints is given, got"
                f" {f'{len(pairs)} ways to read it' if pairs else 'another name'}; give all images of this file"
            )
        places[pairs[0]] = place
    return places


def _read_matches(path: Path, place: str, pair: tuple[str, str], counts: tuple[int, int]) -> Matches:
    with _opened(path) as file:
        group = file[place]
        matches0 = _array(group, "matches0", np.int64, (counts[0],))
        scores0 = np.ones(counts[0], np.float32)
        if "matching_scores0" in group:
            scores0 = _array(group, "matching_scores0", np.float32, (counts[0],))
        if len(matches0) and matches0.min() < -1:
            raise InvalidValueError(
                f"{place}/matches0: expected −1 or more, got {matches0.min()}; hloc's 16-bit numbers cannot hold"
                " more than 32768 keypoints: extract fewer"
            )
        matched = np.flatnonzero(matches0 >= 0)
        indices = np.stack((matched, matches0[matched]), 1)
        matches = matches_from(torch.from_numpy(indices), torch.from_numpy(scores0[matched]))
        check_range(matches, pair, counts)
        return matches
