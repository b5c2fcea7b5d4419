"""The page of a tracked camera: its values, its bounds, and frames that were not tracked. Looks: in_browser."""

import base64
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from track_page_example import KEYFRAMES, LOOP, NUM_FRAMES, STEP_S, example_track

from lightmatch.errors import InvalidValueError
from lightmatch.report.page import PageFrame, TrackPageData
from lightmatch.report.page.track_data import UntrackedFrames, untracked_frames
from lightmatch.report.page.track_packing import pack_track


def unpacked(data: TrackPageData) -> tuple[dict, dict[str, np.ndarray]]:
    """The JSON of the frames, and all arrays."""
    blocks = {name: text for name, _, text in pack_track(data)}
    arrays = {
        name: np.frombuffer(base64.b64decode(blocks[name]), np.dtype(kind).newbyteorder("<")).reshape(shape)
        for name, (kind, shape) in json.loads(blocks["meta"])["arrays"].items()
    }
    return json.loads(blocks["track"]), arrays


def test_values_come_back_from_the_page() -> None:
    data = example_track()
    track, arrays = unpacked(data)
    assert track["num_frames"] == NUM_FRAMES and track["loops"] == [list(LOOP)]
    np.testing.assert_allclose(arrays["frames.times"], STEP_S * np.arange(NUM_FRAMES), atol=1e-6)
    statuses = [track["statuses"][number] for number in arrays["frames.statuses"]]
    assert statuses == [frame.status for frame in data.frames]
    assert [track["statuses"].index(s) for s in statuses].count(0) == track["num_by_status"][0] == 28
    assert [track["reasons"][number] for number in arrays["frames.reasons"]] == [f.reason for f in data.frames]
    np.testing.assert_array_equal(arrays["measured.frames"], data.measured)
    np.testing.assert_array_equal(arrays["keyframes.frames"], KEYFRAMES)
    np.testing.assert_allclose(arrays["measured.rotations"], data.cam_from_world[:, :, :3], atol=1e-6)
    origin = json.loads(next(iter(pack_track(data)))[2])["models"][0]["origin"]
    np.testing.assert_allclose(np.linalg.norm(arrays["measured.centers"] + origin, axis=1), 4, atol=1e-5)


def test_frames_that_were_not_tracked_are_grouped_by_reason_and_time() -> None:
    assert list(untracked_frames(example_track().frames)) == [
        UntrackedFrames(0, 0, 1, "the first frame"),
        UntrackedFrames(1, 3, 3, "parallax of 0.1–0.3°: the camera turned more than it moved"),
        UntrackedFrames(14, 21, 8, "the frame is blank"),  # coasting and lost alike
    ]


def test_reasons_that_alternate_are_two_groups_and_a_tracked_frame_ends_them() -> None:
    reasons = ["waiting", "parallax of 0.5°", "waiting", "parallax of 10°", "", "waiting"]
    frames = [
        PageFrame("", i, "starting" if reason else "tracking", 0, 1.0, reason) for i, reason in enumerate(reasons)
    ]
    assert list(untracked_frames(frames)) == [
        UntrackedFrames(0, 2, 2, "waiting"),
        UntrackedFrames(1, 3, 2, "parallax of 0.5–10°"),
        UntrackedFrames(5, 5, 1, "waiting"),
    ]


def test_wrong_times_stay_in_their_place() -> None:
    data = example_track()
    wrong = {0: float("nan"), 7: 0.0, 9: float("inf")}
    frames = [dataclasses.replace(f, time_s=wrong.get(row, f.time_s)) for row, f in enumerate(data.frames)]
    times = dataclasses.replace(data, frames=tuple(frames)).times_s
    assert (np.diff(times) >= 0).all() and times[7] == times[6] and times[9] == times[8]
    assert np.isclose(times[8] - times[6], 2 * STEP_S) and np.isclose(times[10] - times[8], 2 * STEP_S)


def test_times_go_on_after_a_clock_that_is_set_back_and_one_far_ahead() -> None:
    data = example_track()
    wrong = {12: 1e9, **{row: STEP_S * (row - 20) for row in range(20, NUM_FRAMES)}}
    frames = [dataclasses.replace(f, time_s=wrong.get(row, f.time_s)) for row, f in enumerate(data.frames)]
    times = dataclasses.replace(data, frames=tuple(frames)).times_s
    expected = np.full(NUM_FRAMES - 1, STEP_S)
    expected[[11, 12, 19]] = 0, 2 * STEP_S, 0
    np.testing.assert_allclose(np.diff(times), expected, atol=1e-9)


def test_of_very_many_frames_a_sample_is_shown_with_all_keyframes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightmatch.report.page.track_packing.MAX_FRAMES", 5)
    data = example_track()
    track, arrays = unpacked(data)
    rows = sorted({0, 10, 20, 29, 39, *KEYFRAMES})
    assert track["names"] == [data.frames[row].name for row in rows]
    assert track["num_frames"] == NUM_FRAMES and track["untracked"][2]["num_frames"] == 8
    assert [rows[number] for number in arrays["keyframes.frames"]] == list(KEYFRAMES)
    assert len(arrays["measured.centers"]) == sum(data.frames[row].status == "tracking" for row in rows)


def test_values_that_do_not_fit_are_refused() -> None:
    data = example_track()
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"measured": data.measured[::-1]}, "expected ascending rows"),
        ({"measured": data.measured[1:]}, r"cam_from_world: expected an array of shape \(27, 3, 4\)"),
        ({"keyframes": data.keyframes + 1}, r"keyframes: expected rows 0…39"),
        ({"loops": ((0, 6),)}, r"loops: expected rows 0…5"),
    )
    for changes, words in refused:
        with pytest.raises(InvalidValueError, match=words):
            dataclasses.replace(data, **changes)
