"""Fair timings: everyone in turns, medians, and the memory a call adds."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, over its repetitions."""

    median: float
    low: float  # first quartile
    high: float  # third quartile

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """Of at least one measurement."""
        ordered = sorted(seconds)
        quartiles = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else ordered * 3
        return cls(statistics.median(ordered), quartiles[0], quartiles[2])


# Before each call: threads of some libraries wait for more work by spinning, and take the cores from who comes next.
_PAUSE_S = 0.05


def time_in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int, device: str = "cpu") -> dict[str, Timing]:
    """Time the calls one after the other, `rounds` times over, after one round that does not count.

    In turns, what slows the machine down for a while slows all of them: their ratios hold where their times do not.
    """
    return {name: Timing.of(found) for name, found in seconds_in_turns(calls, rounds, device).items()}


def seconds_in_turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """What `time_in_turns` measures, round by round: for ratios of calls that followed each other."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            _finish(device)
            time.sleep(_PAUSE_S)
            start = time.perf_counter()
            call()
            _finish(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _finish(device: str) -> None:
    """Wait for what was only started on a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def peak_memory(prepare: Callable[..., Callable[[], Any]], *arguments: Any, device: str = "cpu") -> int | None:
    """Bytes that a call adds at most to what its process holds before; None where the system does not tell.

    The call is what prepare(*arguments) returns; both take place in a process of their own. On a GPU, its memory.
    """
    if not device.startswith("cuda") and not sys.platform.startswith("linux"):
        return None
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_added_memory, prepare, arguments, device).result()


def _added_memory(prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...], device: str) -> int:
    call = prepare(*arguments)
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on; man proc_pid_clear_refs(5)
    before = process_memory("VmRSS")
    call()
    return process_memory("VmHWM") - before


def process_memory(name: str) -> int:
    """Bytes that this process holds ("VmRSS") or has held at most ("VmHWM"); Linux only.

    Not getrusage: its peak is inherited from the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
