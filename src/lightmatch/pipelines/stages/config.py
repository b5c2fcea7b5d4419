"""Options of the stages, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from lightmatch.colmap.cameras import CameraSharing, known_camera_model
from lightmatch.errors import InvalidValueError
from lightmatch.images import MAX_PIXELS
from lightmatch.inputs import Panoramas
from lightmatch.matchers import DEFAULT_MATCHER
from lightmatch.pairing import Pairing
from lightmatch.pipelines.reconstruct import ReconstructConfig
from lightmatch.reconstruction import LeftOut


@dataclass(frozen=True)
class StageConfig:
    """How to extract, choose pairs, match and verify for another program."""

    features: str = "sift"
    matcher: str = DEFAULT_MATCHER
    max_keypoints: int = 2048  # of a photo: the strongest
    pairs: Pairing | Path = "auto"  # or a text file of pairs: two names on a line
    verify: bool | None = None  # two-view geometry of each pair; None: for COLMAP's database, not for hloc
    cameras: CameraSharing = "auto"  # which photos share a camera in the database
    camera_model: str = "SIMPLE_RADIAL"
    masks: Path | None = None
    panorama: Panoramas = "auto"
    images: Path | None = None  # folder for upright copies that the result then names; None: it names the user's files
    work: Path | None = None  # folder for features and matches that are kept; None: one beside the result, removed
    max_images: int | None = None
    max_pixels: int = MAX_PIXELS  # of a photo; larger ones are not read
    seed: int = 0  # of pair selection and verification
    device: str = "cpu"
    precision: str = "auto"  # of the matcher

    def __post_init__(self) -> None:
        known_camera_model(self.camera_model)
        if self.max_keypoints < 1:
            raise InvalidValueError(f"max_keypoints: expected at least 1, got {self.max_keypoints}")
        if isinstance(self.pairs, str) and self.pairs not in get_args(Pairing):
            raise InvalidValueError(
                f"pairs: expected one of {', '.join(get_args(Pairing))}, or a text file of pairs; got {self.pairs!r}"
            )
        if isinstance(self.pairs, Path) and not self.pairs.is_file():
            raise InvalidValueError(
                f"{self.pairs}: expected a text file of pairs, or one of {', '.join(get_args(Pairing))}; found no such"
                " file"
            )
        self.for_reconstruct()  # checks the rest

    def for_reconstruct(self) -> ReconstructConfig:
        """The same as options of `reconstruct`, whose stages these are."""
        return ReconstructConfig(
            features=self.features,
            matcher=self.matcher,
            max_keypoints=self.max_keypoints,
            guided_keypoints=0,
            pairs="exhaustive" if isinstance(self.pairs, Path) else self.pairs,
            cameras=self.cameras,
            camera_model=known_camera_model(self.camera_model),
            masks=self.masks,
            panorama=self.panorama,
            max_images=self.max_images,
            max_pixels=self.max_pixels,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
        )


@dataclass(frozen=True)
class StageResult:
    """What a stage wrote."""

    written: tuple[Path, ...]
    images: Path  # the folder that the names of photos are relative to
    num_photos: int
    num_pairs: int = 0
    num_matches: int = 0
    num_verified_pairs: int | None = None  # pairs with a two-view geometry; None where they were not verified
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
