"""Calibration of LightGlue: when pairs may leave early, and which points may be dropped, chosen on pairs of photos.

The full network says what is right, so no truth is needed: any photos will do. A third of the pairs proposes settings,
from cautious to daring; the others test them, the cautious ones first. Three things are chosen: which points are
dropped, by the proposing pairs alone; which pairs are rejected, tested as if no pair left with matches; and which pairs
leave with their matches, tested as if no pair was rejected. Neither test depends on what the other one finds, and both
statements hold together: pairs that leave with matches can only make rejections fewer, and the limit of what may be
lost allows for the pairs that rejections take out of the mean.
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
from lightmatch.evaluation.score_calibration import FeaturePair, ScoreErrors, calibrate_scores, label_pair
from lightmatch.geometry.ransac import SearchOptions
from lightmatch.geometry.robust import estimate_fundamental
from lightmatch.matchers import LightGlue
from lightmatch.networks.adaptive import Calibration, LayerThresholds, Tokens

CONFIDENT = 0.5  # matches of the full network that count: more probably right than wrong
_EXIT_STEPS = tuple(number / 20 for number in range(61))  # loss allowed to the pairs of one exit, of the whole limit
_REJECT_STEPS = (  # pairs rejected wrongly, of the limit; and a factor on the threshold for caution
    *((0.0, factor) for factor in (4.0, 2.0, 1.5, 1.2)),
    *((number / 20, 1.0) for number in range(1, 20)),
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
    agreement: float  # mean over the overlapping pairs of the test, if none was rejected
    false_rejections: float
    mean_layers: float  # of overlapping pairs
    right_rejections: float  # share of the other pairs that are rejected
    p_value: float  # of the agreement; the rejections passed a test of their own


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
    on_step: Callable[[], None] = lambda: None,
    keep: Keep = _make,
) -> CalibrationResult:
    """Thresholds for the layers of `matcher`, and probabilities for its scores; its weights stay as they are.

    pairs: of photos as they will be matched, overlapping ones and others; some 1500 give the thresholds room. With
    fewer than 300 overlapping ones among those that test, no rejection can be shown to be safe, and none is allowed.
    on_step: called `calibration_steps` times. keep: for the same matcher, pairs and options.
    Raises InvalidValueError for fewer than two pairs with keypoints.
    """
    options = options or CalibrationOptions()
    order = np.random.default_rng(options.seed).permutation(len(pairs))
    usable = [pairs[number] for number in order if min(map(len, pairs[number])) > 0]
    if len(usable) < 2:
        raise InvalidValueError(f"calibrate: expected at least two pairs with keypoints, got {len(usable)}")
    truths: list[_Truth] = []
    for number, pair in enumerate(usable):
        truths.append(keep(f"pair {number}", partial(_full_depth, matcher, pair, options)))
        on_step()
    num_chosen = _num_proposing(len(usable))
    chosen, tested = truths[:num_chosen], truths[num_chosen:]
    prune = _prune_thresholds(chosen)
    paths: list[_Path] = []
    for number in range(num_chosen, len(usable)):
        paths.append(keep(f"pruned {number}", partial(_pruned, matcher, usable[number], truths[number], prune)))
        on_step()
    overlapping = [path for truth, path in zip(tested, paths, strict=True) if truth.overlaps]
    others = [path for truth, path in zip(tested, paths, strict=True) if not truth.overlaps]
    reject = last_safe(_rejections(chosen, overlapping, options), options.error) or (None,) * len(prune)
    steps: list[CalibrationStep] = []
    safe = last_safe(_exits(chosen, overlapping, others, (prune, reject), options, steps), options.error)
    calibration = Calibration(
        safe or (LayerThresholds(),) * len(prune),  # None: dropping points alone loses too much
        options.agreement,
        options.false_rejections,
        options.error,
        len(tested),
        len(overlapping),
        source,
    )
    calibration, score_errors = with_scores(matcher, calibration, usable, options, on_step=on_step, keep=keep)
    return CalibrationResult(calibration, tuple(steps), score_errors)


def calibration_steps(num_pairs: int) -> int:
    """How often `calibrate` calls `on_step` for pairs that all have keypoints."""
    return 3 * num_pairs - _num_proposing(num_pairs)


def _num_proposing(num_pairs: int) -> int:
    return max(1, round(_PROPOSING * num_pairs))


def with_scores(
    matcher: LightGlue,
    calibration: Calibration,
    pairs: Sequence[FeaturePair],
    options: CalibrationOptions,
    *,
    on_step: Callable[[], None] = lambda: None,
    keep: Keep = _make,
) -> tuple[Calibration, ScoreErrors | None]:
    """The calibration with that of the scores of its matches, and the errors that were found.

    pairs: in random order. As it was, and None, where no match of half of the pairs is right, or none is wrong.
    """
    matcher = matcher.with_options(calibration=calibration)
    search = SearchOptions(threshold_px=options.inlier_px, seed=options.seed)
    labelled = []
    for number, pair in enumerate(pairs):
        labelled.append(keep(f"scores {number}", partial(label_pair, matcher, pair, options.min_inliers, search)))
        on_step()
    found = calibrate_scores([one for one in labelled if len(one.scores)])
    return (calibration, None) if found is None else (replace(calibration, scores=found[0]), found[1])


@dataclass(frozen=True, eq=False)
class _Path:
    """A pair on its way through the layers, and what leaving after each would mean."""

    ratios: np.ndarray  # (layers − 1,), or of the first alone, see `unsettled_ratio`
    losses: np.ndarray  # (layers,) share of the confident matches of full depth that the layer does not have; or none

    def end(self, layers: Sequence[LayerThresholds]) -> tuple[int, bool, float]:
        """Number of layers, whether it is rejected, and what is lost otherwise. Needs the losses, or a rejection."""
        for number, (ratio, thresholds) in enumerate(zip(self.ratios, layers, strict=False)):
            if thresholds.rejects(ratio):
                return number + 1, True, 0.0
            if thresholds.settles(ratio):
                return number + 1, False, self.losses[number]
        return len(layers) + 1, False, self.losses[-1]

    def is_rejected(self, reject: Sequence[float | None]) -> bool:
        """Whether it reaches the rejection threshold of any layer."""
        return any(least is not None and ratio >= least for ratio, least in zip(self.ratios, reject, strict=False))


@dataclass(frozen=True, eq=False)
class _Truth:
    """What the full network does with a pair."""

    confident: Tensor  # (k, 2) int64, its confident matches
    overlaps: bool  # they are verified
    path: _Path
    matchability: np.ndarray  # (layers − 1, 2k) of the points of the confident matches


@torch.no_grad()
def _full_depth(matcher: LightGlue, pair: FeaturePair, options: CalibrationOptions) -> _Truth:
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
    return _Truth(
        confident,
        geometry.num_inliers >= options.min_inliers,
        _Path(np.array(ratios), np.array([share_lost(confident, one.indices.cpu()) for one in found])),
        np.array([np.concatenate([m[confident[:, side]].numpy() for side, m in enumerate(ms)]) for ms in matchable]),
    )


@torch.no_grad()
def _pruned(matcher: LightGlue, pair: FeaturePair, truth: _Truth, prune: Sequence[float | None]) -> _Path:
    """With points dropped on the way; of a pair that does not overlap, the ratios that may reject it alone."""
    network, config = matcher.network, matcher.config
    tokens0, tokens1 = (Tokens.start([matcher.prepare(features)]) for features in pair)
    ratios, losses = [], []
    for layer in range(config.num_layers if truth.overlaps else min(_REJECT_LAYERS, config.num_layers - 1)):
        if min(*tokens0.counts, *tokens1.counts) == 0:  # it has left, with nothing
            ratios.append(np.nan)
            losses.append(1.0)
            continue
        tokens0, tokens1 = network.run_layer(layer, tokens0, tokens1)
        if truth.overlaps:
            found = network.assign(layer, tokens0, tokens1, config.filter_threshold)[0]
            losses.append(share_lost(truth.confident, found.indices.cpu()))
        if layer < len(prune):
            ratios += network.unsettled_ratios(layer, tokens0, tokens1)
            tokens0, tokens1 = network.drop_points(layer, tokens0, tokens1, prune[layer], [False], config)
    return _Path(np.array(ratios[: len(prune)]), np.array(losses))


def share_lost(confident: Tensor, found: Tensor) -> float:
    """Part of the matches (k, 2) that is not among those found (l, 2); 0 where there are none."""
    if len(confident) == 0:
        return 0.0
    size = int(torch.cat((confident, found)).max()) + 1
    kept = torch.isin(confident[:, 0] * size + confident[:, 1], found[:, 0] * size + found[:, 1])
    return 1 - float(kept.float().mean())


def _prune_thresholds(chosen: Sequence[_Truth]) -> tuple[float | None, ...]:
    """Of each layer but the first: the matchability that nearly all points of confident matches have."""
    left = [truth.matchability for truth in chosen if truth.overlaps and truth.matchability.shape[1] > 0]
    num_layers = len(chosen[0].path.ratios)
    if not left:
        return (None,) * num_layers
    return (None, *(float(np.quantile(values, _PRUNED)) for values in np.concatenate(left, 1)[1:]))


def _rejections(
    chosen: Sequence[_Truth], overlapping: Sequence[_Path], options: CalibrationOptions
) -> Iterator[tuple[tuple[float | None, ...], float]]:
    """Rejection thresholds from the cautious ones on, and how probable it is that they are not safe."""
    proposing = [truth.path for truth in chosen if truth.overlaps]
    num_layers = len(chosen[0].path.ratios)
    for step, factor in _REJECT_STEPS:
        thresholds = _reject_ratios(proposing, step * options.false_rejections, factor, num_layers)
        wrong = sum(path.is_rejected(thresholds) for path in overlapping)
        yield thresholds, rate_p_value(wrong, len(overlapping), options.false_rejections)


def _reject_ratios(paths: Sequence[_Path], share: float, factor: float, num_layers: int) -> tuple[float | None, ...]:
    """Thresholds of the first layers that together reject at most `share` of overlapping pairs; times `factor`."""
    left = list(paths)
    allowed = share * len(left) / _REJECT_LAYERS
    thresholds: list[float | None] = [None] * num_layers
    for layer in range(min(_REJECT_LAYERS, num_layers)):
        # Just above the largest ratio that must stay; what a layer does not use up is left for the next.
        spare = int(allowed * (layer + 1)) - (len(paths) - len(left))
        ratios = sorted((float(path.ratios[layer]) for path in left), reverse=True)
        if not ratios or not np.isfinite(ratios[min(spare, len(ratios) - 1)]):
            continue
        largest = np.float32(factor * ratios[min(spare, len(ratios) - 1)])
        thresholds[layer] = float(np.nextafter(largest, np.float32(np.inf)))
        left = [path for path in left if not path.is_rejected(thresholds)]
    return tuple(thresholds)


def _exits(
    chosen: Sequence[_Truth],
    overlapping: Sequence[_Path],
    others: Sequence[_Path],
    fixed: tuple[Sequence[float | None], Sequence[float | None]],
    options: CalibrationOptions,
    steps: list[CalibrationStep],
) -> Iterator[tuple[tuple[LayerThresholds, ...], float]]:
    """All thresholds, with exits from the cautious ones on, and how probable it is that these are not safe.

    others: pairs that do not overlap. fixed: of pruning and of rejections. steps: each is added to.
    """
    prune, reject = fixed
    limit = 1 - options.agreement
    if any(ratio is not None for ratio in reject):
        limit *= 1 - options.false_rejections  # of the pairs that rejections leave
    proposing = [truth.path for truth in chosen if truth.overlaps]
    for step in _EXIT_STEPS:
        exits = _exit_ratios(proposing, step * (1 - options.agreement), len(prune))
        alone = [LayerThresholds(ratio, None, None) for ratio in exits]
        losses = np.array([path.end(alone)[2] for path in overlapping])
        layers = tuple(LayerThresholds(*three) for three in zip(exits, reject, prune, strict=True))
        ends = [path.end(layers) for path in overlapping]
        steps.append(
            CalibrationStep(
                layers,
                1 - float(np.mean(losses)) if len(losses) else 1.0,
                float(np.mean([rejected for _, rejected, _ in ends])) if ends else 0.0,
                float(np.mean([depth for depth, _, _ in ends])) if ends else 0.0,
                float(np.mean([path.is_rejected(reject) for path in others])) if others else 0.0,
                mean_p_value(losses, limit, options.error),
            )
        )
        yield layers, steps[-1].p_value


def _exit_ratios(paths: Sequence[_Path], loss: float, num_layers: int) -> list[float | None]:
    """Of each layer; the pairs that leave at one lose `loss` of their confident matches in the mean."""
    left = list(paths)
    ratios: list[float | None] = []
    for layer in range(num_layers):
        ratio = _exit_ratio(left, layer, loss) if loss > 0 else None
        ratios.append(ratio)
        left = [path for path in left if ratio is None or path.ratios[layer] > ratio]
    return ratios


def _exit_ratio(paths: Sequence[_Path], layer: int, loss: float) -> float | None:
    """The largest ratio up to which pairs may leave."""
    ratios = np.array([path.ratios[layer] for path in paths])
    losses = np.array([path.losses[layer] for path in paths])
    order = ratios.argsort(kind="stable")
    means = losses[order].cumsum() / np.arange(1, len(order) + 1)
    fitting = np.flatnonzero(means <= loss)
    if len(fitting) == 0 or fitting[-1] + 1 < _LEAST_PAIRS:
        return None
    ratio = float(ratios[order[fitting[-1]]])
    return ratio if np.isfinite(ratio) else None
