"""What is installed, which devices and precisions work, which weights are there."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from typing import NamedTuple

import torch

from lightmatch.extractors import available_extractors
from lightmatch.matchers import LightGlue, available_matchers, matcher_family
from lightmatch.weights import matcher_weights, pretrained_names, read_tensors

_LIBRARIES = ("torch", "numpy", "opencv-python-headless", "pycolmap", "pillow", "pillow-heif", "safetensors")


class Finding(NamedTuple):
    """One line of the doctor's report; `good` is False where something is missing that people need."""

    topic: str
    name: str
    state: str
    good: bool = True


def examine() -> list[Finding]:
    """Findings about this machine and installation, in the order to show them."""
    return [*_software(), *_devices(), *_contents()]


def _software() -> Iterator[Finding]:
    yield Finding("software", "lightmatch", importlib.metadata.version("lightmatch"))
    yield Finding("software", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in _LIBRARIES:
        try:
            yield Finding("software", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("software", name, f"missing: pip install {name}", good=False)


def _devices() -> Iterator[Finding]:
    yield Finding("devices", "cpu", f"{torch.get_num_threads()} threads; {_precisions('cpu')}")
    for number in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(number)
        yield Finding("devices", f"cuda:{number}", f"{name}; {_precisions(f'cuda:{number}')}")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", _precisions("mps"))
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        yield Finding("devices", "GPU", "none that PyTorch can use; everything runs on the CPU")


def _precisions(device: str) -> str:
    """The precisions in which a small matrix product works here."""
    working = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        try:
            ones = torch.ones(8, 8, device=device, dtype=dtype)
            if float((ones @ ones)[0, 0]) == 8:
                working.append(str(dtype).removeprefix("torch."))
        except RuntimeError:
            continue
    return ", ".join(working)


def _contents() -> Iterator[Finding]:
    yield Finding("contents", "extractors", ", ".join(available_extractors()))
    yield Finding("contents", "matchers", "; ".join(matcher_family(name).usage for name in available_matchers()))
    names = pretrained_names("lightglue")
    yield Finding("contents", "LightGlue weights", ", ".join(names) or "none embedded; load your own files")
    for name in names:
        path = matcher_weights("lightglue", name)
        config = LightGlue.saved_config(read_tensors(path)[1], path)
        calibration = None if config is None else config.calibration
        state = "not calibrated: the thresholds of the paper" if calibration is None else calibration.summary()
        yield Finding("contents", f"LightGlue for {name}", state)
