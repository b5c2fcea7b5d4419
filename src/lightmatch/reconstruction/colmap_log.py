"""COLMAP's own log, turned down while we speak to the user ourselves."""

from collections.abc import Iterator
from contextlib import contextmanager

_ERROR = 2


@contextmanager
def colmap_log(level: int = _ERROR) -> Iterator[None]:
    """Only messages of `level` (0 info, 1 warning, 2 error) and above; the old level returns after."""
    import pycolmap

    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = level
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
