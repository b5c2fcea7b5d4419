"""Calibration of LightGlue: when pairs may leave early, and which points may be dropped, chosen on pairs of photos.

The full network says what is right, so no truth is needed: any photos will do. A third of the pairs proposes settings,
from cautious to daring; the others test them, the cautious ones first, with the network as it would then run.
Rejections are tested first, exits then beside the rejections that passed, on the same pairs.
Sources: Angelopoulos et al.: Learn then test, 2021 (the test); Laufer-Goldshtein et al.: Efficiently controlling
multiple risks with Pareto testing, ICLR 2023 (some pairs propose, the others test).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.risk_control import last_safe, mean_p_value, rate_p_value
from lightmatch.evaluation.score_calibration import FeaturePair, ScoreErrors, calibrate_scores, label_pairs
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.matchers import LightGlue
from lightmatch.networks.adaptive import Calibration, LayerThresholds, Tokens

CONFIDENT = 0.5  # matches of the full network that count: more probably right than wrong
_EXIT_STEPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # loss allowed to the pairs of one exit, of the whole limit
_REJECT_STEPS = (  # pairs rejected wrongly, of the limit; and a factor on the threshold for caution
    *((0.0, factor) for factor in (4.0, 2.0, 1.5, 1.2)),
    *((number / 10, 1.0) for number in range(1, 10)),
)
_PRUNED = 1e-4  # points of confident matches that a layer may drop; what more would save is not worth the loss
_PROPOSING = 1 / 3  # of the pairs; the others test
_REJECT_LAYERS = 3  # the first, after which a pair may be rejected
_LEAST_PAIRS = 8  # that leave at a layer, for its threshold to be trusted


T = TypeVar("T")


class Keep(Protocol):
    """Remembers results by name, so that a calibration that was stopped goes on."""

    def __call__(self, name: str, make: Callable[[], T], /) -> T:
        """What was made under the name before, or now."""
        ...


def _make(name: str, make: Callable[[], T], /) -> T:
    return make()


@dataclass(frozen=True)
class CalibrationOptions:
    """What must hold."""

    # Share of the full network's confident matches that stays, mean over verified pairs that are not rejected.
    agreement: float = 0.99
    false_rejections: float = 0.01  # share of pairs that the full network verifies and that are rejected, at most
    error: float = 0.05  # probability that a statement does not hold
    min_inliers: int = 30  # a pair with as many is verified
    inlier_px: float = 3.0  # from the epipolar line
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("agreement", "false_rejections", "error"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidValueError(f"{name}: expected a number between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class CalibrationStep:
    """A setting that was tested."""

    layers: tuple[LayerThresholds, ...]
    agreement: float  # on the pairs of the test
    false_rejections: float
    mean_layers: float  # of overlapping pairs
    right_rejections: float  # share of the other pairs that leave without matches
    p_value: float  # the larger of the two statements


@dataclass(frozen=True)
class CalibrationResult:
    """The calibration, and how it was found."""

    calibration: Calibration
    steps: tuple[CalibrationStep, ...]  # exits and pruning, in the order of the test
    score_errors: ScoreErrors | None  # None where no match is right, or none wrong: probabilities are not known then


def calibrate(
    matcher: LightGlue,
    pairs: Sequence[FeaturePair],
    options: CalibrationOptions | None = None,
    *,
    source: str = "",
    on_pair: Callable[[], None] = lambda: None,
    keep: Keep = _make,
) -> CalibrationResult:
    """Thresholds for the layers of `matcher`, and probabilities for its scores; its weights stay as they are.

    pairs: of photos as they will be matched, overlapping ones and others; some 1500 give the thresholds room. With
    fewer than 300 overlapping ones among those that test, no rejection can be shown to be safe, and none is allowed.
    on_pair: called once for each pair. keep: for the same matcher, pairs and options.
    Raises InvalidValueError for fewer than two pairs with keypoints.
    """
    options = options or CalibrationOptions()
    order = np.random.default_rng(options.seed).permutation(len(pairs))
    usable = [pairs[number] for number in order if min(map(len, pairs[number])) > 0]
    if len(usable) < 2:
        raise InvalidValueError(f"calibrate: expected at least two pairs with keypoints, got {len(usable)}")
    traces = []
    for number, pair in enumerate(usable):
        traces.append(keep(f"pair {number}", partial(_trace, matcher, pair, options)))
        on_pair()
    num_chosen = max(1, round(_PROPOSING * len(usable)))
    chosen, tested = traces[:num_chosen], traces[num_chosen:]
    num_layers = matcher.config.num_layers

    def rejections() -> Iterator[tuple[tuple[float | None, ...], float]]:
        for step, factor in _REJECT_STEPS:
            thresholds = _reject_ratios(chosen, step * options.false_rejections, factor, num_layers - 1)
            wrong = sum(trace.is_rejected(thresholds) for trace in tested if trace.overlaps)
            yield thresholds, rate_p_value(wrong, sum(t.overlaps for t in tested), options.false_rejections)

    reject = last_safe(rejections(), options.error) or (None,) * (num_layers - 1)
    steps: list[CalibrationStep] = []

    def exits() -> Iterator[tuple[CalibrationStep, float]]:
        for step in _EXIT_STEPS:
            layers = _with_exits(chosen, reject, step * (1 - options.agreement))
            test = partial(_test, matcher, usable[num_chosen:], tested, layers, options)
            steps.append(keep(f"step {step:g}", test))
            yield steps[-1], steps[-1].p_value

    safe = last_safe(exits(), options.error)
    calibration = Calibration(
        safe.layers if safe else _with_exits(chosen, reject, 0.0),  # rejections alone lose no match of the other pairs
        options.agreement,
        options.false_rejections,
        options.error,
        len(tested),
        sum(trace.overlaps for trace in tested),
        source,
    )
    calibration, score_errors = with_scores(matcher, calibration, usable, options)
    return CalibrationResult(calibration, tuple(steps), score_errors)


def with_scores(
    matcher: LightGlue, calibration: Calibration, pairs: Sequence[FeaturePair], options: CalibrationOptions
) -> tuple[Calibration, ScoreErrors | None]:
    """The calibration with that of the scores of its matches, and the errors that were found.

    pairs: in random order. As it was, and None, where no match of half of the pairs is right, or none is wrong.
    """
    matcher = matcher.with_options(calibration=calibration)
    search = SearchOptions(threshold_px=options.inlier_px, seed=options.seed)
    found = calibrate_scores(label_pairs(matcher, pairs, min_inliers=options.min_inliers, search=search))
    return (calibration, None) if found is None else (replace(calibration, scores=found[0]), found[1])


@dataclass(frozen=True, eq=False)
class _Trace:
    """What the full network does with a pair, and what leaving after each layer but the last would cost."""

    confident: Tensor  # (k, 2) int64, its confident matches
    overlaps: bool  # they are verified
    ratios: np.ndarray  # (layers,) see `unsettled_ratio`
    losses: np.ndarray  # (layers,) share of the confident matches that the layer does not have
    matchability: np.ndarray  # (layers, 2k) of the points of the confident matches

    def is_rejected(self, thresholds: Sequence[float | None]) -> bool:
        """Whether the pair reaches the rejection threshold of any layer."""
        return any(least is not None and ratio >= least for ratio, least in zip(self.ratios, thresholds, strict=True))


@torch.no_grad()
def _trace(matcher: LightGlue, pair: FeaturePair, options: CalibrationOptions) -> _Trace:
    network, num_layers = matcher.network, matcher.config.num_layers
    tokens0, tokens1 = (Tokens.start([matcher.prepare(features)]) for features in pair)
    ratios, found, matchable = [], [], []
    for layer in range(num_layers):
        tokens0, tokens1 = network.run_layer(layer, tokens0, tokens1)
        found.append(network.assign(layer, tokens0, tokens1, matcher.config.filter_threshold)[0])
        if layer < num_layers - 1:
            ratios += network.unsettled_ratios(layer, tokens0, tokens1)
            matchable.append([network.matchability(layer, tokens)[0].cpu() for tokens in (tokens0, tokens1)])
    full = found[-1]
    points0, points1 = (features.keypoints.cpu()[full.indices[:, side].cpu()] for side, features in enumerate(pair))
    geometry = estimate_fundamental(points0, points1, SearchOptions(threshold_px=options.inlier_px, seed=options.seed))
    confident = full.indices[full.scores >= CONFIDENT].cpu()
    return _Trace(
        confident,
        geometry.num_inliers >= options.min_inliers,
        np.array(ratios),
        np.array([share_lost(confident, one.indices.cpu()) for one in found[:-1]]),
        np.array([np.concatenate([m[confident[:, side]].numpy() for side, m in enumerate(ms)]) for ms in matchable]),
    )


def share_lost(confident: Tensor, found: Tensor) -> float:
    """Part of the matches (k, 2) that is not among those found (l, 2); 0 where there are none."""
    if len(confident) == 0:
        return 0.0
    size = int(torch.cat((confident, found)).max()) + 1
    kept = torch.isin(confident[:, 0] * size + confident[:, 1], found[:, 0] * size + found[:, 1])
    return 1 - float(kept.float().mean())


def _reject_ratios(traces: Sequence[_Trace], share: float, factor: float, num_layers: int) -> tuple[float | None, ...]:
    """Thresholds of the first layers that together reject at most `share` of the overlapping pairs; times `factor`."""
    left = [trace for trace in traces if trace.overlaps]
    allowed = share * len(left) / _REJECT_LAYERS
    thresholds: list[float | None] = [None] * num_layers
    for layer in range(min(_REJECT_LAYERS, num_layers)):
        # Just above the largest ratio that must stay; what a layer does not use up is left for the next.
        spare = int(allowed * (layer + 1)) - (sum(trace.overlaps for trace in traces) - len(left))
        ratios = sorted((float(trace.ratios[layer]) for trace in left), reverse=True)
        if not ratios or not np.isfinite(ratios[min(spare, len(ratios) - 1)]):
            continue
        largest = np.float32(factor * ratios[min(spare, len(ratios) - 1)])
        thresholds[layer] = float(np.nextafter(largest, np.float32(np.inf)))
        left = [trace for trace in left if not trace.is_rejected(thresholds)]
    return tuple(thresholds)


def _with_exits(traces: Sequence[_Trace], reject: Sequence[float | None], loss: float) -> tuple[LayerThresholds, ...]:
    """Thresholds of every layer; the pairs that leave at one lose `loss` of their confident matches in the mean."""
    left = [trace for trace in traces if trace.overlaps]
    layers = []
    for layer, reject_ratio in enumerate(reject):
        left = [t for t in left if reject_ratio is None or t.ratios[layer] < reject_ratio]
        exit_ratio = _exit_ratio(left, layer, loss) if loss > 0 else None
        prune = None
        if loss > 0 and left and layer > 0:
            values = np.concatenate([trace.matchability[layer] for trace in left])
            prune = float(np.quantile(values, _PRUNED)) if len(values) else None
        layers.append(LayerThresholds(exit_ratio, reject_ratio, prune))
        left = [t for t in left if exit_ratio is None or t.ratios[layer] > exit_ratio]
    return tuple(layers)


def _exit_ratio(traces: Sequence[_Trace], layer: int, loss: float) -> float | None:
    """The largest ratio up to which pairs may leave."""
    ratios = np.array([trace.ratios[layer] for trace in traces])
    losses = np.array([trace.losses[layer] for trace in traces])
    order = ratios.argsort(kind="stable")
    means = losses[order].cumsum() / np.arange(1, len(order) + 1)
    fitting = np.flatnonzero(means <= loss)
    if len(fitting) == 0 or fitting[-1] + 1 < _LEAST_PAIRS:
        return None
    ratio = float(ratios[order[fitting[-1]]])
    return ratio if np.isfinite(ratio) else None


def _test(
    matcher: LightGlue,
    pairs: Sequence[FeaturePair],
    traces: Sequence[_Trace],
    layers: tuple[LayerThresholds, ...],
    options: CalibrationOptions,
) -> CalibrationStep:
    """Match the overlapping pairs as the thresholds have it, and compare with the full network."""
    calibration = Calibration(layers, options.agreement, options.false_rejections, options.error, 0, 0)
    trial = matcher.with_options(calibration=calibration)
    losses, wrong, depths = [], 0, []
    for pair, trace in zip(pairs, traces, strict=True):
        if not trace.overlaps:
            continue
        matches = trial(*pair)
        depths.append(int(matches.stop_layer or 0))
        if len(matches) == 0 and depths[-1] < matcher.config.num_layers:
            wrong += 1
        else:
            losses.append(share_lost(trace.confident, matches.indices.cpu()))
    p_value = mean_p_value(np.array(losses), 1 - options.agreement, options.error)
    if any(one.reject_ratio is not None for one in layers):
        p_value = max(p_value, rate_p_value(wrong, len(depths), options.false_rejections))
    thresholds = [one.reject_ratio for one in layers]
    rejected = [trace.is_rejected(thresholds) for trace in traces if not trace.overlaps]
    return CalibrationStep(
        layers,
        1 - float(np.mean(losses or [0.0])),
        wrong / max(1, len(depths)),
        float(np.mean(depths or [0.0])),
        float(np.mean(rejected or [0.0])),
        p_value,
    )
