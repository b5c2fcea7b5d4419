"""MkDocs hook: fills docs/command-line.md with the options of every verb, read from the command line itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

from lightmatch.cli.app import VERBS, load_verb

_PAGE = "command-line.md"
_MARK = re.compile(r"<!-- options: ([\w-]+) -->")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """`<!-- options: VERB -->` becomes a table. Every verb has its mark on the page, or the build fails."""
    if page.file.src_uri != _PAGE:
        return markdown
    named = set(_MARK.findall(markdown))
    if named != set(VERBS):
        raise PluginError(
            f"{_PAGE}: expected a mark <!-- options: VERB --> for each of {', '.join(VERBS)};"
            f" missing: {', '.join(sorted(set(VERBS) - named)) or 'none'},"
            f" unknown: {', '.join(sorted(named - set(VERBS))) or 'none'}"
        )
    return _MARK.sub(lambda mark: "\n".join(_tables(mark[1], load_verb(mark[1]))), markdown)


def _tables(title: str, command: Any) -> Iterator[str]:
    """The help of a verb and the table of its options, or one for each of its subcommands."""
    yield f"{command.help or ''}\n"
    for name, subcommand in getattr(command, "commands", {}).items():
        yield f"### {title} {name}\n"
        yield from _tables(f"{title} {name}", subcommand)
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        yield from ("| option | meaning | default |", "|---|---|---|", *rows, "")


def _row(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split())
    if parameter.opts[0].startswith("-"):
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    else:
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    stated = re.search(r" ?\[default: (.+)\]", text)  # a default in words stands in the help itself
    if stated:
        text, default = text.replace(stated[0], ""), stated[1]
    elif parameter.required:
        default = "required"
    else:
        value = parameter.default
        default = "on" if value is True else "" if value is None or value is False else f"`{value}`"
    return f"| {names} | {text.replace('|', '&#124;')} | {default} |"
