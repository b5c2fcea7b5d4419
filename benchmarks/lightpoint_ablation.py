"""LightPoint trained with and without each ingredient, from the same weights, on the same pairs, for as many steps.

Usage: python benchmarks/lightpoint_ablation.py --photos PHOTOS --photos SCENES --scenes SCENES --from WEIGHTS
           --cache CACHE [--recipe recipes/lightpoint/2-scenes.toml] [--steps 200]
           [--only "without pairs of scenes" …]
Writes benchmarks/results/lightpoint_ablation.json and docs/lightpoint-ablation.md. Each variant is measured on the
pairs that the recipe, unchanged, holds out. What was measured before stays, each row with its commit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import describe_machine
from pages import write_page

from lightmatch.extractors.lightpoint import read_lightpoint
from lightmatch.pipelines.progress import Progress
from lightmatch.pipelines.train_lightpoint import student_validation, train_lightpoint
from lightmatch.pipelines.train_run import TrainConfig, TrainingRun
from lightmatch.runtime.threads import use_threads
from lightmatch.training.loop import RunFolder, RunOptions
from lightmatch.training.recipe import LightPointRecipe, read_recipe

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "lightpoint_ablation.json"

# What is changed of the recipe, by table.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "all": {},
    "without pairs of scenes": {"views": {"scenes_share": 0.0}},
    "without views as the teachers saw them": {"views": {"plain_share": 0.0}, "objective": {"altered_weight": 1.0}},
    "without zoom between views": {"views": {"scale_jitter": 0.1}},
    "without views rotated by any angle": {"views": {"any_rotation_share": 0.0}},
    "without ALIKED-N(16)": {"objective": {"teacher_weights": {"aliked": 0.0}}},
    "without ALIKED-N(16)rot": {"objective": {"teacher_weights": {"aliked_n16rot": 0.0}}},
    "without the loss `space`": {"objective": {"space": 0.0}},
    "without the loss `gram`": {"objective": {"gram": 0.0}},
    "without the loss `pair`": {"objective": {"pair": 0.0}},
    "without the loss `place`": {"objective": {"place": 0.0}},
}
COLUMNS = {
    "repeatability": "repeatability (%)",
    "place_px": "distance of repeated keypoints (px)",
    "precision": "precision (%)",
    "recall": "recall (%)",
    "scene_recall": "recall between photos of a scene (%)",
}


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "recipes" / "lightpoint" / "2-scenes.toml")
    parser.add_argument("--photos", type=Path, action="append", required=True)
    parser.add_argument("--scenes", type=Path, action="append", required=True)
    parser.add_argument("--from", type=Path, dest="weights", help="weights to start from; random ones without")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    arguments = parser.parse_args()
    use_threads(1)
    recipe = read_recipe(arguments.recipe)
    assert isinstance(recipe, LightPointRecipe)
    options = RunOptions(workers=0, checkpoint_every=arguments.steps, validate_every=10 * arguments.steps)
    config = TrainConfig(
        tuple(arguments.photos),
        scenes=tuple(arguments.scenes),
        cache=arguments.cache,
        weights=arguments.weights,
        device="cpu",
        run=options,
    )
    held_out = student_validation(recipe, config)
    rows: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    for name in arguments.only:
        changed = _changed(recipe, VARIANTS[name], arguments.steps)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = TrainingRun(arguments.recipe, RunFolder(Path(folder)), config, 0, 1, Progress())
            weights = train_lightpoint(changed, run).weights
            seconds = time.perf_counter() - start
            scores = dict(held_out(read_lightpoint(weights).eval()))
        machine = describe_machine()
        rows[name] = {"steps": arguments.steps, "seconds": round(seconds), "commit": machine["commit"], **scores}
        print(name, rows[name], flush=True)
        start_weights = "random weights" if arguments.weights is None else "the same weights"
        setup = {"recipe": recipe.name, "pairs_per_step": recipe.views.pairs_per_step, "start": start_weights}
        RESULTS.write_text(json.dumps({"machine": machine, **setup, "rows": rows}, indent=1) + "\n")
    write_page("lightpoint_ablation")


def _changed(recipe: LightPointRecipe, changes: dict[str, dict[str, Any]], steps: int) -> LightPointRecipe:
    tables = {table: replace(getattr(recipe, table), **values) for table, values in changes.items()}
    return replace(recipe, optimization=replace(recipe.optimization, steps=steps), **tables)


def page(_: str, content: dict[str, Any]) -> str:
    """docs/lightpoint-ablation.md from lightpoint_ablation.json."""
    rows = content["rows"]
    steps = {row["steps"] for row in rows.values()}
    lines = [
        "# LightPoint ablation",
        "",
        "Made by `python benchmarks/lightpoint_ablation.py`; numbers with their commits are in",
        "`benchmarks/results/lightpoint_ablation.json`.",
        "",
        f"Recipe {content['recipe']!r} with one change, {' or '.join(map(str, sorted(steps)))} steps of"
        f" {content['pairs_per_step']} pairs from {content['start']}. All are measured on the same held-out pairs:"
        " warped photos (repeatability and distance of keypoints; precision and recall of mutual nearest neighbours"
        " within 3 px) and photos of scenes (share of the teachers' matches that are mutual nearest neighbours).",
        "",
        "| | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name in [name for name in VARIANTS if name in rows]:
        cells = [_cell(column, rows[name].get(column)) for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if column.endswith("_px") else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
