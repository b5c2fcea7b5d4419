"""`lightmatch export`."""

from __future__ import annotations

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
    from lightmatch.pipelines.export import export_model

    if to != "onnx":
        raise InvalidValueError(f"--to: expected onnx, got {to!r}")
    export_model(model, output, features=features, max_keypoints=max_keypoints, half=half)
    say(f"{output}: {output.stat().st_size / 2**20:.1f} MiB")
