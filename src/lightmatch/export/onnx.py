"""ONNX files: a graph traced, checked, stripped and written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from lightmatch.errors import InvalidValueError, import_optional
from lightmatch.export.graphs import Graph
from lightmatch.export.matcher_graphs import MatcherGraph
from lightmatch.extractors import Extractor
from lightmatch.matchers import Matcher
from lightmatch.runtime import codec
from lightmatch.runtime.discovery import resolve
from lightmatch.runtime.files import replacing

_OPSET = 18  # of ONNX 1.13, which runtimes of 2023 know


def export_onnx(model: Matcher | Extractor, path: str | Path) -> None:
    """Write a matcher or an extractor that has a graph as an ONNX file; a file that is there is replaced at once.

    The file has the settings of the model: its precision, threshold, exits and number of keypoints. Points that a
    calibration drops are masked; `width_confidence` drops none there.
    Inputs and outputs are those of the graph's class, of any length where a side has a name. The metadata hold the
    features' name and the config as JSON.
    Raises InvalidValueError for a model without a graph, MissingDependencyError without onnx and onnxscript.
    """
    import_optional("onnxscript", "onnx")
    if model.graph is None:
        raise InvalidValueError(
            f"export_onnx: expected a matcher or an extractor with a graph, such as LightGlue, SuperGlue, LightPoint or"
            f" SuperPoint, got {type(model).__name__}"
        )
    program = _trace(resolve(model.graph)(model).eval())
    _strip(program.model)
    config: Any = model.config  # type: ignore[union-attr]  # what has a graph has a config
    program.model.metadata_props.update(
        lightmatch=version("lightmatch"),
        model=type(model).__name__,
        features=model.kind.name if isinstance(model, Extractor) else config.features,
        config=codec.dumps(config),
    )
    with replacing(Path(path)) as unfinished:
        program.save(unfinished, include_initializers=True)


def _trace(graph: Graph) -> torch.onnx.ONNXProgram:
    axes = graph.axes()
    dims = {name: Dim(name) for sides in axes.values() for name in sides.values() if isinstance(name, str)}
    shapes = tuple({side: dims.get(name, name) for side, name in axes[key].items()} for key in graph.inputs)
    varargs = isinstance(graph, MatcherGraph)  # its forward takes them as one tuple
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            graph.example(),
            dynamo=True,
            dynamic_shapes=(shapes,) if varargs else shapes,
            input_names=graph.inputs,
            output_names=graph.outputs,
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    return program


@contextmanager
def _quiet() -> Generator[None]:
    """The exporter's own worries about libraries that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(model: Any) -> None:
    """Remove from every node the line of Python that it comes from: more bytes than the weights."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
