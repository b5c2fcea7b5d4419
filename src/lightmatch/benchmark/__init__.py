"""How fast matchers are on this machine: pairs to match, runners to time, and the clock."""

from lightmatch.benchmark.clock import Timing, peak_memory, process_memory, seconds_in_turns, time_in_turns
from lightmatch.benchmark.pairs import timing_pair
from lightmatch.benchmark.runners import Runner, create_runner, default_runners

__all__ = [
    "Runner",
    "Timing",
    "create_runner",
    "default_runners",
    "peak_memory",
    "process_memory",
    "seconds_in_turns",
    "time_in_turns",
    "timing_pair",
]
