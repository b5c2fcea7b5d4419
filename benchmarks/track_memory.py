"""Memory, keyframes and the time of a frame while a camera goes round a small place for a long time.

Usage: python benchmarks/track_memory.py [--frames 2000] [--every 500] [--kind depths] [--circle 200]
Prints a line of JSON for each `--every` frames. A circle is rendered once and walked forwards and backwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
import torch
from track_sequences import DEPTHS, ONE, Run, rendered_run

from lightmatch.runtime.devices import keep_freed_memory
from lightmatch.runtime.threads import use_threads
from lightmatch.scenes.sequences import Film, circle
from lightmatch.scenes.world import build_world
from lightmatch.tracking import Tracker, TrackerConfig


@dataclass(frozen=True)
class Usage:
    """After so many frames."""

    frames: int
    resident_mb: float  # of the process, with the rendered frames
    keyframes: int
    points: int
    loops: int
    milliseconds: float  # of a frame, mean since the last


def long_run(run: Run, num_frames: int, every: int) -> Iterator[Usage]:
    """Track the frames of a run forwards and backwards, again and again: at the beginning and each `every` frames."""
    count = len(run.frames)
    back_and_forth = [*range(count), *range(count - 2, 0, -1)]
    seconds: list[float] = []
    with Tracker(run.camera, TrackerConfig()) as tracker:
        for number in range(num_frames + 1):
            if number % every == 0:
                resident = psutil.Process().memory_info().rss / 1e6
                mapped = tracker.map
                spent = 1000 * float(np.mean(seconds)) if seconds else 0.0
                yield Usage(number, resident, len(mapped.keyframes), len(mapped), len(tracker.loops), spent)
                seconds = []
            if number == num_frames:
                return
            frame = run.frames[back_and_forth[number % len(back_and_forth)]]
            begun = time.perf_counter()
            assert frame.image is not None
            tracker.step(frame.image, number / 30, depth=frame.depth)
            seconds.append(time.perf_counter() - begun)


def small_circle(kind: str, num: int, how: Film | None = None) -> Run:
    """A walk round the middle of a plaza."""
    world = build_world(torch.Generator().manual_seed(0))
    return rendered_run("round a small place", kind, circle(world, num, how))


def measure_memory(kind: str, num_frames: int, threads: int) -> list[dict[str, Any]]:
    """In a process of its own."""
    command = [sys.executable, __file__, "--kind", kind, "--frames", str(num_frames), "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000, help="up to 10,000 and more")
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--kind", choices=(ONE, DEPTHS), default=DEPTHS)
    parser.add_argument("--circle", type=int, default=200, help="frames that are rendered")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    keep_freed_memory()
    use_threads(arguments.threads)
    run = small_circle(arguments.kind, arguments.circle, Film(tuple(arguments.size), supersampling=1))
    for usage in long_run(run, arguments.frames, arguments.every):
        print(json.dumps(asdict(usage)), flush=True)


if __name__ == "__main__":
    main()
