"""Which device a name means on this machine, and how a process uses its memory."""

import ctypes
import os
from typing import Literal, get_args

import torch

from lightmatch.errors import InvalidValueError

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def pick_device(name: str) -> str:
    """The device meant by `name`: "auto" is CUDA where there is one, else the CPU.

    A device that is not there raises InvalidValueError.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if present["cuda"] else "cpu"
    kind, colon, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not present.get(kind, False) or (colon and not (number.isdecimal() and int(number) < count)):
        have = ", ".join(device for device, there in present.items() if there)
        raise InvalidValueError(f"device: expected auto or one of {have} on this machine, got {name!r}")
    return name


def pick_dtype(precision: str) -> torch.dtype | None:
    """The dtype called `precision`; None for "auto", which is for the one that computes to decide."""
    if precision not in get_args(Precision):
        raise InvalidValueError(f"precision: expected one of {', '.join(get_args(Precision))}; got {precision!r}")
    return None if precision == "auto" else getattr(torch, precision)


def fast_dtype(device: str) -> torch.dtype:
    """The precision in which this device multiplies matrices fastest, of those that LightGlue's layers can do with.

    docs/precision.md has what it costs in accuracy. Of a CPU its instruction set decides, not a measured time:
    the answer must not change from run to run.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.float16
    return torch.bfloat16 if kind == "cpu" and multiplies_bfloat16(device) else torch.float32


def multiplies_bfloat16(device: str) -> bool:
    """Whether this device has instructions for products of bfloat16; others imitate them, CPUs at a tenth of the speed.

    On Apple's GPUs PyTorch decides for itself.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


# glibc's numbers of two settings, from malloc.h, and what they are set to.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_LARGE_BLOCKS = (64 << 20, 32 << 20)  # bytes; glibc before 2.35 takes no more than the second


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for the next block: for programs, as it holds for all they do.

    By default glibc takes every block above some megabytes from the system and gives it back when it is freed, and the
    system fills it with zeros page by page each time: a third of the time of finding SIFT in a photo. True where that
    was changed, False where the C library is another.
    Source: man mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    larger = any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGE_BLOCKS)
    return larger and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


_PRIMITIVES = 64  # layers compiled for one shape each


def keep_few_primitives() -> None:
    """Let oneDNN keep 64 compiled layers, not 1024: for programs, before the first layer runs.

    It compiles a layer anew for every number of keypoints, and hardly any number comes twice: 240 pairs of about 1300
    keypoints took 1.6 GB with its own number and 0.95 GB with few, in the same time.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_PRIMITIVES))
