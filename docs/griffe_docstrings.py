"""Griffe extension: this package's docstrings as the API page shows them.

Parameters ("name: what it is") become a list, and the comments behind the fields of a class a table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Changes docstrings while the package is read; no file is changed."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """List the parameters of a function."""
        names = [parameter.name for parameter in func.parameters if parameter.name not in ("self", "cls")]
        if func.docstring and names:
            func.docstring.value = listed(func.docstring.value, names)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Show the comments of a class's fields."""
        rows = [
            f"| `{name}` | `{field.annotation}` | {comment} |"
            for name, field in cls.members.items()
            if isinstance(field, griffe.Attribute)
            and field.annotation
            and not name.startswith("_")
            and not field.labels & {"property"}
            for comment in (comment_of(field).replace("|", "\\|"),)
        ]
        if rows and cls.docstring:
            table = "\n".join(("| field | type | meaning |", "|---|---|---|", *rows))
            cls.docstring.value = f"{cls.docstring.value.rstrip()}\n\n{table}"


def listed(text: str, names: Sequence[str]) -> str:
    """The docstring `text` with an item of a list for each parameter, or for several of one explanation.

    A parameter begins a line or a sentence: "seed: of the sampling. device: where to compute."
    """
    name = "|".join(map(re.escape, names))
    start = re.compile(rf"(^ *|(?<=[.;)]) )((?:{name})(?:(?:, | and |/)(?:{name}|\d))*): +(?=\S)", re.MULTILINE)
    parts: list[str] = []
    for block in text.split("\n\n"):
        items = start.split(block)  # text before, then for each item: the gap, its names, its text
        before, rest = items[0].strip(), items[1:]
        if before:
            parts.append(before)
        found = []
        for names_of, said in zip(rest[1::3], rest[2::3], strict=True):
            # What begins at the margin again, after an indented explanation, is no part of the item.
            lines = said.rstrip().split("\n")
            found.append(f"- `{names_of}`: " + " ".join(line.strip() for line in lines))
        if found:
            last, _, after = _split_returns(found.pop())
            parts.append("\n".join((*found, last)))
            if after:
                parts.append(after)
    return "\n\n".join(parts)


def _split_returns(item: str) -> tuple[str, str, str]:
    """An item, and the sentences behind it that are about the function: what it returns, raises, or comes from."""
    found = re.search(r" (?=(?:Returns?|Raises?|Source|Gives|Writes|Yields)\b)", item)
    return (item, "", "") if found is None else (item[: found.start()], " ", item[found.end() :])


def comment_of(field: griffe.Attribute) -> str:
    """The comment behind a field and on the lines that follow it, without an own statement between them."""
    path = field.filepath  # a list for a namespace package, which has no fields
    lines = field.lines_collection[path] if field.lineno and not isinstance(path, list) else []
    end = field.endlineno or 0
    if not lines or not end:
        return ""
    _, mark, first = lines[end - 1].partition("  # ")
    if not mark:
        return ""
    words = [first.strip()]
    for line in lines[end:]:
        if not line.strip().startswith("#"):
            break
        words.append(line.strip().lstrip("# "))
    return " ".join(words)
