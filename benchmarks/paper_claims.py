"""The claims of the LightGlue paper, each shown in small: same data, budget and machine for all networks.

Trains LightGlue, SuperGlue, and LightGlue with one part taken away, on the groups of views of one recipe, then
measures precision and recall against pairs seen, against depth, and where easy, medium and hard pairs stop; time and
memory beside them. Writes results/paper_claims.json, docs/paper_claims.png
and the tables of docs/paper_claims.md.

    python benchmarks/paper_claims.py --photos PHOTOS --textures SURFACES --work runs/paper_claims
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import describe_machine, fill_table
from pages import write_page
from torch import Tensor, nn

from lightmatch.benchmark import process_memory
from lightmatch.geometry.correspondence import Correspondence
from lightmatch.matchers import LightGlue, SuperGlue
from lightmatch.matchers.base import Matcher
from lightmatch.networks.lightglue import LightGlueConfig, LightGlueNetwork
from lightmatch.networks.rotary import Rotary
from lightmatch.networks.superglue import SuperGlueConfig
from lightmatch.pipelines.train import TrainConfig
from lightmatch.pipelines.train_matcher import held_out_pairs, make_groups
from lightmatch.training.batches import PairBatch, PairBatches
from lightmatch.training.loop import Callbacks, RunFolder, RunOptions, train
from lightmatch.training.losses import LightGlueObjective, LightGlueObjectiveConfig, SuperGlueObjective
from lightmatch.training.recipe import Recipe, read_recipe
from lightmatch.types import Features

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "paper_claims.json"
PICTURE = HERE.parent / "docs" / "paper_claims.png"
SINKHORN_ITERATIONS = 100  # the paper's
MATCHING_POINTS, TRAINING_POINTS, TRAINING_PAIRS = 2048, 1024, 4  # whose memory is measured
EXITS: dict[str, float] = {"settled": 0.95, "expected": 0.97}  # depth_confidence by rule: the paper's, the package's
DIFFICULTY = {"easy": (0.4, 1.0), "medium": (0.2, 0.4), "hard": (0.0, 0.2)}  # by the share of points with a match
Pair = tuple[Features, Features, Correspondence]


class AbsolutePositions(LightGlueNetwork):
    """LightGlue that adds an encoding of the place to each descriptor once, as SuperGlue does, and turns nothing."""

    def __init__(self, config: LightGlueConfig) -> None:
        super().__init__(config)
        dim = config.descriptor_dim
        self.places = nn.Sequential(
            nn.Linear(config.position_dim, 64), nn.ReLU(), nn.Linear(64, dim), nn.ReLU(), nn.Linear(dim, dim)
        )

    def embed(self, descriptors: Tensor, positions: Tensor) -> tuple[Tensor, Rotary]:
        """The place is part of the state; the rotary encoding is that of one and the same place."""
        states, rotary = super().embed(descriptors, torch.zeros_like(positions))
        return states + self.places(positions.to(states)), rotary


@dataclass(frozen=True)
class Contestant:
    """A matcher with random weights, and the objective it is trained by."""

    matcher: LightGlue | SuperGlue
    make_objective: Callable[[nn.Module], nn.Module]


def contestants(config: LightGlueConfig) -> dict[str, Contestant]:
    """All that is trained; at full depth and width, keeping all mutual matches so that the threshold can be swept."""
    plain = replace(config, depth_confidence=None, width_confidence=None, filter_threshold=0.0)

    def lightglue(**objective: bool) -> Contestant:
        chosen = LightGlueObjectiveConfig(**objective)
        return Contestant(LightGlue(plain), lambda network: LightGlueObjective(network, plain.positions, chosen))  # type: ignore[arg-type]

    absolute = LightGlue(plain)
    absolute.network = AbsolutePositions(plain).eval()
    superglue_config = SuperGlueConfig(
        features=config.features,
        input_dim=config.input_dim,
        descriptor_dim=config.descriptor_dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        keypoint_encoder_dims=(32, 64, 128),
        sinkhorn_iterations=SINKHORN_ITERATIONS,
        filter_threshold=0.0,
    )
    superglue = SuperGlue(superglue_config)
    # Descriptors of unit variance, as LightGlue starts with: the comparison is not about that.
    assert isinstance(superglue.network.input_proj, torch.nn.Linear)
    superglue.network.input_proj.weight.data *= config.input_dim**0.5
    return {
        "LightGlue": lightglue(),
        "SuperGlue": Contestant(superglue, SuperGlueObjective),  # type: ignore[arg-type]
        "without matchability": lightglue(matchability=False),
        "absolute positions": replace(lightglue(), matcher=absolute),
        "last layer supervised": lightglue(every_layer=False),
    }


def curve(matcher: Matcher, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Precision and recall at every threshold, over all matches of all pairs, strictest first."""
    scores, right, wrong = [], [], []
    for features0, features1, truth in pairs:
        matches = matcher(features0, features1)
        correct, incorrect = truth.correct_and_incorrect(matches.indices)
        scores.append(matches.scores)
        right.append(correct)
        wrong.append(incorrect)
    order = torch.cat(scores).argsort(descending=True)
    num_right, num_wrong = (torch.cat(flags)[order].cumsum(0) for flags in (right, wrong))
    total = sum(len(truth.matches) for *_, truth in pairs)
    return num_right / (num_right + num_wrong).clamp_min(1), num_right / total


def measures(matcher: Matcher, pairs: Sequence[Pair]) -> dict[str, float]:
    """Average precision, and the recall that is left at 90 % precision."""
    precision, recall = curve(matcher, pairs)
    steps = recall.diff(prepend=torch.zeros(1))
    enough = recall[precision >= 0.9]
    return {"precision": float((precision * steps).sum()), "recall": float(enough.max()) if len(enough) else 0.0}


def by_depth(matcher: LightGlue, pairs: Sequence[Pair]) -> list[dict[str, float]]:
    """Quality and time if every pair left after one layer, two, and so on."""
    rows = []
    layers = len(matcher.network.transformers)
    for depth in range(1, layers + 1):
        shallow = LightGlue(replace(matcher.config, num_layers=depth))
        state = {n: t for n, t in matcher.network.state_dict().items() if n in shallow.network.state_dict()}
        shallow.network.load_state_dict(state)
        rows.append({"layers": depth, **measures(shallow, pairs), "milliseconds": milliseconds(shallow, pairs)})
    return rows


def milliseconds(matcher: Matcher, pairs: Sequence[Pair], rounds: int = 5) -> float:
    """Median over pairs of the best of a few rounds."""
    times = []
    for features0, features1, _ in pairs[:: max(1, len(pairs) // 16)]:
        each = []
        for _ in range(rounds):
            start = time.perf_counter()
            matcher(features0, features1)
            each.append(time.perf_counter() - start)
        times.append(1e3 * min(each))
    return statistics.median(times)


def stops(matcher: LightGlue, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Where easy, medium and hard pairs stop, what share of points is dropped, and what that saves and costs."""
    options = {"full": (None, None, "settled"), **{rule: (depth, 0.99, rule) for rule, depth in EXITS.items()}}
    matchers = {
        name: with_options(
            matcher, depth_confidence=depth, width_confidence=width, exit_rule=rule, filter_threshold=0.1
        )
        for name, (depth, width, rule) in options.items()
    }
    rows = []
    for difficulty, (low, high) in DIFFICULTY.items():
        chosen = [p for p in pairs if low <= len(p[2].matches) / min(len(p[0]), len(p[1])) < high]
        for name, one in matchers.items() if chosen else ():
            found = [one(f0, f1) for f0, f1, _ in chosen]
            dropped = [
                float((torch.cat((m.layers0, m.layers1)) < m.stop_layer).float().mean())  # type: ignore[arg-type, operator]
                for m in found
            ]
            flags = [truth.correct_and_incorrect(m.indices) for m, (_, _, truth) in zip(found, chosen, strict=True)]
            right, wrong = (sum(int(one[k].sum()) for one in flags) for k in (0, 1))
            rows.append(
                {
                    "difficulty": difficulty,
                    "exits": name,
                    "pairs": len(chosen),
                    "stop_layer": statistics.mean(m.stop_layer or 0 for m in found),
                    "dropped_share": statistics.mean(dropped),
                    "precision": right / max(right + wrong, 1),
                    "recall": right / max(sum(len(p[2].matches) for p in chosen), 1),
                    "milliseconds": milliseconds(one, chosen),
                }
            )
    return rows


def with_options(matcher: LightGlue, **options: Any) -> LightGlue:
    """The same weights run in another way."""
    other = LightGlue(replace(matcher.config, **options))
    other.network.load_state_dict(matcher.network.state_dict())
    return other


def speed(configs: Sequence[LightGlueConfig], points: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Time per pair of LightGlue at full depth and SuperGlue of the same width, depth and heads, paired in one run."""
    rows = []
    for config in configs:
        ours, theirs = full_depth(config), predecessor(config)
        for count in points:
            pair = [random_features(count, seed) for seed in (0, 1)]
            times: dict[str, list[float]] = {"lightglue": [], "superglue": []}
            for _ in range(rounds + 1):  # the first warms up
                for name, matcher in (("lightglue", ours), ("superglue", theirs)):
                    start = time.perf_counter()
                    matcher(*pair)
                    times[name].append(1e3 * (time.perf_counter() - start))
            medians = {name: statistics.median(each[1:]) for name, each in times.items()}
            ratio = statistics.median(b / a for a, b in zip(*(each[1:] for each in times.values()), strict=True))
            size = f"{config.descriptor_dim} wide, {config.num_layers} layers"
            rows.append({"network": size, "points": count, **medians, "ratio": ratio})
    return rows


def full_depth(config: LightGlueConfig) -> LightGlue:
    """LightGlue with random weights that runs all layers on all points."""
    return LightGlue(replace(config, depth_confidence=None, width_confidence=None))


def predecessor(config: LightGlueConfig) -> SuperGlue:
    """SuperGlue of the same width, depth and heads, with random weights."""
    sizes = (config.input_dim, config.descriptor_dim, config.num_layers, config.num_heads)
    return SuperGlue(SuperGlueConfig(config.features, *sizes, sinkhorn_iterations=SINKHORN_ITERATIONS))


def memory(config: LightGlueConfig, matching_points: int, training_points: int, pairs: int) -> list[dict[str, Any]]:
    """Peak memory of one match, and of one step of training, each in a process of its own, in MiB."""
    rows = []
    with ProcessPoolExecutor(max_workers=1, max_tasks_per_child=1, mp_context=get_context("spawn")) as processes:
        for name in ("LightGlue", "SuperGlue"):
            matching = processes.submit(peak_of_matching, name, config, matching_points).result()
            training = processes.submit(peak_of_training, name, config, training_points, pairs).result()
            rows.append({"matcher": name, "matching_mib": matching, "training_mib": training})
    return rows


def peak_of_matching(name: str, config: LightGlueConfig, points: int) -> float:
    """Memory that matching one pair takes beyond the matcher and the features."""
    matcher = full_depth(config) if name == "LightGlue" else predecessor(config)
    pair = random_features(points, 0), random_features(points, 1)
    return grown(lambda: matcher(*pair))


def peak_of_training(name: str, config: LightGlueConfig, points: int, pairs: int) -> float:
    """Memory that forward and backward pass of a batch take beyond the matcher and the batch."""
    features = random_features(points, 0), random_features(points, 1)
    half = torch.arange(points) < points // 2
    same = half.nonzero().expand(-1, 2)
    batch = PairBatch.collate([(*features, Correspondence(same, ~half, ~half))] * pairs, ["random"] * pairs)
    if name == "LightGlue":
        objective: nn.Module = LightGlueObjective(full_depth(config).network.train(), config.positions)
    else:
        objective = SuperGlueObjective(predecessor(config).network.train())
    return grown(lambda: objective(batch).total.backward())


def grown(work: Callable[[], Any]) -> float:
    """By how many MiB `work` raises the peak memory of this process; to be called once in a process. Linux only."""
    before = process_memory("VmHWM")
    work()
    return (process_memory("VmHWM") - before) / 2**20


def random_features(count: int, seed: int) -> Features:
    """SIFT-like features of a 1024 × 768 picture."""
    from lightmatch.extractors.sift import SIFT

    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    descriptors = torch.nn.functional.normalize(uniform(count, 128), dim=1)
    places = uniform(count, 2) * torch.tensor([1024.0, 768.0])
    return Features(
        places, uniform(count), descriptors, (1024, 768), SIFT, 3 + 20 * uniform(count), 6.28 * uniform(count)
    )


def draw(results: dict[str, Any], picture: Path) -> None:
    """Average precision against pairs seen and against depth, where pairs stop, and time against points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.6), layout="constrained")
    (seen, depth), (stop, cost) = figure.subplots(2, 2)
    for name, rows in results["curves"].items():
        points = [(row["pairs"], 100 * row["average_precision"]) for row in rows]
        seen.plot(*zip(*points, strict=True), label=name, marker="o", markersize=3)
    seen.set(title="Same pairs, same steps", xlabel="pairs seen", ylabel="average precision (%)")
    layers = [row["layers"] for row in results["by_depth"]]
    depth.plot(layers, [100 * row["precision"] for row in results["by_depth"]], marker="o", label="average precision")
    depth.set(title="LightGlue cut after a layer", xlabel="layers", ylabel="average precision (%)", xticks=layers)
    beside = depth.twinx()
    beside.plot(layers, [row["milliseconds"] for row in results["by_depth"]], color="C1", marker="s", label="time")
    beside.set(ylabel="ms per pair", ylim=(0, None))
    figure.legend(handles=[*depth.lines, *beside.lines], frameon=False, loc="center right", bbox_to_anchor=(0.94, 0.62))
    for number, rule in enumerate(EXITS):
        rows = [row for row in results["stops"] if row["exits"] == rule]
        places = [place + 0.4 * number for place in range(len(rows))]
        stop.bar(places, [row["stop_layer"] for row in rows], width=0.38, color=f"C{2 + number}", label=rule)
        stop.set_xticks([place + 0.2 for place in range(len(rows))], [row["difficulty"] for row in rows])
    stop.set(title="Adaptive depth", ylabel="layers run", ylim=(0, max(layers)))
    sizes = dict.fromkeys(row["network"] for row in results["speed"])
    for number, size in enumerate(sizes):
        rows = [row for row in results["speed"] if row["network"] == size]
        for name, style in (("lightglue", "-"), ("superglue", "--")):
            points = [(row["points"], row[name]) for row in rows]
            cost.plot(*zip(*points, strict=True), style, color=f"C{number}", marker="o", label=f"{name}, {size}")
    cost.set(title="Full depth", xlabel="points a view", ylabel="ms per pair", xscale="log", yscale="log")
    for axes in (seen, stop, cost):
        axes.legend(frameon=False, fontsize=8)
    for axes in (seen, depth, stop, cost):
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)


TITLES = {
    "LightGlue": "LightGlue",
    "SuperGlue": f"SuperGlue, {SINKHORN_ITERATIONS} Sinkhorn iterations, loss at the end",
    "without matchability": "LightGlue without matchability",
    "absolute positions": "LightGlue with absolute positions instead of rotary",
    "last layer supervised": "LightGlue supervised in the last layer alone",
}


def page(text: str, results: dict[str, Any]) -> str:
    """docs/paper_claims.md with its tables from paper_claims.json."""
    for name, lines in (
        ("accuracy", _accuracy_table(results["curves"])),
        ("depth", _depth_table(results["by_depth"])),
        ("exits", _exits_table(results["stops"])),
        ("time", _time_table(results["speed"])),
        ("memory", _memory_table(results["memory"])),
    ):
        text = fill_table(text, f"{name}: benchmarks/paper_claims.py", lines)
    return text


def _accuracy_table(curves: dict[str, list[dict[str, float]]]) -> list[str]:
    lines = ["| network | average precision, % | recall where precision is 90 %, % |", "|---|---:|---:|"]
    for name, curve in curves.items():
        last = curve[-1]
        lines.append(f"| {TITLES[name]} | {100 * last['average_precision']:.1f} | {100 * last['recall_at_90']:.1f} |")
    return lines


def _depth_table(rows: list[dict[str, float]]) -> list[str]:
    lines = ["| layers | average precision, % | ms |", "|---|---:|---:|"]
    return lines + [f"| {row['layers']} | {100 * row['precision']:.1f} | {row['milliseconds']:.1f} |" for row in rows]


def _exits_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| pairs | exits | layers run | precision, % | recall, % | ms |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        first = row["exits"] == "full"
        lines.append(
            f"| {row['difficulty']} ({row['pairs']}) | none | {row['stop_layer']:g}"
            if first
            else f"| | {row['exits']} | {row['stop_layer']:.1f}"
        )
        lines[-1] += f" | {100 * row['precision']:.1f} | {100 * row['recall']:.1f} | {row['milliseconds']:.1f} |"
    return lines


def _time_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | points | LightGlue, ms | SuperGlue, ms | SuperGlue / LightGlue |",
        "|---|---:|---:|---:|---:|",
    ]
    previous = ""
    for row in rows:
        network = "" if row["network"] == previous else f" {row['network']}"
        previous = row["network"]
        lines.append(
            f"|{network} | {row['points']} | {row['lightglue']:.0f} | {row['superglue']:.0f} | {row['ratio']:.1f} |"
        )
    return lines


def _memory_table(rows: list[dict[str, Any]]) -> list[str]:
    titles = {
        "matching_mib": f"matching {MATCHING_POINTS:,} points",
        "training_mib": f"a step of training, {TRAINING_PAIRS} pairs of {TRAINING_POINTS:,} points",
    }
    return [
        "| peak memory beyond the matcher and its input, MiB | " + " | ".join(row["matcher"] for row in rows) + " |",
        "|---|" + "---:|" * len(rows),
        *(f"| {title} | " + " | ".join(f"{row[key]:.0f}" for row in rows) + " |" for key, title in titles.items()),
    ]


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, action="append", required=True)
    parser.add_argument("--textures", type=Path, action="append", default=[])
    parser.add_argument("--cache", type=Path, help="groups of views of earlier runs")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the runs; what is there is not trained again"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="of the timing")
    arguments = parser.parse_args()
    recipe = read_recipe(HERE.parent / "recipes" / "paper-claims.toml")
    assert isinstance(recipe, Recipe) and isinstance(recipe.network, LightGlueConfig)
    cache = arguments.cache or arguments.work / "groups"
    data = TrainConfig(tuple(arguments.photos), tuple(arguments.textures), cache=cache, device="cpu")
    batches = PairBatches(make_groups(recipe, data, "train"), recipe.sampling, recipe.seed)
    pairs = held_out_pairs(recipe, data)
    results: dict[str, Any] = {"machine": describe_machine(), "threads": torch.get_num_threads(), "curves": {}}
    trained: dict[str, Any] = {}
    torch.manual_seed(recipe.seed)
    for name, contestant in contestants(recipe.network).items():
        folder = RunFolder(arguments.work / name.replace(" ", "-"))
        folder.path.mkdir(parents=True, exist_ok=True)
        print(name, flush=True)
        options = RunOptions(workers=arguments.workers, validate_every=max(1, recipe.optimization.steps // 10))
        trained[name], _ = train(
            contestant.matcher,
            contestant.make_objective,
            batches,
            recipe.optimization,
            folder,
            options,
            Callbacks(validate=lambda matcher: measures(matcher, pairs)),
        )
        with folder.log.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["recall"]]
        results["curves"][name] = [
            {
                "pairs": int(row["pairs"]),
                "average_precision": float(row["precision"]),
                "recall_at_90": float(row["recall"]),
            }
            for row in rows
        ]
    results["by_depth"] = by_depth(trained["LightGlue"], pairs)
    results["stops"] = stops(trained["LightGlue"], pairs)
    sizes = [recipe.network, LightGlueConfig(descriptor_dim=128, num_layers=6, num_heads=2), LightGlueConfig()]
    results["speed"] = speed(sizes, (512, 1024, 2048), arguments.rounds)
    results["memory"] = memory(recipe.network, MATCHING_POINTS, TRAINING_POINTS, TRAINING_PAIRS)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    draw(results, PICTURE)
    write_page("paper_claims")


if __name__ == "__main__":
    main()
