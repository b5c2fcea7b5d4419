"""The command line in a process of its own."""

import subprocess
import sys


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    """Run `lightmatch`; it must end with `code` and never with a traceback."""
    command = [sys.executable, "-m", "lightmatch", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done
