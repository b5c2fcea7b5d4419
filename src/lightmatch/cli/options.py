"""Options that several verbs share: each is defined once, with one text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightmatch.colmap.options import MAX_SEED
from lightmatch.errors import InvalidValueError

FEATURES = "Local features, NAME or NAME:FILE with weights of your own; `lightmatch doctor` lists them."
MATCHER = "lightglue, lightglue:FILE, nearest:0.8, superglue:FILE, vismatch:NAME …; see docs/matchers.md."
MAX_KEYPOINTS = "Keypoints per photo, at most."
PAIRS = "auto (exhaustive up to 60, then retrieval), exhaustive, sequential, retrieval or spatial (GPS)"

MATCHING = "Features and matching"  # headings of the help
PHOTOS = "Photos and cameras"
CLUSTER = "Many machines"

Photos = Annotated[list[Path], typer.Argument(metavar="PHOTOS…", help="Folders, photos, videos.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")]

Features = Annotated[str, typer.Option(help=FEATURES, rich_help_panel=MATCHING)]
Matcher = Annotated[str, typer.Option(help=MATCHER, rich_help_panel=MATCHING)]
MaxKeypoints = Annotated[int, typer.Option(min=1, help=MAX_KEYPOINTS, rich_help_panel=MATCHING)]
Pairs = Annotated[str, typer.Option(help=f"{PAIRS}.", rich_help_panel=MATCHING)]
PairsOrFile = Annotated[
    str, typer.Option(help=f"{PAIRS}; or a text file, two names on a line.", rich_help_panel=MATCHING)
]

Cameras = Annotated[
    str, typer.Option(help="Which photos share intrinsics: auto, folder or photo.", rich_help_panel=PHOTOS)
]
CameraModel = Annotated[str, typer.Option(help="COLMAP camera model to start with.", rich_help_panel=PHOTOS)]
Masks = Annotated[
    Path | None,
    typer.Option(help="Folder of masks, NAME.png, black is ignored. [default: masks/]", rich_help_panel=PHOTOS),
]
Panorama = Annotated[
    str,
    typer.Option(
        help="Which pictures are 360° panoramas: auto (by metadata or look), yes (all of 2:1), no.",
        rich_help_panel=PHOTOS,
    ),
]
MaxImages = Annotated[
    int | None, typer.Option(min=2, help="Use so many pictures, evenly spaced.", rich_help_panel=PHOTOS)
]
MaxPixels = Annotated[
    int, typer.Option(min=1, help="Width × height of a photo; larger ones are not read.", rich_help_panel=PHOTOS)
]

Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Seed of all random choices; the same seed gives the same result.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto (cuda if there is an NVIDIA GPU, else cpu).")]
Precision = Annotated[str, typer.Option(help="Precision of the matcher: auto, float32, bfloat16 or float16.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]


def check_targets(photos: tuple[Path, ...], targets: tuple[Path | None, ...]) -> None:
    """Refuse to write over a photo that was given, or two results to one file."""
    seen = {photo.resolve() for photo in photos}
    for target in targets:
        if target is None:
            continue
        if target.resolve() in seen:
            raise InvalidValueError(
                f"{target}: expected a new file to write to, got one that is in use here; rename it"
            )
        seen.add(target.resolve())
