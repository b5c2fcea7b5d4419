"""The command line in a process of its own."""

import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

# Each process is forked from one that has imported these, which takes two seconds, and nothing of lightmatch.
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["torch", "pycolmap", "cv2", "cattrs", "PIL.Image", "rich.progress", "typer"])


def run(
    *arguments: object, code: int = 0, packages: Path | None = None, columns: int = 80
) -> subprocess.CompletedProcess:
    """Run `lightmatch`; it must end with `code` and never with a traceback.

    packages: a folder that is looked into for modules before all others. columns: width of what it prints.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        environment = {**os.environ, "COLUMNS": str(columns)}
        call = ([*map(str, arguments)], environment, packages, *files)
        process = _FORKS.Process(target=_lightmatch, args=call)
        process.start()
        process.join()
        stdout, stderr = (file.read_text(encoding="utf-8") for file in files)
    done = subprocess.CompletedProcess(call[0], process.exitcode or 0, stdout, stderr)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def _lightmatch(
    arguments: list[str], environment: dict[str, str], packages: Path | None, stdout: Path, stderr: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for file, number in ((stdout, 1), (stderr, 2)):
        with file.open("wb") as stream:
            os.dup2(stream.fileno(), number)
    if packages is not None:
        sys.path.insert(0, str(packages))
    sys.argv = ["lightmatch", *arguments]

    from lightmatch.cli import main

    main()
