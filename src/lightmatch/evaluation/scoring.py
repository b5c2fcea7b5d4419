"""Predictions and ground truth → metrics of every pair, and counts of correct matches at every score threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from lightmatch.evaluation.estimators import ModelSearch
from lightmatch.evaluation.evaluators import PairEvaluator, create_evaluator
from lightmatch.evaluation.features import FeatureFiles
from lightmatch.evaluation.methods import Method
from lightmatch.evaluation.metrics import share
from lightmatch.evaluation.pairs import EvaluationPair
from lightmatch.evaluation.predictions import Prediction
from lightmatch.runtime.threads import num_threads, thread_pool

_SWEEP_STEPS = 256


@dataclass(frozen=True, eq=False)
class Sweep:
    """Counts of matches above each of t score thresholds, for each of n pairs: the precision–recall curve."""

    thresholds: np.ndarray  # (t,) float32, ascending
    correct: np.ndarray  # (n, t) int
    labelled: np.ndarray  # (n, t) int, correct or incorrect
    found: np.ndarray  # (n, t) int, true matches found
    num_true: np.ndarray  # (n,) int, all 0 where the true matches are unknown

    def column(self, min_score: float) -> int:
        """Column of the threshold `min_score`."""
        return int(np.searchsorted(self.thresholds, np.float32(min_score)))

    @property
    def has_recall(self) -> bool:
        """Whether any pair has known true matches."""
        return bool(self.num_true.any())


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of one method with one number of keypoints on all n pairs."""

    method: str
    fingerprint: str  # of the matcher; equal where only the score threshold differs
    max_keypoints: int
    min_score: float
    values: dict[str, np.ndarray]  # metric → (n,) float64, NaN where a pair has no such value
    sweep: Sweep | None  # None where the ground truth cannot label matches

    def of_pairs(self, chosen: np.ndarray) -> Scores:
        """The scores of some pairs. chosen: (m,) indices or an (n,) bool mask."""
        sweep = self.sweep and Sweep(
            self.sweep.thresholds,
            *(getattr(self.sweep, name)[chosen] for name in ("correct", "labelled", "found", "num_true")),
        )
        values = {name: value[chosen] for name, value in self.values.items()}
        return replace(self, values=values, sweep=sweep)


def error_key(search: ModelSearch) -> str:
    """The key in `Scores.values` of the model error by this search."""
    return f"error, {search.name}"


@dataclass(frozen=True, eq=False)
class _Flags:
    """All matches that one method proposes for one pair, with their labels; (k,) each."""

    scores: np.ndarray
    correct: np.ndarray
    labelled: np.ndarray
    found: np.ndarray
    num_true: int


def score_predictions(
    pairs: Sequence[EvaluationPair],
    store: FeatureFiles,
    max_keypoints: int,
    predictions: Sequence[tuple[Method, Sequence[Prediction]]],
    searches: Sequence[ModelSearch],
    match_px: float,
    step: Callable[[], None] = lambda: None,
) -> list[Scores]:
    """The scores of each method, in the order of `predictions`.

    max_keypoints: as the predictions were made. match_px: a match is correct within this distance.
    step: called after each pair.
    """

    def score(number: int) -> list[tuple[dict[str, float], _Flags | None]]:
        pair = pairs[number]
        images = [store.load(image, max_keypoints) for image in (pair.image0, pair.image1)]
        evaluator = create_evaluator(pair.truth, images[0], images[1], match_px)
        extract_ms = (images[0].extract_ms + images[1].extract_ms) / 2
        rows = []
        for method, predicted in predictions:
            values, flags = _score_pair(evaluator, predicted[number], method.min_score, searches)
            if predicted[number].indices is not None:
                values["extract_ms"] = extract_ms
            rows.append((values, flags))
        return rows

    # The searches for models take most of the time, and release Python's lock while they run.
    with thread_pool(num_threads()) as threads:
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
    evaluator: PairEvaluator, proposed: Prediction, min_score: float, searches: Sequence[ModelSearch]
) -> tuple[dict[str, float], _Flags | None]:
    kept = proposed.above(min_score)
    values = {"num_matches": float(len(kept.scores)), "match_ms": proposed.match_ms}
    if proposed.indices is not None:  # else it has no keypoints but those that it matched
        values["num_keypoints"] = sum(proposed.num_keypoints) / 2
    if proposed.stop_layer is not None:
        values["stop_layer"] = float(proposed.stop_layer)
    if evaluator.keypoint_accuracy is not None and proposed.indices is not None:
        values |= asdict(evaluator.keypoint_accuracy)
    for search in searches:
        values[error_key(search)] = evaluator.model_error(kept.points0, kept.points1, search)
    labels = evaluator.label_matches(proposed.indices, proposed.points0, proposed.points1)
    if labels is None:
        return values, None
    chosen = (proposed.scores > min_score).numpy()
    correct, labelled = labels.correct.numpy(), (labels.correct | labels.incorrect).numpy()
    found = np.zeros_like(correct) if labels.found is None else labels.found.numpy()
    values["precision"] = share(int(correct[chosen].sum()), int(labelled[chosen].sum()))
    if proposed.indices is not None:
        values["matching_score"] = share(int(correct[chosen].sum()), proposed.num_keypoints[0])
    num_true = 0 if labels.found is None else evaluator.num_true_matches or 0
    if num_true:
        values["recall"] = int(found[chosen].sum()) / num_true
    return values, _Flags(proposed.scores.numpy(), correct, labelled, found, num_true)


def _collect(
    method: Method,
    methods: Sequence[Method],
    max_keypoints: int,
    rows: Sequence[tuple[dict[str, float], _Flags | None]],
) -> Scores:
    names = dict.fromkeys(name for values, _ in rows for name in values)
    values = {name: np.array([row.get(name, np.nan) for row, _ in rows]) for name in names}
    flags = [flag for _, flag in rows if flag is not None]
    # Methods of one fingerprint share a curve, so the threshold of each must be on it.
    min_scores = [other.min_score for other in methods if other.fingerprint == method.fingerprint]
    sweep = _sweep(flags, min_scores) if len(flags) == len(rows) else None
    return Scores(method.name, method.fingerprint, max_keypoints, method.min_score, values, sweep)


def _sweep(flags: Sequence[_Flags], min_scores: Sequence[float]) -> Sweep:
    """Counts at the quantiles of all scores, and at `min_scores`."""
    every = np.concatenate([flag.scores for flag in flags])
    quantiles = np.quantile(every, np.linspace(0, 1, _SWEEP_STEPS), method="lower") if len(every) else every
    # float32 like the scores: the matches above a `min_score` must be the same ones in `Prediction.above`.
    thresholds = np.unique(np.append(quantiles, min_scores).astype(np.float32))

    def count(name: str) -> np.ndarray:
        chosen = [np.sort(flag.scores[getattr(flag, name)]) for flag in flags]
        return np.stack([len(scores) - np.searchsorted(scores, thresholds, side="right") for scores in chosen])

    num_true = np.array([flag.num_true for flag in flags])
    return Sweep(thresholds, count("correct"), count("labelled"), count("found"), num_true)
