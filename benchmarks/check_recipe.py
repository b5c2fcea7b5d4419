"""Compare the scores of a training run with those that its recipe expects.

Usage: python benchmarks/check_recipe.py recipes/x.toml runs/x [--tolerance 0.03]
runs/x is what `lightmatch train recipes/x.toml … -o runs/x` wrote. Scores are those of the last validation, on pairs
held out; they depend on the photos, which the card of the weights names. Exit status 1 where a share is lower, or an
error in pixels higher, by more than the tolerance (of a share: absolute; of an error: relative). Where no scores are
on record for a recipe (it has no table [expected], and a comment says why), the scores of the run are printed and the
exit status is 3.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lightmatch.errors import LightmatchError
from lightmatch.training.expected import TOLERANCE, last_scores, shortfalls
from lightmatch.training.recipe import read_recipe

NOTHING_ON_RECORD = 3  # exit status


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    arguments = parser.parse_args()
    try:
        recipe = read_recipe(arguments.recipe)
        scores = last_scores(arguments.run / "log.csv")
        found = shortfalls(recipe.expected, scores, arguments.tolerance)
    except LightmatchError as error:
        parser.error(str(error))
    if not recipe.expected:
        print(*(f"{name}: {score:.3f}" for name, score in scores.items()), sep="\n")
        print(f"{arguments.recipe}: no scores are on record, it has no table [expected]; nothing was compared")
        return NOTHING_ON_RECORD
    for name, wanted in recipe.expected.items():
        print(f"{name}: {scores.get(name, float('nan')):.3f}, expected {wanted:.3f}")
    print(*found or ["as expected"], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
