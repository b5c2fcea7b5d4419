"""The page's data, styles and scripts → one HTML file that opens from disk and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TextIO

from lightmatch.report.page.data import PageData
from lightmatch.report.page.packing import Block, pack
from lightmatch.report.page.track_data import TrackPageData
from lightmatch.report.page.track_packing import pack_track
from lightmatch.runtime.files import replacing

# In the order in which they build on each other.
_VIEW_SCRIPTS = (
    "vendor/three.js",
    "js/data.js",
    "js/dom.js",
    "js/colors.js",
    "js/orbit.js",
    "js/world.js",
    "js/draw_webgl.js",
    "js/draw_canvas.js",
    "js/viewer.js",
    "js/charts.js",
    "js/parts.js",
    "js/stage.js",
)
_VIEW_STYLES = ("css/base.css", "css/layout.css", "css/parts.css")


@dataclass(frozen=True)
class _PageKind:
    """What the page of a kind of run is made of: names of assets, and words of the frame."""

    main: str
    scripts: tuple[str, ...]
    styles: tuple[str, ...]
    skip: str  # words of the link past the view
    beside: str  # the file with the same numbers, for browsers without JavaScript


_RECONSTRUCTION = _PageKind(
    main="reconstruction.html",
    scripts=(
        *_VIEW_SCRIPTS,
        "js/photo.js",
        "js/pair.js",
        "js/graph.js",
        "js/overview.js",
        "js/details.js",
        "js/main.js",
    ),
    styles=_VIEW_STYLES,
    skip="Skip to photos and numbers",
    beside="The numbers are also in summary.json",
)
_TRACK = _PageKind(
    main="track.html",
    scripts=(*_VIEW_SCRIPTS, "js/track/frames.js", "js/track/plots.js", "js/track/timeline.js", "js/track/main.js"),
    styles=(*_VIEW_STYLES, "css/track.css"),
    skip="Skip to numbers",
    beside="The frames are also in frames.jsonl",
)
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def write_page(path: str | Path, data: PageData) -> Path:
    """Write the page of a reconstruction to `path`, atomically; the same data give the same bytes.

    A content security policy in the page forbids network access and all scripts but its own; names and texts are data
    in it, whatever they contain.
    """
    return _write(Path(path), _RECONSTRUCTION, data.title, pack(data))


def write_track_page(path: str | Path, data: TrackPageData) -> Path:
    """Write the page of a tracked camera, as `write_page` does."""
    return _write(Path(path), _TRACK, data.page.title, pack_track(data))


def _write(path: Path, kind: _PageKind, title: str, blocks: Iterable[Block]) -> Path:
    styles, scripts = _read(kind.styles), _read(kind.scripts)
    # Without '</' in them, no element ends before its end.
    parts: dict[str, Iterable[str]] = {
        "policy": [html.escape(_policy(styles, scripts))],
        "title": [html.escape(_plain(title))],
        "styles": (f"<style>{style}</style>\n" for style in styles),
        "skip": [kind.skip],
        "beside": [kind.beside],
        "data": (f'<script type="{media_type}" id="{name}">{text}</script>\n' for name, media_type, text in blocks),
        "scripts": (f"<script>{script}</script>\n" for script in scripts),
    }
    frame, main, stage = _read(("page.html", kind.main, "stage.html"))
    template = frame.replace("{{main}}", main.replace("{{stage}}", stage))
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        _fill(file, template, parts)
    return path


def _fill(file: TextIO, template: str, parts: dict[str, Iterable[str]]) -> None:
    """Write the template with each {{name}} replaced once, part by part: the page is never whole in memory."""
    for number, piece in enumerate(_PLACE.split(template)):
        if number % 2:
            file.writelines(parts[piece])
        else:
            file.write(piece)


def _read(names: Iterable[str]) -> list[str]:
    assets = files("lightmatch.report.page") / "assets"
    return [assets.joinpath(name).read_text(encoding="utf-8") for name in names]


def _policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """Nothing but our own scripts and styles, by their hashes, and pictures inside the page."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(scripts)}",
            f"style-src {_hashes(styles)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hashes(texts: Iterable[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _plain(text: str) -> str:
    """Text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
