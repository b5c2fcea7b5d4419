"""Detects the layout of a data set and reads its pairs: a new data set in a known layout needs no code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.datasets import camera_list, colmap, homographies, marked_points, pair_lists, strecha
from lightmatch.evaluation.datasets import image_matching_challenge as imc
from lightmatch.evaluation.pairs import EvaluationPair, within_viewing_angle

_Reader = Callable[[Path], list[EvaluationPair]]
_ListReader = Callable[[Path, Path], list[EvaluationPair]]

_FOLDERS: dict[str, tuple[Callable[[Path], bool], _Reader]] = {
    "oxford": (homographies.is_oxford, homographies.read_oxford),
    "hpatches": (homographies.is_hpatches, homographies.read_hpatches),
    "marked-points": (marked_points.is_marked_points, marked_points.read_marked_points),
    "strecha": (strecha.is_strecha, strecha.read_strecha),
    "camera-list": (camera_list.is_camera_list, camera_list.read_camera_list),
    "imc": (imc.is_imc, imc.read_imc),
    "colmap": (colmap.is_colmap, colmap.read_colmap),
}
_LISTS: dict[str, tuple[Callable[[Path], bool], _ListReader]] = {
    "megadepth": (pair_lists.is_megadepth, pair_lists.read_megadepth),
    "scannet": (pair_lists.is_scannet, pair_lists.read_scannet),
    "json-list": (pair_lists.is_json_list, pair_lists.read_json_list),
    "text-list": (pair_lists.is_text_list, pair_lists.read_text_list),
}


def detect_layout(path: str | Path) -> str | None:
    """The name of the layout of `path` itself, a folder or the file of a list; None where it has none."""
    path = Path(path)
    layouts = [(name, is_layout) for name, (is_layout, _) in _LISTS.items()]
    if path.is_dir():
        layouts += [(name, is_layout) for name, (is_layout, _) in _FOLDERS.items()]
    return next((name for name, is_layout in layouts if is_layout(path)), None)


def read_pairs(
    path: str | Path,
    *,
    image_root: str | Path | None = None,
    min_angle_deg: float = 0.0,
    max_angle_deg: float = 180.0,
) -> list[EvaluationPair]:
    """The pairs of a data set, or of all data sets in the folders below `path`, in the order of their names.

    image_root: the folder of the photos of a published pair list, by default that of the list. Lists are read only
    where `path` is one: each needs an image root of its own. Pairs whose viewing angle is outside min…max degrees
    are left out; those without cameras are kept.
    Raises InvalidValueError where no layout is recognised or a file is damaged.
    """
    path = Path(path)
    layout = detect_layout(path)
    if layout in _LISTS:
        root = path if path.is_dir() else path.parent
        pairs = _LISTS[layout][1](path, root if image_root is None else Path(image_root))
    else:
        pairs = _read_folders(path, path)
    if not pairs:
        raise InvalidValueError(
            f"{path}: expected a data set in one of the layouts {', '.join([*_FOLDERS, *_LISTS])}, found none;"
            " check the path"
        )
    return within_viewing_angle(pairs, min_angle_deg, max_angle_deg)


def _read_folders(folder: Path, root: Path) -> list[EvaluationPair]:
    """Scenes are named by their path relative to `root`: folders deep in a data set may share a name."""
    layout = detect_layout(folder)
    if layout in _FOLDERS:
        way = folder.parent.relative_to(root) if folder != root else Path()
        return [replace(pair, scene=(way / pair.scene).as_posix()) for pair in _FOLDERS[layout][1](folder)]
    if layout in _LISTS or not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [pair for path in below for pair in _read_folders(path, root)]
