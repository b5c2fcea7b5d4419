"""LightGlue on SIFT against nearest neighbours on all visible sets: same features, same estimators, paired intervals.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/lightglue_sift.py --work runs/scores [--weights FILE]
Writes benchmarks/results/lightglue_sift.json and docs/lightglue-sift.md. The work folder keeps features and matches.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import describe_machine
from pages import write_page

from lightmatch.evaluation.bootstrap import Interval, draw_pairs
from lightmatch.evaluation.estimators import ModelSearch
from lightmatch.evaluation.measures import Area, Mean, Median, RecallAtPrecision
from lightmatch.evaluation.scoring import Scores, error_key
from lightmatch.evaluation.suites import SUITES
from lightmatch.pipelines.evaluate import EvaluateConfig, EvaluationResult, evaluate
from lightmatch.weights import pretrained_path

HERE = Path(__file__).parent
KEYPOINTS = (512, 1024, 2048)
STRICT = 0.8  # score threshold where plain least squares is to do without a robust estimator
RATIOS = (0.7, 0.75, 0.8, 0.85, 0.9)
BASELINES = ("nearest:none", *(f"nearest:{ratio:g}{way}" for way in ("", ",oneway") for ratio in RATIOS))


@dataclass(frozen=True)
class Set:
    """A visible set: its suite, where it lies below eval/, and how it is described."""

    suite: str
    folder: str
    options: dict[str, Any]
    threshold: float  # of the area under the curve of errors
    unit: str

    @property
    def robust_error(self) -> str:
        """The key in `Scores.values` of the errors of the robust estimator's models."""
        return error_key(ModelSearch("poselib", SUITES[self.suite].threshold_px))


def _worlds(level: str) -> Set:
    return Set("worlds", "", {"levels": (level,), "num_pairs": 40}, 10, "°")


SETS = {
    "Oxford": Set("homographies", "oxford_affine", {"estimators": ("dlt", "poselib")}, 5, " px"),
    "homogr": Set("correspondences", "homogr", {}, 5, " px"),
    "fundamental": Set("correspondences", "fundamental", {}, 5, " px"),
    "templeRing, 50–70°": Set(
        "poses", "middlebury_templeRing47", {"min_angle_deg": 50.0, "max_angle_deg": 70.0}, 10, "°"
    ),
    "fountain": Set("poses", "strecha/fountain-P11", {}, 10, "°"),
    "lund_door": Set("poses", "lund_door", {}, 10, "°"),
    "reichstag": Set("poses", "imc_reichstag", {}, 10, "°"),
    **{f"worlds, {level}": _worlds(level) for level in ("easy", "medium", "hard", "repeated")},
}


class Comparison(NamedTuple):
    """LightGlue against the baseline that is hardest for it, on the same pairs."""

    set: str
    keypoints: int
    measure: str
    baseline: str
    of_baseline: Interval
    of_lightglue: Interval
    difference: Interval


def compare(name: str, one: Set, scores: Sequence[Scores]) -> list[Comparison]:
    """Headline numbers of one set with one number of keypoints; scores: the baselines, then LightGlue, then others."""
    baselines = [one for one in scores if one.method in BASELINES]
    ours = scores[len(baselines)]
    draws = _draws(ours)
    area, recall = Area("", one.robust_error, one.threshold), Mean("", "recall", 100)
    of = {f"AUC@{one.threshold:g}{one.unit}": [(b, area(b, draws), area(ours, draws)) for b in baselines]}
    if ours.sweep is not None and ours.sweep.has_recall:
        # The true matches are one to one, so that nearest neighbours one way are no fair rival.
        mutual = [baseline for baseline in baselines if not baseline.method.endswith(",oneway")]
        of["recall at its precision (%)"] = [
            (b, recall(b, draws), RecallAtPrecision("", b)(ours, draws)) for b in mutual
        ]
    rows = []
    for measure, candidates in of.items():
        baseline, theirs, mine = min(candidates, key=lambda row: row[2][0] - row[1][0])
        intervals = (Interval.of(values) for values in (theirs, mine, mine - theirs))
        rows.append(Comparison(name, ours.max_keypoints, measure, baseline.method, *intervals))
    return rows


def dlt_gap(one: Set, scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """For each matcher: AUC by plain DLT on all matches, by the robust estimator, and the difference."""
    rows = []
    for found in scores:
        keys = error_key(ModelSearch("dlt")), one.robust_error
        dlt, robust = (Area("", key, one.threshold)(found, _draws(found)) for key in keys)
        intervals = {"dlt": dlt, "robust": robust, "gap": robust - dlt}
        of = {name: vars(Interval.of(values)) for name, values in intervals.items()}
        rows.append({"keypoints": found.max_keypoints, "matcher": found.method, **of})
    return rows


def adaptivity(name: str, one: Set, adaptive: Scores, full: Scores) -> dict[str, Any]:
    """Time and accuracy with adaptive depth and width and without, paired."""
    draws = _draws(full)
    area, time = Area("", one.robust_error, one.threshold), Median("", "match_ms")
    return {
        "set": name,
        "keypoints": full.max_keypoints,
        "layers": float(adaptive.values["stop_layer"].mean()),
        "full_ms": float(time(full, draws)[0]),
        "adaptive_ms": float(time(adaptive, draws)[0]),
        "time_ratio": vars(Interval.of(time(adaptive, draws) / time(full, draws))),
        "area_gained": vars(Interval.of(area(adaptive, draws) - area(full, draws))),
    }


def text(interval: Interval) -> str:
    """One number and its interval."""
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="instead of those in the package")
    parser.add_argument("--set", action="append", choices=[*SETS], help="only these; nothing is written then")
    parser.add_argument("--keypoints", type=int, action="append")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data with --data or LIGHTMATCH_DATA")
    ours = f"lightglue:{arguments.weights}" if arguments.weights else "lightglue"
    matchers, keypoints = (*BASELINES, ours, f"{ours},full"), tuple(arguments.keypoints or KEYPOINTS)
    results: dict[str, EvaluationResult] = {}
    for name in arguments.set or SETS:
        one = SETS[name]
        roots = (arguments.data / "eval" / one.folder,) if one.folder else ()
        options: dict[str, Any] = {"estimators": ("poselib",), **one.options}
        strict = tuple(f"{matcher}@{STRICT}" for matcher in matchers[-2:]) if "dlt" in options["estimators"] else ()
        config = EvaluateConfig(one.suite, roots, matchers=matchers + strict, max_keypoints=keypoints, **options)
        results[name] = evaluate(arguments.work / name.replace(", ", "-"), config, overwrite=True)
        for row in _comparisons({name: results[name]}):
            print(_row(_plain(row)), flush=True)
    if arguments.set or arguments.keypoints:
        return
    weights = arguments.weights or pretrained_path("lightglue", "sift")
    machine = {**describe_machine(), "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    content = {
        "machine": machine,
        "comparisons": [_plain(row) for row in _comparisons(results)],
        "dlt_gap": [row for scores in _by_keypoints(results["Oxford"]) for row in dlt_gap(SETS["Oxford"], scores)],
        "adaptivity": [
            adaptivity(name, SETS[name], *scores[len(BASELINES) : len(BASELINES) + 2])
            for name, result in results.items()
            for scores in _by_keypoints(result)
        ],
        # Each number of keypoints has a table of numbers and one of differences, which "comparisons" holds.
        "sets": {name: [table.to_json() for table in r.tables[::2]] for name, r in results.items()},
    }
    short = json.loads(json.dumps(content), parse_float=lambda number: round(float(number), 4))
    (HERE / "results" / "lightglue_sift.json").write_text(json.dumps(short, ensure_ascii=False) + "\n")
    write_page("lightglue_sift")


def _draws(scores: Scores) -> np.ndarray:
    return draw_pairs(len(scores.values["num_matches"]), 1000, 0)


def _by_keypoints(result: EvaluationResult) -> list[list[Scores]]:
    """The scores of all matchers, for each number of keypoints."""
    counts = dict.fromkeys(one.max_keypoints for one in result.scores)
    return [[one for one in result.scores if one.max_keypoints == count] for count in counts]


def _comparisons(results: dict[str, EvaluationResult]) -> list[Comparison]:
    return [
        row
        for name, result in results.items()
        for scores in _by_keypoints(result)
        for row in compare(name, SETS[name], scores)
    ]


def _plain(row: Comparison) -> dict[str, Any]:
    return {name: vars(value) if isinstance(value, Interval) else value for name, value in row._asdict().items()}


def _row(row: dict[str, Any]) -> str:
    intervals = " | ".join(text(Interval(**row[key])) for key in ("of_baseline", "of_lightglue", "difference"))
    return f"| {row['set']} | {row['keypoints']} | {row['measure']} | {row['baseline']} | {intervals} |"


def _dlt_row(row: dict[str, Any]) -> str:
    intervals = " | ".join(text(Interval(**row[key])) for key in ("dlt", "robust", "gap"))
    return f"| {row['keypoints']} | {row['matcher']} | {intervals} |"


def _adaptivity_row(row: dict[str, Any]) -> str:
    ratio, gained = Interval(**row["time_ratio"]), Interval(**row["area_gained"])
    return (
        f"| {row['set']} | {row['keypoints']} | {row['layers']:.1f} | {row['full_ms']:.0f} | {row['adaptive_ms']:.0f}"
        f" | {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] | {text(gained)} |"
    )


def page(_: str, content: dict[str, Any]) -> str:
    """docs/lightglue-sift.md from lightglue_sift.json."""
    machine = content["machine"]
    lines = [
        "# LightGlue on SIFT",
        "",
        "Made by `python benchmarks/lightglue_sift.py`; every number with machine and versions is in"
        " `benchmarks/results/lightglue_sift.json`. Weights with SHA-256 "
        f"{machine['weights_sha256'][:16]}…, commit {machine['commit']}, {machine['cpu']}, {machine['num_cpus']} cores."
        " Metrics and sets: [evaluation](evaluation.md#metrics). The weights are those before their early exits were"
        " calibrated; today's: [Early exits](exits.md). Models by PoseLib. In brackets: 95 % intervals over"
        " pairs; differences are on the same pairs.",
        "",
        "## Against the strongest baseline",
        "",
        "Each row compares with the strongest of the baselines " + ", ".join(BASELINES) + ".",
        "",
        "| set | keypoints | measure | baseline | baseline's | LightGlue's | difference |",
        "|---|---|---|---|---:|---:|---:|",
        *map(_row, content["comparisons"]),
        "",
        "## Homographies without a robust estimator",
        "",
        "AUC@5 px on Oxford: DLT on all matches, and PoseLib. LightGlue with its own threshold of 0.2, or with that of"
        f' {STRICT} where its name ends in "@{STRICT}"; "full" is without adaptive depth and width.',
        "",
        "| keypoints | matcher | DLT | robust | gap |",
        "|---|---|---:|---:|---:|",
        *map(_dlt_row, content["dlt_gap"]),
        "",
        "## Adaptive depth and width against full depth",
        "",
        "| set | keypoints | layers run | full, ms | adaptive, ms | adaptive / full | AUC, adaptive − full |",
        "|---|---|---:|---:|---:|---:|---:|",
        *map(_adaptivity_row, content["adaptivity"]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
