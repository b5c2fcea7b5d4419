"""Precision–recall and error curves as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightmatch.evaluation.measures import precision_and_recall
from lightmatch.evaluation.scoring import Scores, Sweep


def draw_curves(picture: Path, title: str, scores: Sequence[Scores], error: str, unit: str, largest: float) -> None:
    """Draw precision against recall over all score thresholds, and the share of pairs within an error.

    Without known true matches, precision is drawn against the number of correct matches per pair. A dot marks the
    threshold of a method; methods that differ in their score threshold alone share a curve.
    picture: file to write, in the format of its suffix. error: a key of `Scores.values`. unit: of that error, with its
    leading space where it has one. largest: the error at which the curve ends.
    """
    from matplotlib.figure import Figure

    with_sweep = [(one, one.sweep) for one in scores if one.sweep is not None]
    figure = Figure(figsize=(9 if with_sweep else 4.6, 4.2), layout="constrained")
    axes = figure.subplots(1, 2 if with_sweep else 1, squeeze=False)[0]
    if with_sweep:
        _draw_precision(axes[0], with_sweep)
    for number, one in enumerate(scores):
        errors = np.sort(one.values[error])
        share = 100 * np.arange(1, len(errors) + 1) / len(errors)
        below = errors < largest
        x = np.concatenate(([0], errors[below], [largest]))
        y = np.concatenate(([0], share[below], [100 * below.mean()]))
        axes[-1].plot(x, y, label=one.method, color=f"C{number}", linewidth=1.4)
    axes[-1].set(xlabel=f"{error}{f' ({unit.strip()})'}", ylabel="% of the pairs within it", xlim=(0, largest))
    for one in axes:
        one.set_ylim(0, 100)
        one.grid(alpha=0.3)
        one.legend(frameon=False, loc="best")
    figure.suptitle(title)
    figure.savefig(picture, dpi=130)


def _draw_precision(axes: Any, with_sweep: Sequence[tuple[Scores, Sweep]]) -> None:
    has_recall = all(sweep.has_recall for _, sweep in with_sweep)
    drawn: set[str] = set()
    for number, (one, sweep) in enumerate(with_sweep):
        everything = np.arange(len(sweep.num_true))[None]
        precision, recall = precision_and_recall(sweep, everything)
        x = 100 * recall[0] if has_recall else sweep.correct.mean(0)
        at = sweep.column(one.min_score)
        if one.fingerprint not in drawn:
            axes.plot(x, 100 * precision[0], color=f"C{number}", linewidth=1.4)
            drawn.add(one.fingerprint)
        axes.plot(x[at], 100 * precision[0, at], "o", color=f"C{number}", label=one.method)
    axes.set(xlabel="recall (%)" if has_recall else "correct matches per pair", ylabel="precision (%)")
    axes.set_xlim(left=0)
