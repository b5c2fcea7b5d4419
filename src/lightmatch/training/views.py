"""Groups of views of one scene with the projection of every keypoint into every view.

A group has features, not images: with the projections beside them, any two of its views make a
labelled pair at no cost, so six views give thirty pairs for six extractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.geometry.correspondence import Correspondence, Projection, correspond
from lightmatch.types import FeatureKind, Features
from lightmatch.weights import read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class ViewGroup:
    """Features of v views of one scene, p keypoints together, in the order of the views."""

    features: tuple[Features, ...]
    projections: Tensor  # (v, p, 2) float32 px: every keypoint in every view
    visibility: Tensor  # (v, p) uint8, values of geometry.correspondence.Visibility
    fundamentals: Tensor | None = None  # (v, v, 3, 3) float32, [i, j]: x_jᵀ F x_i = 0; where some depth is unknown

    def __post_init__(self) -> None:
        views, points = len(self.features), sum(len(f) for f in self.features)
        shapes = tuple(self.projections.shape), tuple(self.visibility.shape)
        if shapes != ((views, points, 2), (views, points)) or len({f.kind for f in self.features}) != 1:
            raise InvalidValueError(
                f"ViewGroup: expected {views} views of one kind, projections ({views}, {points}, 2) and visibility"
                f" ({views}, {points}), got {shapes[0]} and {shapes[1]}"
            )

    def __len__(self) -> int:
        return len(self.features)

    def pair(self, view0: int, view1: int, keep0: Tensor, keep1: Tensor) -> tuple[Features, Features, PairProjections]:
        """Two views with only some of their keypoints. keep0/1: (m,), (n,) int64 indices into each view's keypoints."""
        features0, features1 = self.features[view0].select(keep0), self.features[view1].select(keep1)
        fundamental = None if self.fundamentals is None else self.fundamentals[view0, view1]
        projection0, projection1 = self.projection(view0, view1), self.projection(view1, view0)
        truth = PairProjections(
            Projection(projection0.points[keep0], projection0.visibility[keep0]),
            Projection(projection1.points[keep1], projection1.visibility[keep1]),
            fundamental,
        )
        return features0, features1, truth

    def projection(self, view0: int, view1: int) -> Projection:
        """The projections of all keypoints of view0 into view1."""
        first = sum(len(f) for f in self.features[:view0])
        own = slice(first, first + len(self.features[view0]))
        return Projection(self.projections[view1, own], self.visibility[view1, own])

    @classmethod
    def from_projections(
        cls,
        features: Sequence[Features],
        project: Sequence[Sequence[Projection]],
        fundamentals: Tensor | None = None,
    ) -> ViewGroup:
        """A group from project[i][j]: the keypoints of view i seen in view j; [i][i] is not read."""
        projections, visibility = [], []
        for j in range(len(features)):
            parts = [_itself(f) if i == j else project[i][j] for i, f in enumerate(features)]
            projections.append(torch.cat([part.points for part in parts]))
            visibility.append(torch.cat([part.visibility for part in parts]))
        # Points at infinity are never used, but half precision and JSON do not support them.
        places = torch.stack(projections).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        return cls(tuple(features), places, torch.stack(visibility), fundamentals)

    def save(self, path: Path) -> None:
        """Write to `path` (.safetensors), at once or not at all. Descriptors are kept in half precision."""
        parts = {name: [getattr(f, name) for f in self.features] for name in _FIELDS}
        tensors = {name: torch.cat(part) for name, part in parts.items() if part[0] is not None}
        tensors["descriptors"] = tensors["descriptors"].half()
        tensors["counts"] = torch.tensor([len(f) for f in self.features])
        tensors["image_sizes"] = torch.tensor([f.image_size for f in self.features])
        tensors |= {"projections": self.projections, "visibility": self.visibility}
        if self.fundamentals is not None:
            tensors["fundamentals"] = self.fundamentals
        kind = self.features[0].kind
        write_tensors(
            path, tensors, {"kind": kind.name, "scale_orientation": str(kind.has_scale_orientation)}, shared=True
        )

    @classmethod
    def load(cls, path: Path) -> ViewGroup:
        """Read what `save` wrote. Raises WeightsError where the file is missing or damaged."""
        tensors, metadata = read_tensors(path)
        kind = FeatureKind(
            metadata["kind"], tensors["descriptors"].shape[1], metadata["scale_orientation"] == str(True)
        )
        counts = tensors["counts"].tolist()
        parts = {name: tensors[name].float().split(counts) for name in _FIELDS if name in tensors}
        features = [
            Features(
                image_size=(int(size[0]), int(size[1])), kind=kind, **{name: part[i] for name, part in parts.items()}
            )
            for i, size in enumerate(tensors["image_sizes"])
        ]
        return cls(tuple(features), tensors["projections"], tensors["visibility"], tensors.get("fundamentals"))


_FIELDS = ("keypoints", "scores", "descriptors", "scales", "orientations")


@dataclass(frozen=True, eq=False)
class PairProjections:
    """Ground truth of one pair: the keypoints of each image projected into the other."""

    projection0: Projection
    projection1: Projection
    fundamental: Tensor | None

    def label(self, features0: Features, features1: Features, match_px: float, unmatchable_px: float) -> Correspondence:
        """Labels of the pair; the similarity of descriptors decides between keypoints at one place."""
        return correspond(
            features0.keypoints,
            features1.keypoints,
            self.projection0,
            self.projection1,
            match_px=match_px,
            unmatchable_px=unmatchable_px,
            fundamental=self.fundamental,
            similarity=features0.descriptors @ features1.descriptors.mT,
        )


def _itself(features: Features) -> Projection:
    return Projection(features.keypoints, torch.full((len(features),), 2, dtype=torch.uint8))
