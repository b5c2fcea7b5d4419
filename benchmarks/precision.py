"""What half precision costs LightGlue in accuracy: the embedded weights on all visible sets, in each precision.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/precision.py --work runs/scores
Writes benchmarks/results/precision.json and docs/precision.md. The work folder keeps features and matches; that of
lightglue_sift.py serves as well.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from common import describe_machine
from lightglue_sift import SETS, Set, text
from pages import write_page

from lightmatch.evaluation.bootstrap import Interval, draw_pairs
from lightmatch.evaluation.measures import Area
from lightmatch.evaluation.scoring import Scores
from lightmatch.pipelines.evaluate import EvaluateConfig, evaluate

HERE = Path(__file__).parent
METHODS = ("lightglue", "lightglue,bfloat16", "lightglue,float16")


class Row(NamedTuple):
    """One set in one precision."""

    set: str
    measure: str
    precision: str
    in_float32: Interval
    in_half: Interval
    difference: Interval
    layers_in_float32: float
    layers_in_half: float


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--keypoints", type=int, default=1024)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    rows: list[Row] = []
    for name, one in SETS.items():
        roots = (arguments.data / "eval" / one.folder,) if one.folder else ()
        options: dict[str, Any] = {"estimators": ("poselib",), **one.options}
        config = EvaluateConfig(one.suite, roots, matchers=METHODS, max_keypoints=(arguments.keypoints,), **options)
        full, *halves = evaluate(arguments.work / name.replace(", ", "-"), config, overwrite=True).scores
        rows += [compare(name, one, full, half) for half in halves]
        print(*map(_line, map(_plain, rows[-len(halves) :])), sep="\n", flush=True)
    content = {"machine": describe_machine(), "keypoints": arguments.keypoints, "rows": [_plain(row) for row in rows]}
    (HERE / "results" / "precision.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    write_page("precision")


def compare(name: str, one: Set, full: Scores, half: Scores) -> Row:
    """The area of one set in half precision, and how much it differs from that in float32, on the same pairs."""
    draws = draw_pairs(len(full.values["num_matches"]), 1000, 0)
    area = Area("", one.robust_error, one.threshold)
    before, after = area(full, draws), area(half, draws)
    measure = f"AUC@{one.threshold:g}{one.unit}"
    intervals = Interval.of(before), Interval.of(after), Interval.of(after - before)
    layers = tuple(float(scores.values["stop_layer"].mean()) for scores in (full, half))
    return Row(name, measure, half.method.rpartition(",")[2], *intervals, *layers)


def _plain(row: Row) -> dict[str, Any]:
    return {name: vars(value) if isinstance(value, Interval) else value for name, value in row._asdict().items()}


def _line(row: dict[str, Any]) -> str:
    texts = " | ".join(text(Interval(**row[key])) for key in ("in_float32", "in_half", "difference"))
    layers = f"{row['layers_in_float32']:.2f} | {row['layers_in_half']:.2f}"
    return f"| {row['set']} | {row['measure']} | {row['precision']} | {texts} | {layers} |"


def page(_: str, content: dict[str, Any]) -> str:
    """docs/precision.md from precision.json."""
    return "\n".join(
        (
            "# Half precision",
            "",
            f"LightGlue on SIFT with the weights in the package, {content['keypoints']} keypoints, models by PoseLib:"
            " made by `python benchmarks/precision.py`. The sets are described in"
            " [evaluation](evaluation.md#the-data-sets-of-the-tables). Layers are those of the weights before their"
            " early exits were calibrated; today's: [Early exits](exits.md). In brackets: 95 % intervals over pairs;"
            " differences are on the same pairs. The columns of layers show whether pairs still exit at the same layer."
            " The layers compute in half precision; the states between them, positions and the heads stay float32.",
            "",
            "| set | measure | precision | in float32 | in half | difference | layers, float32 | layers, half |",
            "|---|---|---|---:|---:|---:|---:|---:|",
            *map(_line, content["rows"]),
            "",
        )
    )


if __name__ == "__main__":
    main()
