"""What is known of the weights that others published: where they are, what they must be, what they may be used for.

A file whose SHA-256 is not known has no record: it is not fetched. `BY_HAND` says where people can download it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightmatch.errors import InvalidValueError, WeightsError


@dataclass(frozen=True)
class WeightsRecord:
    """One published file."""

    name: str  # as the command line and extractors call it
    file: str  # its name in our folder
    urls: tuple[str, ...]  # the authors' first, then mirrors
    license: str
    paper: str
    sha256: str  # 64 hexadecimal digits
    size_bytes: int | None = None
    commercial_use: bool = True
    hub_names: tuple[str, ...] = ()  # other names it may have in torch hub's folder

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InvalidValueError(
                f"WeightsRecord {self.name!r}: expected the file's SHA-256, 64 lower-case hexadecimal digits,"
                f" got {self.sha256!r}"
            )


_MAGIC_LEAP = "Magic Leap, research only"
_SUPERGLUE = "https://github.com/magicleap/SuperGluePretrainedNetwork/raw/master/models/weights"
_LIGHTGLUE_PAPER = "Lindenberger et al.: LightGlue, 2023"
_SUPERPOINT_PAPER = "DeTone et al.: SuperPoint, 2018"
_ALIKED_PAPER = "Zhao et al.: ALIKED, 2023"


def _aliked(size: str, sha256: str, size_bytes: int) -> WeightsRecord:
    file = f"aliked-{size}.pth"
    url = f"https://github.com/Shiaoming/ALIKED/raw/main/models/{file}"
    return WeightsRecord(file.removesuffix(".pth"), file, (url,), "BSD-3-Clause", _ALIKED_PAPER, sha256, size_bytes)


def _lightglue(features: str, sha256: str, size_bytes: int | None = None) -> WeightsRecord:
    file = f"{features}_lightglue.pth"
    url = f"https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/{file}"
    hub_names = (f"{features}_lightglue_v0-1_arxiv.pth",)
    return WeightsRecord(
        f"lightglue-{features}",
        file,
        (url,),
        "Apache-2.0",
        _LIGHTGLUE_PAPER,
        sha256,
        size_bytes,
        hub_names=hub_names,
    )


RECORDS: tuple[WeightsRecord, ...] = (
    WeightsRecord(
        "superpoint",
        "superpoint_v1.pth",
        (
            "https://github.com/magicleap/SuperPointPretrainedNetwork/raw/master/superpoint_v1.pth",
            "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/superpoint_v1.pth",
        ),
        _MAGIC_LEAP,
        _SUPERPOINT_PAPER,
        "52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e",
        5206086,
        commercial_use=False,
    ),
    _aliked("n16", "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2", 2738091),
    _aliked("n16rot", "ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332", 2738325),
    _aliked("n32", "055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890", 3946667),
    _aliked("t16", "56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085", 794859),
    WeightsRecord(
        "disk",
        "depth-save.pth",
        ("https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",),
        "Apache-2.0",
        "Tyszkiewicz et al.: DISK, 2020",
        "9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
        4375832,
    ),
    WeightsRecord(
        "xfeat",
        "xfeat.pt",
        ("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",),
        "Apache-2.0",
        "Potje et al.: XFeat, 2024",
        "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
        6247949,
    ),
    _lightglue("superpoint", "6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a"),
    _lightglue("disk", "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335", 47631405),
    _lightglue("aliked", "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503", 47632827),
    WeightsRecord(
        "lightglue-xfeat",
        "xfeat-lighterglue.pt",
        ("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat-lighterglue.pt",),
        "Apache-2.0",
        "Potje et al.: XFeat, 2024",
        "766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
        10820795,
    ),
)

BY_HAND: dict[str, tuple[str, str]] = {  # name → where it can be downloaded, licence
    "superpoint-open": (
        "https://github.com/rpautrat/SuperPoint/raw/master/weights/superpoint_v6_from_tf.pth",
        "MIT",
    ),
    "dedode-detector-l-v2": (
        "https://github.com/Parskatt/DeDoDe/releases/download/v2/dedode_detector_L_v2.pth",
        "MIT",
    ),
    "dedode-descriptor-b": (
        "https://github.com/Parskatt/DeDoDe/releases/download/dedode_pretrained_models/dedode_descriptor_B.pth",
        "MIT",
    ),
    "superglue-outdoor": (f"{_SUPERGLUE}/superglue_outdoor.pth", _MAGIC_LEAP),
    "superglue-indoor": (f"{_SUPERGLUE}/superglue_indoor.pth", _MAGIC_LEAP),
}


def weights_record(name: str) -> WeightsRecord:
    """The record of that name.

    Raises WeightsError for a file that has none because its SHA-256 is not known, InvalidValueError for other names.
    """
    for record in RECORDS:
        if record.name == name:
            return record
    if name in BY_HAND:
        url, license = BY_HAND[name]
        option = "detector_weights" if name == "dedode-detector-l-v2" else "weights"
        how = (
            "as the matcher superglue:FILE"
            if name.startswith("superglue-")
            else f"in Python with the option `{option}`"
        )
        raise WeightsError(
            f"{name}: expected a file of weights, got none; it is not fetched, for no SHA-256 of it is known: download"
            f" {url} ({license}) and name the file, {how}"
        )
    raise InvalidValueError(f"weights: expected one of {', '.join(r.name for r in RECORDS)}; got {name!r}")
