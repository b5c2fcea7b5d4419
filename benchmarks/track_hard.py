"""Rendered sequences that are hard to track, what must come of each, and what comes.

What they show is in `lightmatch.scenes.sequences`; each is measured with one camera, and with depths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from track_measure import Tracked, final_errors, live_errors, track
from track_sequences import DEPTHS, ONE, Run, rendered_run

from lightmatch.errors import LightmatchError
from lightmatch.scenes import sequences
from lightmatch.scenes.sequences import Film, RenderedSequence
from lightmatch.scenes.world import build_world

CIRCLES = ((0, 5.5), (1, 6.0), (2, 6.5))  # seed of the world, and radius in m

_KEYFRAMES_STANDING = 1  # that a camera that stands may still make
_STRAIGHT = (0, 0)  # loops of a path that does not come back


@dataclass(frozen=True)
class HardCase:
    """A run, and what must come of it."""

    run: Run
    loops: tuple[int, int | None]  # that are right: at least and at most
    still: range = range(0)  # frames at one place: what the camera drifts there is measured
    blind: range = range(0)  # frames that show nothing
    jump: int | None = None  # the first frame elsewhere
    is_mappable: bool = True  # whether there is parallax to make a map of


def hard_cases(how: Film | None = None, part: float = 1.0) -> Iterator[HardCase]:
    """All of them. part: of the number of frames, for a quick look."""
    how = how or Film()

    def num(frames: int) -> int:
        return max(round(part * frames), 12)

    world = build_world(torch.Generator().manual_seed(0))
    turned = sequences.rotation(world, num(90), how)
    yield HardCase(rendered_run("turns on the spot", ONE, turned), _STRAIGHT, is_mappable=False)
    yield HardCase(rendered_run("turns on the spot", DEPTHS, turned), _STRAIGHT, still=range(len(turned)))
    stood = sequences.standing(world, num(100), how, num_before=num(40))
    still = range(num(40), len(stood))
    yield HardCase(rendered_run("walks, then stands", ONE, stood), _STRAIGHT, still=still)
    stood = stood.take(still)
    yield HardCase(rendered_run("stands", ONE, stood), _STRAIGHT, is_mappable=False)
    yield HardCase(rendered_run("stands", DEPTHS, stood), _STRAIGHT, still=range(len(stood)))
    yield from _both("along a plane wall", sequences.plane_wall(num(100), how))
    yield from _both("past identical pillars", sequences.repeated_objects(num(120), how.size, kind="colonnade"))
    yield from _both("past identical houses", sequences.repeated_objects(num(120), how.size, kind="street"))
    yield from _both("a box passes", sequences.passing_box(world, num(100), how))
    walk = sequences.film(world, sequences.arc(num(100), 0.01), how)
    for count in (2, 10):
        dark = range(num(50), num(50) + count)
        yield from _both(f"{count} black frames", sequences.blackout(walk, dark.start, count), blind=dark)
    for before, metres in ((50, 2.7), (100, 5.4)):
        carried = sequences.kidnapped(world, num(before), num(40), how)
        yield from _both(f"carried {metres} m", carried, loops=(0, None), jump=num(before))
    for seed, radius in CIRCLES:
        other = build_world(torch.Generator().manual_seed(seed))
        round_ = sequences.circle(other, num(240), how, radius=radius)
        yield from _both(f"circle, radius {radius} m", round_, loops=(1, None))


def _both(
    name: str,
    sequence: RenderedSequence,
    *,
    loops: tuple[int, int | None] = _STRAIGHT,
    blind: range = range(0),
    jump: int | None = None,
) -> Iterator[HardCase]:
    for kind in (ONE, DEPTHS):
        yield HardCase(rendered_run(name, kind, sequence), loops, blind=blind, jump=jump)


def measure_hard(case: HardCase) -> dict[str, Any]:
    """A row of the table of hard sequences."""
    run = case.run
    try:
        tracked = track(run)
    except LightmatchError as error:
        what = {"name": run.name, "kind": run.kind, "num_frames": len(run.frames), "walked_m": run.walked_m}
        return {**what, "loops_expected": case.loops, "problems": [f"stops with an error: {error}"]}
    errors = final_errors(run, tracked)
    later = [n for n in tracked.frames_with("tracking") if n >= _interrupted(case)]
    return {
        "name": run.name,
        "kind": run.kind,
        "num_frames": len(tracked.frames),
        "tracked": len(tracked.frames_with("tracking")) / len(tracked.frames),
        "walked_m": run.walked_m,
        **asdict(errors),
        "live_ate_m": live_errors(run, tracked).ate_m,
        "drift_m": _drift(case, tracked, 1.0 if run.is_metric else errors.scale),
        "loops": tracked.loops,
        "loops_expected": case.loops,
        "keyframes": len(tracked.keyframes),
        "statuses": {s: len(tracked.frames_with(s)) for s in ("starting", "tracking", "coasting", "lost")},
        "found_after": later[0] - _interrupted(case) if later and _interrupted(case) else None,
        "problems": list(problems(case, tracked)),
    }


def _interrupted(case: HardCase) -> int:
    """The first frame after what interrupts tracking; 0 where nothing does."""
    return case.jump or case.blind.stop


def _drift(case: HardCase, tracked: Tracked, scale: float | None) -> float | None:
    """How far the camera seems to have moved while it stood, m."""
    centers = [tracked.frames[n].center for n in tracked.frames_with("tracking") if n in case.still]
    if not centers or scale is None:
        return None
    return scale * max(float(np.linalg.norm(center - centers[0])) for center in centers)  # type: ignore[operator]


def problems(case: HardCase, tracked: Tracked) -> Iterator[str]:
    """What must not be, in words."""
    if not case.is_mappable:
        if tracked.keyframes:
            yield f"a map of {len(tracked.keyframes)} keyframes without parallax"
        return
    if not tracked.keyframes:
        yield "no map"
        return
    least, most = case.loops
    if len(tracked.loops) < least:
        yield f"{len(tracked.loops)} loops"
    if most is not None and len(tracked.loops) > most:
        yield f"{len(tracked.loops)} false loops"
    standing = [frame for frame in tracked.keyframes if frame in case.still and frame > case.still.start]
    if case.run.walked_m and len(case.still) < len(tracked.frames) and len(standing) > _KEYFRAMES_STANDING:
        yield f"{len(standing)} keyframes while standing"
    seen = [n for n in tracked.frames_with("tracking") if n in case.blind]
    if seen:
        yield f"{len(seen)} black frames tracked"
    end = _interrupted(case)
    first = tracked.frames_with("tracking")[0]
    lost = [n for n in tracked.frames_with("coasting", "lost", "starting") if n > first and n not in case.blind]
    if lost:
        yield f"{len(lost)} frames lost" + (f", {sum(n >= end for n in lost)} after the interruption" if end else "")
