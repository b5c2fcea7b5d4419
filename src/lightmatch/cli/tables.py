"""Results as tables for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from lightmatch.pipelines.demo import DemoResult
from lightmatch.pipelines.doctor import Finding
from lightmatch.pipelines.reconstruct import Summary
from lightmatch.reconstruction import FrameSummary


def reconstruction_tables(summary: Summary) -> list[Table]:
    """The numbers; then, where there are any, photos left out, warnings, and what to photograph next."""
    table = Table(title="reconstruction", show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_row("photos registered", f"{summary.num_registered} of {summary.num_images}")
    if summary.features_tried:
        tried = ", ".join(f"{trial.features} {trial.num_registered}" for trial in summary.features_tried)
        table.add_row("features", f"{summary.config.features} (photos registered: {tried})")
    table.add_row("cameras", str(summary.model.num_cameras))
    table.add_row("pairs verified", f"{summary.num_verified_pairs} of {len(summary.pairs)}")
    table.add_row("points", str(summary.model.num_points))
    table.add_row("mean track length", f"{summary.model.mean_track_length:.2f}")
    table.add_row("mean reprojection error", f"{summary.model.mean_reprojection_error_px:.2f} px")
    if summary.num_models > 1:
        table.add_row("separate models", str(summary.num_models))
    table.add_row("scale", _scale(summary.frame))
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())
    table.add_row("seconds", f"{sum(summary.seconds.values()):.1f} ({stages})")
    tables = [table]
    if summary.not_registered:
        left_out = Table("photo", "why it is not in the model", title="left out")
        for photo in summary.not_registered:
            left_out.add_row(escape(photo.name), escape(photo.reason))
        tables.append(left_out)
    advice = [advice.sentence for advice in summary.advice]
    for title, sentences in (("warnings", summary.warnings), ("what to photograph next", advice)):
        if sentences:
            listed = Table(title=title, show_header=False)
            for sentence in sentences:
                listed.add_row(escape(str(sentence)))
            tables.append(listed)
    return tables


def _scale(frame: FrameSummary) -> str:
    """Whether the model is in metres, and how well GPS fits it."""
    if not frame.metric:
        return escape("; ".join(["not known", *frame.notes]))
    said = "metres"
    if frame.gps is not None:
        said += f", from GPS: {round(frame.gps.median_residual_m, 2)} m off in the median"
    return escape("; ".join([said, *frame.notes]))


def demo_table(result: DemoResult) -> Table:
    """Errors of every camera against the truth, and their medians."""
    table = Table(title="errors against the truth")
    table.add_column("camera")
    table.add_column("rotation (°)", justify="right")
    table.add_column("position (% of the scene)", justify="right")
    rows = zip(result.names, result.rotation_errors_deg, result.position_errors_percent, strict=True)
    for name, rotation_deg, position_percent in rows:
        table.add_row(name, f"{rotation_deg:.4f}", f"{position_percent:.4f}")
    table.add_section()
    medians = map(statistics.median, (result.rotation_errors_deg, result.position_errors_percent))
    table.add_row("median", *(f"{value:.4f}" for value in medians))
    return table


def doctor_table(findings: Sequence[Finding]) -> Table:
    """Findings by topic; what is missing in red."""
    table = Table(show_header=False, title="lightmatch doctor")
    topic = None
    for finding in findings:
        if topic not in (None, finding.topic):
            table.add_section()
        style = "" if finding.good else "bold red"
        table.add_row("" if finding.topic == topic else finding.topic, finding.name, escape(finding.state), style=style)
        topic = finding.topic
    return table
