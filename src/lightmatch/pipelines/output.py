"""The folder a run writes to: never mixed up with files that a run of ours did not make.

A marker file tells our folders from people's: only a marked folder is ever cleared.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lightmatch.errors import ReconstructionError

MARKER = ".lightmatch"
_UNFINISHED, _FINISHED = "unfinished\n", "finished\n"


def prepare_output(output: Path, results: Sequence[str], overwrite: bool) -> None:
    """Make `output` an empty folder of ours, ready to receive files and folders named `results`.

    A new or empty folder is taken. Results of a finished run are removed with `overwrite`, those of an
    unfinished one always; other files in the folder stay. Any other folder is refused.
    """
    if output.exists() and not output.is_dir():
        raise ReconstructionError(f"{output}: expected a folder to write to, found a file; choose another name")
    marker = output / MARKER
    if output.is_dir() and any(output.iterdir()):
        if not marker.is_file():
            raise ReconstructionError(
                f"{output}: expected an empty folder or one from an earlier run, it holds other files;"
                " choose another, for files in it could be lost"
            )
        if marker.read_text() == _FINISHED and not overwrite:
            raise ReconstructionError(
                f"{output}: expected an empty folder, it holds the results of an earlier run;"
                " choose another, or replace them with --overwrite"
            )
        for name in results:
            _remove(output / name)
    output.mkdir(parents=True, exist_ok=True)
    marker.write_text(_UNFINISHED)


def finish_output(output: Path) -> None:
    """Say that the results in `output` are complete."""
    (output / MARKER).write_text(_FINISHED)


def is_output(folder: Path) -> bool:
    """Whether a run of ours writes to this folder."""
    return (folder / MARKER).is_file()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
