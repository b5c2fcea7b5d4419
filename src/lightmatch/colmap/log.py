"""COLMAP's own log, turned down while we speak to the user ourselves."""

from collections.abc import Generator
from contextlib import contextmanager

_ERROR, FATAL = 2, 3


@contextmanager
def colmap_log(level: int = _ERROR) -> Generator[None]:
    """Only messages of `level` (0 info, 1 warning, 2 error, 3 fatal) and above; the old level returns after."""
    import pycolmap

    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = level
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
