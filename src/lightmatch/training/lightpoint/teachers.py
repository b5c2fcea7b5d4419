"""Labels from published extractors: keypoints, scores and descriptors for LightPoint to learn.

One teacher detects the keypoints; every teacher describes them. Labels are computed once for each photo and cached on
disk, so a run uses many warps of a photo for one run of the teachers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lightmatch.extractors import Extractor
from lightmatch.images import load_shrunk, resize_to_fit
from lightmatch.runtime.files import file_state
from lightmatch.runtime.store import digest
from lightmatch.types import Image
from lightmatch.weights import read_tensors, write_tensors

# Systematic offset of a teacher's keypoints from positions that do not depend on the rotation of the photo,
# (x, y) px: half the median difference between a photo's keypoints and those of the photo rotated by 180°
# (aliked_n16rot: 7,257 keypoints of 11 photos; aliked: 2,964, in x alone).
SHIFT_PX = {"aliked": (-0.85, 0.0), "aliked_n16rot": (0.45, 0.0)}


@dataclass(frozen=True, eq=False)
class TeacherLabels:
    """The keypoints of one photo at one size, strongest first."""

    keypoints: Tensor  # (n, 2) float32 px of the photo at this size
    scores: Tensor  # (n,) float32 in 0…1, as the detecting teacher gives them
    descriptors: Mapping[str, Tensor]  # (n, d) float32 of unit length, by the teacher's name

    def save(self, path: Path) -> None:
        """Write to `path` (.safetensors), at once or not at all. Descriptors are kept in half precision."""
        tensors = {f"descriptors.{name}": tensor.half() for name, tensor in self.descriptors.items()}
        write_tensors(path, {"keypoints": self.keypoints, "scores": self.scores, **tensors}, {}, shared=True)

    @classmethod
    def load(cls, path: Path) -> TeacherLabels:
        """Read what `save` wrote. Raises WeightsError where the file is missing or damaged."""
        tensors, _ = read_tensors(path)
        descriptors = {
            name.removeprefix("descriptors."): tensor.float()
            for name, tensor in tensors.items()
            if name.startswith("descriptors.")
        }
        return cls(tensors["keypoints"], tensors["scores"], descriptors)


@dataclass(frozen=True)
class LabelStore:
    """The teachers' labels of photos, computed on first use and cached in `folder`."""

    folder: Path
    photos: Sequence[Path]
    detector: Extractor
    describers: Mapping[str, Extractor]  # by the name of their kind
    long_side: int = 640  # px: larger photos are shrunk to it; no more than the teachers work on

    def __len__(self) -> int:
        return len(self.photos)

    def path(self, number: int, halvings: int) -> Path:
        """File of the labels of photo `number` at its size (0) or at half of it (1)."""
        return self.folder / f"{cache_name(self.photos[number])}-{halvings}.safetensors"

    def images(self, number: int) -> tuple[Image, Image]:
        """Photo `number` at its size, shrunk where it is larger than `long_side`, and at half of that; read once."""
        image = load_shrunk(self.photos[number], self.long_side)
        return image, resize_to_fit(image, -(-max(image.size) // 2))

    def image(self, number: int, halvings: int) -> Image:
        """Photo `number` at its size (0) or at half of it (1)."""
        return self.images(number)[halvings]

    def labels(self, number: int, halvings: int) -> TeacherLabels:
        """The labels of photo `number` at its size (0) or at half of it (1)."""
        path = self.path(number, halvings)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.make_labels(self.image(number, halvings)).save(path)
        return TeacherLabels.load(path)

    def make_labels(self, image: Image) -> TeacherLabels:
        """Keypoints of the detector, less the constant offset of its network, and each teacher's descriptors there."""
        found = self.detector(image)
        limit = torch.tensor(image.size, dtype=torch.float32) - 1
        keypoints = found.keypoints - shift_of(self.detector.kind.name)

        def describe(name: str, extractor: Extractor) -> Tensor:
            if extractor is self.detector:  # it has described these keypoints already
                return found.descriptors
            return extractor.describe(image, (keypoints + shift_of(name)).clamp_min(0).minimum(limit)).descriptors

        descriptors = {name: describe(name, extractor) for name, extractor in self.describers.items()}
        return TeacherLabels(keypoints, found.scores, descriptors)


def cache_name(photo: Path) -> str:
    """What names a photo's files in a cache: its folder and name, for people, and a hash of its path, size and date."""
    key = digest(str(photo.resolve()), file_state(photo))
    return f"{photo.parent.name}-{photo.stem}-{key[:16]}"


def shift_of(name: str) -> Tensor:
    """(2,) px from where a point is to where the network of these features has its keypoint."""
    return torch.tensor(SHIFT_PX.get(name, (0.0, 0.0)))
