"""Options that several verbs share, so that they are called and explained alike."""

from __future__ import annotations

from typing import Annotated

import typer

FEATURES = "Local features; `lightmatch doctor` lists them."
MATCHER = "lightglue, lightglue:FILE, nearest:0.8, superglue:FILE, vismatch:NAME …; see docs/matchers.md."

Features = Annotated[str, typer.Option(help=FEATURES)]
Matcher = Annotated[str, typer.Option(help=MATCHER)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="Of the matcher: auto, float32, bfloat16 or float16.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")]
