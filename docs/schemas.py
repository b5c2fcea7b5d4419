"""Writes the JSON Schemas of summary.json and of the report's data from the types.

Usage: python docs/schemas.py
"""

import json
from pathlib import Path

from lightmatch.pipelines.reconstruct.summary import Summary
from lightmatch.report.page.meta import PageMeta
from lightmatch.runtime.schema import json_schema

SCHEMAS = {"summary.schema.json": Summary, "report.schema.json": PageMeta}

if __name__ == "__main__":
    for name, kind in SCHEMAS.items():
        text = json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")
