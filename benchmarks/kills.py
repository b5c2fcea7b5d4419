"""Kill a reconstruction at random moments, start it again each time, and compare the end with an undisturbed run.

Usage: python benchmarks/kills.py PHOTOS OUT [--kills 20] [--seed 0]
OUT gets two folders, undisturbed/ and killed/. Kills are SIGKILL, at moments drawn evenly from what was left of the
undisturbed run's time. Prints one line a kill, and which files of the results differ (none should).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

# Paths and times of a run are in summary.json and what is made of it.
DIFFERENT_BY_NATURE = ("summary.json", "report.html", "store", "database.db", ".lightmatch", ".lightmatch.lock")


def command_of(photos: Path, output: Path, seed: int) -> list[str]:
    options = ["--seed", str(seed), "--device", "cpu", "--quiet", "--json-log", str(output.with_suffix(".log"))]
    return [sys.executable, "-m", "lightmatch", "reconstruct", str(photos), "-o", str(output), *options]


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of every result by its path."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.relative_to(output).parts[0] not in DIFFERENT_BY_NATURE
    }


def last_stage(log: Path) -> str:
    lines = log.read_text().splitlines() if log.is_file() else []
    if not lines:
        return "start"
    event = json.loads(lines[-1])
    return f"{event['stage']}, {event['event']}, {event['done']} of {event['total']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    whole, killed = arguments.output / "undisturbed", arguments.output / "killed"
    start = time.perf_counter()
    subprocess.run(command_of(arguments.photos, whole, arguments.seed), check=True)
    seconds = time.perf_counter() - start
    print(f"undisturbed: {seconds:.1f} s", flush=True)
    rng = random.Random(arguments.seed)
    # Each life is as long as a share of the whole, so that the kills fall into all stages.
    lives = sorted(rng.random() for _ in range(arguments.kills))
    lives = [after - before for before, after in zip([0.0, *lives], lives, strict=False)]
    overhead = 8.0  # of starting Python, which every life pays
    worked, number = 0.0, 0
    while number < arguments.kills:
        process = subprocess.Popen(command_of(arguments.photos, killed, arguments.seed))
        start = time.perf_counter()
        try:
            status = process.wait(timeout=overhead * rng.random() + lives[number] * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            number += 1
            print(
                f"kill {number}: {time.perf_counter() - start:.1f} s, in {last_stage(killed.with_suffix('.log'))}",
                flush=True,
            )
        else:
            print(f"ended before kill {number + 1} with {status}", flush=True)
            break
        worked += time.perf_counter() - start
    start = time.perf_counter()
    subprocess.run([*command_of(arguments.photos, killed, arguments.seed), "--overwrite"], check=True)
    print(f"the end: {time.perf_counter() - start:.1f} s; before it {worked:.1f} s in {number} lives", flush=True)
    first, second = digests(whole), digests(killed)
    different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    print(f"{len(first)} files, different: {', '.join(different) or 'none'}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
