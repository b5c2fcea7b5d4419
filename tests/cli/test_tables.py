"""What the terminal shows of a reconstruction."""

from dataclasses import replace

import pytest
from rich.console import Console

from lightmatch.cli.tables import reconstruction_tables
from lightmatch.reconstruction import ReconstructionSummary
from lightmatch.reconstruction.diagnostics.capture_advice import Advice
from lightmatch.reconstruction.diagnostics.reasons import LeftOut

PLAIN = ReconstructionSummary(3, 3, (), 100, 300, 3.0, 0.4, 1, 1, 3, 3, {"extract": 1.0})


def shown(summary: ReconstructionSummary) -> str:
    console = Console(width=160, record=True, quiet=False)
    with console.capture() as capture:
        for table in reconstruction_tables(summary):
            console.print(table)
    return capture.get()


def test_a_plain_run_has_one_table() -> None:
    assert len(reconstruction_tables(PLAIN)) == 1 and "3 of 3" in shown(PLAIN)


def test_warnings_advice_and_reasons_reach_the_terminal() -> None:
    summary = replace(
        PLAIN,
        not_registered=(LeftOut("a[1].jpg", "blurred"),),
        warnings=("two places look alike",),
        advice=(Advice("gap", "walk from a to b", ("a", "b")),),
    )
    text = shown(summary)
    for wanted in ("a[1].jpg", "blurred", "two places look alike", "warnings", "walk from a to b"):
        assert wanted in text


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        ({}, "not known"),
        ({"metric": False, "notes": ["not metric: GPS positions disagree"]}, "not known; not metric: GPS positions"),
        ({"metric": True, "gps_median_residual_m": 1.2}, "metres, from GPS: 1.2 m off in the median"),
        ({"metric": True}, "metres"),
    ],
)
def test_what_became_of_gps_is_said(frame: dict, wanted: str) -> None:
    assert wanted in shown(replace(PLAIN, frame=frame))
