"""Exported matchers under onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.types import Features


def open_session(graph: str | Path | bytes, device: str = "cpu") -> Any:
    """An InferenceSession of a file or of its bytes, on as many threads as PyTorch computes on. Needs onnxruntime.

    Raises InvalidValueError for a GPU that the onnxruntime here does not compute on: it would take the CPU.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    provider = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise InvalidValueError(f"onnxruntime: expected one with {provider}, got another; install onnxruntime-gpu")
    return onnxruntime.InferenceSession(graph, options, providers=[provider])


def matcher_inputs(session: Any, features0: Features, features1: Features) -> dict[str, np.ndarray]:
    """What an exported matcher takes of one pair, a batch of one, by name."""
    wanted = {value.name for value in session.get_inputs()}
    inputs: dict[str, np.ndarray] = {}
    for number, features in enumerate((features0, features1)):
        values = {**features.numpy(), "mask": np.ones(len(features), bool)}
        values["size"] = np.array(features.image_size, np.float32)
        named = {f"{name}{number}": value for name, value in values.items()}
        inputs |= {name: value[None] for name, value in named.items() if name in wanted}
    return inputs
