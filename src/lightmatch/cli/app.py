"""The verbs of the command line; what a verb needs is imported when it is called, so that help is there at once."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from lightmatch.cli.console import ERR, OUT
from lightmatch.errors import LightmatchError
from lightmatch.runtime.files import is_disk_full

# Where each verb is, and the first line of its help.
VERBS = {
    "match": ("match:match_photos", "Match two photos."),
    "demo": ("demo:demo", "Reconstruct a procedural scene and compare every camera with the truth."),
    "reconstruct": (
        "reconstruct:reconstruct",
        "Reconstruct cameras and a point cloud from photos and videos, with an HTML report.",
    ),
    "features": ("stages:features", "Extract local features into COLMAP's database or hloc's HDF5 file."),
    "pairs": ("stages:pairs", "Choose which photos to match with which, as a list that COLMAP and hloc read."),
    "match-all": (
        "stages:match_all",
        "Extract, choose pairs, match and verify, for `colmap mapper` or hloc to go on with.",
    ),
    "report": ("reconstruct:report", "Write the HTML report of a finished reconstruction again."),
    "track": ("track:track", "Track a camera through a video or frames: a pose for each frame, and a map."),
    "localize": ("localize:localize", "Tell where a photo was taken, in a finished model."),
    "train": ("train:train", "Train a matcher, LightPoint, or both together, by a recipe."),
    "calibrate": (
        "calibrate:calibrate",
        "Choose when LightGlue may stop early, and how probable it is that a match is right, on photos of your own.",
    ),
    "evaluate": ("evaluate:evaluate", "Measure matchers on pairs with ground truth."),
    "benchmark": (
        "benchmark:benchmark",
        "Measure how fast matchers are on this machine: ours, and those of packages that are installed.",
    ),
    "export": ("export:export", "Write a matcher or an extractor for another runtime."),
    "weights": ("weights:weights", "Published weights: list, fetch, verify."),
    "doctor": ("doctor:doctor", "Show what is installed, which devices and precisions work, which weights are there."),
}


class _Verbs(TyperGroup):
    """Knows the verbs by name, and loads the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*VERBS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A verb with no more than its name and the first line of its help."""
        return TyperCommand(cmd_name, help=VERBS[cmd_name][1]) if cmd_name in VERBS else None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ERR.print("interrupted")
            raise typer.Exit(130) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name else found, rest


@contextmanager
def _without_garbage_collection() -> Generator[None]:
    """Collect no garbage inside, and later none among what is made inside, as imports are: a sixth of a short run."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@_without_garbage_collection()
def load_verb(name: str) -> Any:
    """The whole command."""
    from lightmatch.runtime.devices import keep_few_primitives, keep_freed_memory

    keep_freed_memory()
    keep_few_primitives()
    module, attribute = VERBS[name][0].split(":")
    verb = getattr(import_module(f"lightmatch.cli.{module}"), attribute)
    alone = verb
    if not isinstance(verb, typer.Typer):
        alone = typer.Typer(rich_markup_mode="markdown", add_completion=False)
        alone.command(name=name)(verb)
    command = typer.main.get_command(alone)
    command.name = name
    return command


app = typer.Typer(cls=_Verbs, no_args_is_help=True, rich_markup_mode="markdown", add_completion=False)


def run() -> None:
    """Run the command line; a user's mistake ends with one sentence and exit code 1."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=ERR, show_time=False, show_path=False)],
    )
    try:
        app(standalone_mode=True)
    except LightmatchError as error:
        ERR.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except Exception as error:
        if is_disk_full(error):
            ERR.print("[bold red]error:[/] the disk is full; make room and start the same command again")
        elif isinstance(error, OSError) and error.filename is not None:
            reason = error.strerror or type(error).__name__
            ERR.print(
                f"[bold red]error:[/] {escape(str(error.filename))}: cannot be read or written ({reason.lower()});"
                " choose another place or change its permissions",
                soft_wrap=True,
            )
        else:
            raise
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        OUT.print(importlib.metadata.version("lightmatch"), highlight=False)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads to compute on. [default: as many as there are cores]")
    ] = None,
) -> None:
    """Local feature matching, from two photos to a 3D model."""
    if threads is not None:
        from lightmatch.runtime.threads import use_threads

        use_threads(threads)
