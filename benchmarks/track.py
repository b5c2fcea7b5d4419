"""Track real and rendered sequences: errors against the truth, frames tracked, milliseconds a frame, memory.

Usage: python benchmarks/track.py --data FOLDER [--work FOLDER] [--threads 2]
    [--parts sequences peers hard places memory]
--data holds the evaluation sets (track_kitti_turn, track_redkitchen, tum_fr3_office_17frames, slambook_loop_ch11).
Parts that are not named keep the results they have. Writes benchmarks/results/track.json and docs/track.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, describe_machine
from pages import write_page
from track_errors import evo_errors
from track_hard import hard_cases, measure_hard
from track_measure import final_errors, measure, measure_klt, measure_offline, track, trajectory_of
from track_memory import measure_memory
from track_places import measure_places
from track_sequences import DEPTHS, ONE, Run, plaza_runs, real_runs

from lightmatch.runtime.devices import keep_freed_memory
from lightmatch.runtime.threads import use_threads

RESULT = RESULTS / "track.json"


def measure_sequences(runs: Iterator[Run]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the table of sequences, each with the list that it belongs to; and what evo says of one of them."""
    is_checked = False
    for run in runs:
        for mode, background in (("one_after_other", False), ("background", True)):
            yield mode, measure(run, background)
        if run.kind != ONE and not is_checked:
            is_checked = True
            yield "evo", _compared_with_evo(run)


def measure_peers(runs: Iterator[Run], work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of what tracking is compared with, each with the list that it belongs to."""
    for run in runs:
        if run.kind == ONE:
            yield "klt", measure_klt(run)
            yield "offline", measure_offline(run, work / "offline")


def _compared_with_evo(run: Run) -> dict[str, Any]:
    """Our errors of a run and those that evo finds. Raises AssertionError where they differ."""
    tracked = track(run)
    ours = final_errors(run, tracked)
    frames = round(1 / float(np.median(np.diff(run.times))))
    evo = evo_errors(trajectory_of(run, tracked.trajectory), run.is_metric, frames)
    assert ours.ate_m is not None and evo.ate_m is not None and abs(ours.ate_m - evo.ate_m) < 1e-6, (ours, evo)
    return {"name": run.name, "kind": run.kind, "ours": asdict(ours), "evo": asdict(evo)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("sequences", "peers", "hard", "places", "memory")
    parser.add_argument("--data", type=Path, required=True, help="folder of the evaluation sets")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightmatch-benchmark-track")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--frames", type=int, default=2000, help="of the run that memory is measured on")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    keep_freed_memory()
    use_threads(arguments.threads)
    facts = {"machine": describe_machine(), "threads": arguments.threads}

    def sequences() -> dict[str, Any]:
        found: dict[str, Any] = {**facts, "one_after_other": [], "background": []}
        for name, row in measure_sequences(chain(real_runs(arguments.data), plaza_runs())):
            found.update({name: row} if name == "evo" else {name: [*found[name], row]})
            print(name, row, flush=True)
        return found

    def peers() -> dict[str, Any]:
        found: dict[str, Any] = {**facts, "klt": [], "offline": []}
        for name, row in measure_peers(chain(real_runs(arguments.data), plaza_runs()), arguments.work):
            found[name].append(row)
            print(name, row, flush=True)
        return {"peers": found}

    def hard() -> dict[str, Any]:
        rows = []
        for case in hard_cases():
            rows.append(measure_hard(case))
            print(rows[-1], flush=True)
        return {"hard": {**facts, "rows": rows}}

    def places() -> dict[str, Any]:
        return {"places": {**facts, **measure_places(arguments.data)}}

    def memory() -> dict[str, Any]:
        runs = {kind: measure_memory(kind, arguments.frames, arguments.threads) for kind in (ONE, DEPTHS)}
        return {"memory": {**facts, "runs": runs}}

    functions = (sequences, peers, hard, places, memory)
    measured: dict[str, Callable[[], dict[str, Any]]] = dict(zip(parts, functions, strict=True))
    for part in parts:
        if part not in arguments.parts:
            continue
        results = json.loads(RESULT.read_text(encoding="utf-8"))
        results.update(measured[part]())
        RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_page("track")


if __name__ == "__main__":
    main()
