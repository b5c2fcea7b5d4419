"""How long a run will take: what its stages take elsewhere, corrected by what they take here."""

from __future__ import annotations

import time
from collections.abc import Mapping

_SOON = 10.0  # seconds of work that say how fast this machine is
_AGAIN = 0.1  # of the expected time: a stage that takes less had its work done by an earlier run
_EARLY = 0.05  # of a stage: from here on it tells its own pace


class Forecast:
    """Seconds that a run will still take. Its owner says when stages begin, advance and end."""

    def __init__(self) -> None:
        self._expected: dict[str, float] = {}  # seconds by stage, on the machine where they were measured
        self._taken: dict[str, float] = {}  # seconds of stages that have ended
        self._stage, self._begun, self._share = "", 0.0, 0.0

    def expect(self, seconds: Mapping[str, float]) -> None:
        """What the stages of the run take elsewhere; called again when more is known."""
        self._expected = dict(seconds)

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self._stage, self._begun, self._share = stage, time.perf_counter(), 0.0

    def advance(self, share: float) -> None:
        """Of the stage that runs, 0…1 is done."""
        self._share = share

    def end(self) -> None:
        """The stage that runs is done."""
        self._taken[self._stage] = time.perf_counter() - self._begun
        self._stage = ""

    def seconds_left(self) -> float | None:
        """Of the whole run; None until there is something to tell by."""
        running = time.perf_counter() - self._begun if self._stage else 0.0
        done = {stage: (seconds, self._expected.get(stage, 0.0)) for stage, seconds in self._taken.items()}
        if self._stage:
            done[self._stage] = running, self._share * self._expected.get(self._stage, 0.0)
        told = [(taken, expected) for taken, expected in done.values() if taken > _AGAIN * expected > 0]
        taken, expected = (sum(part) for part in zip(*told, strict=True)) if told else (0.0, 0.0)
        if taken < _SOON:
            return None
        pace = taken / expected
        left = sum(pace * seconds for stage, seconds in self._expected.items() if stage not in done)
        if not self._stage:
            return left
        if self._share > _EARLY:
            return left + running / self._share * (1 - self._share)
        return left + pace * (1 - self._share) * self._expected.get(self._stage, 0.0)


def readable_time(seconds: float) -> str:
    """About how long, in words: 2950 → "about 50 min"."""
    minutes = seconds / 60
    if minutes < 1.5:
        return "about a minute"
    if minutes < 90:
        return f"about {minutes:.0f} min" if minutes < 15 else f"about {5 * round(minutes / 5)} min"
    return f"about {minutes / 60:.1f} h"
