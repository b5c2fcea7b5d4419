"""The values that flow through lightmatch: frozen, and checked when they are made.

Pixels: keypoints are (x, y) in the ORIGINAL image, x right, y down; the centre of the first
pixel is (0, 0). Suffix 0/1 names the two images of a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError

GeometryModel = Literal["homography", "fundamental", "essential", "none"]


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and {value.dtype}"
    return f"{type(value).__name__} {value!r}"


def _check_tensor(owner: object, name: str, shape: tuple[int | None, ...], dtypes: tuple[torch.dtype, ...]) -> Tensor:
    """The field `name` of `owner`, checked; None in `shape` stands for any length."""
    value = getattr(owner, name)
    fits = isinstance(value, Tensor) and value.ndim == len(shape) and value.dtype in dtypes
    if not fits or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        want_shape = ", ".join("any" if n is None else str(n) for n in shape)
        want_dtype = " or ".join(str(dtype) for dtype in dtypes)
        raise InvalidValueError(
            f"{type(owner).__name__}.{name}: expected a tensor of shape ({want_shape}) and {want_dtype},"
            f" got {_describe(value)}; convert it before making the value"
        )
    return value


def _check_one_device(owner: object) -> None:
    devices = {name: tensor.device for name, tensor in _tensors(owner).items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise InvalidValueError(
            f"{type(owner).__name__}: expected all tensors on one device, got {listed}; move them with .to(device)"
        )


def _all_finite(tensor: Tensor) -> bool:
    # NaN and infinity always reach the sum, which takes a tenth of the time; finite values may overflow in it.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _tensors(value: object) -> dict[str, Tensor]:
    named = {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]
    return {name: tensor for name, tensor in named.items() if isinstance(tensor, Tensor)}


class _TensorValue:
    """What all values made of tensors can do."""

    @property
    def device(self) -> torch.device:
        """The one device all tensors lie on."""
        return next(iter(_tensors(self).values())).device

    def to(self, device: torch.device | str) -> Self:
        """The same value with every tensor on `device`."""
        return replace(self, **{n: t.to(device) for n, t in _tensors(self).items()})  # type: ignore[type-var]

    def numpy(self) -> dict[str, Any]:
        """All fields by name, tensors as NumPy arrays on the CPU."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {n: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for n, v in named.items()}


@dataclass(frozen=True, eq=False)
class Image:
    """A photo, upright (EXIF orientation applied), 8-bit RGB."""

    pixels: np.ndarray  # (height, width, 3) uint8, RGB
    path: Path | None = None

    def __post_init__(self) -> None:
        pixels = self.pixels
        good = isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[2] == 3
        if not good or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise InvalidValueError(
                f"Image.pixels: expected a non-empty uint8 array of shape (height, width, 3) in RGB order,"
                f" got {_describe(pixels)}; read files with lightmatch.load_image"
            )
        object.__setattr__(self, "pixels", np.ascontiguousarray(pixels))  # PyTorch refuses the strides of [:, :, ::-1]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class FeatureKind:
    """Which features these are: a matcher refuses any kind but its own, even of the same width."""

    name: str
    descriptor_dim: int
    has_scale_orientation: bool = False

    def __post_init__(self) -> None:
        if not self.name or self.descriptor_dim < 1:
            raise InvalidValueError(
                f"FeatureKind: expected a name and a positive descriptor_dim, got {self.name!r}"
                f" and {self.descriptor_dim}"
            )


@dataclass(frozen=True, eq=False)
class Features(_TensorValue):
    """Local features of one image; zero keypoints is a valid value.

    scales are diameters of the described regions in original pixels, as in cv2.KeyPoint.size;
    orientations are radians, clockwise as seen on screen (x right, y down).
    """

    keypoints: Tensor  # (n, 2) float32, (x, y) px
    scores: Tensor  # (n,) float32, larger is better
    descriptors: Tensor  # (n, d) float32
    image_size: tuple[int, int]  # (width, height) px
    kind: FeatureKind
    scales: Tensor | None = None  # (n,) float32 px
    orientations: Tensor | None = None  # (n,) float32 rad

    def __post_init__(self) -> None:
        float32 = (torch.float32,)
        count = len(_check_tensor(self, "keypoints", (None, 2), float32))
        _check_tensor(self, "scores", (count,), float32)
        _check_tensor(self, "descriptors", (count, self.kind.descriptor_dim), float32)
        for name in ("scales", "orientations"):
            if self.kind.has_scale_orientation:
                _check_tensor(self, name, (count,), float32)
            elif getattr(self, name) is not None:
                raise InvalidValueError(
                    f"Features.{name}: expected None, for kind {self.kind.name!r} has no scale and orientation;"
                    " leave it out or use a kind with has_scale_orientation=True"
                )
        _check_image_size("Features.image_size", self.image_size)
        _check_one_device(self)
        for name, tensor in _tensors(self).items():
            if not _all_finite(tensor):
                raise InvalidValueError(
                    f"Features.{name}: expected finite values, got NaN or infinity, which would spoil every match;"
                    " drop these keypoints first"
                )

    def __len__(self) -> int:
        return len(self.keypoints)

    def select(self, index: Tensor) -> Features:
        """The features at `index`, an (m,) integer tensor or an (n,) boolean mask, in that order."""
        return replace(self, **{name: tensor[index] for name, tensor in _tensors(self).items()})

    def strongest(self, count: int) -> Features:
        """The first `count` keypoints, or all: extractors give them in order of strength."""
        return self.select(torch.arange(count, device=self.keypoints.device)) if len(self) > count else self


def _check_image_size(name: str, size: object) -> None:
    good = isinstance(size, tuple) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
    if not good:
        raise InvalidValueError(f"{name}: expected (width, height) as two positive integers, got {_describe(size)}")


@dataclass(frozen=True, eq=False)
class FeatureBatch(_TensorValue):
    """Features of several images, padded to the longest; `valid` marks keypoints, not padding."""

    keypoints: Tensor  # (b, n, 2) float32 px
    scores: Tensor  # (b, n) float32
    descriptors: Tensor  # (b, n, d) float32
    valid: Tensor  # (b, n) bool, True first, then False
    image_sizes: Tensor  # (b, 2) int64, (width, height) px
    kind: FeatureKind
    scales: Tensor | None = None  # (b, n) float32 px
    orientations: Tensor | None = None  # (b, n) float32 rad

    def __post_init__(self) -> None:
        float32 = (torch.float32,)
        size, length, _ = _check_tensor(self, "keypoints", (None, None, 2), float32).shape
        _check_tensor(self, "scores", (size, length), float32)
        _check_tensor(self, "descriptors", (size, length, self.kind.descriptor_dim), float32)
        _check_tensor(self, "valid", (size, length), (torch.bool,))
        _check_tensor(self, "image_sizes", (size, 2), (torch.int64,))
        if self.kind.has_scale_orientation:
            _check_tensor(self, "scales", (size, length), float32)
            _check_tensor(self, "orientations", (size, length), float32)
        _check_one_device(self)

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def from_features(cls, features: Sequence[Features]) -> FeatureBatch:
        """Pad `features` (at least one, all of one kind and on one device) to the longest; padding is 0."""
        if not features:
            raise InvalidValueError("FeatureBatch: expected at least one Features, got none")
        kinds = {f.kind for f in features}
        if len(kinds) > 1:
            names = ", ".join(sorted(kind.name for kind in kinds))
            raise InvalidValueError(f"FeatureBatch: expected features of one kind, got {names}; batch each kind alone")
        counts = torch.tensor([len(f) for f in features], device=features[0].device)
        length = int(counts.max())

        def pad(name: str) -> Tensor | None:
            parts = [getattr(f, name) for f in features]
            if parts[0] is None:
                return None
            padded = parts[0].new_zeros((len(parts), length, *parts[0].shape[1:]))
            for row, part in enumerate(parts):
                padded[row, : len(part)] = part  # through which gradients pass
            return padded

        padded = {name: pad(name) for name in ("keypoints", "scores", "descriptors", "scales", "orientations")}
        return cls(
            valid=torch.arange(length, device=counts.device) < counts[:, None],
            image_sizes=torch.tensor([f.image_size for f in features], device=counts.device),
            kind=features[0].kind,
            **padded,  # type: ignore[arg-type]
        )

    def unbatch(self) -> list[Features]:
        """The features of each image, without padding: the inverse of `from_features`."""
        skip = ("valid", "image_sizes")
        tensors = {name: tensor for name, tensor in _tensors(self).items() if name not in skip}
        return [
            Features(
                image_size=(int(size[0]), int(size[1])),
                kind=self.kind,
                **{name: tensor[row][valid] for name, tensor in tensors.items()},
            )
            for row, (valid, size) in enumerate(zip(self.valid, self.image_sizes, strict=True))
        ]


@dataclass(frozen=True, eq=False)
class Matches(_TensorValue):
    """Which keypoint of image 0 is which of image 1.

    stop_layer and layers0/1 tell how far a layered matcher went; None where a matcher has no layers. probabilities say
    what scores only rank: of the matches with probability p, the share p is right; None where a matcher does not know.
    """

    indices: Tensor  # (k, 2) int64, sorted by the first column, each first index at most once
    scores: Tensor  # (k,) float32 in 0…1
    stop_layer: int | None = None  # layers run; 0 where an image without keypoints made them needless
    layers0: Tensor | None = None  # (n0,) int64, layers each point of image 0 took part in
    layers1: Tensor | None = None  # (n1,) int64
    probabilities: Tensor | None = None  # (k,) float32 in 0…1, that each match is right

    def __post_init__(self) -> None:
        indices = _check_tensor(self, "indices", (None, 2), (torch.int64,))
        _check_tensor(self, "scores", (len(indices),), (torch.float32,))
        if self.probabilities is not None:
            _check_tensor(self, "probabilities", (len(indices),), (torch.float32,))
        for name in ("layers0", "layers1"):
            if getattr(self, name) is not None:
                _check_tensor(self, name, (None,), (torch.int64,))
        _check_one_device(self)
        if len(indices):
            if bool((indices < 0).any()) or bool((indices[1:, 0] <= indices[:-1, 0]).any()):
                raise InvalidValueError(
                    "Matches.indices: expected non-negative indices with a strictly increasing first column,"
                    " got others; sort them and keep one match per keypoint of image 0"
                )
            for name, values in (("scores", self.scores), ("probabilities", self.probabilities)):
                if values is not None and not bool(((values >= 0) & (values <= 1)).all()):
                    raise InvalidValueError(
                        f"Matches.{name}: expected values in 0…1, got {float(values.min())} to {float(values.max())}"
                    )

    def __len__(self) -> int:
        return len(self.indices)

    def points(self, features0: Features, features1: Features) -> tuple[Tensor, Tensor]:
        """The matched keypoints, (k, 2) px in image 0 and in image 1."""
        return features0.keypoints[self.indices[:, 0]], features1.keypoints[self.indices[:, 1]]

    def subset(self, kept: Tensor) -> Self:
        """Only some of the matches: kept is (k,) bool."""
        probabilities = None if self.probabilities is None else self.probabilities[kept]
        return replace(self, indices=self.indices[kept], scores=self.scores[kept], probabilities=probabilities)


@dataclass(frozen=True, eq=False)
class TwoViewGeometry(_TensorValue):
    """How two views relate, and which matches agree with it.

    model "none" says that no geometry was found: no inliers, and a matrix of NaN.
    matrix maps pixels of image 0 to image 1 (homography), or x1ᵀ M x0 = 0 (fundamental in pixels,
    essential in normalised camera coordinates).
    """

    model: GeometryModel
    matrix: Tensor  # (3, 3) float64
    inliers: Tensor  # (k,) bool, one per match
    cam1_from_cam0: Tensor | None = None  # (3, 4) float64 [R | t], |t| = 1, where intrinsics are known

    def __post_init__(self) -> None:
        if self.model not in get_args(GeometryModel):
            known = ", ".join(get_args(GeometryModel))
            raise InvalidValueError(f"TwoViewGeometry.model: expected one of {known}; got {self.model!r}")
        matrix = _check_tensor(self, "matrix", (3, 3), (torch.float64,))
        inliers = _check_tensor(self, "inliers", (None,), (torch.bool,))
        if self.cam1_from_cam0 is not None:
            _check_tensor(self, "cam1_from_cam0", (3, 4), (torch.float64,))
        _check_one_device(self)
        found = self.model != "none"
        if bool(torch.isfinite(matrix).all()) != found or (not found and bool(inliers.any())):
            raise InvalidValueError(
                "TwoViewGeometry: expected a finite matrix, or model 'none' with a matrix of NaN and no inliers,"
                f" got model {self.model!r} with matrix {matrix.tolist()} and {int(inliers.sum())} inliers;"
                " make failures with TwoViewGeometry.none(num_matches)"
            )

    @classmethod
    def none(cls, num_matches: int) -> TwoViewGeometry:
        """No geometry found among `num_matches` matches."""
        matrix = torch.full((3, 3), torch.nan, dtype=torch.float64)
        return cls("none", matrix, torch.zeros(num_matches, dtype=torch.bool))

    @property
    def num_inliers(self) -> int:
        """How many matches agree with the geometry."""
        return int(self.inliers.sum())
