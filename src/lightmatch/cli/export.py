"""`lightmatch export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lightmatch.errors import InvalidValueError

_out = Console()


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="lightglue, superglue, lightpoint, lightpoint_aliked, superpoint_open or superpoint; or one :FILE.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    to: Annotated[str, typer.Option(help="Format: onnx.")] = "onnx",
    features: Annotated[
        str | None, typer.Option(help="Features that the matcher is for. [default: sift; of superglue superpoint]")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Weights in half precision.")] = False,
    full_depth: Annotated[bool, typer.Option("--full-depth", help="LightGlue without exits.")] = False,
    max_keypoints: Annotated[
        int | None, typer.Option(min=1, help="Keypoints per photo, of an extractor. [default: 2048]")
    ] = None,
) -> None:
    """Write a matcher or an extractor for another runtime.

    Example: `lightmatch export lightglue --to onnx -o lightglue.onnx`
    """
    import torch

    from lightmatch.export import export_onnx
    from lightmatch.extractors.lightpoint import LightPoint, LightPointAsAliked, LightPointExtractorConfig
    from lightmatch.extractors.superpoint import SuperPoint, SuperPointConfig, SuperPointOpen
    from lightmatch.matchers import LightGlue, SuperGlue

    if to != "onnx":
        raise InvalidValueError(f"--to: expected onnx, got {to!r}")
    name, _, file = model.partition(":")
    known = {"lightglue": ("features", "full_depth"), "superglue": ("features",)}
    lightpoints = {"lightpoint": LightPoint, "lightpoint_aliked": LightPointAsAliked}
    superpoints = {"superpoint": SuperPoint, "superpoint_open": SuperPointOpen}
    known |= dict.fromkeys((*lightpoints, *superpoints), ("max_keypoints",))
    if name not in known:
        raise InvalidValueError(f"model: expected one of {', '.join(known)}, got {name!r}")
    given = {"features": features, "full_depth": full_depth or None, "max_keypoints": max_keypoints}
    useless = [option for option, value in given.items() if value is not None and option not in known[name]]
    if useless:
        option = useless[0].replace("_", "-")
        raise InvalidValueError(f"--{option}: expected none with {name}, which has no use for it; leave it out")
    dtype = torch.float16 if half else torch.float32
    if name == "lightglue":
        options: dict[str, Any] = {"depth_confidence": None} if full_depth else {}
        if file:
            exported = LightGlue.from_checkpoint(file, features, dtype=dtype, **options)
        else:
            exported = LightGlue.from_pretrained(features or "sift", dtype=dtype, **options)
    elif name == "superglue":
        if file:
            exported = SuperGlue.from_checkpoint(file, features, dtype=dtype)
        else:
            exported = SuperGlue.from_pretrained("outdoor", features or "superpoint", dtype=dtype)
    elif name in lightpoints:
        settings = LightPointExtractorConfig(
            max_keypoints=max_keypoints or 2048, weights=file or None, precision="float16" if half else "float32"
        )
        exported = lightpoints[name](settings)
    else:
        exported = superpoints[name](SuperPointConfig(max_keypoints=max_keypoints or 2048, weights=file or None))
        exported.network.to(dtype)
    export_onnx(exported, output)
    _out.print(f"{output}: {output.stat().st_size / 2**20:.1f} MiB", highlight=False, soft_wrap=True)
