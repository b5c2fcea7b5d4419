"""The verb `doctor`."""

from __future__ import annotations

import typer

from lightmatch.cli.console import OUT
from lightmatch.cli.tables import doctor_table


def doctor() -> None:
    """Show what is installed, which devices and precisions work, which weights are there.

    Example: `lightmatch doctor`
    """
    from lightmatch.pipelines.doctor import examine

    findings = examine()
    OUT.print(doctor_table(findings))
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)
