"""What is known of the weights that others published: where they are, what they must be, what they may be used for."""

from __future__ import annotations

from dataclasses import dataclass

from lightmatch.errors import InvalidValueError


@dataclass(frozen=True)
class WeightsRecord:
    """One published file."""

    name: str  # as the command line and extractors call it
    file: str  # its name in our folder
    urls: tuple[str, ...]  # the authors' first, then mirrors
    license: str
    paper: str
    sha256: str | None = None  # where it is known
    size_bytes: int | None = None
    commercial_use: bool = True
    hub_names: tuple[str, ...] = ()  # other names it may have in torch hub's folder


_MAGIC_LEAP = "Magic Leap, research only"
_LIGHTGLUE_PAPER = "Lindenberger et al.: LightGlue, 2023"
_SUPERPOINT_PAPER = "DeTone et al.: SuperPoint, 2018"
_ALIKED_PAPER = "Zhao et al.: ALIKED, 2023"


def _aliked(size: str, sha256: str, size_bytes: int) -> WeightsRecord:
    file = f"aliked-{size}.pth"
    url = f"https://github.com/Shiaoming/ALIKED/raw/main/models/{file}"
    return WeightsRecord(file.removesuffix(".pth"), file, (url,), "BSD-3-Clause", _ALIKED_PAPER, sha256, size_bytes)


def _lightglue(features: str, sha256: str | None = None) -> WeightsRecord:
    file = f"{features}_lightglue.pth"
    url = f"https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/{file}"
    hub_names = (f"{features}_lightglue_v0-1_arxiv.pth",)
    return WeightsRecord(
        f"lightglue-{features}", file, (url,), "Apache-2.0", _LIGHTGLUE_PAPER, sha256, hub_names=hub_names
    )


def _superglue(place: str) -> WeightsRecord:
    file = f"superglue_{place}.pth"
    url = f"https://github.com/magicleap/SuperGluePretrainedNetwork/raw/master/models/weights/{file}"
    paper = "Sarlin et al.: SuperGlue, 2020"
    return WeightsRecord(f"superglue-{place}", file, (url,), _MAGIC_LEAP, paper, commercial_use=False)


RECORDS: tuple[WeightsRecord, ...] = (
    WeightsRecord(
        "superpoint-open",
        "superpoint_v6_from_tf.pth",
        ("https://github.com/rpautrat/SuperPoint/raw/master/weights/superpoint_v6_from_tf.pth",),
        "MIT",
        _SUPERPOINT_PAPER,
    ),
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
    ),
    WeightsRecord(
        "xfeat",
        "xfeat.pt",
        ("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",),
        "Apache-2.0",
        "Potje et al.: XFeat, 2024",
    ),
    WeightsRecord(
        "dedode-detector-l-v2",
        "dedode_detector_L_v2.pth",
        ("https://github.com/Parskatt/DeDoDe/releases/download/v2/dedode_detector_L_v2.pth",),
        "MIT",
        "Edstedt et al.: DeDoDe v2, 2024",
    ),
    WeightsRecord(
        "dedode-descriptor-b",
        "dedode_descriptor_B.pth",
        ("https://github.com/Parskatt/DeDoDe/releases/download/dedode_pretrained_models/dedode_descriptor_B.pth",),
        "MIT",
        "Edstedt et al.: DeDoDe, 2024",
    ),
    _lightglue("superpoint", "6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a"),
    _lightglue("sift"),
    _lightglue("disk"),
    _lightglue("aliked"),
    WeightsRecord(
        "lightglue-xfeat",
        "xfeat-lighterglue.pt",
        ("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat-lighterglue.pt",),
        "Apache-2.0",
        "Potje et al.: XFeat, 2024",
    ),
    _superglue("outdoor"),
    _superglue("indoor"),
)


def weights_record(name: str) -> WeightsRecord:
    """The record of that name; InvalidValueError lists the names."""
    for record in RECORDS:
        if record.name == name:
            return record
    raise InvalidValueError(f"weights: expected one of {', '.join(r.name for r in RECORDS)}; got {name!r}")
