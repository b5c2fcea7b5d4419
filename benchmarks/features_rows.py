"""What the comparison of features measures: rows of features and matcher, sets, and the file that keeps the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightmatch.errors import InvalidValueError
from lightmatch.evaluation.estimators import EstimatorName, ModelSearch
from lightmatch.evaluation.scoring import error_key
from lightmatch.evaluation.suites import SUITES
from lightmatch.runtime.files import replacing

ROWS: dict[str, tuple[str, ...]] = {  # features: matchers, as `evaluate` calls them
    "lightpoint": ("lightglue", "nearest:none"),
    "lightpoint_aliked": ("lightglue",),
    "sift": ("lightglue", "nearest:0.8", "nearest:none"),
    "aliked": ("lightglue", "nearest:none"),
    "aliked_n16rot": ("lightglue", "nearest:none"),
    "xfeat": ("lightglue", "nearest:none"),
    "disk": ("lightglue", "nearest:none"),
}
FORMAT = 2  # of the JSON; files of other formats are begun anew
SCENE_PAIRS = 60  # of a scene given by the user at most
Numbers = tuple[float | None, float | None, float | None]  # value, and the ends of its 95 % interval


def row_name(features: str, matcher: str) -> str:
    """How a row is called on the page and in plots; LightGlue's weights by who trained them."""
    if matcher != "lightglue":
        return f"{features} + {matcher}"
    by = {"aliked": "released", "lightpoint_aliked": "ALIKED's", "disk": "released", "xfeat": "LighterGlue"}
    return f"{features} + lightglue" + (f" ({by[features]})" if features in by else "")


@dataclass(frozen=True)
class Set:
    """Pairs to measure on."""

    name: str
    suite: str
    root: Path
    estimators: tuple[EstimatorName, ...] = ("poselib",)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def short_name(self) -> str:
        """What the command line and folders call it."""
        return self.name.partition(",")[0]

    @property
    def error_key(self) -> str:
        """The key in `Scores.values` of the errors of the robust models."""
        return error_key(ModelSearch("poselib", SUITES[self.suite].threshold_px))


def area_name(suite: str, threshold: float, estimator: EstimatorName = "poselib") -> str:
    """How a table of `evaluate` calls an area under the curve of errors."""
    search = ModelSearch(estimator, SUITES[suite].threshold_px)
    return f"AUC@{threshold:g}{SUITES[suite].error_unit}, {search.name}"


def headline(suite: str) -> float:
    """The threshold of the area that summaries and comparisons show: the middle one, 10° or 3 px."""
    return SUITES[suite].error_thresholds[1]


def visible_sets(data: Path) -> list[Set]:
    """The sets below `data`/eval."""
    wide = {"min_angle_deg": 50.0, "max_angle_deg": 70.0}
    root = data / "eval"
    return [
        Set("fountain", "poses", root / "strecha" / "fountain-P11"),
        Set("lund_door", "poses", root / "lund_door"),
        Set("temple, 50–70°", "poses", root / "middlebury_templeRing47", options=wide),
        Set("reichstag", "poses", root / "imc_reichstag"),
        Set("Oxford", "homographies", root / "oxford_affine", ("dlt", "poselib")),
        Set("homogr", "correspondences", root / "homogr"),
        Set("fundamental", "correspondences", root / "fundamental"),
    ]


def scene_sets(folders: Sequence[Path]) -> list[Set]:
    """Further scenes: each a finished `lightmatch reconstruct` output, or another COLMAP model beside its photos."""
    names = [folder.resolve().name for folder in folders]
    taken = [one.short_name for one in visible_sets(Path())]
    if len({*names, *taken}) < len(names) + len(taken):
        listed = f"{', '.join(names)} beside {', '.join(taken)}"
        raise InvalidValueError(f"--scene: expected folders of different names, got {listed}; rename some")
    options = {"num_pairs": SCENE_PAIRS}
    return [Set(name, "poses", folder, options=options) for name, folder in zip(names, folders, strict=True)]


@dataclass(frozen=True)
class Measured:
    """One row on one set with one number of keypoints."""

    features: str
    matcher: str
    keypoints: int
    set: str
    suite: str
    commit: str
    num_pairs: int
    pairs: str  # a hash of their names: errors of equal ones may be compared pair by pair
    numbers: dict[str, Numbers]  # by the names that `evaluate` gives its measures
    errors: list[float | None]  # of each pair's robust model, in the unit of the suite; None: no model

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Results of the same key replace each other."""
        return self.features, self.matcher, self.keypoints, self.set


@dataclass(frozen=True)
class Timed:
    """What one row costs, ms: median and the range of 80 % of the repetitions."""

    features: str
    matcher: str
    keypoints: int
    commit: str
    cpu: str
    threads: int
    load: float  # processes that wanted a core in the minute before: above 1 the times are too long
    image_ms: Numbers
    pair_ms: Numbers

    @property
    def key(self) -> tuple[str, str, int]:
        """Results of the same key replace each other."""
        return self.features, self.matcher, self.keypoints

    @property
    def total_ms(self) -> float:
        """Two images and their match."""
        return 2 * (self.image_ms[0] or 0) + (self.pair_ms[0] or 0)


class ResultFile:
    """All results so far, written after each new one, so that a run that was cut off loses nothing."""

    def __init__(self, path: Path, content: dict[str, Any] | None = None) -> None:
        """content: what the file holds, if it is known already."""
        self.path = path
        found: dict[str, Any] = json.loads(path.read_text()) if content is None and path.exists() else content or {}
        content = found if found.get("format") == FORMAT else {}
        measured = [Measured(**_tuples(row, "numbers")) for row in content.get("measured", [])]
        timed = [
            Timed(**row | {k: tuple(row[k]) for k in ("image_ms", "pair_ms")})  # type: ignore[arg-type]
            for row in content.get("timed", [])
        ]
        self._measured = {row.key: row for row in measured}
        self._timed = {row.key: row for row in timed}
        self.absent: dict[str, str] = content.get("absent", {})  # row: why it was left out

    @property
    def measured(self) -> list[Measured]:
        """In the order of ROWS, then of keypoints."""
        return sorted(self._measured.values(), key=lambda row: _order(row.features, row.matcher, row.keypoints))

    @property
    def timed(self) -> list[Timed]:
        """In the order of ROWS, then of keypoints."""
        return sorted(self._timed.values(), key=lambda row: _order(row.features, row.matcher, row.keypoints))

    def add(self, row: Measured | Timed) -> None:
        """Keep a result instead of an earlier one of the same key."""
        if isinstance(row, Measured):
            self._measured[row.key] = row
        else:
            self._timed[row.key] = row
        self.absent.pop(row_name(row.features, row.matcher), None)

    def leave_out(self, name: str, reason: str) -> None:
        """Note that a row could not be measured, unless it was before."""
        if all(row_name(row.features, row.matcher) != name for row in self.measured):
            self.absent[name] = reason

    def write(self, machine: dict[str, str | int]) -> None:
        """One result a line, so that a change of one shows as one."""
        parts = {"measured": [asdict(row) for row in self.measured], "timed": [asdict(row) for row in self.timed]}
        head = json.dumps({"format": FORMAT, "machine": machine, "absent": self.absent}, ensure_ascii=False)
        lists = [
            f'"{name}": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]"
            for name, rows in parts.items()
        ]
        text = head.removesuffix("}") + ",\n" + ",\n".join(lists) + "}\n"
        with replacing(self.path) as unfinished:
            unfinished.write_text(text)


def names_hash(names: Sequence[str]) -> str:
    """Changes with the names and their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _order(features: str, matcher: str, keypoints: int) -> tuple[int, int, int]:
    known = list(ROWS)
    place = known.index(features) if features in ROWS else len(known)
    matchers = ROWS.get(features, ())
    return place, matchers.index(matcher) if matcher in matchers else len(matchers), keypoints


def _tuples(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {**row, name: {key: tuple(values) for key, values in row[name].items()}}
