"""Writes docs/summary.schema.json, the JSON Schema of summary.json, from the types.

Usage: python docs/summary_schema.py
"""

import json
from pathlib import Path

from lightmatch.pipelines.reconstruct.summary import Summary
from lightmatch.runtime.schema import json_schema

if __name__ == "__main__":
    path = Path(__file__).with_name("summary.schema.json")
    path.write_text(json.dumps(json_schema(Summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
