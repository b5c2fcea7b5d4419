"""What leaving earlier and dropping more points costs LightGlue in accuracy: the embedded weights on all visible sets.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/exits.py --features sift --work runs/scores
Writes its part of benchmarks/results/exits.json, and docs/exits.md. The work folder, one for each kind of features,
keeps features and matches; that of lightglue_sift.py serves for SIFT.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import describe_machine
from lightglue_sift import SETS, text
from pages import write_page

from lightmatch.evaluation.bootstrap import Interval, draw_pairs
from lightmatch.evaluation.measures import Area
from lightmatch.matchers import LightGlue
from lightmatch.pipelines.evaluate import EvaluateConfig, evaluate

HERE = Path(__file__).parent
SETTINGS = {  # depth and width confidence, the default first
    "sift": ((0.97, 0.99), (0.97, 0.95), (0.96, 0.95), (0.95, 0.9)),
    "lightpoint": ((0.97, 0.99), (0.96, 0.99), (0.95, 0.99), (0.93, 0.99)),
}
SHOWN = {"sift": "SIFT", "lightpoint": "LightPoint"}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--features", choices=[*SETTINGS], default="sift")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--keypoints", type=int, default=1024)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    settings = SETTINGS[arguments.features]
    matchers = tuple(f"lightglue:{_checkpoint(arguments.features, arguments.work, *one)}" for one in settings)
    rows: list[dict[str, Any]] = []
    for name, one in SETS.items():
        roots = (arguments.data / "eval" / one.folder,) if one.folder else ()
        options = {"estimators": ("poselib",), "features": arguments.features, **one.options}
        config = EvaluateConfig(one.suite, roots, matchers=matchers, max_keypoints=(arguments.keypoints,), **options)
        scores = evaluate(arguments.work / name.replace(", ", "-"), config, overwrite=True).scores
        draws = draw_pairs(len(scores[0].values["num_matches"]), 1000, 0)
        areas = [Area("", one.robust_error, one.threshold)(found, draws) for found in scores]
        for setting, found, area in zip(settings, scores, areas, strict=True):
            row = {"set": name, "measure": f"AUC@{one.threshold:g}{one.unit}", "depth": setting[0], "width": setting[1]}
            row |= {"layers": float(found.values["stop_layer"].mean())}
            row |= {"matches": float(found.values["num_matches"].mean())}
            rows.append({**row, "area": Interval.of(area), "difference": Interval.of(area - areas[0])})
            print(_line(rows[-1]), flush=True)
    path = HERE / "results" / "exits.json"
    plain = [{key: vars(v) if isinstance(v, Interval) else v for key, v in row.items()} for row in rows]
    found = {"machine": describe_machine(), "keypoints": arguments.keypoints, "rows": plain}
    content = json.loads(path.read_text()) | {arguments.features: found}
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    write_page("exits")


def _checkpoint(features: str, folder: Path, depth_confidence: float, width_confidence: float) -> Path:
    """A file of the embedded weights with this setting as its own."""
    matcher = LightGlue.from_pretrained(features)
    matcher.config = replace(matcher.config, depth_confidence=depth_confidence, width_confidence=width_confidence)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"depth{depth_confidence:g}-width{width_confidence:g}.safetensors"
    matcher.save(path)
    return path


def _line(row: dict[str, Any]) -> str:
    intervals = (row[key] if isinstance(row[key], Interval) else Interval(**row[key]) for key in ("area", "difference"))
    numbers = f"{row['layers']:.2f} | {row['matches']:.0f} | {' | '.join(map(text, intervals))}"
    return f"| {row['set']} | {row['measure']} | {row['depth']:g} | {row['width']:g} | {numbers} |"


def page(_: str, content: dict[str, Any]) -> str:
    """docs/exits.md from exits.json."""
    lines = [
        "# Adaptive depth and width: early exits and point pruning",
        "",
        "LightGlue with the weights in the package, models by PoseLib: made by `python benchmarks/exits.py --features"
        " NAME`. In brackets: 95 % intervals over pairs; differences are to the default, the first setting, on the same"
        " pairs. Both are options of `LightGlue.from_pretrained`; for the time they save see [Speed](speed.md).",
    ]
    for features, found in content.items():
        lines += ["", f"## {SHOWN[features]}, {found['keypoints']} keypoints", "", *_tables(found["rows"])]
    return "\n".join(lines) + "\n"


def _tables(rows: list[dict[str, Any]]) -> list[str]:
    means = []
    for depth, width in dict.fromkeys((row["depth"], row["width"]) for row in rows):
        of = [row for row in rows if (row["depth"], row["width"]) == (depth, width)]
        layers, matches = (sum(row[key] for row in of) / len(of) for key in ("layers", "matches"))
        area, difference = (sum(row[key]["value"] for row in of) / len(of) for key in ("area", "difference"))
        means.append(f"| {depth:g} | {width:g} | {layers:.2f} | {matches:.0f} | {area:.1f} | {difference:.1f} |")
    return [
        "Means over all sets:",
        "",
        "| depth_confidence | width_confidence | layers of 6 | matches | area | difference |",
        "|---:|---:|---:|---:|---:|---:|",
        *means,
        "",
        "| set | measure | depth | width | layers | matches | area | difference |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *map(_line, rows),
    ]


if __name__ == "__main__":
    main()
