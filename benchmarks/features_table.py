"""Every kind of features whose weights can be had, by nearest neighbours, ratio tests and LightGlue: accuracy and time.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/features_table.py --work runs/features [--features sift …]
Writes benchmarks/results/features_table.json and docs/features-table.md. The work folder keeps features and matches.
With --features the rows of others stay as they were.
LIGHTMATCH_WEIGHTS may name folders with weights; kinds whose weights can be had nowhere are left out, and said.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from common import describe_machine

from lightmatch.errors import WeightsError
from lightmatch.evaluation.tables import ResultTable
from lightmatch.extractors import available_extractors, create_extractor
from lightmatch.pipelines.evaluate import EvaluateConfig, evaluate
from lightmatch.weights import matcher_weights

HERE = Path(__file__).parent
MATCHERS = ("mutual", "ratio:0.8", "ratio:0.9", "ratio:0.95")
POSELIB: dict[str, Any] = {"estimators": ("poselib",)}
SETS: dict[str, tuple[str, str, dict[str, Any]]] = {  # suite, folder below eval/, options
    "Oxford": ("homographies", "oxford_affine", POSELIB),
    "fountain": ("poses", "strecha/fountain-P11", POSELIB),
    "templeRing, 50–70°": (
        "poses",
        "middlebury_templeRing47",
        {**POSELIB, "min_angle_deg": 50.0, "max_angle_deg": 70.0},
    ),
}
COLUMNS = {  # heading: set, measure
    "precision": ("Oxford", "precision at 3 px (%)"),
    "recall": ("Oxford", "recall at 3 px (%)"),
    "AUC@5 px": ("Oxford", "AUC@5 px, poselib 2 px"),
    "fountain AUC@10°": ("fountain", "AUC@10°, poselib 1 px"),
    "temple AUC@10°": ("templeRing, 50–70°", "AUC@10°, poselib 1 px"),
    "found": ("Oxford", "keypoints of an image"),
    "ms per image": ("Oxford", "extraction per image, all keypoints (ms)"),
    "ms per pair": ("Oxford", "matching per pair (ms)"),
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--features", action="append", choices=available_extractors())
    parser.add_argument("--keypoints", type=int, default=1024)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    target = HERE / "results" / "features_table.json"
    kept = json.loads(target.read_text()) if arguments.features and target.exists() else {}
    rows: dict[str, dict[str, dict[str, Any]]] = kept.get("rows", {})
    absent: dict[str, str] = kept.get("absent", {})
    for features in arguments.features or available_extractors():
        try:
            create_extractor(features)
        except WeightsError as error:
            absent[features] = str(error)
            continue
        learned = ("lightglue",) if _has_lightglue(features) else ()
        rows[features] = {matcher: {} for matcher in MATCHERS + learned}
        for name, (suite, folder, options) in SETS.items():
            config = EvaluateConfig(
                suite,
                (arguments.data / "eval" / folder,),
                matchers=MATCHERS + learned,
                features=features,
                max_keypoints=(arguments.keypoints,),
                **options,
            )
            result = evaluate(arguments.work / f"{features}-{name.split(',')[0]}", config, overwrite=True)
            for matcher, numbers in _numbers(result.tables[0]).items():
                rows[features][matcher][name] = numbers
            print(f"{features}, {name}: done", flush=True)
    content = {"machine": describe_machine(), "threads": torch.get_num_threads(), "rows": rows, "absent": absent}
    target.write_text(json.dumps(content, ensure_ascii=False) + "\n")
    (HERE.parent / "docs" / "features-table.md").write_text(_page(content, arguments.keypoints))


def _has_lightglue(features: str) -> bool:
    try:
        return matcher_weights("lightglue", features).exists()
    except WeightsError:
        return False


def _numbers(table: ResultTable) -> dict[str, dict[str, list[float]]]:
    """By matcher and measure: value, low, high."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in table.to_json()["rows"]:
        found.setdefault(row["matcher"], {})[row["measure"]] = [round(row[key], 2) for key in ("value", "low", "high")]
    return found


def _page(content: dict[str, Any], keypoints: int) -> str:
    machine = content["machine"]
    lines = [
        "# Features compared",
        "",
        "Made by `python benchmarks/features_table.py --data DATA --work WORK`; every number with its interval is in"
        f" `benchmarks/results/features_table.json`. At most {keypoints} keypoints an image; precision and recall at"
        " 3 px, AUC@5 px, keypoints and times on Oxford at 640 px; models by PoseLib; pairs of the temple are 50 to 70°"
        " apart. In brackets: 95 % intervals over pairs."
        f" Time: {machine['cpu']}, {content['threads']} threads, one image and one pair at a time.",
        "",
        "| features | matcher | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---:|" * len(COLUMNS),
    ]
    for features, matchers in content["rows"].items():
        for matcher, numbers in matchers.items():
            cells = [_cell(heading, numbers[name][measure]) for heading, (name, measure) in COLUMNS.items()]
            lines.append(f"| {features} | {matcher} | {' | '.join(cells)} |")
    if content["absent"]:
        lines += ["", f"Left out, for their weights were not at hand: {', '.join(content['absent'])}."]
    return "\n".join(lines) + "\n"


def _cell(heading: str, numbers: list[float]) -> str:
    value, low, high = numbers
    return f"{value:.1f} [{low:.0f}, {high:.0f}]" if "AUC" in heading else f"{value:.0f}"


if __name__ == "__main__":
    main()
