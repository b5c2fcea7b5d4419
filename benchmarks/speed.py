"""How fast matching is on a CPU: against other packages, against the machine's matrix products, and against itself.

Usage: [LIGHTMATCH_DATA=/path/to/data] python benchmarks/speed.py [--only SECTION …]
Writes benchmarks/results/speed.json, docs/speed.md and docs/speed-cost.png; sections that are not measured anew keep
their old numbers. Needs the extra dev, for other packages. On an otherwise idle machine; half an hour.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine
from pages import write_page
from speed_page import draw_cost

from lightmatch.benchmark import create_runner, peak_memory, seconds_in_turns, timing_pair
from lightmatch.evaluation.datasets.rendered import Level
from lightmatch.matchers import LightGlue, learned
from lightmatch.networks.lightglue import LightGlueConfig
from lightmatch.runtime.devices import fast_dtype, keep_freed_memory
from lightmatch.runtime.threads import num_threads, thread_pool, use_threads
from lightmatch.types import FeatureKind, Features

RESULTS = Path(__file__).parent / "results" / "speed.json"
SIFT = FeatureKind("sift", 128, has_scale_orientation=True)
SIZE = (1024, 768)
QUICK = {"depth_confidence": 0.95, "width_confidence": 0.9}  # what it costs: benchmarks/exits.py
LEVELS: tuple[Level, ...] = ("easy", "medium", "hard")
Rows = list[dict[str, Any]]


def against_others(kept: bool, points: int) -> Rows:
    """Full depth, beside the product of two 2048 × 2048 matrices."""
    if kept:
        keep_freed_memory()
    names = ("kornia", "transformers", "lightglue-large-float32", "lightglue-large")
    names = (*names, "lightglue,full,float32", "lightglue,full")
    pair = timing_pair("easy", points)
    calls = {name: create_runner(name).prepare(*pair, "cpu") for name in names}
    # Into memory of their own: glibc changes how it gives memory when as much is freed.
    wide, half = torch.rand(2048, 2048), torch.rand(2048, 2048).bfloat16()
    products = {f"product-{_name(a.dtype)}": partial(torch.mm, a, a, out=torch.empty_like(a)) for a in (wide, half)}
    seconds = seconds_in_turns({**calls, **products}, 9 if points > 1024 else 15)
    rows = []
    for name in names:
        row: dict[str, Any] = {"memory kept": kept, "points": points, "runner": name}
        row |= _against(seconds, name, "kornia")
        floats = _floats(points, name)
        if floats:
            plain = name == "kornia" or name.endswith("float32")
            rate = seconds[f"product-{'float32' if plain else _name(fast_dtype('cpu'))}"]
            shares = [floats / a * b / (2 * 2048**3) for a, b in zip(seconds[name], rate, strict=True)]
            row |= {"gflop_per_s": floats / row["seconds"] / 1e9, "share": statistics.median(shares)}
        rows.append(row)
        print(row, flush=True)
    return rows


def _floats(points: int, runner: str) -> float:
    """Additions and multiplications of the matrix products of one pair, as the runner computes them.

    For each point and layer, linear maps of 19 d² in the published network and of 17 d² where projections are folded.
    In a layer, similarities and messages are 8 products of n × n × d, and 7 where both directions of cross-attention
    share their similarities. One such product makes the assignment.
    """
    if runner == "transformers":  # another positional encoding and padded descriptors
        return 0.0
    dim, layers = (128, 6) if runner.startswith("lightglue,full") else (256, 9)
    linear = 19 if runner == "kornia" else 17
    squares = 8 if runner.endswith("float32") or fast_dtype("cpu") == torch.float32 else 7
    squares = 7 if runner == "kornia" else squares
    return 2 * (layers * (2 * points * linear * dim**2 + squares * points**2 * dim) + points**2 * dim)


def adaptive(kept: bool) -> Rows:
    """Adaptive depth and width against all layers on all points, on pairs of three difficulties."""
    if kept:
        keep_freed_memory()
    settings: dict[str, dict[str, Any]] = {"default": {}, "quick": QUICK}
    matchers = {
        name: LightGlue.from_pretrained("sift", dtype=fast_dtype("cpu"), **options)
        for name, options in settings.items()
    }
    names = ("over_full", "over_kornia", "layers", "points_kept")
    rows = []
    for level, points in product(LEVELS, (512, 1024, 2048)):
        found: dict[str, dict[str, list[float]]] = {name: {key: [] for key in names} for name in settings}
        for seed in range(6):
            pair = timing_pair(level, points, seed)
            calls = {name: partial(matcher, *pair) for name, matcher in matchers.items()}
            others = ("lightglue,full", "kornia") if level == "easy" else ("lightglue,full",)
            calls |= {name: create_runner(name).prepare(*pair, "cpu") for name in others}
            seconds = seconds_in_turns(calls, 5)
            for name, values in found.items():
                values["over_full"].append(_against(seconds, name, "lightglue,full")["ratio"])
                if "kornia" in others:
                    values["over_kornia"].append(_against(seconds, name, "kornia")["ratio"])
                matches = matchers[name](*pair)
                assert matches.stop_layer and matches.layers0 is not None and matches.layers1 is not None
                values["layers"].append(matches.stop_layer)
                taken = torch.cat((matches.layers0, matches.layers1)).float().mean()
                values["points_kept"].append(float(taken) / matches.stop_layer)
        for name, values in found.items():
            medians = {key: statistics.median(all_of) if all_of else None for key, all_of in values.items()}
            row: dict[str, Any] = {"memory kept": kept, "level": level, "points": points, "setting": name, **medians}
            rows.append({**row, "pairs": values})
            print(rows[-1], flush=True)
    return rows


def memory() -> Rows:
    """What one matching of 4096 points with as many adds to the memory of its process."""
    rows = []
    for name in ("kornia", "transformers", "lightglue-large-float32", "lightglue-large", "lightglue,full"):
        peak = peak_memory(_prepared, name, 4096)
        rows.append({"runner": name, "mib": None if peak is None else peak / 2**20})
        print(rows[-1], flush=True)
    return rows


def _prepared(name: str, points: int) -> Callable[[], Any]:
    runner = create_runner(name)
    runner.prepare(_features(64, 0), _features(64, 1), "cpu")()
    return runner.prepare(_features(points, 0), _features(points, 1), "cpu")


def _features(points: int, seed: int) -> Features:
    """Points and descriptors at random: the cost at full depth does not depend on them."""
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.nn.functional.normalize(torch.rand(points, 128, generator=generator), dim=1)
    keypoints, values = (torch.rand(points, k, generator=generator) for k in (2, 3))
    places = keypoints * torch.tensor(SIZE)
    return Features(places, values[:, 0], descriptors, SIZE, SIFT, 1 + 4 * values[:, 1], 6.28 * values[:, 2])


def mixed() -> Rows:
    """Pairs of all difficulties with 300 to 4000 points: as one list, one by one, and padded to the longest."""
    keep_freed_memory()
    generator = np.random.default_rng(0)
    pairs = []
    for number in range(24):
        level = LEVELS[number % 3]
        count0, count1 = np.exp(generator.uniform(np.log(300), np.log(4000), 2)).astype(int).tolist()
        pairs.append((timing_pair(level, count0, number)[0], timing_pair(level, count1, number)[1]))
    matcher = LightGlue.from_pretrained("sift", dtype=fast_dtype("cpu"))
    limits = learned.PASS_LIMITS["cpu"]

    def padded() -> None:
        """Eight pairs a pass, in the order of the list: all 24 would take gigabytes."""
        learned.PASS_LIMITS["cpu"] = learned.PassLimits(10**9, 10**9)
        try:
            for start in range(0, len(pairs), 8):
                matcher.match_batch(pairs[start : start + 8])
        finally:
            learned.PASS_LIMITS["cpu"] = limits

    def shared_out() -> None:
        with thread_pool() as pool:
            list(pool.map(lambda pair: matcher(*pair), pairs))

    calls = {
        "one by one": lambda: [matcher(*pair) for pair in pairs],
        "as one list": lambda: matcher.match_batch(pairs),
        "padded to the longest": padded,
        "a pair for each core": shared_out,
    }
    seconds = seconds_in_turns(calls, 5)
    rows = []
    for name in calls:
        row: dict[str, Any] = {"how": name, **_against(seconds, name, "one by one")}
        rows.append({**row, "pairs_per_s": len(pairs) / row["seconds"]})
        print(rows[-1], flush=True)
    return rows


def cost() -> Rows:
    """Seconds by number of points, at full depth, and by number of pairs of 512 points."""
    keep_freed_memory()
    rows = []
    sizes = (128, 256, 512, 1024, 2048, 4096)
    for name in ("kornia", "lightglue-large-float32", "lightglue,full"):
        runner = create_runner(name)
        calls = {str(n): runner.prepare(_features(n, 0), _features(n, 1), "cpu") for n in sizes}
        seconds = seconds_in_turns(calls, 5)
        rows.append(_curve("points", name, sizes, seconds))
    matcher = LightGlue.from_pretrained("sift", dtype=fast_dtype("cpu"))
    pairs = [timing_pair(LEVELS[number % 3], 512, number) for number in range(64)]
    counts = (1, 2, 4, 8, 16, 32, 64)
    calls = {str(count): partial(matcher.match_batch, pairs[:count]) for count in counts}
    rows.append(_curve("pairs", "lightglue", counts, seconds_in_turns(calls, 5)))
    return rows


def _curve(of: str, runner: str, counts: tuple[int, ...], seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    medians = [statistics.median(seconds[str(count)]) for count in counts]
    # Of the upper half: what a call costs anyway is over by then.
    half = len(counts) // 2
    exponent = float(np.polyfit(np.log(counts[half:]), np.log(medians[half:]), 1)[0])
    row = {"of": of, "runner": runner, "counts": list(counts), "seconds": medians, "exponent": exponent}
    print(row, flush=True)
    return row


def threads() -> Rows:
    """Matching 16 pairs with the cores of this machine shared out in several ways."""
    keep_freed_memory()
    pairs = [timing_pair("medium", 1024, seed) for seed in range(16)]
    matcher = LightGlue.from_pretrained("sift", dtype=fast_dtype("cpu"))
    total = num_threads()

    def alone(each: int) -> None:
        use_threads(each)
        for pair in pairs:
            matcher(*pair)
        use_threads(total)

    def together(each: int) -> None:
        with ThreadPoolExecutor(total, initializer=torch.set_num_threads, initargs=(each,)) as pool:
            list(pool.map(lambda pair: matcher(*pair), pairs))
        use_threads(total)

    ways = {"1": (1, 1), "all on one pair": (1, total), "one each": (total, 1), "all on each": (total, total)}
    calls = {name: partial(alone if at_once == 1 else together, each) for name, (at_once, each) in ways.items()}
    seconds = seconds_in_turns(calls, 5)
    rows = [{"workers": ways[name][0], "threads_each": ways[name][1], **_against(seconds, name, "1")} for name in calls]
    print(*rows, sep="\n", flush=True)
    return rows


def compiled() -> Rows:
    """Layers compiled by torch.compile, which is not used, for this number of points alone: its best case."""
    keep_freed_memory()
    config = LightGlueConfig(descriptor_dim=128, num_layers=6, depth_confidence=None, width_confidence=None)
    rows = []
    for dtype, points in product((torch.float32, torch.bfloat16), (512, 1024, 2048)):
        torch.compiler.reset()
        matchers = {"eager": LightGlue(config, dtype=dtype), "torch.compile": LightGlue(config, dtype=dtype)}
        pair = _features(points, 0), _features(points, 1)
        start = time.perf_counter()
        for layer in matchers["torch.compile"].network._folded():
            layer.self_attn = torch.compile(layer.self_attn, dynamic=False)  # type: ignore[assignment]
            layer.cross_attn = torch.compile(layer.cross_attn, dynamic=False)  # type: ignore[assignment]
        matchers["torch.compile"](*pair)
        first = time.perf_counter() - start
        seconds = seconds_in_turns({name: partial(one, *pair) for name, one in matchers.items()}, 9)
        rows.append({"dtype": _name(dtype), "points": points, "compile_s": first})
        rows[-1] |= _against(seconds, "torch.compile", "eager")
        print(rows[-1], flush=True)
    return rows


def eight_bits() -> Rows:
    """The linear maps of one layer with weights of 8 bits, which are not used, and of 16 and 32."""
    keep_freed_memory()
    rows = []
    for dim in (128, 256):
        shapes = ((dim, 3 * dim), (dim, 2 * dim), *(((dim, 2 * dim), (dim, 2 * dim), (2 * dim, dim)) * 2))
        maps = [torch.nn.Linear(*shape) for shape in shapes]
        kinds: dict[str, list[Any]] = {
            "float32": maps,
            "bfloat16": [copy.deepcopy(one).bfloat16() for one in maps],
            "int8": list(
                torch.ao.quantization.quantize_dynamic(  # type: ignore[deprecated]
                    torch.nn.Sequential(*maps), {torch.nn.Linear}
                )
            ),
        }
        for points in (512, 1024, 2048):

            def call(kind: str, points: int = points, kinds: dict[str, list[Any]] = kinds) -> None:
                dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
                with torch.no_grad():
                    for one in kinds[kind]:
                        one(torch.rand(1, 1, dtype=dtype).expand(2 * points, one.in_features).contiguous())

            seconds = seconds_in_turns({kind: partial(call, kind) for kind in kinds}, 15)
            for kind in kinds:
                rows.append({"dim": dim, "points": points, "weights": kind, **_against(seconds, kind, "float32")})
                print(rows[-1], flush=True)
    return rows


def _against(seconds: Mapping[str, list[float]], name: str, base: str) -> dict[str, float]:
    """The median time of one, and how many times faster it is than the base, by medians over rounds."""
    ratios = [b / a for a, b in zip(seconds[name], seconds[base], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "seconds": statistics.median(seconds[name]),
        "ratio": statistics.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


SECTIONS: dict[str, list[tuple[Callable[..., Rows], tuple[Any, ...]]]] = {
    "against_others": [(against_others, options) for options in product((False, True), (512, 1024, 2048))],
    "adaptive": [(adaptive, (False,)), (adaptive, (True,))],
    "memory": [(memory, ())],
    "mixed": [(mixed, ())],
    "cost": [(cost, ())],
    "threads": [(threads, ())],
    "compiled": [(compiled, ())],
    "eight_bits": [(eight_bits, ())],
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for section in arguments.only:
        rows: Rows = []
        for measure, options in SECTIONS[section]:
            # A process each: how memory is kept holds for all a process does.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                rows += pool.submit(measure, *options).result()
        results[section] = {"machine": describe_machine(), "threads": num_threads(), "rows": rows}
        RESULTS.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n")
    write_page("speed")
    draw_cost(results["cost"]["rows"])


if __name__ == "__main__":
    main()
