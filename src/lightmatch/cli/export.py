"""`lightmatch export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from lightmatch.cli.console import say
from lightmatch.errors import InvalidValueError


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A matcher (lightglue, lightglue:FILE,full, superglue:FILE) or an extractor (lightpoint, superpoint,"
            " or one :FILE).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    to: Annotated[str, typer.Option(help="Format: onnx.")] = "onnx",
    features: Annotated[
        str | None, typer.Option(help="Features that the matcher is for. [default: sift; of superglue superpoint]")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Weights in half precision.")] = False,
    max_keypoints: Annotated[
        int | None, typer.Option(min=1, help="Keypoints per photo, of an extractor. [default: 2048]")
    ] = None,
) -> None:
    """Write a matcher or an extractor for another runtime.

    Example: `lightmatch export lightglue --to onnx -o lightglue.onnx`
    """
    from lightmatch.export import export_onnx
    from lightmatch.matchers import available_matchers
    from lightmatch.pipelines.export import extractor_to_export, matcher_to_export

    if to != "onnx":
        raise InvalidValueError(f"--to: expected onnx, got {to!r}")
    of_matcher = re.split("[:,@]", model)[0] in available_matchers()
    useless = ("max_keypoints", max_keypoints) if of_matcher else ("features", features)
    if useless[1] is not None:
        raise InvalidValueError(
            f"--{useless[0].replace('_', '-')}: expected none with {model}, which has no use for it; leave it out"
        )
    if of_matcher:
        exported = matcher_to_export(model, features, half=half)
    else:
        exported = extractor_to_export(model, max_keypoints or 2048, half=half)
    export_onnx(exported, output)
    say(f"{output}: {output.stat().st_size / 2**20:.1f} MiB")
