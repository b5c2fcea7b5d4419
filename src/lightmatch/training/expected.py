"""Whether a training run reached the scores that its recipe expects (`[expected]` in the recipe's file)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from lightmatch.errors import TrainingError

# Scores on pairs held out, columns of a run's log.csv. Shares in 0…1, more is better, unless the name ends in _px.
SCORES = (
    "precision",
    "recall",
    "recall_at_equal_precision",
    "repeatability",
    "place_px",
    "scene_recall",
    "match_precision",
    "match_recall",
)
TOLERANCE = 0.03  # of a share; what seeds, numbers of processes and processors change


def last_scores(log: Path) -> dict[str, float]:
    """The scores of the last validation in a run's log.csv. Raises TrainingError where there is none."""
    try:
        with log.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if any(row.get(name) for name in SCORES)]
    except FileNotFoundError as error:
        raise TrainingError(f"{log}: expected the log of a training run, found no file") from error
    if not rows:
        raise TrainingError(f"{log}: expected a run that was validated at least once, found no scores; let it finish")
    return {name: float(rows[-1][name]) for name in SCORES if rows[-1].get(name)}


def check_names(expected: Mapping[str, float]) -> None:
    """Raise TrainingError where `expected` names what is no score."""
    if unknown := sorted(expected.keys() - set(SCORES)):
        raise TrainingError(f"[expected]: expected some of {', '.join(SCORES)}; got {', '.join(unknown)}")


def shortfalls(expected: Mapping[str, float], scores: Mapping[str, float], tolerance: float = TOLERANCE) -> list[str]:
    """A sentence for each score that is worse than expected by more than the tolerance; better ones are welcome.

    tolerance: of shares, absolute; errors in pixels (names that end in _px) may be larger by this part of themselves.
    Raises TrainingError where `expected` names what is no score.
    """
    check_names(expected)
    found = []
    for name, wanted in expected.items():
        if name not in scores:
            found.append(f"{name}: expected {wanted:.3f}, was not measured")
        elif name.endswith("_px") and scores[name] > wanted * (1 + tolerance):
            found.append(f"{name}: expected at most {wanted * (1 + tolerance):.3f} px, got {scores[name]:.3f}")
        elif not name.endswith("_px") and scores[name] < wanted - tolerance:
            found.append(f"{name}: expected at least {wanted - tolerance:.3f}, got {scores[name]:.3f}")
    return found
