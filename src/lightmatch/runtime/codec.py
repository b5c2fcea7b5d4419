"""Typed values to JSON and back: the only place where results, caches and settings become text.

Recipes are read by it too: a table of TOML has the types of a JSON object. Frozen dataclasses become objects, tuples
and frozensets lists, paths strings, None null; `object` is JSON as it is. Reading is strict: a key that the type does
not have, a key that is missing, and a value of another type are errors that name the place of the value. A float comes
back with the same bits; one that JSON cannot hold is written as "nan", "inf" or "-inf".
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import cattrs
from cattrs.cols import is_frozenset
from cattrs.gen import make_dict_structure_fn

from lightmatch.errors import InvalidValueError
from lightmatch.runtime.files import replacing

T = TypeVar("T")

_NOT_FINITE = ("nan", "inf", "-inf")
_MOST_ERRORS = 3  # in one message
_ADVICE = "correct it, or have it written again by this version"
_EXTRA = "expected only the keys"  # reported first: a misspelt key is missing too


def to_json(value: object) -> Any:
    """A typed value as JSON has it: objects are dicts, tuples and sorted sets are lists."""
    return _converter.unstructure(value)


def from_json(kind: type[T], value: Any, what: str = "value", *, advice: str = _ADVICE) -> T:
    """A value of type `kind` from what `to_json` gave, or from a table of TOML.

    what: how errors call the value, such as the path of its file. advice: what the reader of an error is to do.
    Raises InvalidValueError with the place of what is wrong, such as `pairs[3].name0`.
    """
    try:
        return _converter.structure(value, kind)
    except InvalidValueError:
        raise
    except Exception as error:
        found = sorted(cattrs.transform_error(error, "", _sentence), key=lambda line: not line.startswith(_EXTRA))
        more = f" and {len(found) - _MOST_ERRORS} more" if len(found) > _MOST_ERRORS else ""
        said = "; ".join(map(_with_place, found[:_MOST_ERRORS]))
        raise InvalidValueError(f"{what}: {said}{more}; {advice}") from error


def dumps(value: object, *, indent: int | None = None) -> str:
    """The JSON text of a typed value."""
    return json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, indent=indent)


def loads(kind: type[T], text: str, what: str = "value", *, advice: str = _ADVICE) -> T:
    """A value of type `kind` from JSON text; what, advice: as for `from_json`.

    Raises InvalidValueError where it is no JSON or not of this type.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidValueError(f"{what}: expected JSON, got damaged text ({error}); {advice}") from error
    return from_json(kind, value, what, advice=advice)


def write(path: Path, value: object, *, indent: int | None = None) -> None:
    """Write a typed value to a JSON file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(dumps(value, indent=indent) + "\n", encoding="utf-8")


def read(kind: type[T], path: Path) -> T:
    """A value of type `kind` from a JSON file. Raises OSError where there is none, else as `loads`."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{path}: expected UTF-8 text, got other bytes; have it written again") from error
    return loads(kind, text, str(path))


class _ExpectedError(ValueError):
    """What was expected and what came; cattrs knows where."""

    def __init__(self, expected: str, value: object) -> None:
        shown = repr(value)
        super().__init__(f"expected {expected}, got {shown if len(shown) <= 60 else shown[:57] + '…'}")


def _sentence(error: BaseException, kind: type | None) -> str:
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = [field.name for field in dataclasses.fields(error.cl)]
        return f"{_EXTRA} {', '.join(known)}; got {', '.join(sorted(error.extra_fields))}"
    if isinstance(error, KeyError):
        return "expected a value, got none"
    return str(error)


def _with_place(line: str) -> str:
    """Cattrs says "sentence @ .path"; here the place goes first."""
    said, _, place = line.rpartition(" @ ")
    place = place.removeprefix(".")
    return f"{place}: {said}" if place else said


def _primitive(kind: type[T], name: str) -> Callable[[Any, Any], T]:
    def structure(value: Any, _: Any) -> T:
        if type(value) is not kind:
            raise _ExpectedError(name, value)
        return value

    return structure


def _float(value: Any, _: Any) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _ExpectedError("a number", value)
    return float(value)


def _float_to_json(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))


def _path(value: Any, _: Any) -> Path:
    if not isinstance(value, str):
        raise _ExpectedError("a path", value)
    return Path(value)


def _literal(kind: Any) -> Callable[[Any, Any], Any]:
    known = get_args(kind)

    def structure(value: Any, _: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in known):
            raise _ExpectedError(f"one of {', '.join(map(repr, known))}", value)
        return value

    return structure


def _items(kind: Any) -> Callable[[Any, Any], Any]:
    """tuple[T, ...], tuple[A, B], frozenset[T], list[T]."""
    args, make = get_args(kind), get_origin(kind)
    exact = len(args) if make is tuple and (len(args) != 2 or args[1] is not ...) else None
    expected = "a list" if exact is None else f"a list of {exact}"

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list) or len(value) != (len(value) if exact is None else exact):
            raise _ExpectedError(expected, value)
        kinds = args if exact is not None else args[:1] * len(value)
        assert make is not None
        return make(_all(kind, zip(range(len(value)), value, kinds, strict=True)))

    return structure


def _mapping(kind: Any) -> Callable[[Any, Any], Any]:
    """Dict or Mapping by str, int or a Literal; JSON has strings for keys."""
    key_kind, value_kind = get_args(kind)

    def key_of(key: str) -> Any:
        if key_kind is int and key.removeprefix("-").isdecimal():
            return int(key)
        return _converter.structure(key, key_kind)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise _ExpectedError("an object", value)
        found = _all(kind, ((key, one, value_kind) for key, one in value.items()))
        return dict(zip(map(key_of, value), found, strict=True))

    return structure


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) in (dict, Mapping)


def _mapping_to_json(kind: Any) -> Callable[[Any], dict[str, Any]]:
    value_kind = get_args(kind)[1]
    return lambda value: {str(key): _converter.unstructure(one, value_kind) for key, one in value.items()}


def _all(kind: Any, items: Any) -> list[Any]:
    """The items (place, value, type) structured; errors know their places."""
    found, errors = [], []
    for place, value, item_kind in items:
        try:
            found.append(_converter.structure(value, item_kind))
        except Exception as error:
            note = cattrs.IterableValidationNote(f"in {kind} at {place!r}", place, item_kind)
            error.__notes__ = [*getattr(error, "__notes__", []), note]
            errors.append(error)
    if errors:
        raise cattrs.IterableValidationError(f"while structuring {kind}", errors, kind)  # type: ignore[call-arg]
    return found


def _dataclass(kind: Any) -> Callable[[Any, Any], Any]:
    fields = make_dict_structure_fn(kind, _converter, _cattrs_forbid_extra_keys=True)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise _ExpectedError("an object", value)
        return fields(value, kind)

    return structure


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter(forbid_extra_keys=True, unstruct_collection_overrides={tuple: list, frozenset: sorted})
    for kind, name in ((str, "a string"), (int, "a whole number"), (bool, "true or false")):
        made.register_structure_hook(kind, _primitive(kind, name))
    made.register_structure_hook(float, _float)
    made.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    made.register_unstructure_hook(float, _float_to_json)
    made.register_structure_hook(Path, _path)
    made.register_unstructure_hook_func(lambda kind: isinstance(kind, type) and issubclass(kind, Path), str)
    made.register_structure_hook_factory(lambda kind: dataclasses.is_dataclass(get_origin(kind) or kind), _dataclass)
    made.register_structure_hook_factory(lambda kind: get_origin(kind) is Literal, _literal)
    made.register_structure_hook_factory(
        lambda kind: get_origin(kind) in (tuple, list) or (is_frozenset(kind) and bool(get_args(kind))), _items
    )
    made.register_structure_hook_factory(_is_mapping, _mapping)
    made.register_unstructure_hook_factory(_is_mapping, _mapping_to_json)
    return made


_converter = _make_converter()
