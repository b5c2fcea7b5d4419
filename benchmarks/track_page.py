"""docs/track.md from track.json: a table of each part that was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from common import fill_table

_NONE = "–"


def page(text: str, results: dict[str, Any]) -> str:
    """The page with what the results have; parts and columns that were not measured are left out."""
    lines = [*_sequences(results), "", _measured_with(results)]
    for name, table in (("hard", _hard), ("places", _places), ("memory", _memory)):
        if name in results:
            lines += ["", *table(results[name]), "", _measured_with(results[name])]
    return fill_table(text, "sequences", lines)


def _measured_with(part: dict[str, Any]) -> str:
    machine = part["machine"]
    threads = part.get("threads", machine["num_cpus"])
    return (
        f"{machine['cpu']}, {threads} threads of {machine['num_cpus']} cores, {machine['instructions']};"
        f" PyTorch {machine['torch']}, pycolmap {machine['pycolmap']}; commit {machine['commit']}."
    )


def _sequences(results: dict[str, Any]) -> Iterator[str]:
    has_rpe = any("rpe_m_per_s" in row for row in results["one_after_other"])
    head = [
        *("sequence", "camera", "frames", "tracked, %", "keyframes", "loops", "path, m"),
        "error, cm, live / at the end",
        *(["RPE, cm/s"] if has_rpe else []),
        *("scale", "ms a frame, median / 95%", "frames/s"),
    ]
    yield _row(head)
    yield "|---|---|" + "---:|" * (len(head) - 2)
    rows = results["one_after_other"]
    for number, row in enumerate(rows):
        yield _row(_tracked(row, "", has_rpe))
        if number + 1 == len(rows) or rows[number + 1]["name"] != row["name"]:
            compared = results.get("peers", {"klt": (), "offline": ()})
            yield from (_row(_klt(o, has_rpe)) for o in compared["klt"] if o["name"] == row["name"])
            yield from (_row(_offline(o, has_rpe)) for o in compared["offline"] if o["name"] == row["name"])
            peers = results.get("orb_slam3", {}).get("rows", ())
            yield from (_row(_orb_slam3(o, has_rpe)) for o in peers if o["name"] == row["name"])
    for row in results["background"]:
        yield _row(_tracked(row, ", background", has_rpe))
    yield from _said(results, has_rpe)


def _said(results: dict[str, Any], has_rpe: bool) -> Iterator[str]:
    """What columns and rows mean that not all results have."""
    if has_rpe:
        yield ""
        yield "RPE is the root mean square error of the motion during a second, of the trajectory at the end."
    if "peers" in results:
        yield ""
        yield (
            "KLT odometry (`benchmarks/klt_odometry.py`) is the textbook's: corners, optical flow, an essential matrix"
            " between keyframes, OpenCV alone; its errors are those of its keyframes. `reconstruct` has the same"
            " intrinsics and every k-th frame, about 40 at most, and all the time it wants; its error is over the"
            " frames that it registers, as that of tracking is over those that were tracked."
            f" Both: {_measured_with(results['peers'])}"
        )
    if "orb_slam3" in results:
        yield ""
        yield (
            "ORB-SLAM3 (`benchmarks/orb_slam3.py`, its package pyorbslam3 on PyPI, frames at their own pace) has a"
            " vocabulary trained from 400 photos, for its own is not in the package: what it loses, on the rendered"
            " plaza and the KITTI turn, it might not lose with its own. Its error at the end is that of"
            f" its largest map, with one camera of the keyframes in it. {_measured_with(results['orb_slam3'])}"
        )
    if "evo" in results:
        one = results["evo"]
        yield ""
        yield (
            f"evo gives the same error of {one['name']} with {one['kind']}: {_cm(one['evo']['ate_m'], 3)} cm, ours"
            f" {_cm(one['ours']['ate_m'], 3)} cm; RPE {_cm(one['evo']['rpe_m_per_s'], 3)} cm/s, ours"
            f" {_cm(one['ours']['rpe_m_per_s'], 3)} cm/s."
        )


def _tracked(row: dict[str, Any], mode: str, has_rpe: bool) -> list[str]:
    scale = "own" if row["kind"] == "one camera" or row["scale"] is None else f"{row['scale']:.3f}"
    return [
        row["name"],
        row["kind"] + mode,
        str(row["num_frames"]),
        f"{100 * row['tracked']:.0f}",
        str(row["keyframes"]),
        str(row["loops"]),
        f"{row['walked_m']:.1f}",
        f"{_cm(row['live_ate_m'])} / {_cm(row['ate_m'])}",
        *([_cm(row.get("rpe_m_per_s"))] if has_rpe else []),
        scale,
        *_times(row),
    ]


def _klt(row: dict[str, Any], has_rpe: bool) -> list[str]:
    what = [row["name"], "one camera, KLT odometry", str(row["num_frames"]), _NONE, str(row["keyframes"]), _NONE]
    errors = [f"{row['walked_m']:.1f}", f"{_cm(row['ate_m'])} / {_NONE}"]
    return [*what, *errors, *([_cm(row["rpe_m_per_s"])] if has_rpe else []), "own", *_times(row)]


def _offline(row: dict[str, Any], has_rpe: bool) -> list[str]:
    registered = f"{100 * row['registered'] / row['num_frames']:.0f}"
    what = [row["name"], "one camera, `reconstruct`", str(row["num_frames"]), registered, _NONE, _NONE]
    errors = [f"{row['walked_m']:.1f}", f"{_NONE} / {_cm(row['ate_m'])}"]
    pace = [_NONE, f"{row['num_frames'] / row['seconds']:.1f}"]
    return [*what, *errors, *([_cm(row["rpe_m_per_s"])] if has_rpe else []), "own", *pace]


def _orb_slam3(row: dict[str, Any], has_rpe: bool) -> list[str]:
    what = [row["name"], f"{row['kind']}, ORB-SLAM3", str(row["num_frames"]), f"{100 * row['tracked']:.0f}"]
    errors = [_NONE, _NONE, f"{row['walked_m']:.1f}", f"{_cm(row['live_ate_m'])} / {_cm(row['ate_m'])}"]
    scale = "own" if row["kind"] == "one camera" or row["scale"] is None else f"{row['scale']:.3f}"
    return [*what, *errors, *([_cm(row["rpe_m_per_s"])] if has_rpe else []), scale, *_times(row)]


def _times(row: dict[str, Any]) -> list[str]:
    median, high = row["milliseconds"]
    return [f"{median:.0f} / {high:.0f}", f"{row['frames_per_second']:.0f}"]


def _hard(part: dict[str, Any]) -> Iterator[str]:
    yield (
        "**Hard sequences**, rendered (`src/lightmatch/scenes/sequences.py`): where tracking is impossible no pose"
        " may be reported, and after an interruption tracking must go on in the same map. Drift is how far the camera"
        " seems to move while it does not."
    )
    yield ""
    head = ("sequence", "camera", "frames", "tracked, %", "path, m", "error, cm, live / at the end", "drift, cm")
    yield _row([*head, "loops, right / closed", "keyframes", "what went wrong"])
    yield "|---|---|" + "---:|" * 7 + "---|"
    for row in part["rows"]:
        least, most = row["loops_expected"]
        right = f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"
        yield _row(
            [
                row["name"],
                row["kind"],
                str(row["num_frames"]),
                f"{100 * row['tracked']:.0f}" if "tracked" in row else _NONE,
                f"{row['walked_m']:.1f}",
                f"{_cm(row.get('live_ate_m'))} / {_cm(row.get('ate_m'))}",
                _cm(row.get("drift_m")),
                f"{right} / {len(row['loops']) if 'loops' in row else _NONE}",
                str(row.get("keyframes", _NONE)),
                "; ".join(row["problems"]) or "nothing",
            ]
        )


def _places(part: dict[str, Any]) -> Iterator[str]:
    pairs = part["pairs"]
    best, second = pairs[:2]
    found = ", ".join(_pair(pair) for pair in part["found"]) or "none"
    yield (
        f"**A loop in ten pictures** (slambook, chapter 11; the first and the last show one place): of {len(pairs)}"
        f" pairs that are not neighbours, {_pair(best['pair'])} looks most alike to the tracker ({best['alike']:.2f};"
        f" the next, {_pair(second['pair'])}, {second['alike']:.2f}). Of these pairs, those whose matches confirm it:"
        f" {found}; {len(part['false'])} of them show different things."
    )


def _pair(pair: list[int]) -> str:
    return "–".join(map(str, pair))


def _memory(part: dict[str, Any]) -> Iterator[str]:
    yield "**Memory**, of a camera that goes round a small place, forwards and backwards:"
    yield ""
    yield "| camera | frames | memory, MB | keyframes | points | loops | ms a frame, mean |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for kind, usages in part["runs"].items():
        for usage in usages:
            spent = f"{usage['milliseconds']:.0f}" if usage["frames"] else _NONE
            counts = [str(usage[name]) for name in ("keyframes", "points", "loops")]
            yield _row([kind, str(usage["frames"]), f"{usage['resident_mb']:.0f}", *counts, spent])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cm(metres: float | None, digits: int = 1) -> str:
    return _NONE if metres is None else f"{100 * metres:.{digits}f}"
