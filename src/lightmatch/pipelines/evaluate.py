"""Matchers on pairs with ground truth: extract once, match once, score, compare."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from lightmatch.colmap.options import MAX_SEED
from lightmatch.errors import InvalidValueError, import_optional
from lightmatch.evaluation.bootstrap import draw_pairs
from lightmatch.evaluation.curves import draw_curves
from lightmatch.evaluation.datasets.rendered import Level
from lightmatch.evaluation.environment import describe_environment
from lightmatch.evaluation.estimators import EstimatorName, ModelSearch, is_installed
from lightmatch.evaluation.features import FeatureFiles, image_key
from lightmatch.evaluation.methods import Method, create_method
from lightmatch.evaluation.pairs import EvaluationPair
from lightmatch.evaluation.predictions import Prediction, predict, predictions_path
from lightmatch.evaluation.scoring import Scores, error_key, score_predictions
from lightmatch.evaluation.suites import SUITES, Suite, read_suite_pairs
from lightmatch.evaluation.tables import ResultTable, result_tables
from lightmatch.evaluation.world_files import cached_worlds
from lightmatch.extractors import create_extractor
from lightmatch.matchers import ImageMatcher
from lightmatch.pipelines.output import finish_output, prepare_output
from lightmatch.pipelines.progress import Progress
from lightmatch.runtime.devices import pick_device

WORLD_PAIRS = 24  # of each level, where no number is given

# Removed before a new run. The folders of features, predictions and worlds stay: they are what makes it cheap.
_RESULTS = ("results.md", "results.json", "pairs.csv", "curves")


@dataclass(frozen=True)
class EvaluateConfig:
    """What is evaluated, and how. Empty tuples and None stand for what the suite is used to."""

    suite: str
    roots: tuple[Path, ...] = ()
    image_root: Path | None = None  # of the photos of a published pair list
    levels: tuple[Level, ...] = ()  # of the worlds
    matchers: tuple[str, ...] = ("nearest:none", "nearest")  # see `parse_matcher`; the others are compared to the first
    features: str = "sift"
    max_keypoints: tuple[int, ...] = (1024,)
    image_size: int | None = None  # px of the long side; smaller images are left as they are
    estimators: tuple[EstimatorName, ...] = ()
    thresholds_px: tuple[float, ...] = ()  # of the robust estimators
    match_px: float = 3.0  # a match is right within it
    min_angle_deg: float = 0.0  # between the optical axes
    max_angle_deg: float = 180.0
    num_pairs: int | None = None  # of each scene at most
    num_draws: int = 1000  # of the bootstrap
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise InvalidValueError(f"suite: expected one of {', '.join(SUITES)}, got {self.suite!r}")
        suite = SUITES[self.suite]
        known = {"estimators": suite.estimators, "levels": get_args(Level)}
        for name, choices in known.items():
            unknown = [value for value in getattr(self, name) if value not in choices]
            if unknown:
                raise InvalidValueError(
                    f"{name}: expected some of {', '.join(choices)} in the suite {self.suite!r}, got {unknown[0]!r}"
                )
        if (self.suite == "worlds") == bool(self.roots):
            expected, got = ("no root", self.roots[0]) if self.roots else ("a root with pairs", "none")
            raise InvalidValueError(f"suite {self.suite!r}: expected {expected} ({suite.roots_example}), got {got}")
        if not self.matchers or not self.max_keypoints:
            raise InvalidValueError("evaluate: expected at least one matcher and one number of keypoints, got none")
        for name in ("max_keypoints", "image_size", "thresholds_px", "match_px", "num_pairs", "num_draws"):
            value = getattr(self, name)
            if any(v is not None and not v > 0 for v in (value if isinstance(value, tuple) else (value,))):
                raise InvalidValueError(f"{name}: expected more than 0, got {value}")
        if self.suite != "poses" and (self.min_angle_deg, self.max_angle_deg) != (0, 180):
            raise InvalidValueError(f"angles: expected none in the suite {self.suite!r}; only poses are chosen by them")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidValueError(f"seed: expected 0…{MAX_SEED}, got {self.seed}")


@dataclass(frozen=True)
class EvaluationResult:
    """What a run found; the same stands in its folder."""

    tables: tuple[ResultTable, ...]  # of all pairs
    scene_tables: tuple[ResultTable, ...]  # where there are several scenes
    scores: tuple[Scores, ...]  # of every matcher with every number of keypoints
    notes: tuple[str, ...]
    seconds: dict[str, float]


def evaluate(
    output: str | Path, config: EvaluateConfig, *, overwrite: bool = False, progress: Progress | None = None
) -> EvaluationResult:
    """Compare matchers on the pairs of a suite, and write results.md, results.json, pairs.csv and curves/ to `output`.

    output: a new or empty folder, or one of an earlier run: its results are replaced with `overwrite`, its features and
        predictions are used again where they are of the same images, options and weights.
    Raises InvalidValueError for options that do not fit, ImageReadError where a photo cannot be read, WeightsError
    where a matcher's weights cannot be had.
    """
    output, progress = Path(output), progress or Progress()
    suite, device = SUITES[config.suite], pick_device(config.device)
    image_size = config.image_size or suite.image_size
    extractor = create_extractor(
        config.features, max_keypoints=max(config.max_keypoints), device=config.device, max_image_size=image_size
    )
    most = max(config.max_keypoints)
    names = dict.fromkeys(config.matchers)
    methods = [create_method(name, extractor.kind, device=device, max_keypoints=most) for name in names]
    searches, notes = _searches(suite, config)
    pairs = [] if suite.name == "worlds" else _read_pairs(suite, config)
    prepare_output(output, _RESULTS, overwrite)
    (output / "curves").mkdir()
    if suite.name == "worlds":
        pairs = _render_pairs(config, output / "worlds", image_size, progress)

    store = FeatureFiles(output / "features", extractor, image_size)
    images = {image_key(image): image for pair in pairs for image in (pair.image0, pair.image1)}
    with progress.stage("extract", len(images)) as step:
        for image in images.values():
            store.extract(image)
            step()
    tables: list[ResultTable] = []
    scene_tables: list[ResultTable] = []
    every: list[Scores] = []
    rows: list[dict[str, object]] = []
    for max_keypoints in dict.fromkeys(config.max_keypoints):
        which = f" {max_keypoints}" if len(config.max_keypoints) > 1 else ""
        limited = [
            create_method(method.name, extractor.kind, device=device, max_keypoints=max_keypoints)
            if isinstance(method.matcher, ImageMatcher) and max_keypoints != most  # finds its keypoints itself
            else method
            for method in methods
        ]
        predictions = _predict(pairs, store, max_keypoints, limited, output / "predictions", progress, f"match{which}")
        with progress.stage(f"score{which}", len(pairs)) as step:
            scores = score_predictions(pairs, store, max_keypoints, predictions, searches, config.match_px, step)
        whole, each = _tables(config, pairs, scores, searches)
        tables, scene_tables = tables + whole, scene_tables + each
        every += scores
        rows += _pair_rows(pairs, scores)
        draw_curves(
            output / "curves" / f"{max_keypoints}.png",
            f"{suite.name}, at most {max_keypoints} keypoints, {len(pairs)} pairs",
            scores,
            error_key(searches[-1]),
            suite.error_unit,
            suite.error_thresholds[-1],
        )
    notes = (*notes, _protocol(config, image_size, pairs))
    result = EvaluationResult(tuple(tables), tuple(scene_tables), tuple(every), notes, progress.seconds)
    _write(output, config, result, rows, describe_environment(device))
    finish_output(output)
    return result


def _searches(suite: Suite, config: EvaluateConfig) -> tuple[list[ModelSearch], tuple[str, ...]]:
    """Every estimator with every threshold, and notes about those left out."""
    wanted = config.estimators or suite.estimators
    names: list[EstimatorName] = [name for name in suite.estimators if name in wanted]
    missing = [name for name in names if not is_installed(name)]
    if missing and config.estimators:
        import_optional(missing[0], "evaluation")
    note = "{} is not installed and was left out; to have it, in the clone of lightmatch: pip install '.[evaluation]'"
    thresholds = config.thresholds_px or (suite.threshold_px,)
    searches = [
        ModelSearch(name, threshold, config.seed)
        for name in names
        if name not in missing
        for threshold in (thresholds if name != "dlt" else thresholds[:1])
    ]
    return searches, tuple(map(note.format, missing))


def _read_pairs(suite: Suite, config: EvaluateConfig) -> list[EvaluationPair]:
    return read_suite_pairs(
        suite,
        config.roots,
        image_root=config.image_root,
        min_angle_deg=config.min_angle_deg,
        max_angle_deg=config.max_angle_deg,
        num_pairs=config.num_pairs,
        seed=config.seed,
    )


def _render_pairs(config: EvaluateConfig, folder: Path, image_size: int, progress: Progress) -> list[EvaluationPair]:
    levels = config.levels or get_args(Level)
    num_pairs = config.num_pairs or WORLD_PAIRS
    pairs: list[EvaluationPair] = []
    with progress.stage("render", len(levels)) as step:
        for level in levels:
            pairs += cached_worlds(folder, level, num_pairs, config.seed, image_size)
            step()
    return pairs


def _predict(
    pairs: Sequence[EvaluationPair],
    store: FeatureFiles,
    max_keypoints: int,
    methods: Sequence[Method],
    folder: Path,
    progress: Progress,
    stage: str,
) -> list[tuple[Method, list[Prediction]]]:
    """The predictions of every method; those of one fingerprint are made once."""
    made: dict[str, list[Prediction]] = {}
    matchers = {method.fingerprint: method for method in methods}
    with progress.stage(stage, len(pairs) * len(matchers)) as step:
        for fingerprint, method in matchers.items():
            path = predictions_path(folder, pairs, store, max_keypoints, method)
            made[fingerprint] = predict(pairs, store, max_keypoints, method, path, step)
    return [(method, made[method.fingerprint]) for method in methods]


def _tables(
    config: EvaluateConfig,
    pairs: Sequence[EvaluationPair],
    scores: Sequence[Scores],
    searches: Sequence[ModelSearch],
) -> tuple[list[ResultTable], list[ResultTable]]:
    """Of all pairs, with differences, and of each scene where there are several."""
    measures = SUITES[config.suite].measures(searches, config.match_px)

    def tables(name: str, chosen: np.ndarray) -> list[ResultTable]:
        title = f"{name}, at most {scores[0].max_keypoints} keypoints, {len(chosen)} pairs"
        draws = draw_pairs(len(chosen), config.num_draws, config.seed)
        return result_tables(title, [one.of_pairs(chosen) for one in scores], measures, draws)

    whole = tables(config.suite, np.arange(len(pairs)))
    scenes = list(dict.fromkeys(pair.scene for pair in pairs))
    if len(scenes) == 1:
        return whole, []
    of_scenes = (tables(scene, np.flatnonzero([pair.scene == scene for pair in pairs])) for scene in scenes)
    return whole, [table for both in of_scenes for table in both]


def _pair_rows(pairs: Sequence[EvaluationPair], scores: Sequence[Scores]) -> list[dict[str, object]]:
    return [
        {
            "scene": pair.scene,
            "pair": pair.name,
            "max_keypoints": one.max_keypoints,
            "matcher": one.method,
            **{name: round(float(values[number]), 6) for name, values in one.values.items()},
        }
        for one in scores
        for number, pair in enumerate(pairs)
    ]


def _protocol(config: EvaluateConfig, image_size: int, pairs: Sequence[EvaluationPair]) -> str:
    """How the numbers were made, in a few sentences."""
    scenes = len({pair.scene for pair in pairs})
    angles = f", cameras {config.min_angle_deg:g}…{config.max_angle_deg:g}° apart"
    return (
        f"{len(pairs)} pairs of {scenes} scene{'s' if scenes > 1 else ''}"
        f"{angles if (config.min_angle_deg, config.max_angle_deg) != (0, 180) else ''}; {config.features} features of"
        f" images of at most {image_size} px on the long side, and all px are theirs; seed {config.seed}. In brackets:"
        f" 95 % of {config.num_draws} drawings of the pairs with replacement."
    )


def _write(
    output: Path,
    config: EvaluateConfig,
    result: EvaluationResult,
    rows: Sequence[dict[str, object]],
    environment: dict[str, str | int],
) -> None:
    content = {
        "format": "lightmatch-evaluation",
        "version": 1,
        "config": asdict(config),
        "notes": result.notes,
        "environment": environment,
        "seconds": result.seconds,
        "tables": [table.to_json() for table in result.tables],
        "scenes": [table.to_json() for table in result.scene_tables],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    (output / "results.json").write_text(text + "\n", encoding="utf-8")
    tables = "\n".join(table.markdown() for table in (*result.tables, *result.scene_tables))
    where = ", ".join(f"{name} {value}" for name, value in environment.items())
    parts = [f"# Evaluation: {config.suite}", *result.notes, f"Made with {where}.", tables]
    (output / "results.md").write_text("\n\n".join(parts), encoding="utf-8")
    with (output / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)
