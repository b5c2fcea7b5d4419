"""A procedural city on a Ray cluster of this machine's cores and on its threads, and what many photos will take.

Usage: python benchmarks/cluster.py --work FOLDER [--pictures 40]
FOLDER holds the pictures of scale.py, which renders those that are not there. Needs results of scale.py for the plan.
Writes benchmarks/results/cluster.json and docs/cluster.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, describe_machine, fill_table
from scale import exponent, mapping_exponent, pose_errors, render

from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.reconstruct import ReconstructConfig, read_summary, reconstruct
from lightmatch.runtime.cluster import ray_cluster
from lightmatch.runtime.devices import keep_few_primitives, keep_freed_memory

RESULT = RESULTS / "cluster.json"
JOBS = {  # what they are, by the name of the function, and of what there is one
    "extract_picture": ("features", "picture"),
    "match_block": ("matching", "pair"),
    "verify_block": ("verification", "pair"),
    "rematch_pair": ("matching again with known poses", "picture"),
}
PLANNED = (1000, 100_000, 1_000_000)
NODE_CORES = 32  # of a machine of the plan
NODES = 16

_PORT = 6391
_SIZES_TO_FIT = 3  # fewer say nothing of a power law


@contextmanager
def local_cluster(num_nodes: int) -> Generator[str]:
    """A head without cores and nodes of one core each; its address."""
    tool = str(Path(sys.executable).with_name("ray"))
    address = f"127.0.0.1:{_PORT}"
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}, "check": True}
    head = ("--head", f"--port={_PORT}", "--num-cpus=0", "--include-dashboard=false")
    subprocess.run([tool, "start", *head], **quiet)
    try:
        for _ in range(num_nodes):
            subprocess.run([tool, "start", f"--address={address}", "--num-cpus=1"], **quiet)
        yield address
    finally:
        subprocess.run([tool, "stop", "--force"], **quiet)


def run(images: Path, output: Path, address: str | None) -> None:
    """Reconstruct in this process; prints what was measured as JSON."""
    keep_freed_memory()
    keep_few_primitives()
    progress, config = Progress(), ReconstructConfig(splat=False, seed=0)
    begun = time.perf_counter()
    jobs: Mapping[str, float] = {}
    if address is None:
        reconstruct(images, output, config, progress=progress)
    else:
        with ray_cluster(address, [output, images]) as executor:
            begun = time.perf_counter()
            reconstruct(images, output, config, progress=progress, executor=executor)
            jobs = executor.seconds
    seconds = time.perf_counter() - begun
    print(json.dumps({"wall_seconds": round(seconds, 1), "seconds": progress.seconds, "job_seconds": dict(jobs)}))


def measure(images: Path, output: Path, address: str | None) -> dict[str, Any]:
    """Reconstruct in a process of its own, in an empty folder."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, __file__, "--run", str(images), str(output), address or ""]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])


def same_models(first: Path, second: Path) -> bool:
    """Whether the best models of two runs are the same to the bit."""
    names = [path.relative_to(first) for path in sorted((first / "sparse" / "0").glob("*.bin"))]
    return bool(names) and all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def page(text: str, results: dict[str, Any], scale: dict[str, Any]) -> str:
    """docs/cluster.md from cluster.json and scale.json."""
    one, machine = results["city"], results["machine"]
    count = one["num_pictures"]
    number = {"picture": count, "pair": one["num_pairs"]}
    jobs = {name: one["cluster"]["job_seconds"].get(name, 0.0) for name in JOBS}
    costs = {name: jobs[name] / number[of] for name, (_, of) in JOBS.items()}
    largest = scale["cities"][max(scale["cities"], key=int)]
    pairs = largest["num_pairs"] / int(max(scale["cities"], key=int))  # of a picture, in a large city
    picture = sum(cost * (pairs if JOBS[name][1] == "pair" else 1) for name, cost in costs.items())
    share = sum(jobs.values()) / one["cluster"]["wall_seconds"] / one["num_nodes"]
    lines = [
        f"{count} pictures of the city of [Thousands of photos](scale.md), {one['num_pairs']} pairs, with `--seed 0`:"
        f" {one['threads']['wall_seconds']:.0f} s on {one['num_nodes']} threads of one process,"
        f" {one['cluster']['wall_seconds']:.0f} s on {one['num_nodes']} nodes of one core on the same machine"
        f" ({100 * share:.0f} % of their time at work); the models are"
        f" {'the same to the bit' if one['same_bits'] else 'not the same'}.",
        "",
        "| job | core seconds |",
        "|---|---:|",
        *(f"| {JOBS[name][0]}, a {JOBS[name][1]} | {cost:.3f} |" for name, cost in costs.items()),
        f"| all, a picture with {pairs:.1f} pairs | {picture:.2f} |",
        "",
        *_plan(picture, costs["rematch_pair"], scale),
        "",
        f"{machine['cpu']}, {machine['num_cpus']} cores, {machine['instructions']}; PyTorch {machine['torch']},"
        f" pycolmap {machine['pycolmap']}; commit {machine['commit']}.",
    ]
    return fill_table(text, "costs", lines)


def _plan(on_nodes: float, rematching: float, scale: dict[str, Any]) -> Iterator[str]:
    """The table of what many photos take. on_nodes, rematching: core seconds a picture."""
    counts = sorted(map(int, scale["cities"]))
    if len(counts) < _SIZES_TO_FIT:
        yield (
            f"For {', '.join(f'{number:,}' for number in PLANNED)} pictures of this size and texture that is"
            f" {', '.join(_short(on_nodes * number / 3600) for number in PLANNED)} core hours on the nodes. What the"
            f" first machine takes for mapping and refining is measured for {' and '.join(map(str, counts))} pictures"
            " alone ([Thousands of photos](scale.md)), too few sizes to say what many times as many will take."
        )
        return
    cities = [scale["cities"][str(count)] for count in counts]

    def grown(values: Sequence[float], number: int, fit: Callable[..., float] = exponent) -> float:
        power = fit(counts, values)
        return float(np.exp(np.log(values[-1]) + power * np.log(number / counts[-1])))

    mapping = [city["core_seconds"]["map"] for city in cities]
    refining = [
        max(city["core_seconds"]["refine"] - rematching * count, 1.0)
        for count, city in zip(counts, cities, strict=True)
    ]
    stages = ("mirrored", "write", "report", "describe")
    rest = [sum(city["core_seconds"].get(stage, 0.0) for stage in stages) for city in cities]
    disk = [city["disk_mb"] for city in cities]
    memory = max(max(city["peak_mb"].values()) for city in cities)
    yield (
        "**The plan.** What nodes do grows with the number of pairs, and so of pictures. What the first machine does"
        f" is extrapolated from {', '.join(map(str, counts[:-1]))} and {counts[-1]} pictures by the power laws that fit"
        f" (mapping n^{mapping_exponent(counts, mapping):.2f},"
        f" refining without matching n^{exponent(counts, refining):.2f}), with photos of this size and texture on cores"
        f" of this kind. Far beyond {counts[-1]} pictures this is a guess:"
    )
    yield ""
    yield (
        f"| pictures | core hours on nodes | hours on {NODES} machines of {NODE_CORES} cores | core hours of mapping |"
        " of refining | of the rest on the first machine | disk, GB |"
    )
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for number in PLANNED:
        values = (
            on_nodes * number / 3600,
            on_nodes * number / 3600 / NODES / NODE_CORES,
            grown(mapping, number, mapping_exponent) / 3600,
            grown(refining, number) / 3600,
            grown(rest, number) / 3600,
            grown(disk, number) / 1000,
        )
        yield f"| {number:,} | " + " | ".join(_short(value) for value in values) + " |"
    yield ""
    yield (
        "What breaks first is refining on the first machine: everything is adjusted at once there, several times, and"
        " the nodes help with its matching alone. From about ten thousand pictures on, a scene must be divided into"
        " parts by hand; lightmatch does not do this. The most memory that was needed up to"
        f" {counts[-1]} pictures is {memory / 1000:.1f} GB."
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder for pictures and reconstructions")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--run", nargs=3, metavar=("IMAGES", "OUT", "ADDRESS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        images, output, address = arguments.run
        run(Path(images), Path(output), address or None)
        return
    count, nodes = arguments.pictures, os.cpu_count() or 1
    images = (arguments.work / str(count)).absolute()
    images.mkdir(parents=True, exist_ok=True)
    render(images, count, range(count))
    outputs = {name: images.parent / f"{name}-{count}" for name in ("threads", "cluster")}
    threads = measure(images, outputs["threads"], None)
    with local_cluster(nodes) as address:
        cluster = measure(images, outputs["cluster"], address)
    city = {
        "num_pictures": count,
        "num_nodes": nodes,
        "num_pairs": len(read_summary(outputs["cluster"]).pairs),
        "threads": threads,
        "cluster": cluster,
        "same_bits": same_models(*outputs.values()),
        **pose_errors(outputs["cluster"], count),
    }
    RESULT.write_text(json.dumps({"machine": describe_machine(), "city": city}, indent=1) + "\n")
    from pages import write_page

    write_page("cluster")


if __name__ == "__main__":
    main()
