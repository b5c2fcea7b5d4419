"""The verb `match`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightmatch.cli.console import OUT, say
from lightmatch.cli.options import Device, Features, Matcher, MaxKeypoints, MaxPixels, Precision, Seed, check_targets
from lightmatch.extractors import DEFAULT_FEATURES
from lightmatch.images import MAX_PIXELS
from lightmatch.matchers import DEFAULT_MATCHER
from lightmatch.runtime import codec
from lightmatch.runtime.devices import pick_device


def match_photos(
    photo0: Annotated[Path, typer.Argument(metavar="A", help="First photo.")],
    photo1: Annotated[Path, typer.Argument(metavar="B", help="Second photo.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Picture of the matches to write.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Matches as JSON (docs/match-json.md).")] = None,
    features: Features = DEFAULT_FEATURES,
    matcher: Matcher = DEFAULT_MATCHER,
    geometry: Annotated[
        str, typer.Option(help="fundamental (scene in depth) or homography (a plane).")
    ] = "fundamental",
    max_keypoints: MaxKeypoints = 2048,
    max_pixels: MaxPixels = MAX_PIXELS,
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Try the second photo rotated by 0, 90, 180 and 270°.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Match two photos.

    Example: `lightmatch match a.jpg b.jpg -o matches.png --json matches.json`
    """
    from lightmatch.images import common_levels, load_image
    from lightmatch.report import check_picture_name, draw_matches, write_picture
    from lightmatch.two_view import match

    check_targets((photo0, photo1), (output, json_path))
    if output is not None:
        check_picture_name(output)
    levels = common_levels((photo0, photo1), max_pixels)
    image0, image1 = load_image(photo0, max_pixels, levels), load_image(photo1, max_pixels, levels)
    result = match(
        image0,
        image1,
        features,
        matcher,
        geometry=geometry,  # type: ignore[arg-type]  # checked there
        max_keypoints=max_keypoints,
        rotations=rotations,
        seed=seed,
        device=pick_device(device),
        precision=precision,
    )
    OUT.print(
        f"{len(result.features0)} and {len(result.features1)} keypoints, {len(result.matches)} matches,"
        f" {result.geometry.num_inliers} inliers ({result.geometry.model});"
        f" {'overlap' if result.overlap else 'no overlap'}{_probability(result.overlap_probability)}",
        soft_wrap=True,
    )
    if output is not None:
        points0, points1 = result.matches.points(result.features0, result.features1)
        write_picture(output, draw_matches(image0, image1, points0, points1, result.geometry.inliers))
        say(f"picture: {output}")
    if json_path is not None:
        codec.write(json_path, result.to_json())
        say(f"matches: {json_path}")


def _probability(value: float | None) -> str:
    return "" if value is None else f" (probability {value:.2f})"
