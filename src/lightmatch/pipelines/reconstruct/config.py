"""How to reconstruct."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from lightmatch.colmap.cameras import CameraSharing
from lightmatch.colmap.options import MAX_SEED
from lightmatch.errors import InvalidValueError
from lightmatch.extractors import split_features
from lightmatch.images import MAX_PIXELS
from lightmatch.inputs import Panoramas
from lightmatch.matchers import DEFAULT_MATCHER, parse_matcher
from lightmatch.pairing import Pairing
from lightmatch.reconstruction.mapping.model_selection import Mapper

Mirrored = Literal["leave-out", "flip-back", "keep"]

AUTO = "auto"  # of features: those that register more photos; see docs/features.md


@dataclass(frozen=True)
class ReconstructConfig:
    """How to reconstruct."""

    features: str = AUTO  # SIFT; where it leaves photos out that LightPoint matches, LightPoint if it registers more
    matcher: str = DEFAULT_MATCHER
    max_keypoints: int = 2048  # of a photo that the matcher gets: the strongest
    guided_keypoints: int = 8192  # of a photo that are matched once the cameras are known; not above those: off
    pairs: Pairing = "auto"
    cameras: CameraSharing = "auto"
    camera_model: str = "SIMPLE_RADIAL"  # to start with; richer ones are taken where they predict better
    mapper: Mapper = "auto"
    masks: Path | None = None
    rig: bool = False  # a folder for each camera of a rig, the same file names for the same moment
    panorama: Panoramas = "auto"  # which pictures are 360° panoramas: those that say or look so, all of 2:1, none
    ignore_below_deg: float = -90.0  # of panoramas: what lies lower than this elevation, such as the tripod
    ignore_above_deg: float = 90.0  # and higher, such as the sky
    mirrored: Mirrored = "leave-out"  # photos mirrored against the others; videos and panoramas are never flipped back
    imported: Path | None = None  # keypoints and matches of COLMAP's database or hloc's folder, instead of our own
    known: Path | None = None  # intrinsics, and poses where the file has them
    store: str | None = None  # address of object storage for features and matches, s3://bucket/prefix; None: in OUT
    max_images: int | None = None
    max_pixels: int = MAX_PIXELS  # of a photo; larger ones are not read
    splat: bool = True  # undistorted photos and a dense cloud, for splat trainers
    depth_maps: bool = False  # of the undistorted photos, beside them
    seed: int | None = None  # repeatable to the bit, on one thread of COLMAP
    device: str = "cpu"
    precision: str = "auto"  # of the matcher

    def __post_init__(self) -> None:
        for name, known in {
            "pairs": get_args(Pairing),
            "cameras": get_args(CameraSharing),
            "mapper": get_args(Mapper),
            "panorama": get_args(Panoramas),
            "mirrored": get_args(Mirrored),
        }.items():
            if getattr(self, name) not in known:
                raise InvalidValueError(f"{name}: expected one of {', '.join(known)}; got {getattr(self, name)!r}")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InvalidValueError(f"seed: expected 0…{MAX_SEED}, got {self.seed}")
        if not -90 <= self.ignore_below_deg < self.ignore_above_deg <= 90:
            raise InvalidValueError(
                "ignore_below_deg, ignore_above_deg: expected -90 ≤ below < above ≤ 90 degrees of elevation,"
                f" got {self.ignore_below_deg:g} and {self.ignore_above_deg:g}"
            )
        if self.depth_maps and not self.splat:
            raise InvalidValueError("depth_maps: expected splat too, for whose photos they are; leave out --no-splat")
        if self.max_pixels < 1:
            raise InvalidValueError(f"max_pixels: expected at least 1, got {self.max_pixels}")
        if self.max_images is not None and self.max_images < 2:
            raise InvalidValueError(f"max_images: expected at least 2, got {self.max_images}")

    def with_absolute_paths(self) -> ReconstructConfig:
        """The same from any working directory."""
        paths = {name: getattr(self, name) for name in ("masks", "imported", "known")}
        absolute = {name: path.absolute() for name, path in paths.items() if path is not None}
        matcher = self.matcher
        if self.matcher_file is not None:
            matcher = str(replace(parse_matcher(matcher), source=str(self.matcher_file.absolute())))
        name, weights = split_features(self.features)
        features = f"{name}:{Path(weights).absolute()}" if weights else name
        return replace(self, features=features, matcher=matcher, **absolute)

    @property
    def matcher_file(self) -> Path | None:
        """The weights of the matcher, where they are a file."""
        source = parse_matcher(self.matcher).source
        return Path(source) if source and Path(source).is_file() else None

    @property
    def matches_few_first(self) -> bool:
        """Whether pairs may be matched by fewer keypoints at first: guided matching finds what they leave out."""
        return self.guided_keypoints > self.max_keypoints

    @property
    def extracted_keypoints(self) -> int:
        """Keypoints of a photo that are extracted: the matcher's, and more for guided matching."""
        return max(self.max_keypoints, self.guided_keypoints)
