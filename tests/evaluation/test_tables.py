"""Tables and curves: the very text, and that differences stand the right way round."""

import math
from pathlib import Path

import cv2
import numpy as np

from lightmatch.evaluation.bootstrap import Interval, draw_pairs
from lightmatch.evaluation.curves import draw_curves
from lightmatch.evaluation.measures import Mean
from lightmatch.evaluation.scoring import Scores, Sweep
from lightmatch.evaluation.tables import ResultTable, result_tables


def scores(name: str, recall: list[float], sweep: Sweep | None = None, **more: list[float]) -> Scores:
    values = {"recall": np.array(recall), **{key: np.array(value) for key, value in more.items()}}
    return Scores(name, name, 512, 0.5, values, sweep)


def test_a_table_as_markdown_and_json() -> None:
    table = ResultTable(
        "poses",
        ("near", "far"),
        (("recall (%)", (Interval(12.34, 10, 15), None)), ("ms", (Interval(math.nan, 0, 0),) * 2)),
    )
    assert table.markdown() == (
        "## poses\n\n|  | near | far |\n| --- | ---: | ---: |\n| recall (%) | 12.3 [10.0, 15.0] | – |\n| ms | – | – |\n"
    )
    assert table.to_json() == {
        "title": "poses",
        "rows": [
            {"measure": "recall (%)", "matcher": "near", "value": 12.34, "low": 10, "high": 15},
            {"measure": "ms", "matcher": "near", "value": None, "low": 0, "high": 0},
            {"measure": "ms", "matcher": "far", "value": None, "low": 0, "high": 0},
        ],
    }


def test_differences_are_from_the_first() -> None:
    first, second = scores("a", [0.2, 0.4]), scores("b", [0.3, 0.5], stop_layer=[4.0, 6.0])
    measures = [Mean("recall (%)", "recall", 100), Mean("layers", "stop_layer"), Mean("absent", "absent")]
    whole, differences = result_tables("t", [first, second], measures, draw_pairs(2, 50, seed=0))
    assert whole.columns == ("a", "b") and [name for name, _ in whole.rows] == ["recall (%)", "layers"]
    assert [interval and round(interval.value, 6) for interval in whole.rows[0][1]] == [30, 40]
    assert whole.rows[1][1][0] is None
    assert differences.columns == ("b − a",) and differences.title == "t: differences on the same pairs"
    ((name, (interval,)),) = differences.rows
    assert name == "recall (%)" and interval is not None
    assert np.allclose([interval.value, interval.low, interval.high], 10)
    assert len(result_tables("t", [first], measures, draw_pairs(2, 50, seed=0))) == 1


def test_curves_are_drawn(tmp_path: Path) -> None:
    counts = np.array([[8, 4, 0], [6, 3, 1]])
    sweep = Sweep(np.array([0.1, 0.5, 0.9], dtype=np.float32), counts, counts + 2, counts, np.array([10, 12]))
    one = scores("a", [0.2, 0.4], sweep, error=[1.0, np.inf])
    sizes = []
    for name, drawn in (("both", one), ("errors", scores("b", [0.2, 0.4], error=[np.inf, np.inf]))):
        draw_curves(tmp_path / f"{name}.png", "title", [drawn], "error", " px", 5)
        picture = cv2.imread(str(tmp_path / f"{name}.png"))
        assert picture is not None and picture.std() > 10
        sizes.append(picture.shape[1])
    assert sizes[0] > 1.5 * sizes[1]  # without a sweep there is no left picture
