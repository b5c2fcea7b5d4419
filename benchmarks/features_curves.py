"""Features and matchers under in-plane rotation, scale, brightness, gamma and blur of real photos: curves.

Usage: LIGHTMATCH_DATA=/path/to/data python benchmarks/features_curves.py --work runs/features [--features sift …]
Writes benchmarks/results/features_curves.json and docs/features-curves.png. What was measured before stays, each row
with its commit; --features chooses what is measured anew. The work folder keeps features and matches.
--only-picture draws the results there are.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import describe_machine
from features_changes import CHANGES, PHOTOS, Change, changed_pairs, scene_name
from features_rows import ROWS, Numbers, row_name

from lightmatch.errors import WeightsError
from lightmatch.evaluation.bootstrap import Interval, draw_pairs
from lightmatch.evaluation.estimators import ModelSearch
from lightmatch.evaluation.features import FeatureFiles
from lightmatch.evaluation.measures import Area, Mean
from lightmatch.evaluation.methods import create_method
from lightmatch.evaluation.pairs import EvaluationPair
from lightmatch.evaluation.predictions import predict, predictions_path
from lightmatch.evaluation.scoring import Scores, error_key, score_predictions
from lightmatch.evaluation.suites import SUITES
from lightmatch.extractors import create_extractor
from lightmatch.runtime.devices import keep_freed_memory

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "features_curves.json"
PICTURE = HERE.parent / "docs" / "features-curves.png"
SEARCH = ModelSearch("poselib", SUITES["homographies"].threshold_px)
MATCH_PX, AREA_PX = 3.0, 3.0
MEASURES = {"area": f"homography AUC@{AREA_PX:g} px", "right": "right matches", "precision": "precision (%)"}


@dataclass(frozen=True)
class Curve:
    """One row under one change: means over photos at each level, with 95 % intervals."""

    features: str
    matcher: str
    change: str
    keypoints: int
    commit: str
    levels: list[float]
    area: list[Numbers]
    right: list[Numbers]
    precision: list[Numbers]

    @property
    def key(self) -> tuple[str, str, str]:
        """Results of the same key replace each other."""
        return self.features, self.matcher, self.change


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LIGHTMATCH_DATA"), help="holds eval/")
    parser.add_argument("--work", type=Path, help="keeps features and matches")
    parser.add_argument("--features", nargs="+", choices=[*ROWS], default=[*ROWS])
    parser.add_argument("--keypoints", type=int, default=1024)
    parser.add_argument("--photos", type=int, default=len(PHOTOS), help="only so many, for a trial")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--only-picture", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()
    kept = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    curves = {curve.key: curve for curve in (Curve(**row) for row in kept.get("curves", []))}
    if not arguments.only_picture:
        if arguments.data is None or arguments.work is None:
            parser.error("name the data with --data or LIGHTMATCH_DATA, and a work folder with --work")
        pairs = list(changed_pairs(arguments.data, num_photos=arguments.photos))
        for features in arguments.features:
            start = time.perf_counter()
            found = measure(features, pairs, arguments.keypoints, arguments.work / f"{features}-curves")
            curves.update((curve.key, curve) for curve in found)
            content = {"machine": describe_machine(), "photos": PHOTOS[: arguments.photos]}
            rows = ",\n".join(json.dumps(asdict(curves[key])) for key in sorted(curves))
            text = json.dumps(content, ensure_ascii=False).removesuffix("}") + f',\n"curves": [\n{rows}\n]}}\n'
            arguments.results.write_text(text)
            print(f"{features}: {len(pairs)} pairs, {time.perf_counter() - start:.0f} s", flush=True)
    draw(arguments.picture, list(curves.values()))


def measure(features: str, pairs: Sequence[EvaluationPair], keypoints: int, work: Path) -> list[Curve]:
    """The curves of all matchers on these features whose weights are at hand."""
    try:
        extractor = create_extractor(features, max_keypoints=keypoints)
    except WeightsError as error:
        print(f"{features}: left out, {error}", flush=True)
        return []
    methods = []
    for matcher in ROWS[features]:
        try:
            methods.append(create_method(matcher, extractor.kind))
        except WeightsError as error:
            print(f"{row_name(features, matcher)}: left out, {error}", flush=True)
    store = FeatureFiles(work / "features", extractor, SUITES["homographies"].image_size)
    for pair in pairs:
        for image in (pair.image0, pair.image1):
            store.extract(image)
    predictions = [
        (
            one,
            predict(pairs, store, keypoints, one, predictions_path(work / "predictions", pairs, store, keypoints, one)),
        )
        for one in methods
    ]
    scores = score_predictions(pairs, store, keypoints, predictions, [SEARCH], MATCH_PX)
    commit = str(describe_machine()["commit"])
    return [_curve(features, one, change, pairs, commit) for one in scores for change in CHANGES]


def _curve(features: str, scores: Scores, change: Change, pairs: Sequence[EvaluationPair], commit: str) -> Curve:
    assert scores.sweep is not None  # homographies tell right from wrong
    right = scores.sweep.correct[:, scores.sweep.column(scores.min_score)].astype(float)
    scores.values["right"] = right
    measures = {
        "area": Area("", error_key(SEARCH), AREA_PX),
        "right": Mean("", "right"),
        "precision": Mean("", "precision", 100),
    }
    numbers: dict[str, list[Numbers]] = {name: [] for name in measures}
    for level in change.levels:
        chosen = scores.of_pairs(np.array([pair.scene == scene_name(change, level) for pair in pairs]))
        draws = draw_pairs(len(chosen.values["right"]), 1000, 0)
        for name, measure in measures.items():
            interval = Interval.of(measure(chosen, draws))
            numbers[name].append((round(interval.value, 2), round(interval.low, 2), round(interval.high, 2)))
    return Curve(features, scores.method, change.name, scores.max_keypoints, commit, list(change.levels), **numbers)


# Colours that colour-blind readers can tell apart (Okabe & Ito 2008), one for each kind of features.
_COLOURS = {
    "lightpoint": "#d55e00",
    "lightpoint_aliked": "#e69f00",
    "sift": "#000000",
    "aliked": "#0072b2",
    "aliked_n16rot": "#56b4e9",
    "xfeat": "#009e73",
    "disk": "#cc79a7",
}
_LINES: dict[str, dict[str, Any]] = {
    "lightglue": {"linestyle": "-", "linewidth": 2.0, "marker": "o", "markersize": 3.5},
    "nearest:none": {"linestyle": "--", "linewidth": 1.1},
    "nearest:0.8": {"linestyle": ":", "linewidth": 1.6},
}


def draw(picture: Path, curves: Sequence[Curve]) -> None:
    """A column for each change, a row for each measure, a line for each pair of features and matcher."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(20, 12), layout="constrained")
    panels = figure.subplots(len(MEASURES), len(CHANGES), sharey="row", sharex="col")
    order = [(features, matcher) for features, matchers in ROWS.items() for matcher in matchers]
    drawn = sorted(curves, key=lambda curve: order.index((curve.features, curve.matcher)))
    for column, change in enumerate(CHANGES):
        for row, (measure, label) in enumerate(MEASURES.items()):
            axes = panels[row][column]
            for curve in drawn:
                if curve.change == change.name:
                    _line(axes, curve, measure, change)
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=12)
            axes.set_ylim(0, None if measure == "right" else 100)
            if column == 0:
                axes.set_ylabel(label, fontsize=14)
        _label_levels(panels[-1][column], change)
        panels[0][column].set_title(change.name, fontsize=15)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=13, frameon=False)
    figure.savefig(picture, dpi=80)


def _line(axes: Any, curve: Curve, measure: str, change: Change) -> None:
    levels, values = list(change.levels), [numbers[0] for numbers in getattr(curve, measure)]
    if change.name == "rotation":  # a whole turn
        levels, values = [*levels, 360], [*values, values[0]]
    style = {**_LINES[curve.matcher]}
    if curve.features == "lightpoint":
        style["linewidth"] *= 1.5
    axes.plot(levels, values, color=_COLOURS[curve.features], label=row_name(curve.features, curve.matcher), **style)


def _label_levels(axes: Any, change: Change) -> None:
    if change.logarithmic:
        axes.set_xscale("log")
    shown = [*range(0, 361, 60)] if change.name == "rotation" else change.levels
    axes.set_xticks(shown, [f"{level:g}" for level in shown])
    axes.minorticks_off()
    axes.set_xlabel(f"{change.name} ({change.unit})" if change.unit else change.name, fontsize=14)


if __name__ == "__main__":
    main()
