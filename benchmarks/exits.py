"""What calibrated exits save and cost: LightGlue with the weights in the package on all visible sets, and its time.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/exits.py --features sift --work runs/exits [--only-times]
Writes its part of benchmarks/results/exits.json, and docs/exits.md. The work folder, one for each kind of features,
keeps features and matches. `--only-times` measures the times alone, on an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import describe_machine, fill_table
from lightglue_sift import SETS, text
from pages import write_page

from lightmatch.evaluation.bootstrap import Interval, draw_pairs
from lightmatch.evaluation.calibration import share_lost
from lightmatch.evaluation.measures import Area
from lightmatch.evaluation.world_files import cached_worlds
from lightmatch.extractors import create_extractor
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.images import list_images, load_image
from lightmatch.matchers import LightGlue
from lightmatch.pipelines.evaluate import EvaluateConfig, evaluate
from lightmatch.runtime.devices import fast_dtype
from lightmatch.types import Features

HERE = Path(__file__).parent
FULL, CALIBRATED, BY_HAND = "full depth", "calibrated", "by hand"
SETTINGS: dict[str, dict[str, Any]] = {
    FULL: {"calibration": None, "depth_confidence": None, "width_confidence": None},
    CALIBRATED: {},
    BY_HAND: {"depth_confidence": 0.95, "width_confidence": 0.99, "exit_rule": "settled"},  # the paper's
}
SHOWN = {"sift": "SIFT", "lightpoint": "LightPoint", "aliked_n16rot": "ALIKED-N(16)rot"}
PLACES = {  # for pairs without overlap: photos of different places
    "fountain": "strecha/fountain-P11/images",
    "lund_door": "lund_door/images",
    "reichstag": "imc_reichstag/images",
    "castle": "sfm_sceaux_castle",
    "lund": "sfm_opensfm_lund",
}
TIMED = {"easy": "worlds, easy", "medium": "worlds, medium", "hard": "worlds, hard", "without overlap": ""}
MIN_INLIERS = 30
ROUNDS = 5


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--features", choices=[*SHOWN], default="sift")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--keypoints", type=int, default=1024)
    parser.add_argument("--only-times", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    path = HERE / "results" / "exits.json"
    content = json.loads(path.read_text()) if path.is_file() else {}
    found = content.get(arguments.features, {})
    if not arguments.only_times:
        found |= {"machine": describe_machine(), "keypoints": arguments.keypoints}
        found |= {"rows": _accuracy(arguments), "pairs": _pairs(arguments)}
        calibration = LightGlue.from_pretrained(arguments.features).config.calibration
        found["calibration"] = "" if calibration is None else calibration.summary()
    found |= {"times": _times(arguments), "times_machine": describe_machine()}
    path.write_text(json.dumps(content | {arguments.features: found}, ensure_ascii=False, indent=1) + "\n")
    write_page("exits")


def _accuracy(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Of every set and setting: layers, matches, area under the curve of errors, and its difference to full depth."""
    matchers = tuple(f"lightglue:{_file(arguments, name)}" for name in SETTINGS)
    rows: list[dict[str, Any]] = []
    for name, one in SETS.items():
        roots = (arguments.data / "eval" / one.folder,) if one.folder else ()
        options: dict[str, Any] = {"estimators": ("poselib",), "features": arguments.features, **one.options}
        config = EvaluateConfig(one.suite, roots, matchers=matchers, max_keypoints=(arguments.keypoints,), **options)
        scores = evaluate(arguments.work / name.replace(", ", "-"), config, overwrite=True).scores
        draws = draw_pairs(len(scores[0].values["num_matches"]), 1000, 0)
        areas = [Area("", one.robust_error, one.threshold)(found, draws) for found in scores]
        for setting, found, area in zip(SETTINGS, scores, areas, strict=True):
            row: dict[str, Any] = {"set": name, "measure": f"AUC@{one.threshold:g}{one.unit}", "setting": setting}
            row |= {"layers": float(found.values["stop_layer"].mean())}
            row |= {"matches": float(found.values["num_matches"].mean())}
            row |= {"area": vars(Interval.of(area)), "difference": vars(Interval.of(area - areas[0]))}
            rows.append(row)
            print(_line(row), flush=True)
    return rows


def _pairs(arguments: argparse.Namespace) -> dict[str, Any]:
    """On all pairs of photos of the places: what the exits keep of full depth, and which pairs they reject."""
    extractor = create_extractor(arguments.features, max_keypoints=arguments.keypoints)
    features = {
        (place, path.name): extractor(load_image(path))
        for place, folder in PLACES.items()
        for path in list_images(arguments.data / "eval" / folder)[:12]
    }
    matchers = {name: _matcher(arguments.features, name) for name in SETTINGS}
    counts: dict[str, dict[str, float]] = {name: {"verified": 0, "others": 0, "lost": 0.0} for name in SETTINGS}
    verified = others = 0
    for (name0, features0), (name1, features1) in itertools.combinations(features.items(), 2):
        full = matchers[FULL](features0, features1)
        points0, points1 = full.points(features0, features1)
        inliers = estimate_fundamental(points0, points1, SearchOptions(threshold_px=3.0)).num_inliers
        overlaps = inliers >= MIN_INLIERS
        if name0[0] != name1[0] and (overlaps or (hash_of(name0, name1) % 4)):
            continue  # a quarter of the pairs of different places will do
        verified, others = verified + overlaps, others + (not overlaps)
        confident = full.indices[full.scores >= 0.5]
        for name in SETTINGS:
            found = full if name == FULL else matchers[name](features0, features1)
            rejected = len(found) == 0 and int(found.stop_layer or 0) < matchers[name].config.num_layers
            counts[name]["verified" if overlaps else "others"] += rejected
            if overlaps and not rejected:
                counts[name]["lost"] += share_lost(confident, found.indices)
    return {
        "verified": verified,
        "others": others,
        "settings": {
            name: {
                "agreement": 1 - one["lost"] / max(1, verified - one["verified"]),
                "false_rejections": one["verified"] / max(1, verified),
                "right_rejections": one["others"] / max(1, others),
            }
            for name, one in counts.items()
        },
    }


def hash_of(*names: tuple[str, str]) -> int:
    """A number that is the same in every run."""
    return sum(map(ord, "".join(itertools.chain(*names))))


def _times(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """How many times as fast as at full depth: medians of rounds in which all settings match the same pairs in turn."""
    dtype = fast_dtype("cpu")
    matchers = {name: _matcher(arguments.features, name, dtype) for name in SETTINGS}
    ratios: dict[str, dict[str, float]] = {}
    for kind, level in TIMED.items():
        pairs = _timed_pairs(arguments, level)
        seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
        for matcher in matchers.values():
            matcher(*pairs[0])  # folds its weights
        for _ in range(ROUNDS):
            for name, matcher in matchers.items():
                start = time.perf_counter()
                for pair in pairs:
                    matcher(*pair)
                seconds[name].append(time.perf_counter() - start)
        ratios[kind] = {
            name: statistics.median(full / own for full, own in zip(seconds[FULL], times, strict=True))
            for name, times in seconds.items()
        }
        ratios[kind]["full depth, ms"] = 1000 * statistics.median(seconds[FULL]) / len(pairs)
        print(kind, ratios[kind], flush=True)
    return ratios


def _timed_pairs(arguments: argparse.Namespace, level: str) -> list[tuple[Features, Features]]:
    extractor = create_extractor(arguments.features, max_keypoints=arguments.keypoints)
    if level:
        [name] = SETS[level].options["levels"]
        rendered = (pair.load() for pair in cached_worlds(arguments.work / "timed", name, 12, 0, 640))
        return [(extractor(image0), extractor(image1)) for image0, image1 in rendered]
    first = [list_images(arguments.data / "eval" / folder)[:3] for folder in PLACES.values()]
    photos = [[extractor(load_image(path)) for path in paths] for paths in first]
    return [(a[n], b[n]) for a, b in itertools.combinations(photos, 2) for n in (0, 1)][:12]


def _matcher(features: str, setting: str, dtype: torch.dtype = torch.float32) -> LightGlue:
    return LightGlue.from_pretrained(features, dtype=dtype, **SETTINGS[setting])


def _file(arguments: argparse.Namespace, setting: str) -> Path:
    """A file of the embedded weights with this setting as its own."""
    path = arguments.work / f"{setting.replace(' ', '-')}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    _matcher(arguments.features, setting).save(path)
    return path


def _line(row: dict[str, Any]) -> str:
    intervals = (Interval(**row[key]) for key in ("area", "difference"))
    numbers = f"{row['layers']:.2f} | {row['matches']:.0f} | {' | '.join(map(text, intervals))}"
    return f"| {row['set']} | {row['measure']} | {row['setting']} | {numbers} |"


def page(text_of_page: str, content: dict[str, Any]) -> str:
    """docs/exits.md with the tables that exits.json gives."""
    for features, found in content.items():
        lines = [f"{SHOWN[features]}, {found['keypoints']} keypoints; {found['calibration'] or 'not calibrated'}.", ""]
        lines += [*_time_table(found), "", *_pair_table(found["pairs"]), "", *_tables(found["rows"])]
        text_of_page = fill_table(text_of_page, features, lines)
    return text_of_page


def _time_table(found: dict[str, Any]) -> list[str]:
    machine, times = found["times_machine"], found["times"]
    return [
        f"Times as fast as full depth, one pair at a time, fastest precision ({machine['cpu']},"
        f" {machine['num_cpus']} cores, {machine['instructions']}):",
        "",
        f"| pairs | full depth, ms | {CALIBRATED} | {BY_HAND} |",
        "|---|---:|---:|---:|",
        *(
            f"| {kind} | {row['full depth, ms']:.0f} | {row[CALIBRATED]:.2f} | {row[BY_HAND]:.2f} |"
            for kind, row in times.items()
        ),
    ]


def _pair_table(found: dict[str, Any]) -> list[str]:
    return [
        f"Pairs of {len(PLACES)} places that took no part in the calibration: {found['verified']} that full depth"
        f" verifies, {found['others']} others.",
        "",
        "| setting | confident matches kept | verified pairs rejected | other pairs rejected |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {100 * one['agreement']:.1f} % | {100 * one['false_rejections']:.1f} % |"
            f" {100 * one['right_rejections']:.0f} % |"
            for name, one in found["settings"].items()
        ),
    ]


def _tables(rows: list[dict[str, Any]]) -> list[str]:
    means = []
    for setting in SETTINGS:
        of = [row for row in rows if row["setting"] == setting]
        layers, matches = (sum(row[key] for row in of) / len(of) for key in ("layers", "matches"))
        area, difference = (sum(row[key]["value"] for row in of) / len(of) for key in ("area", "difference"))
        means.append(f"| {setting} | {layers:.2f} | {matches:.0f} | {area:.1f} | {difference:.1f} |")
    return [
        "Means over all sets:",
        "",
        "| setting | layers | matches | area | difference |",
        "|---|---:|---:|---:|---:|",
        *means,
        "",
        "| set | measure | setting | layers | matches | area | difference |",
        "|---|---|---|---:|---:|---:|---:|",
        *map(_line, rows),
    ]


if __name__ == "__main__":
    main()
