"""Networks as one function of tensors, with nothing in it that an ONNX graph cannot say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Graph(nn.Module, ABC):
    """A function of tensors whose names and changing sides are known."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def example(self) -> tuple[Tensor, ...]:
        """Inputs to trace it with, in their order."""

    @abstractmethod
    def axes(self) -> dict[str, dict[int, Any]]:
        """Of every input, those sides that may be of any length: their names, or dimensions made of named ones."""
