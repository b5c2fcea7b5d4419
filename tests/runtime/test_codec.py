"""Typed values are the same after JSON; anything else than was written is refused, with its place."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pytest

from lightmatch.errors import InvalidValueError
from lightmatch.runtime import codec

T = TypeVar("T")


@dataclass(frozen=True)
class Inner:
    name: str
    error_px: float | None


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    pair: tuple[int, str]
    inner: tuple[Inner, ...]
    by_name: dict[str, Inner]
    by_id: dict[int, float]
    ids: frozenset[int]
    folder: Path
    is_good: bool = True
    maybe: Inner | None = None
    names: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Of(Generic[T]):
    value: T


VALUE = Outer(
    "a", (1, "б"), (Inner("x", 0.1 + 0.2), Inner("y", None)), {"k": Inner("z", 1e-310)}, {-3: 1.0, 12: 5e300},
    frozenset({3, 1, 2}), Path("a/b"), False, Inner("w", -0.0), ("n",),
)  # fmt: skip


def test_a_value_is_the_same_after_json() -> None:
    text = codec.dumps(VALUE)
    assert codec.loads(Outer, text) == VALUE
    assert json.loads(text)["ids"] == [1, 2, 3]
    again = codec.loads(Of[tuple[Inner, ...]], codec.dumps(Of((Inner("a", 2.0),))))
    assert again == Of((Inner("a", 2.0),))


@pytest.mark.parametrize("number", [0.1, -0.0, 1 / 3, 5e-324, 1.7976931348623157e308, math.inf, -math.inf])
def test_floats_keep_their_bits(number: float) -> None:
    found = codec.loads(Of[float], codec.dumps(Of(number))).value
    assert found.hex() == number.hex()


def test_not_a_number_is_written_as_json_can_hold_it() -> None:
    assert codec.dumps(Inner("a", math.nan)) == '{"name": "a", "error_px": "nan"}'
    found = codec.loads(Inner, codec.dumps(Inner("a", math.nan)))
    assert found.error_px is not None and math.isnan(found.error_px)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("kind",), "c", r"summary: kind: expected one of 'a', 'b', got 'c'"),
        (("inner", 1, "nmae"), "y", r"summary: inner\[1\]: expected only the keys name, error_px; got nmae"),
        (("inner", 0, "name"), 5, r"summary: inner\[0\]\.name: expected a string, got 5"),
        (("inner", 0), 5, r"summary: inner\[0\]: expected an object, got 5"),
        (("inner",), "xy", r"summary: inner: expected a list, got 'xy'"),
        (("pair",), [1], r"summary: pair: expected a list of 2, got \[1\]"),
        (("pair", 0), True, r"summary: pair\[0\]: expected a whole number, got True"),
        (("pair", 0), 1.0, r"summary: pair\[0\]: expected a whole number, got 1.0"),
        (("by_name", "k", "error_px"), "1", r"summary: by_name\['k'\]\.error_px: expected a number, got '1'"),
        (("by_id", "x"), 1.0, r"summary: by_id: expected a whole number, got 'x'"),
        (("is_good",), 1, r"summary: is_good: expected true or false, got 1"),
        (("folder",), 1, r"summary: folder: expected a path, got 1"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(path: tuple[Any, ...], value: object, words: str) -> None:
    content = codec.to_json(VALUE)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(InvalidValueError, match=words):
        codec.from_json(Outer, content, "summary")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InvalidValueError, match=r"summary: error_px: expected a value, got none"):
        codec.from_json(Inner, {"name": "a"}, "summary")


def test_damaged_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InvalidValueError, match=r"a\.json: expected JSON, got damaged text"):
        codec.read(Inner, tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InvalidValueError, match=r"a\.json: expected UTF-8 text"):
        codec.read(Inner, tmp_path / "a.json")


def test_files_are_whole(tmp_path: Path) -> None:
    codec.write(tmp_path / "a.json", VALUE, indent=1)
    assert codec.read(Outer, tmp_path / "a.json") == VALUE
    with pytest.raises(TypeError):
        codec.write(tmp_path / "a.json", Of(object()))
    assert codec.read(Outer, tmp_path / "a.json") == VALUE
