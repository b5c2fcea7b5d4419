"""What benchmarks/speed.py measured, as a page and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
_MEMORY = {False: "as the system has it", True: "kept"}


def write_page(results: Mapping[str, Any]) -> None:
    """Write docs/speed.md."""
    machine = results["against_others"]["machine"]
    rows = {section: value["rows"] for section, value in results.items()}
    parts = (
        "# Speed",
        f"Made by `python benchmarks/speed.py` on {machine['cpu']}, {machine['num_cpus']} cores,"
        f" {results['against_others']['threads']} threads, PyTorch {machine['torch']}; every number is in"
        " `benchmarks/results/speed.json`. All matchers of one size ran in turns, in one process; ratios are medians of"
        " ratios of calls that followed each other, with quartiles in brackets. CUDA and MPS: not measured.",
        'Memory "kept" is what the command line does, and `lightmatch.runtime.devices.keep_freed_memory()` for'
        " programs: the process keeps what it frees, for all matchers alike, those of other packages too.",
        "## Full depth, against other packages",
        "kornia and transformers run the network of the paper, 256 wide with 9 layers, in float32. `lightglue-large`"
        " has kornia's weights; `lightglue,full` has those in the package, 128 wide with 6 layers. Without `float32`"
        " in the name layers compute in the fastest precision, here bfloat16; what that costs in accuracy:"
        " [precision.md](precision.md). The last column is the rate at which the matrix products of a pair are computed"
        " over the rate of one product of two 2048 × 2048 matrices in the same precision.",
        _table(
            ("points", "memory", "matcher", "ms", "times kornia's speed", "GFLOP/s", "share of product rate"),
            (
                (r["points"], _MEMORY[r["memory kept"]], r["runner"], _ms(r), _ratio(r), *_rate(r))
                for r in rows["against_others"]
            ),
        ),
        "## Adaptive depth and width",
        "Weights in the package, fastest precision, medians over six pairs of rendered views, SIFT. The quick setting"
        " is `depth_confidence=0.95, width_confidence=0.9`; what it costs in accuracy: [exits.md](exits.md).",
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
        "What one matching of 4096 × 4096 points adds to its process, at most.",
        _table(("matcher", "MiB"), ((r["runner"], f"{r['mib']:.0f}") for r in rows["memory"])),
        "## A list of unequal pairs",
        "24 pairs of all difficulties with 300 to 4000 points each, adaptive, fastest precision.",
        _table(
            ("how", "s", "pairs per second", "times one by one"),
            ((r["how"], f"{r['seconds']:.2f}", f"{r['pairs_per_s']:.1f}", _ratio(r)) for r in rows["mixed"]),
        ),
        "## Threads",
        "16 pairs of 1024 points, adaptive. `lightmatch.runtime.threads.use_threads` sets the number for a process, and"
        " `thread_pool` shares it out among those who work at once; the last row is what they avoid.",
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
        "## Tried and left out",
        "Layers compiled by `torch.compile` for one number of points, on a network of the package's size at full depth;"
        " the last column is the time of the first call. For any number of points it does not compile.",
        _table(
            ("precision", "points", "ms", "times eager", "s to compile"),
            ((r["dtype"], r["points"], _ms(r), _ratio(r), f"{r['compile_s']:.0f}") for r in rows["compiled"]),
        ),
        "The linear maps of one layer for both images, with weights of 8 bits (`quantize_dynamic`), 16 and 32.",
        _table(
            ("width", "points", "weights", "ms", "times float32"),
            ((r["dim"], r["points"], r["weights"], _ms(r), _ratio(r)) for r in rows["eight_bits"]),
        ),
    )
    (DOCS / "speed.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


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
