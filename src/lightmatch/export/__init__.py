"""Matchers and extractors as files for other runtimes: docs/onnx.md."""

from lightmatch.export.onnx import export_onnx
from lightmatch.export.runtime import matcher_inputs, open_session

__all__ = ["export_onnx", "matcher_inputs", "open_session"]
