"""Long calls into COLMAP that Ctrl-C stops within about a second, leaving nothing behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

_Result = TypeVar("_Result")

_POLL_S = 0.1
_PATIENCE_S = 10.0  # for work to end by itself


def run_cancellable(work: Callable[[], _Result], cancel: Callable[[], None]) -> _Result:
    """What `work` returns; when interrupted meanwhile, `cancel` is called, `work` is awaited, KeyboardInterrupt raised.

    Python handles signals between its own instructions only, and an exception must not fly through C++ that called
    back: so the work is done in a second thread, while this one stays in Python and listens.
    """
    answers: list[_Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # handed over, whatever it is
            failures.append(error)
        finally:
            done.set()

    # An event, not join(): Python 3.11 takes a thread for ended when Ctrl-C strikes in join.
    done = threading.Event()
    threading.Thread(target=run, name="lightmatch-colmap", daemon=True).start()
    try:
        while not done.wait(_POLL_S):
            pass
    except KeyboardInterrupt:
        with _deaf():
            cancel()
            done.wait(_PATIENCE_S)
        raise
    if failures:
        raise failures[0]
    return answers[0]


def run_process(command: Sequence[str]) -> tuple[int, str]:
    """Run a command that says nothing on success: its exit status and what it wrote to standard error.

    Ended together with this one when interrupted: COLMAP's global mapper has no way to stop it.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            said = _communicate(process)
        except BaseException:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return process.returncode, said


def _communicate(process: subprocess.Popen[str]) -> str:
    while True:
        try:
            return process.communicate(timeout=_POLL_S)[1]
        except subprocess.TimeoutExpired:
            continue


@contextlib.contextmanager
def _deaf() -> Generator[None]:
    """No Ctrl-C meanwhile: an impatient second one would leave work running on files that are gone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if before is not None:  # None: a handler that Python did not install and cannot put back
            signal.signal(signal.SIGINT, before)
