"""Photos with one list of cameras, as the multi-view sets of Middlebury have it (Seitz et al. 2006).

`*_par.txt`: the number of photos, then a line for each: name, K (9), R (9), t (3), world-to-camera.
Pixels are counted as ours: SIFT matches of templeRing put the principal point's x within 0.03 px of the file's.
"""

from __future__ import annotations

from pathlib import Path

import torch

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.datasets.posed import PosedPhoto, all_pairs, find_photo, scene_name
from lightmatch.evaluation.pairs import Camera, EvaluationPair


def is_camera_list(folder: Path) -> bool:
    """Whether `folder` holds a `*_par.txt`."""
    return any(folder.glob("*_par.txt"))


def read_camera_list(folder: Path) -> list[EvaluationPair]:
    """All pairs of photos. The data set has no overlap information: select pairs by viewing angle."""
    photos = []
    for path in sorted(folder.glob("*_par.txt")):
        for line in filter(None, map(str.strip, path.read_text().splitlines()[1:])):
            name, *words = line.split()
            try:
                numbers = torch.tensor([float(word) for word in words], dtype=torch.float64)
                K, R, t = numbers[:9].reshape(3, 3), numbers[9:18].reshape(3, 3), numbers[18:].reshape(3, 1)
            except (ValueError, RuntimeError) as error:
                raise InvalidValueError(
                    f"{path}: expected a name and 21 numbers (K, R, t) for each photo, got {line[:60]!r};"
                    " fetch the data set again"
                ) from error
            photos.append(PosedPhoto(find_photo(name, folder), Camera(K), torch.cat((R, t), 1)))
    return all_pairs(scene_name(folder), photos)
