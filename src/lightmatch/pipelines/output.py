"""The folder a run writes to: never mixed up with files that a run of ours did not make.

A marker file distinguishes our folders from people's: only a marked folder is ever cleared.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lightmatch.errors import ReconstructionError

_MARKER = ".lightmatch"
_LOCK = ".lightmatch.lock"
_UNFINISHED, _FINISHED = "unfinished\n", "finished\n"


def prepare_output(output: Path, results: Sequence[str], overwrite: bool) -> None:
    """Make `output` an empty folder of ours, ready to receive files and folders named `results`.

    A new or empty folder is taken. Results of a finished run are removed with `overwrite`, those of an
    unfinished one always; other files in the folder stay. Any other folder is refused.
    """
    check_output(output, overwrite)
    for name in results:
        _remove(output / name)
    output.mkdir(parents=True, exist_ok=True)
    (output / _MARKER).write_text(_UNFINISHED)


@contextmanager
def resumable_output(output: Path, overwrite: bool) -> Generator[None]:
    """Work in `output` alone, on top of what an earlier run left there; the block's end says that all is complete.

    A new or empty folder is taken, and that of an unfinished run; that of a finished one with `overwrite`. Any other
    is refused, and one that another run works in.
    """
    check_output(output, overwrite)
    output.mkdir(parents=True, exist_ok=True)
    marker = output / _MARKER
    if not marker.is_file():
        marker.write_text(_UNFINISHED)
    try:
        held = FileLock(output / _LOCK).acquire(timeout=0)
    except Timeout as error:
        raise ReconstructionError(
            f"{output}: expected a folder that no other run works in, one does; wait for it, or choose another"
        ) from error
    with held:
        check_output(output, overwrite)  # another run may have finished in between
        marker.write_text(_UNFINISHED)
        yield
        finish_output(output)


def finish_output(output: Path) -> None:
    """Say that the results in `output` are complete."""
    (output / _MARKER).write_text(_FINISHED)


def is_output(folder: Path) -> bool:
    """Whether a run of ours writes to this folder."""
    return (folder / _MARKER).is_file()


def is_finished(folder: Path) -> bool:
    """Whether the results in this folder are complete: those of a run of ours, or files that no run of ours made."""
    return not is_output(folder) or (folder / _MARKER).read_text() != _UNFINISHED


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse a folder that is not ours to write to."""
    if output.exists() and not output.is_dir():
        raise ReconstructionError(f"{output}: expected a folder to write to, found a file; choose another name")
    if not output.is_dir() or not any(output.iterdir()):
        return
    marker = output / _MARKER
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
