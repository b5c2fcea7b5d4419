"""Pickles of NumPy arrays, as some published data sets are stored, read without letting them run code."""

from __future__ import annotations

import pickle
from typing import IO, Any

import numpy as np

_ALLOWED = {
    "dtype": np.dtype,
    "ndarray": np.ndarray,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
    "str_": np.str_,
}


def read_numpy_pickle(file: IO[bytes]) -> Any:
    """What is pickled in `file`: arrays, NumPy's numbers, and the containers, texts and numbers of Python itself.

    Raises pickle.UnpicklingError where it asks for anything else; damaged pickles raise nearly everything.
    """
    return _Unpickler(file).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The class or function that a pickle asks for by name, from whichever module NumPy's version keeps it in."""
        if module.split(".")[0] != "numpy" or name not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[name]
