"""What benchmarks/speed.py measured, as a page and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
_MEMORY = {False: "as the system has it", True: "kept"}


def page(_: str, results: Mapping[str, Any]) -> str:
    """docs/speed.md from speed.json."""
    machine = results["against_others"]["machine"]
    rows = {section: value["rows"] for section, value in results.items()}
    parts = (
        "# Speed",
        f"Made by `python benchmarks/speed.py` on {machine['cpu']}, {machine['num_cpus']} cores,"
        f" {results['against_others']['threads']} threads, PyTorch {machine['torch']}; every number is in"
        " `benchmarks/results/speed.json`. All matchers of one size alternate in one process; ratios are medians over"
        " consecutive calls, with quartiles in brackets. CUDA and MPS: not measured.",
        _summary(rows),
        'Memory "kept": the process keeps the memory that it frees, for all matchers and packages alike.'
        " The command line does this, and programs can call `lightmatch.runtime.devices.keep_freed_memory()`.",
        "## Full depth, against other packages",
        "kornia and transformers run the network of the paper, 256 wide with 9 layers, in float32. `lightglue-large`"
        " and kornia have the same random weights; `lightglue,full` has those in the package, 128 wide with 6 layers."
        " Without `float32` in the name, layers compute in the fastest precision, here bfloat16; for its accuracy see"
        " [Half precision](precision.md). Last column: FLOP/s of the matrix products of a pair, relative to one product"
        " of two 2048 × 2048 matrices in the same precision.",
        _table(
            ("points", "memory", "matcher", "ms", "times kornia's speed", "GFLOP/s", "share of product rate"),
            (
                (r["points"], _MEMORY[r["memory kept"]], r["runner"], _ms(r), _ratio(r), *_rate(r))
                for r in rows["against_others"]
            ),
        ),
        "## Adaptive depth and width",
        "Weights in the package, fastest precision, medians over six pairs of rendered views, SIFT. The quick setting"
        " is `depth_confidence=0.95, width_confidence=0.9`; its accuracy was not measured. The table is from before the"
        ' early exits were calibrated: "default" are the thresholds of then. Times with those of today are in'
        " [Early exits](exits.md).",
        _table(
            (
                "setting",
                "pairs",
                "points",
                "memory",
                "layers of 6",
                "points kept",
                "times full depth",
                "times kornia's 256 × 9",
            ),
            (
                (
                    r["setting"],
                    r["level"],
                    r["points"],
                    _MEMORY[r["memory kept"]],
                    f"{r['layers']:g}",
                    f"{r['points_kept']:.2f}",
                    f"{r['over_full']:.2f}",
                    f"{r['over_kornia']:.1f}" if r["over_kornia"] else "",
                )
                for r in rows["adaptive"]
            ),
        ),
        "## Memory",
        "Peak memory that matching 4096 × 4096 points adds to the process.",
        _table(("matcher", "MiB"), ((r["runner"], f"{r['mib']:.0f}") for r in rows["memory"])),
        "## A batch of unequal pairs",
        "24 pairs of all difficulties with 300 to 4000 points each, adaptive, fastest precision.",
        _table(
            ("how", "s", "pairs per second", "times one by one"),
            ((r["how"], f"{r['seconds']:.2f}", f"{r['pairs_per_s']:.1f}", _ratio(r)) for r in rows["mixed"]),
        ),
        "## Threads",
        "16 pairs of 1024 points, adaptive. `lightmatch.runtime.threads.use_threads` sets the number for a process, and"
        " `thread_pool` divides them among the pairs matched at the same time, which avoids the last row.",
        _table(
            ("pairs at once", "threads each", "s", "times one thread"),
            ((r["workers"], r["threads_each"], f"{r['seconds']:.2f}", _ratio(r)) for r in rows["threads"]),
        ),
        "## Cost by points and pairs",
        "![Seconds by number of points and of pairs](speed-cost.png)",
        "The exponent is fitted to the upper half of the sizes.",
        _table(
            ("of", "matcher", "sizes", "exponent"),
            (
                (r["of"], r["runner"], f"{r['counts'][0]}–{r['counts'][-1]}", f"{r['exponent']:.2f}")
                for r in rows["cost"]
            ),
        ),
        "## Not used: torch.compile and 8-bit weights",
        "Layers compiled by `torch.compile` for one number of points, on a network of the package's size at full depth;"
        " the last column is the time of the first call. For any number of points it does not compile.",
        _table(
            ("precision", "points", "ms", "times eager", "s to compile"),
            ((r["dtype"], r["points"], _ms(r), _ratio(r), f"{r['compile_s']:.0f}") for r in rows["compiled"]),
        ),
        "The linear maps of one layer for both images, with weights of 8 (`quantize_dynamic`), 16 and 32 bits.",
        _table(
            ("width", "points", "weights", "ms", "times float32"),
            ((r["dim"], r["points"], r["weights"], _ms(r), _ratio(r)) for r in rows["eight_bits"]),
        ),
    )
    return "\n\n".join(parts) + "\n"


def _summary(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The numbers that most readers look for: 1024 points, memory as the system has it."""
    full = next(
        r
        for r in rows["against_others"]
        if (r["runner"], r["points"], r["memory kept"]) == ("lightglue,full", 1024, False)
    )
    easy = next(
        r
        for r in rows["adaptive"]
        if (r["setting"], r["level"], r["points"], r["memory kept"]) == ("default", "easy", 1024, False)
    )
    mib = {r["runner"]: r["mib"] for r in rows["memory"]}
    return (
        f"In short: with the weights inside the package, 1024 × 1024 SIFT keypoints are matched in {_ms(full)} ms on"
        f" all layers, {full['ratio']:.1f} times as fast as kornia's LightGlue, and easy pairs"
        f" {easy['over_kornia']:.1f} times as fast. 4096 × 4096 keypoints add {mib['lightglue,full']:.0f} MiB to the"
        f" process, kornia's LightGlue {mib['kornia']:.0f} MiB. The number for easy pairs is from before the early"
        " exits were calibrated."
    )


def _ms(row: Mapping[str, Any]) -> str:
    return f"{1e3 * row['seconds']:.1f}"


def _ratio(row: Mapping[str, Any]) -> str:
    return f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"


def _rate(row: Mapping[str, Any]) -> tuple[str, str]:
    return (f"{row['gflop_per_s']:.0f}", f"{row['share']:.2f}") if "share" in row else ("", "")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def draw_cost(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw docs/speed-cost.png: time by number of points, and by number of pairs."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = {"points": "one pair, full depth", "pairs": "a list of pairs of 512 points"}
    for axes, (of, title) in zip(panels, titles.items(), strict=True):
        for row in rows:
            if row["of"] == of:
                label = f"{row['runner']} (exponent {row['exponent']:.2f})"
                axes.plot(row["counts"], row["seconds"], marker="o", markersize=3, label=label)
        axes.set(xscale="log", yscale="log", title=title, ylabel="seconds")
        axes.set_xlabel("keypoints of each image" if of == "points" else "pairs")
        axes.set_xticks(*_ticks(rows, of))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(DOCS / "speed-cost.png", dpi=130)


def _ticks(rows: Sequence[Mapping[str, Any]], of: str) -> tuple[list[int], list[str]]:
    counts = next(row["counts"] for row in rows if row["of"] == of)
    return counts, [str(count) for count in counts]
