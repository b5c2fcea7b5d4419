"""Matchers and extractors as files for other runtimes: docs/onnx.md."""

from lightmatch.export.onnx import export_onnx

__all__ = ["export_onnx"]
