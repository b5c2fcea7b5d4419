"""LightGlue under onnxruntime and under PyTorch: size of the file, milliseconds, agreement.

Usage: python benchmarks/onnx_runtime.py --photos a.jpg b.jpg c.jpg [--threads 2]
Each photo is matched with the first; the times are medians over these pairs, measured in turn, after one round to warm
up. Writes benchmarks/results/onnx_runtime.json and the table of docs/onnx.md. Needs the extras onnx and dev.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine, fill_table
from pages import write_page

from lightmatch.export import export_onnx, matcher_inputs, open_session
from lightmatch.extractors import create_extractor
from lightmatch.images import load_image
from lightmatch.matchers import LightGlue
from lightmatch.types import Features, Matches

FULL = {"depth_confidence": None, "width_confidence": None}
VARIANTS: dict[str, dict[str, Any]] = {
    "full depth": FULL,
    "exits": {},
    "full depth, half": {**FULL, "dtype": torch.float16},
    "exits, half": {"dtype": torch.float16},
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--keypoints", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = [load_image(photo) for photo in arguments.photos]
    rows = []
    for name, options in VARIANTS.items():
        # PyTorch is given single precision throughout: it has no fast half precision on a CPU.
        peer = LightGlue.from_pretrained("sift", **{key: value for key, value in options.items() if key != "dtype"})
        run, size, seconds = exported(LightGlue.from_pretrained("sift", **options))
        for count in arguments.keypoints:
            extractor = create_extractor("sift", max_keypoints=count)
            first, *others = [extractor(image) for image in images]
            row = compare(run, peer, [(first, other) for other in others], arguments.rounds)
            rows.append({"variant": name, "mib": size, "export_s": seconds, "keypoints": count, **row})
    results = {"machine": describe_machine(), "threads": arguments.threads, "rows": rows}
    path = Path(__file__).parent / "results" / "onnx_runtime.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    write_page("onnx_runtime")


def page(text: str, results: dict[str, Any]) -> str:
    """docs/onnx.md with its table from onnx_runtime.json."""
    lines = ["| graph | file | keypoints | onnxruntime | PyTorch | same matches |", "|---|---:|---:|---:|---:|---:|"]
    for row in results["rows"]:
        lines.append(
            f"| {row['variant']} | {row['mib']:.1f} MiB | {row['keypoints']} | {row['onnxruntime_ms']:.0f} ms"
            f" | {row['pytorch_ms']:.0f} ms | {100 * row['same']:.1f} % |"
        )
    return fill_table(text, "table: benchmarks/onnx_runtime.py", lines)


def exported(matcher: LightGlue) -> tuple[Callable[..., Any], float, float]:
    """A function of a pair of Features that runs the matcher's file, the file's MiB, and seconds to write it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        start = time.perf_counter()
        export_onnx(matcher, path)
        seconds = time.perf_counter() - start
        session = open_session(path)
        size = path.stat().st_size / 2**20

    def run(features0: Features, features1: Features) -> np.ndarray:
        return session.run(None, matcher_inputs(session, features0, features1))[0][0]

    return run, size, seconds


def compare(
    run: Callable[..., Any], peer: LightGlue, pairs: list[tuple[Features, Features]], rounds: int
) -> dict[str, float]:
    """Milliseconds of both, and the share of all matches that both have."""
    times: dict[str, list[float]] = {"onnxruntime_ms": [], "pytorch_ms": []}
    both = either = 0
    for number in range(rounds + 1):
        for pair in pairs:
            found: list[set[tuple[int, ...]]] = []
            for name, matcher in (("onnxruntime_ms", run), ("pytorch_ms", peer)):
                start = time.perf_counter()
                result = matcher(*pair)
                if number:
                    times[name].append(1000 * (time.perf_counter() - start))
                found.append(as_set(result))
            both += len(found[0] & found[1])
            either += len(found[0] | found[1])
    return {**{name: statistics.median(values) for name, values in times.items()}, "same": both / max(either, 1)}


def as_set(result: np.ndarray | Matches) -> set[tuple[int, ...]]:
    """Matches as pairs of indices."""
    if isinstance(result, Matches):
        return {tuple(row) for row in result.indices.tolist()}
    return {(int(i), int(result[i])) for i in np.flatnonzero(result >= 0)}


if __name__ == "__main__":
    main()
