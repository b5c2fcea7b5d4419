"""docs/features-table.md: a summary to read, differences with their intervals, and the details."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from features_rows import SCENE_PAIRS, Measured, Numbers, ResultFile, Timed, area_name, headline, row_name, visible_sets

from lightmatch.evaluation.bootstrap import Interval, draw_pairs
from lightmatch.evaluation.estimators import EstimatorName
from lightmatch.evaluation.metrics import area_under_curve
from lightmatch.evaluation.suites import SUITES

KEYPOINTS = 1024  # of the summary, where that was measured
SUITE_ORDER = ("poses", "homographies", "correspondences")
NUM_DRAWS = 1000

REPEATABILITY = "repeatability of keypoints at 3 px (%)"
LOCALIZATION = "localisation error of repeated keypoints (px)"


def page(text: str, content: dict[str, Any]) -> str:
    """docs/features-table.md from features_table.json: what was measured so far."""
    results = ResultFile(Path("features_table.json"), content)
    measured = results.measured
    if not measured:
        return text
    counts = sorted({row.keypoints for row in measured})
    main = KEYPOINTS if KEYPOINTS in counts else counts[0]
    parts = [
        _introduction(measured),
        _summary([row for row in measured if row.keypoints == main], results.timed, main),
        _differences(measured),
        "## Details\n\nIn brackets: 95 % intervals over pairs.",
        *(_set_section(name, [row for row in measured if row.set == name]) for name in _sets(measured)),
        _keypoints(measured),
        _times(results.timed),
        _commits(measured),
    ]
    if results.absent:
        parts.append("Left out, for their weights were not at hand: " + ", ".join(results.absent) + ".")
    return "\n\n".join(part for part in parts if part) + "\n"


_INTRODUCTION = """# Features compared

Made by `python benchmarks/features_table.py --data DATA --work WORK`; every number with its interval and commit is
in `benchmarks/results/features_table.json`. Rows are features and the matcher on them: `nearest:none` and
`nearest:0.8` are nearest neighbours ([Naming a matcher](matchers.md)); `lightglue` is the LightGlue of this package,
unless the released one is named. `lightpoint_aliked` are LightPoint's keypoints with descriptors in ALIKED's space, for
the released LightGlue. Models by PoseLib. The sets: [evaluation](evaluation.md#the-data-sets-of-the-tables). Under
rotation, scale, illumination and blur: [curves](features-curves.png).
"""


def _introduction(measured: Sequence[Measured]) -> str:
    visible = {one.name for one in visible_sets(Path())}
    scenes = [name for name in _sets(measured) if name not in visible]
    if not scenes:
        return _INTRODUCTION.rstrip()
    return (
        _INTRODUCTION
        + f"\nScenes given by `--scene`, held out from training: {', '.join(scenes)}. Their ground truth is the poses"
        f" of a reconstruction, which are not exact; at most {SCENE_PAIRS} pairs of each, with common points in it."
    )


def _summary(rows: Sequence[Measured], timed: Sequence[Timed], keypoints: int) -> str:
    sets = _sets(rows)
    suites = {row.set: row.suite for row in rows}
    best = {name: max((_area(row) for row in rows if row.set == name), default=0.0) for name in sets}
    total = {row.key: row.total_ms for row in timed}

    def cells(row: Measured, of: dict[str, Measured]) -> list[str]:
        areas = [_strong(_area(of[name]), best[name]) if name in of else "–" for name in sets]
        ms = total.get((row.features, row.matcher, keypoints))
        return [row_name(row.features, row.matcher), *areas, "–" if ms is None else f"{ms:.0f}"]

    heads = [f"{name}, AUC@{headline(suites[name]):g}{SUITES[suites[name]].error_unit}" for name in sets]
    title = (
        f"## Summary, at most {keypoints} keypoints\n\nRelative pose on photos of real places (°); homographies on"
        " planes and fundamental matrices, by the robust estimator (px). Time: two images of 640 px and their match."
        " Bold: the best and what is within 0.5 of it.\n\n"
    )
    lines = [cells(next(iter(of.values())), of) for of in _by_row(rows).values()]
    return title + _table(["features + matcher", *heads, "ms"], lines)


def _differences(measured: Sequence[Measured]) -> str:
    """The first row of all against each other one, pair by pair."""
    first = next(iter(_by_row(measured).values()))
    one = next(iter(first.values()))
    ours = {(row.keypoints, row.set): row for row in measured if row.key[:2] == one.key[:2]}
    sets = _sets(measured)
    lines = []
    for (features, matcher, count), of in _by_row(measured).items():
        if (features, matcher) == one.key[:2]:
            continue
        cells = [
            _difference(ours[count, name], of[name]) if name in of and (count, name) in ours else "–" for name in sets
        ]
        lines.append([row_name(features, matcher), str(count), *cells])
    title = (
        f"## {row_name(one.features, one.matcher)} minus the others\n\nDifferences of the summary's AUC on the same"
        " pairs, with 95 % intervals. Bold: the interval excludes 0. Above 0: the others are worse.\n\n"
    )
    return title + _table(["minus", "keypoints", *sets], lines) if lines else ""


def _difference(ours: Measured, other: Measured) -> str:
    if ours.pairs != other.pairs:
        return "–"
    draws = draw_pairs(ours.num_pairs, NUM_DRAWS, 0)
    threshold = headline(ours.suite)
    areas = [
        100 * area_under_curve(np.array([np.inf if e is None else e for e in row.errors])[draws], [threshold])[:, 0]
        for row in (ours, other)
    ]
    interval = Interval.of(areas[0] - areas[1])
    text = f"{interval.value:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"
    return f"**{text}**" if interval.low > 0 or interval.high < 0 else text


def _set_section(name: str, rows: Sequence[Measured]) -> str:
    suite, numbers = SUITES[rows[0].suite], {measure for row in rows for measure in row.numbers}
    estimators: dict[EstimatorName, str] = {"dlt": ", DLT", "poselib": ""}
    areas = {
        f"AUC@{threshold:g}{suite.error_unit}{label}": area_name(suite.name, threshold, estimator)
        for estimator, label in estimators.items()
        for threshold in suite.error_thresholds
    }
    kind = "epipolar precision" if suite.name == "poses" else "precision"
    wanted = {**areas, f"{kind} (%)": f"{kind} at 3 px (%)", "recall (%)": "recall at 3 px (%)", "matches": "matches"}
    columns = {head: measure for head, measure in wanted.items() if measure in numbers}
    counts = sorted({row.num_pairs for row in rows})
    lines = [
        [
            row_name(row.features, row.matcher),
            str(row.keypoints),
            *(_text(row.numbers.get(measure), brackets="matches" not in measure) for measure in columns.values()),
        ]
        for row in rows
    ]
    title = f"### {name}: {' or '.join(map(str, counts))} pairs, images of at most {suite.image_size} px\n\n"
    return title + _table(["features + matcher", "keypoints", *columns], lines)


def _keypoints(measured: Sequence[Measured]) -> str:
    """One row for each kind of features: its matchers share the keypoints."""
    known = [row for row in measured if REPEATABILITY in row.numbers]
    sets = _sets(known)
    lines, done = [], set()
    for (features, _, count), of in _by_row(known).items():
        if (features, count) in done:
            continue
        done.add((features, count))
        cells = [
            _text(of[name].numbers.get(measure), digits) if name in of else "–"
            for name in sets
            for measure, digits in ((REPEATABILITY, 1), (LOCALIZATION, 2))
        ]
        lines.append([features, str(count), *cells])
    heads = [f"{name}, {what}" for name in sets for what in ("repeatability (%)", "error (px)")]
    title = (
        "### Keypoints alone\n\nRepeatability: share of the keypoints in view of both images that have a partner within"
        " 3 px in both. Error: median distance of those partners. Means over pairs; homogr's homographies come from"
        " points marked by hand, and its errors hold theirs.\n\n"
    )
    return title + _table(["features", "keypoints", *heads], lines) if lines else ""


def _times(timed: Sequence[Timed]) -> str:
    if not timed:
        return ""
    lines = [
        [
            row_name(row.features, row.matcher),
            str(row.keypoints),
            _text(row.image_ms),
            _text(row.pair_ms),
            f"{row.total_ms:.0f}",
            f"{row.threads}",
            f"{row.load:g}",
        ]
        for row in timed
    ]
    title = (
        f"### Time\n\nMilliseconds on {', '.join(sorted({row.cpu for row in timed}))}: photos of Oxford at 640 px, one"
        " image and one pair at a time, as `lightmatch match` runs them (the package's own networks in the precision"
        " that is fastest on the processor, the accuracy above in float32 for matchers). Median, and in brackets the"
        " range of 80 % of the repetitions. Load: processes waiting for a core just before; times are too long where"
        " it is above 0.5.\n\n"
    )
    heads = ["features + matcher", "keypoints", "image", "pair", "two images + pair", "threads", "load"]
    return title + _table(heads, lines)


def _commits(measured: Sequence[Measured]) -> str:
    names: dict[str, dict[str, None]] = {}
    for row in measured:
        names.setdefault(row.commit, {})[row_name(row.features, row.matcher)] = None
    lines = [f"- {commit}: {', '.join(rows)}" for commit, rows in names.items()]
    return "### Commits\n\n" + "\n".join(lines)


def _by_row(measured: Iterable[Measured]) -> dict[tuple[str, str, int], dict[str, Measured]]:
    """Features, matcher and keypoints: the results on each set."""
    found: dict[tuple[str, str, int], dict[str, Measured]] = {}
    for row in measured:
        found.setdefault(row.key[:3], {})[row.set] = row
    return found


def _sets(measured: Iterable[Measured]) -> list[str]:
    """Names of the sets, posed ones first."""
    suites = {row.set: row.suite for row in measured}
    return sorted(suites, key=lambda name: SUITE_ORDER.index(suites[name]))


def _area(row: Measured) -> float:
    return row.numbers[area_name(row.suite, headline(row.suite))][0] or 0.0


def _strong(value: float, best: float) -> str:
    return f"**{value:.1f}**" if value >= best - 0.5 else f"{value:.1f}"


def _text(numbers: Numbers | None, digits: int = 1, brackets: bool = True) -> str:
    if numbers is None or numbers[0] is None:
        return "–"
    value, low, high = numbers
    if not brackets or low is None or high is None:
        return f"{value:.0f}"
    ends: Callable[[float], str] = f"{{:.{digits - 1}f}}".format
    return f"{value:.{digits}f} [{ends(low)}, {ends(high)}]"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruler = ["---", *("---:" for _ in heads[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ruler, *lines))
