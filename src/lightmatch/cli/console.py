"""Where verbs print: results to standard output, progress and errors to standard error."""

from __future__ import annotations

from rich.console import Console

OUT = Console()
ERR = Console(stderr=True)


def say(line: str, console: Console = OUT) -> None:
    """A line that may hold paths: as it is, whatever brackets are in it, and not wrapped."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
