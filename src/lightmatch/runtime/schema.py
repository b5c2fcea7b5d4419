"""JSON Schema of the types that the codec writes: one definition for each dataclass."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lightmatch.errors import InvalidValueError

_PRIMITIVES: dict[Any, dict[str, object]] = {
    str: {"type": "string"},
    Path: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]},
    type(None): {"type": "null"},
    object: {},
}


def json_schema(kind: type) -> dict[str, object]:
    """The schema (draft 2020-12) of what `codec.to_json` gives for values of a dataclass; all keys are always there.

    Raises InvalidValueError for types that the codec does not know.
    """
    definitions: dict[str, dict[str, object]] = {}
    _schema(kind, definitions)
    own = definitions.pop(kind.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__,
        **own,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(kind: Any, definitions: dict[str, dict[str, object]]) -> dict[str, object]:
    origin, args = get_origin(kind), get_args(kind)
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    if dataclasses.is_dataclass(kind):
        return _reference(kind, definitions)
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (types.UnionType, Union):
        return {"anyOf": [_schema(one, definitions) for one in args]}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(args[1], definitions)}
    if origin is frozenset or (origin is tuple and args[1:] == (...,)):
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin is tuple:
        items = [_schema(one, definitions) for one in args]
        return {"type": "array", "prefixItems": items, "minItems": len(args), "maxItems": len(args)}
    raise InvalidValueError(f"json_schema: expected a type that the codec writes, got {kind}; add it here and there")


def _reference(kind: Any, definitions: dict[str, dict[str, object]]) -> dict[str, object]:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}  # a type may contain itself
        hints = get_type_hints(kind)
        fields = [field.name for field in dataclasses.fields(kind)]
        definitions[name] = {
            "description": (kind.__doc__ or "").strip().partition("\n")[0],
            "type": "object",
            "properties": {field: _schema(hints[field], definitions) for field in fields},
            "required": fields,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}
