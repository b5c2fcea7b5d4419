"""Predictions and the truth → numbers for every pair, and the counts at every score threshold."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np

from lightmatch.evaluation.estimators import ModelSearch
from lightmatch.evaluation.evaluators import Judge, create_judge
from lightmatch.evaluation.features import FeatureStore
from lightmatch.evaluation.methods import Method
from lightmatch.evaluation.metrics import share
from lightmatch.evaluation.pairs import EvaluationPair
from lightmatch.evaluation.predictions import Prediction

_SWEEP_STEPS = 256


@dataclass(frozen=True, eq=False)
class Sweep:
    """How many proposals above each score threshold are right, judged, and true matches found, for every pair."""

    thresholds: np.ndarray  # (t,) float32, rising
    right: np.ndarray  # (n, t)
    judged: np.ndarray  # (n, t) right or wrong
    found: np.ndarray  # (n, t)
    num_true: np.ndarray  # (n,) all 0 where the truth does not tell the true matches

    def column(self, min_score: float) -> int:
        """Where in the sweep a method is that is run with `min_score`."""
        return int(np.searchsorted(self.thresholds, np.float32(min_score)))

    @property
    def knows_recall(self) -> bool:
        """Whether true matches are known."""
        return bool(self.num_true.any())


@dataclass(frozen=True, eq=False)
class Scores:
    """One method with one number of keypoints on all n pairs."""

    method: str  # its name
    fingerprint: str  # of what proposed the matches: equal where only the score threshold differs
    max_keypoints: int
    min_score: float
    values: dict[str, np.ndarray]  # (n,) float64 each, NaN where a pair has no such number
    sweep: Sweep | None  # None where the truth does not tell right from wrong

    def of_pairs(self, chosen: np.ndarray) -> Scores:
        """The same of the pairs at `chosen`, indices or a mask."""
        sweep = self.sweep and Sweep(
            self.sweep.thresholds,
            *(getattr(self.sweep, name)[chosen] for name in ("right", "judged", "found", "num_true")),
        )
        values = {name: value[chosen] for name, value in self.values.items()}
        return replace(self, values=values, sweep=sweep)


def error_key(search: ModelSearch) -> str:
    """The name in `Scores.values` of the error of a model."""
    return f"error, {search.name}"


@dataclass(frozen=True, eq=False)
class _Flags:
    """All proposals of one method for one pair, judged."""

    scores: np.ndarray
    right: np.ndarray
    judged: np.ndarray
    found: np.ndarray
    num_true: int


def score_predictions(
    pairs: Sequence[EvaluationPair],
    store: FeatureStore,
    max_keypoints: int,
    predictions: Sequence[tuple[Method, Sequence[Prediction]]],
    searches: Sequence[ModelSearch],
    match_px: float,
    step: Callable[[], None] = lambda: None,
) -> list[Scores]:
    """The scores of each method with its predictions, in their order. `step` is called after each pair."""

    def score(number: int) -> list[tuple[dict[str, float], _Flags | None]]:
        pair = pairs[number]
        images = [store.load(image, max_keypoints) for image in (pair.image0, pair.image1)]
        judge = create_judge(pair.truth, images[0], images[1], match_px)
        extract_ms = (images[0].extract_ms + images[1].extract_ms) / 2
        rows = []
        for method, predicted in predictions:
            values, flags = _score_pair(judge, predicted[number], method.min_score, searches)
            rows.append(({**values, "extract_ms": extract_ms}, flags))
        return rows

    # The searches for models take most of the time, and release Python's lock while they run.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        table = []
        for rows in threads.map(score, range(len(pairs))):
            table.append(rows)
            step()
    methods = [method for method, _ in predictions]
    return [
        _collect(method, methods, max_keypoints, [rows[column] for rows in table])
        for column, method in enumerate(methods)
    ]


def _score_pair(
    judge: Judge, proposed: Prediction, min_score: float, searches: Sequence[ModelSearch]
) -> tuple[dict[str, float], _Flags | None]:
    kept = proposed.above(min_score)
    values = {"num_matches": float(len(kept.scores)), "match_ms": proposed.match_ms}
    values["num_keypoints"] = sum(proposed.num_keypoints) / 2
    if proposed.stop_layer is not None:
        values["stop_layer"] = float(proposed.stop_layer)
    if judge.keypoint_accuracy is not None:
        values |= asdict(judge.keypoint_accuracy)
    for search in searches:
        values[error_key(search)] = judge.model_error(kept.points0, kept.points1, search)
    verdict = judge.verdict(proposed.indices, proposed.points0, proposed.points1)
    if verdict is None:
        return values, None
    chosen = (proposed.scores > min_score).numpy()
    right, judged = verdict.right.numpy(), (verdict.right | verdict.wrong).numpy()
    found = np.zeros_like(right) if verdict.found is None else verdict.found.numpy()
    values["precision"] = share(int(right[chosen].sum()), int(judged[chosen].sum()))
    values["matching_score"] = share(int(right[chosen].sum()), proposed.num_keypoints[0])
    num_true = 0 if verdict.found is None else judge.num_true_matches or 0
    if num_true:
        values["recall"] = int(found[chosen].sum()) / num_true
    return values, _Flags(proposed.scores.numpy(), right, judged, found, num_true)


def _collect(
    method: Method,
    methods: Sequence[Method],
    max_keypoints: int,
    rows: Sequence[tuple[dict[str, float], _Flags | None]],
) -> Scores:
    names = dict.fromkeys(name for values, _ in rows for name in values)
    values = {name: np.array([row.get(name, np.nan) for row, _ in rows]) for name in names}
    flags = [flag for _, flag in rows if flag is not None]
    # Those of one fingerprint share a curve, so each one's point must be on it.
    min_scores = [other.min_score for other in methods if other.fingerprint == method.fingerprint]
    sweep = _sweep(flags, min_scores) if len(flags) == len(rows) else None
    return Scores(method.name, method.fingerprint, max_keypoints, method.min_score, values, sweep)


def _sweep(flags: Sequence[_Flags], min_scores: Sequence[float]) -> Sweep:
    """Counts at the quantiles of all scores, and at `min_scores`."""
    every = np.concatenate([flag.scores for flag in flags])
    quantiles = np.quantile(every, np.linspace(0, 1, _SWEEP_STEPS), method="lower") if len(every) else every
    # All in float32, as scores are: the matches above a `min_score` must be the same ones here and there.
    thresholds = np.unique(np.append(quantiles, min_scores).astype(np.float32))

    def count(name: str) -> np.ndarray:
        chosen = [np.sort(flag.scores[getattr(flag, name)]) for flag in flags]
        return np.stack([len(scores) - np.searchsorted(scores, thresholds, side="right") for scores in chosen])

    num_true = np.array([flag.num_true for flag in flags])
    return Sweep(thresholds, count("right"), count("judged"), count("found"), num_true)
