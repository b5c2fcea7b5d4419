"""summary.json: written and read as one value, and described by docs/summary.schema.json."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from summary_example import SCORE, SUMMARY

from lightmatch.errors import ReconstructionError
from lightmatch.pipelines.reconstruct import Summary, read_summary
from lightmatch.reconstruction import FrameSummary
from lightmatch.reconstruction.georegistration.frame import GpsFrame
from lightmatch.reconstruction.mapping.held_out import Comparison
from lightmatch.reconstruction.mapping.history import Attempt
from lightmatch.report.page.meta import PageMeta
from lightmatch.runtime import codec
from lightmatch.runtime.schema import json_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "summary.schema.json"
GPS = GpsFrame(48.85, 2.29, None, 1.5, 2.0, 3.0, 1 / 3, {"a.jpg": 0.1 + 0.2}, ("b.jpg",))


def full() -> Summary:
    assert SUMMARY.history.mapping is not None
    attempt = Attempt("global", 1.25, (3, 2), 100, SCORE, Comparison(0.1, -0.05, 0.2), True, "the first")
    mapping = replace(SUMMARY.history.mapping, attempts=(attempt,), edited_photos=("a.jpg",))
    return replace(
        SUMMARY,
        history=replace(SUMMARY.history, mapping=mapping),
        frame=FrameSummary(True, "m", True, (0.0, 0.0, 1.0), "gps", 0.5, GPS, ("a note",)),
        config=replace(SUMMARY.config, known=Path("a/b.json")),
    )


@pytest.mark.parametrize(("name", "kind"), [("summary", Summary), ("report", PageMeta)])
def test_the_schemas_are_up_to_date(name: str, kind: type) -> None:
    written = json.loads(SCHEMA.with_name(f"{name}.schema.json").read_text(encoding="utf-8"))
    assert written == json_schema(kind), "run: python docs/schemas.py"


@pytest.mark.parametrize("summary", [SUMMARY, full()])
def test_a_summary_is_the_same_after_its_file_and_fits_the_schema(summary: Summary, tmp_path: Path) -> None:
    codec.write(tmp_path / "summary.json", summary)
    assert read_summary(tmp_path) == summary
    jsonschema.validate(json.loads((tmp_path / "summary.json").read_text()), json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("photos", "num_images"), "3"),
        (("unknown",), []),
        (("frame", "gps", "outliers"), None),
        (("frame", "up"), [0.0, 1.0]),
        (("config", "mapper"), "best"),
    ],
)
def test_reader_and_schema_refuse_the_same(path: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    content = codec.to_json(full())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "summary.json").write_text(json.dumps(content))
    with pytest.raises(ReconstructionError, match=path[-1]):
        read_summary(tmp_path)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(SCHEMA.read_text()))
