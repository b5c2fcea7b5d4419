"""Scores → tables of measures with intervals, as Markdown and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightmatch.evaluation.bootstrap import Interval
from lightmatch.evaluation.measures import Measure, RecallAtPrecision
from lightmatch.evaluation.scoring import Scores


@dataclass(frozen=True)
class ResultTable:
    """One row for each measure, one column for each method."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Interval | None, ...]], ...]  # None where a measure does not apply

    def cells(self) -> list[list[str]]:
        """Every row as text, with the name of the measure first."""
        return [[name, *map(_text, intervals)] for name, intervals in self.rows]

    def markdown(self) -> str:
        """As a Markdown table under a heading."""
        header = ["", *self.columns]
        ruler = ["---", *("---:" for _ in self.columns)]
        lines = ["| " + " | ".join(row) + " |" for row in (header, ruler, *self.cells())]
        return "\n".join([f"## {self.title}", "", *lines, ""])

    def to_json(self) -> dict[str, Any]:
        """As plain numbers; null where a value is not finite."""
        return {
            "title": self.title,
            "rows": [
                {"measure": name, "matcher": column, **_numbers(interval)}
                for name, intervals in self.rows
                for column, interval in zip(self.columns, intervals, strict=True)
                if interval is not None
            ],
        }


def _text(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return "–"
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _numbers(interval: Interval) -> dict[str, float | None]:
    values = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def result_tables(
    title: str, scores: Sequence[Scores], measures: Sequence[Measure], draws: np.ndarray
) -> list[ResultTable]:
    """A table of all methods on the same pairs, and one of their differences from the first method.

    draws: (b, n) from `draw_pairs`. Measures that apply to no method are left out.
    """
    first = scores[0]
    at_equal_precision = RecallAtPrecision(f"recall at the precision of {first.method} (%)", first)
    shown = [m for m in (*measures, at_equal_precision) if any(m.applies(one) for one in scores)]
    drawn = {m.name: [m(one, draws) if m.applies(one) else None for one in scores] for m in shown}
    names = tuple(one.method for one in scores)
    tables = [_table(title, names, drawn)]
    if len(scores) > 1:
        differences: dict[str, list[np.ndarray | None]] = {
            name: [None if row[0] is None or other is None else other - row[0] for other in row[1:]]
            for name, row in drawn.items()
        }
        columns = tuple(f"{name} − {first.method}" for name in names[1:])
        tables.append(_table(f"{title}: differences on the same pairs", columns, differences))
    return tables


def _table(title: str, columns: tuple[str, ...], drawn: dict[str, list[np.ndarray | None]]) -> ResultTable:
    rows = {
        name: tuple(None if values is None else Interval.of(values) for values in row) for name, row in drawn.items()
    }
    return ResultTable(title, columns, tuple((name, row) for name, row in rows.items() if any(row)))
