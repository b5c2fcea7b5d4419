"""What the terminal shows of a reconstruction."""

from dataclasses import replace

import pytest
from rich.console import Console
from summary_example import SUMMARY

from lightmatch.cli.tables import reconstruction_tables
from lightmatch.pipelines.reconstruct import Summary
from lightmatch.reconstruction import FrameSummary
from lightmatch.reconstruction.diagnostics.capture_advice import Advice
from lightmatch.reconstruction.diagnostics.reasons import LeftOut
from lightmatch.reconstruction.georegistration.frame import GpsFrame


def shown(summary: Summary) -> str:
    console = Console(width=160, record=True, quiet=False)
    with console.capture() as capture:
        for table in reconstruction_tables(summary):
            console.print(table)
    return capture.get()


def test_a_plain_run_has_one_table() -> None:
    assert len(reconstruction_tables(SUMMARY)) == 1 and "3 of 3" in shown(SUMMARY)


def test_warnings_advice_and_reasons_reach_the_terminal() -> None:
    summary = replace(
        SUMMARY,
        photos=replace(SUMMARY.photos, not_registered=(LeftOut("a[1].jpg", "blurred"),)),
        warnings=("two places look alike",),
        advice=(Advice("gap", "walk from a to b", ("a", "b")),),
    )
    text = shown(summary)
    for wanted in ("a[1].jpg", "blurred", "two places look alike", "warnings", "walk from a to b"):
        assert wanted in text


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (FrameSummary(False, "-"), "not known"),
        (FrameSummary(False, "-", notes=("not metric: GPS disagrees",)), "not known; not metric: GPS disagrees"),
        (
            FrameSummary(True, "m", gps=GpsFrame(1.0, 2.0, None, 1.0, 2.0, 3.0, 1.2, {}, ())),
            "metres, from GPS: 1.2 m off in the median",
        ),
        (FrameSummary(True, "m"), "metres"),
        (
            FrameSummary(True, "m", notes=("up by GPS and by cameras differ",)),
            "metres; up by GPS and by cameras differ",
        ),
    ],
)
def test_what_became_of_gps_is_said(frame: FrameSummary, wanted: str) -> None:
    assert wanted in shown(replace(SUMMARY, frame=frame))
