"""LightGlue on SIFT against nearest neighbours on all visible sets: same features, same estimators, paired intervals.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/lightglue_sift.py --work runs/scores [--weights FILE]
Writes benchmarks/results/lightglue_sift.json and docs/lightglue-sift.md. The work folder keeps features and matches.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from common import describe_machine

from lightmatch.pipelines.evaluate import EvaluateConfig, evaluate

HERE = Path(__file__).parent
KEYPOINTS = (512, 1024, 2048)
REFERENCE = "ratio:0.8"
BASELINES = (REFERENCE, "nearest", "ratio:0.7", "ratio:0.75", "ratio:0.85", "ratio:0.9", "oneway:0.8")
SETS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: suite, folder below eval/, options
    "Oxford": ("homographies", "oxford_affine", {"estimators": ("dlt", "poselib")}),
    "homogr": ("correspondences", "homogr", {}),
    "fundamental": ("correspondences", "fundamental", {}),
    "templeRing, 50–70°": ("poses", "middlebury_templeRing47", {"min_angle_deg": 50.0, "max_angle_deg": 70.0}),
    "fountain": ("poses", "strecha/fountain-P11", {}),
    "lund_door": ("poses", "lund_door", {}),
    "reichstag": ("poses", "imc_reichstag", {}),
    "worlds": ("worlds", "", {"num_pairs": 40}),
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="instead of those in the package")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    ours = f"lightglue:{arguments.weights}" if arguments.weights else "lightglue"
    results: dict[str, Any] = {"machine": describe_machine(), "sets": {}}
    sections = []
    for name, (suite, folder, options) in SETS.items():
        roots = (arguments.data / "eval" / folder,) if folder else ()
        options = {"estimators": ("poselib",), **options}
        matchers = (*BASELINES, ours, f"{ours},full")
        config = EvaluateConfig(suite, roots, matchers=matchers, max_keypoints=KEYPOINTS, **options)
        print(name, flush=True)
        result = evaluate(arguments.work / suite / (folder or "rendered"), config, overwrite=True)
        results["sets"][name] = [table.to_json() for table in (*result.tables, *result.scene_tables)]
        sections += [f"# {name}", "", *(table.markdown() for table in result.tables), *result.notes, ""]
    (HERE / "results" / "lightglue_sift.json").write_text(json.dumps(results, indent=1) + "\n")
    text = "\n".join(sections).replace(ours, "lightglue")
    (HERE.parent / "docs" / "lightglue-sift.md").write_text(text)


if __name__ == "__main__":
    main()
