"""Reconstruct procedural cities of growing size: seconds by stage, memory, disk and pose errors, with fitted exponents.

Usage: python benchmarks/scale.py --work FOLDER [--pictures 100 300 1000 3000] [--resume]
Pictures are rendered once and kept in FOLDER; sizes that are not named keep the results they have. A run that was
stopped goes on with --resume: what it took is added up. Writes benchmarks/results/scale.json, docs/scale.md and
docs/scale.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from common import DOCS, RESULTS, describe_machine, fill_table
from PIL import Image

from lightmatch.geometry.alignment import aligned_pose_errors
from lightmatch.geometry.coordinates import invert_rigid
from lightmatch.pipelines.layout import Layout
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, read_summary, reconstruct
from lightmatch.reconstruction import model_arrays, read_model
from lightmatch.reconstruction.mapping.model_selection import SMALL
from lightmatch.runtime import codec
from lightmatch.runtime.devices import keep_few_primitives, keep_freed_memory
from lightmatch.runtime.threads import num_threads
from lightmatch.scenes.city import build_city

SIZE = (480, 360)  # px
QUALITY = 92  # of JPEG
RESULT = RESULTS / "scale.json"
BETWEEN = "between the stages"
STAGES = ("extract", "describe", "match", "mirrored", "verify", "map", "refine", "write", "report")

_SIZES_TO_FIT = 3  # fewer say nothing of a power law
_SAMPLED_S, _LOOKS_BETWEEN_NOTES = 0.1, 50  # of the memory


def render(folder: Path, num_pictures: int, part: range) -> None:
    """Write some of the pictures of a city: those that are not there."""
    torch.set_num_threads(1)
    missing = [number for number in part if not _picture(folder, number).is_file()]
    if not missing:
        return
    first = missing[0]  # of a part, pictures are written in order
    views = range(first, part.stop)
    for number, picture in zip(views, build_city(num_pictures).pictures(SIZE, views), strict=True):
        partial_file = _picture(folder, number).with_suffix(".partial")
        Image.fromarray(picture.numpy()).save(partial_file, "JPEG", quality=QUALITY)
        partial_file.replace(_picture(folder, number))


def _picture(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.jpg"


@dataclass
class StageCost:
    """What one stage has taken, over all runs that worked on it."""

    seconds: float = 0.0
    core_seconds: float = 0.0  # of the processor, of all threads
    peak_mb: float = 0.0  # highest memory of this process and its children


class Watched(Progress):
    """Notes what each stage takes, in a file too: a run that was stopped and goes on adds to what it had noted."""

    def __init__(self, notes: Path) -> None:
        super().__init__()
        self._notes, self._lock = notes, threading.Lock()
        self.stages = codec.read(dict[str, StageCost], notes) if notes.is_file() else {}
        self._stage = BETWEEN
        self._noted = time.perf_counter(), _core_seconds()
        threading.Thread(target=self._look, daemon=True).start()

    @contextmanager
    def show(self, name: str, total: int) -> Generator[Callable[[], None]]:
        """As in the base class."""
        self.note()
        self._stage = name
        yield lambda: None
        self.note()
        self._stage = BETWEEN

    def note(self) -> None:
        """Add what was used since the last call to the stage that runs."""
        with self._lock:
            cost = self.stages.setdefault(self._stage, StageCost())
            now = time.perf_counter(), _core_seconds()
            cost.seconds = round(cost.seconds + now[0] - self._noted[0], 2)
            cost.core_seconds = round(cost.core_seconds + now[1] - self._noted[1], 2)
            self._noted = now
            codec.write(self._notes, self.stages, indent=1)

    def _look(self) -> None:
        me = psutil.Process()
        for count in itertools.count():
            used = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    used += process.memory_info().rss
                except psutil.Error:  # ended meanwhile
                    continue
            cost = self.stages.setdefault(self._stage, StageCost())
            cost.peak_mb = max(cost.peak_mb, round(used / 1e6))
            if count % _LOOKS_BETWEEN_NOTES == _LOOKS_BETWEEN_NOTES - 1:
                self.note()
            time.sleep(_SAMPLED_S)


def _core_seconds() -> float:
    """Of this process and its children that have ended."""
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def run(images: Path, output: Path, notes: Path) -> None:
    """Reconstruct in this process; notes what it takes."""
    keep_freed_memory()  # as the command line does
    keep_few_primitives()
    progress = Watched(notes)
    reconstruct(images, output, ReconstructConfig(splat=False), progress=progress)
    progress.note()


def measure(images: Path, num_pictures: int, resume: bool) -> dict[str, Any]:
    """Reconstruct a city in a process of its own. resume: go on where a run that was stopped ended."""
    output, notes = images.parent / f"out-{num_pictures}", images.parent / f"notes-{num_pictures}.json"
    in_one_run = not (resume and notes.is_file())
    if in_one_run:
        shutil.rmtree(output, ignore_errors=True)
        notes.unlink(missing_ok=True)
    subprocess.run([sys.executable, __file__, "--run", str(images), str(output), str(notes)], check=True)
    stages = codec.read(dict[str, StageCost], notes)
    measured = {
        "in_one_run": in_one_run,
        "threads": num_threads(),
        "wall_seconds": round(sum(cost.seconds for cost in stages.values()), 1),
        "seconds": {name: cost.seconds for name, cost in stages.items()},
        "core_seconds": {name: cost.core_seconds for name, cost in stages.items()},
        "peak_mb": {name: cost.peak_mb for name, cost in stages.items()},
    }
    summary = read_summary(output)
    history = summary.history.mapping
    attempts = [] if history is None else [[one.name, round(one.seconds, 1), one.kept] for one in history.attempts]
    return {
        **measured,
        "num_registered": summary.num_registered,
        "num_pairs": len(summary.pairs),
        "num_verified_pairs": summary.num_verified_pairs,
        "num_points": summary.model.num_points,
        "disk_mb": round(sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 1e6),
        "attempts": attempts,
        **pose_errors(output, num_pictures),
    }


def pose_errors(output: Path, num_pictures: int) -> dict[str, float]:
    """Of the best model, after the similarity that fits all centres best: position_m (root mean square), rotation_deg.

    drift_percent: position_m in % of the length of the walk.
    """
    found = model_arrays(read_model(Layout(output).best_model))
    numbers = [int(Path(name).stem) for name in found.names]
    true = build_city(num_pictures).cam_from_world.double()
    centers = invert_rigid(true)[:, :, 3]
    rotation, position = aligned_pose_errors(
        torch.from_numpy(found.rotations), torch.from_numpy(found.centers), true[numbers, :, :3], centers[numbers]
    )
    walked = float((centers[1:] - centers[:-1]).norm(dim=1).sum())
    root = float(position.square().mean().sqrt())
    return {
        "position_m": round(root, 4),
        "rotation_deg": round(float(rotation.median()), 4),
        "walked_m": round(walked, 1),
        "drift_percent": round(100 * root / walked, 4),
    }


def exponent(counts: Sequence[int], values: Sequence[float]) -> float:
    """The power of a power law that fits best in logarithms."""
    return float(np.polyfit(np.log(counts), np.log(np.maximum(values, 1e-6)), 1)[0])


def mapping_exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """The same of mapping, from the sizes that were mapped once: small ones are tried with two mappers."""
    once = [(count, taken) for count, taken in zip(counts, seconds, strict=True) if count > SMALL]
    return exponent(*zip(*once, strict=True)) if len(once) > 1 else exponent(counts, seconds)


def _by_size(results: Mapping[str, Any]) -> tuple[list[int], list[dict[str, Any]]]:
    counts = sorted(map(int, results["cities"]))
    return counts, [results["cities"][str(count)] for count in counts]


def page(text: str, results: dict[str, Any]) -> str:
    """docs/scale.md from scale.json."""
    counts, cities = _by_size(results)
    head = [
        "| | " + " | ".join(f"{count} pictures" for count in counts) + " | grows as |",
        "|---|" + "---:|" * (len(counts) + 1),
    ]

    def row(
        name: str, values: list[float], digits: int = 0, grows: bool = True, fit: Callable[..., float] = exponent
    ) -> str:
        told = grows and len(counts) >= _SIZES_TO_FIT and min(values) > 0
        power = f"n^{fit(counts, values):.2f}" if told else ""
        return f"| {name} | " + " | ".join(f"{value:.{digits}f}" for value in values) + f" | {power} |"

    def core_seconds(stage: str) -> str:
        fit = mapping_exponent if stage == "map" else exponent
        return row(f"{stage}, core seconds", [city["core_seconds"][stage] for city in cities], 1, fit=fit)

    stages = [stage for stage in STAGES if all(stage in city["seconds"] for city in cities)]
    lines = [
        *head,
        row("threads", [city.get("threads", 2) for city in cities], grows=False),
        row("pictures in the model", [city["num_registered"] for city in cities], grows=False),
        row("pairs matched", [city["num_pairs"] for city in cities]),
        row("points", [city["num_points"] for city in cities]),
        *(core_seconds(stage) for stage in stages),
        row("all, core seconds", [sum(city["core_seconds"].values()) for city in cities]),
        row("core seconds a picture", [_core_seconds_a_picture(n, c) for n, c in zip(counts, cities, strict=True)], 2),
        row("peak memory, MB", [max(city["peak_mb"].values()) for city in cities]),
        row("disk, MB", [city["disk_mb"] for city in cities]),
        row("walk, m", [city["walked_m"] for city in cities], grows=False),
        row("position error, m (RMS)", [city["position_m"] for city in cities], 3, grows=False),
        row("in % of the walk", [city["drift_percent"] for city in cities], 4, grows=False),
        row("rotation error, ° (median)", [city["rotation_deg"] for city in cities], 3, grows=False),
    ]
    machine = results["machine"]
    said = (
        f"{machine['cpu']}, {machine['num_cpus']} cores, {machine['instructions']}; PyTorch {machine['torch']},"
        f" pycolmap {machine['pycolmap']}; commit {machine['commit']}."
    )
    return fill_table(text, "cities", [*lines, "", said])


def _core_seconds_a_picture(count: int, city: dict[str, Any]) -> float:
    return sum(city["core_seconds"].values()) / count


def plot(results: dict[str, Any], path: Path) -> None:
    """Core seconds by stage, memory and disk over the number of pictures, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts, cities = _by_size(results)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for stage in ("extract", "describe", "match", "verify", "map", "refine"):
        left.plot(counts, [city["core_seconds"][stage] for city in cities], "o-", label=stage)
    left.plot(counts, [sum(city["core_seconds"].values()) for city in cities], "ko--", label="all")
    left.set_ylabel("core seconds")
    right.plot(counts, [max(city["peak_mb"].values()) for city in cities], "o-", label="peak memory")
    right.plot(counts, [city["disk_mb"] for city in cities], "o-", label="disk")
    right.set_ylabel("MB")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="pictures")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder for pictures and reconstructions")
    parser.add_argument("--pictures", type=int, nargs="*", default=[100, 300, 1000, 3000])
    parser.add_argument("--run", type=Path, nargs=3, metavar=("IMAGES", "OUT", "NOTES"), help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run)
        return
    results = json.loads(RESULT.read_text()) if RESULT.is_file() else {"cities": {}}
    machine = describe_machine()
    for count in arguments.pictures:
        images = arguments.work / str(count)
        images.mkdir(parents=True, exist_ok=True)
        middle = count // 2
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(partial(render, images, count), (range(middle), range(middle, count))))
        results["cities"][str(count)] = {**measure(images, count, arguments.resume), "commit": machine["commit"]}
        results["machine"] = machine
        RESULT.write_text(json.dumps(results, indent=1) + "\n")
        print(count, results["cities"][str(count)])
    plot(results, DOCS / "scale.png")
    from pages import write_page

    write_page("scale")


if __name__ == "__main__":
    main()
