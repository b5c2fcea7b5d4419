"""What the modules of a package register, read from their source: nothing is imported before it is used."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightmatch.errors import InvalidValueError


def registered_names(package: str, search_path: Sequence[str]) -> dict[str, str]:
    """The names given to a decorator `register` in the modules of a package: name → module that has it.

    package: such as "lightmatch.matchers". search_path: its `__path__`. The name must be a string literal, the first
    argument of a decorator at the top level of the module: `@register("name", ...)`.
    Raises InvalidValueError where two modules register one name.
    """
    found: dict[str, str] = {}
    for info in pkgutil.iter_modules(search_path, f"{package}."):
        spec = info.module_finder.find_spec(info.name, None)
        if spec is None or spec.origin is None:
            continue
        for name in _literals(Path(spec.origin).read_text(encoding="utf-8")):
            if name in found:
                raise InvalidValueError(
                    f"register: expected each name once, got {name!r} in {found[name]} and in {info.name}; rename one"
                )
            found[name] = info.name
    return found


def _literals(source: str) -> Iterator[str]:
    for node in ast.parse(source).body:
        for decorator in getattr(node, "decorator_list", []):
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", None) == "register" and decorator.args:
                name = decorator.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield name.value


def resolve(reference: str) -> Any:
    """The object that "module:attribute" names; its module is imported."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)
