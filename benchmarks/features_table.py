"""LightPoint against other features, each with the matchers it is used with: accuracy and time on real photos.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/features_table.py --work runs/features
           [--keypoints 512 1024 2048] [--scene FOLDER --scene …] [--features sift …] [--set fountain …]
Writes benchmarks/results/features_table.json and docs/features-table.md. What was measured before stays, each result
with its commit; --features and --set choose what is measured anew. The work folder keeps features and matches.
--scene takes scenes with known poses: a finished `lightmatch reconstruct` output, or a COLMAP model beside images/.
--only-times measures nothing but milliseconds, --only-page writes the page from the results there are.
LIGHTMATCH_HOME and LIGHTMATCH_WEIGHTS say where released weights lie; rows without weights are left out and named.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

from common import describe_machine
from features_page import write_page
from features_rows import ROWS, Measured, Numbers, ResultFile, Set, names_hash, row_name, scene_sets, visible_sets
from features_times import measure_times

from lightmatch.errors import WeightsError
from lightmatch.evaluation.methods import create_method
from lightmatch.evaluation.scoring import Scores
from lightmatch.evaluation.tables import ResultTable
from lightmatch.extractors import create_extractor
from lightmatch.pipelines.evaluate import EvaluateConfig, evaluate
from lightmatch.runtime.devices import keep_freed_memory

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "features_table.json"
PAGE = HERE.parent / "docs" / "features-table.md"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--work", type=Path, help="keeps features and matches")
    parser.add_argument("--features", nargs="+", choices=[*ROWS], default=[*ROWS])
    parser.add_argument("--keypoints", type=int, nargs="+", default=[1024])
    parser.add_argument("--scene", type=Path, action="append", default=[], help="a scene with known poses; repeatable")
    parser.add_argument("--set", nargs="+", help="only these sets, by name")
    parser.add_argument("--num-pairs", type=int, help="of each scene at most, for a trial")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only-times", action="store_true")
    parser.add_argument("--only-page", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does: what is timed is what its users get
    results = ResultFile(arguments.results)
    if not arguments.only_page:
        if arguments.data is None or arguments.work is None:
            parser.error("name the data with --data or LIGHTMATCH_DATA, and a work folder with --work")
        sets = [*visible_sets(arguments.data), *scene_sets(arguments.scene)]
        unknown = set(arguments.set or ()) - {one.short_name for one in sets}
        if unknown:
            parser.error(
                f"--set: expected some of {', '.join(one.short_name for one in sets)}, got {', '.join(unknown)}"
            )
        chosen = [one for one in sets if arguments.set is None or one.short_name in arguments.set]
        for features in arguments.features:
            matchers = _available(features, results)
            for one in chosen if matchers and not arguments.only_times else ():
                _measure(features, matchers, one, arguments, results)
            for count in dict.fromkeys(arguments.keypoints) if matchers else ():
                for row in measure_times(features, matchers, count, arguments.data):
                    results.add(row)
            results.write(describe_machine())
    write_page(arguments.page, results)


def _available(features: str, results: ResultFile) -> list[str]:
    """The matchers of these features whose weights can be had; the others are noted."""
    found: list[str] = []
    for matcher in ROWS[features]:
        try:
            create_method(matcher, create_extractor(features).kind)
            found.append(matcher)
        except WeightsError as error:
            results.leave_out(row_name(features, matcher), str(error))
            print(f"{row_name(features, matcher)}: left out, {error}", flush=True)
    return found


def _measure(
    features: str, matchers: Sequence[str], one: Set, arguments: argparse.Namespace, results: ResultFile
) -> None:
    start = time.perf_counter()
    options = {**one.options, **({"num_pairs": arguments.num_pairs} if arguments.num_pairs else {})}
    config = EvaluateConfig(
        one.suite,
        (one.root,),
        matchers=tuple(matchers),
        features=features,
        max_keypoints=tuple(arguments.keypoints),
        estimators=one.estimators,
        **options,
    )
    folder = arguments.work / f"{features}-{one.short_name}"
    result = evaluate(folder, config, overwrite=True)
    names = _pair_names(folder)
    machine = describe_machine()
    counts = dict.fromkeys(arguments.keypoints)
    tables = dict(zip(counts, result.tables[:: _tables_each(matchers)], strict=True))
    for scores in result.scores:
        numbers = _numbers(tables[scores.max_keypoints], scores.method)
        results.add(
            Measured(
                features,
                scores.method,
                scores.max_keypoints,
                one.name,
                one.suite,
                str(machine["commit"]),
                len(names),
                names_hash(names),
                numbers,
                _errors(scores, one),
            )
        )
    results.write(machine)
    print(f"{features}, {one.name}: {len(names)} pairs, {time.perf_counter() - start:.0f} s", flush=True)


def _tables_each(matchers: Sequence[str]) -> int:
    """Tables for one number of keypoints: of numbers, and, where there are several matchers, of differences."""
    return 2 if len(matchers) > 1 else 1


def _pair_names(folder: Path) -> list[str]:
    with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return list(dict.fromkeys(f"{row['scene']} {row['pair']}" for row in csv.DictReader(file)))


def _numbers(table: ResultTable, matcher: str) -> dict[str, Numbers]:
    """Value, low, high of each measure, the times left out: those are measured apart."""
    rows = [row for row in table.to_json()["rows"] if row["matcher"] == matcher and "(ms)" not in row["measure"]]
    return {row["measure"]: (_short(row["value"]), _short(row["low"]), _short(row["high"])) for row in rows}


def _errors(scores: Scores, one: Set) -> list[float | None]:
    return [_short(float(error)) for error in scores.values[one.error_key]]


def _short(number: float | None) -> float | None:
    return round(number, 3) if number is not None and math.isfinite(number) else None


if __name__ == "__main__":
    main()
