"""Which features `reconstruct` takes by default, on real photos, all of them and every second to twelfth.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/features_auto.py
Writes benchmarks/results/features_auto.json and, with what reconstruct_sets.py measured, the tables of
docs/features.md: photos registered with SIFT and with LightPoint where that was tried, and core seconds of the default
and of SIFT alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import RESULTS, describe_machine, fill_table
from pages import write_page
from reconstruct_sets import SETS as WHOLE_SETS
from reconstruct_sets import run_set, spread

from lightmatch.inputs import find_inputs
from lightmatch.pipelines.output import is_output

SETS = (  # folder of photos below eval/, and which of them are taken: every n-th
    ("slambook_loop_ch11", 1),
    ("sfm_sceaux_castle", 2),
    ("strecha/fountain-P11", 3),
    ("imc_reichstag/images", 2),
    ("lund_door/images", 3),
    ("sfm_opensfm_lund", 2),
    ("tum_fr3_office_17frames", 2),
    ("middlebury_templeRing47", 4),
    ("middlebury_templeRing47", 6),
    ("track_redkitchen/rgb", 12),
    ("track_kitti_turn/image_l", 4),
)
DEFAULT, SIFT = "lightmatch", "lightmatch, SIFT"


def take(folder: Path, every: int, target: Path) -> None:
    """Links to every n-th photo of a folder, by name."""
    target.mkdir()
    for photo in find_inputs([folder], output=target, is_output=is_output).photos[::every]:
        (target / photo.path.name).symlink_to(photo.path)


def page(text: str, auto: dict[str, Any], sets: dict[str, Any]) -> str:
    """docs/features.md from features_auto.json and reconstruct_sets.json."""
    text = fill_table(text, "whole sets", _whole_sets(sets["sets"]))
    return fill_table(text, "thinned sets", _thinned_sets(auto["sets"]))


def _thinned_sets(measured: list[dict[str, Any]]) -> Iterator[str]:
    yield "| photos | taken | SIFT registers | LightPoint registers | core seconds | of SIFT alone |"
    yield "|---|---|---|---|---|---|"
    for row in measured:
        run = row["default"]
        total = run["num_images"]
        tried = run.get("features_tried", {"sift": run["num_registered"]})
        of_lightpoint = f"{tried['lightpoint']} of {total}" if "lightpoint" in tried else "not tried"
        alone = row.get("sift", run)["core_seconds"]
        taken = "all" if row["every"] == 1 else f"1 of {row['every']}"
        yield (
            f"| {row['set']} | {taken} | {tried['sift']} of {total} | {of_lightpoint} | {run['core_seconds']:.0f}"
            f" | {alone:.0f} |"
        )


def _whole_sets(measured: dict[str, Any]) -> Iterator[str]:
    yield "| set | | registered | position | rotation | AUC@5° | track length | core seconds |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in (name for name in WHOLE_SETS if name in measured):
        of = measured[name]
        for label, runs in (("SIFT", of.get(SIFT, of[DEFAULT])), ("LightPoint", of["lightmatch, LightPoint"])):
            counts = sorted({run["num_registered"] for run in runs if "num_registered" in run})
            cells = (
                name if label == "SIFT" else "",
                label,
                f"{'–'.join(map(str, counts))} of {runs[0]['num_images']}",
                spread(runs, "position_percent", 4, " %"),
                spread(runs, "rotation_deg", 3, "°"),
                spread(runs, "auc5", 1),
                spread(runs, "mean_track_length", 1),
                f"{runs[0]['core_seconds']:.0f}",
            )
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Reconstruct, write."""
    if "LIGHTMATCH_DATA" not in os.environ:
        raise SystemExit("set LIGHTMATCH_DATA to the folder that holds eval/")
    data = Path(os.environ["LIGHTMATCH_DATA"]) / "eval"
    results: dict[str, Any] = {"machine": describe_machine(), "sets": []}
    for name, every in SETS:
        with tempfile.TemporaryDirectory() as scratch:
            photos = Path(scratch, "photos")
            take(data / name, every, photos)
            row: dict[str, Any] = {"set": name.removesuffix("/images"), "every": every}
            row["default"] = run_set(DEFAULT, photos, Path(scratch, "default"), 0)
            if "features_tried" in row["default"]:
                row["sift"] = run_set(SIFT, photos, Path(scratch, "sift"), 0)
        results["sets"].append(row)
        print(json.dumps({key: value for key, value in row["default"].items() if key != "left_out"}), flush=True)
    RESULTS.joinpath("features_auto.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_page("features_auto")


if __name__ == "__main__":
    main()
