"""Which frames are worth matching: by change of view and by sharpness."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from video_clips import encode_video, pan, texture

from lightmatch.errors import ImageReadError, InvalidValueError
from lightmatch.runtime.threads import use_threads
from lightmatch.video import ChosenFrame, FrameChoiceConfig, choose_frames
from lightmatch.video.choosing import choose
from lightmatch.video.measuring import FrameMeasure, measure_frames, shared_corners

SIZE = (320, 240)
DIAGONAL = 400.0
TENTH = 3.2  # px a frame: ten frames make a step of 0.08 of the diagonal


def measured(frames: Sequence[np.ndarray]) -> list[FrameMeasure]:
    """Measures of RGB or grey frames at 30 per second."""
    greys = [cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels for pixels in frames]
    return list(measure_frames((index, index / 30, grey) for index, grey in enumerate(greys)))


def indices(chosen: Sequence[ChosenFrame]) -> list[int]:
    return [frame.index for frame in chosen]


def blurred(pixels: np.ndarray, length_px: int = 9) -> np.ndarray:
    return cv2.blur(pixels, (length_px, 1))


def noisy(pixels: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 4, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def steady_pan(count: int, seed: int = 0) -> list[np.ndarray]:
    return pan([TENTH * index for index in range(count)], SIZE, seed)


def tracked(places: Sequence[np.ndarray], sharpness: Sequence[float] | None = None) -> list[FrameMeasure]:
    """Measures of corners that are all seen in all frames: places (n, 2) in parts of the diagonal for each."""
    tracks = np.arange(len(places[0]), dtype=np.int32)
    sharp = sharpness or [100.0] * len(places)
    return [
        FrameMeasure(index, index / 30, sharp[index], tracks, where.astype(np.float32))
        for index, where in enumerate(places)
    ]


def scattered(seed: int = 0, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).uniform((0.1, 0.1), (0.7, 0.5), (count, 2))


def shifted(*parts: float) -> list[np.ndarray]:
    """Corners as a pan sees them, moved to the right by `parts` of the diagonal in one frame after the other."""
    return [scattered() + np.array([part, 0.0]) for part in parts]


def test_a_pan_gives_even_steps() -> None:
    chosen = choose(measured(steady_pan(60)))
    assert indices(chosen) == [0, 10, 20, 30, 40, 50, 59]
    assert [frame.why for frame in chosen] == ["start"] + ["change"] * 6
    assert [frame.steps for frame in chosen[1:6]] == pytest.approx([1.0] * 5, abs=0.03)
    assert chosen[0].steps == 0


def test_the_view_counts_the_frames_and_not_the_clock() -> None:
    """Rest, creep, run: the same way behind, whatever the time."""
    shifts = np.cumsum([0] * 30 + [0.5] * 60 + [0] * 20 + [9] * 20)
    chosen = choose(measured(pan(shifts.tolist(), SIZE)))
    gone = [(shifts[b] - shifts[a]) / DIAGONAL for a, b in pairwise(indices(chosen))]
    assert all(0.6 * 0.08 <= part <= 1.5 * 0.08 for part in gone)
    assert shifts[-1] - shifts[indices(chosen)[-1]] < 0.6 * 0.08 * DIAGONAL  # nothing of the way is left out
    assert sum(30 < index < 90 for index in indices(chosen)) == 0 or len(chosen) < 8


def test_a_standing_camera_gives_one_frame() -> None:
    """Though its sensor is noisy, its corners get lost one by one, and somebody walks past."""
    scene = texture(*SIZE)
    frames = []
    for index in range(80):
        pixels = scene.copy()
        left = -60 + 5 * index
        pixels[60:240, max(left, 0) : max(left + 60, 0)] = texture(60, 180, 7)[
            :, : max(0, min(60, 320 - left, left + 60))
        ]
        frames.append(noisy(pixels, index))
    chosen = choose(measured(frames))
    assert len(chosen) == 1
    assert chosen[0].why == "start"


def test_corners_that_die_are_no_change_of_view() -> None:
    """A third of them in every frame, replaced by new ones: in the end none of the first is left, nothing moved."""
    places, random = scattered(1, 400), np.random.default_rng(2)
    alive = np.arange(60)
    measures, fresh = [], 60
    for index in range(40):
        measures.append(
            FrameMeasure(index, index / 30, 100.0, alive.astype(np.int32), places[alive % 400].astype("f4"))
        )
        survivors = np.sort(random.choice(alive, 40, replace=False))
        alive = np.concatenate([survivors, np.arange(fresh, fresh + 20)])
        fresh += 20
    assert len(shared_corners(measures[0], measures[-1])) == 0
    assert indices(choose(measures)) == [0]


def test_blurred_frames_are_avoided() -> None:
    sharp = {index for index in range(60) if index % 7 == 3}
    frames = [pixels if i in sharp else blurred(pixels) for i, pixels in enumerate(steady_pan(60))]
    chosen = choose(measured(frames))
    assert set(indices(chosen)) <= sharp
    assert len(chosen) >= 5


def test_a_picture_that_grows_darker_stays_as_sharp() -> None:
    """Else a fall of the exposure would pull the choice to the first frames that are far enough."""
    slow = pan([TENTH / 3 * index for index in range(61)], SIZE)
    dimmed = [(pixels * (1 - 0.01 * index)).astype(np.uint8) for index, pixels in enumerate(slow)]
    assert indices(choose(measured(dimmed))) == [0, 30, 60]


def test_a_long_blur_costs_no_overlap() -> None:
    """Where everything is blurred for longer than a step may be, the view is followed all the same."""
    frames = [blurred(pixels) if 20 <= i < 80 else pixels for i, pixels in enumerate(steady_pan(100))]
    chosen = choose(measured(frames))
    assert max(np.diff(indices(chosen))) <= 25
    assert sum(20 <= index < 80 for index in indices(chosen)) >= 3


def test_a_wider_step_is_taken_for_a_much_sharper_frame() -> None:
    """Sharp frames 1.0 … 1.5 steps away would do; where only one at 2 steps is sharp, that is it."""
    places = shifted(*(0.016 * index for index in range(14)))  # five frames a step
    sharpness = [100.0] + [20.0] * 9 + [100.0] + [20.0] * 3
    assert indices(choose(tracked(places, sharpness)))[:2] == [0, 10]
    sharpness[5] = 60.0
    assert indices(choose(tracked(places, sharpness)))[:2] == [0, 5]


def test_a_look_aside_is_seen() -> None:
    """Two steps out and back again: what is seen out there counts, though later frames a step away are sharper."""
    out = [0.008 * index for index in range(21)]
    places = shifted(*out, *reversed(out[:-1]))
    sharpness = [80.0] * 21 + [100.0] * 20
    chosen = choose(tracked(places, [100.0, *sharpness[1:]]))
    assert indices(chosen)[:3] == [0, 10, 21]


def test_a_hand_that_trembles_leaves_steps_even_and_frames_sharp() -> None:
    """A slow pan, 0.05 steps forth and back all the time: no look aside, though it passes `low` several times."""
    places = shifted(*(0.0008 * index + 0.004 * (index % 2) for index in range(200)))
    sharpness = [100.0 if index % 100 == 0 else 60.0 for index in range(200)]
    assert indices(choose(tracked(places, sharpness)))[:2] == [0, 100]


def test_noise_in_sharpness_leaves_steps_even() -> None:
    random = np.random.default_rng(0)
    places = shifted(*(0.008 * index for index in range(51)))
    sharpness = random.uniform(95, 105, 51).tolist()
    assert indices(choose(tracked(places, sharpness))) == [0, 10, 20, 30, 40, 50]


def test_after_a_cut_it_starts_anew() -> None:
    frames = steady_pan(25, seed=1) + steady_pan(25, seed=2)
    chosen = choose(measured(frames))
    assert indices(chosen)[0] == 0
    after = next(frame for frame in chosen if frame.index >= 25)
    assert (after.index, after.why, after.steps) == (25, "cut", 0)
    assert [frame.why for frame in chosen].count("cut") == 1


def test_the_first_good_frame_of_a_cut_is_taken() -> None:
    frames = pan([0] * 10, SIZE, seed=1) + [blurred(pixels) for pixels in pan(range(5), SIZE, seed=2)]
    frames += pan(range(5, 12), SIZE, seed=2)
    assert indices(choose(measured(frames))) == [0, 15]


def test_a_swing_too_fast_to_follow_is_crossed_at_its_edges() -> None:
    """Sharp views, a second of blurred ones that share nothing, sharp views: the blurred ones are worth nothing."""
    whip = [blurred(texture(*SIZE, seed=100 + index), 61) for index in range(10)]
    frames = pan(range(0, 30), SIZE, seed=1) + whip + pan(range(0, 30), SIZE, seed=2)
    chosen = choose(measured(frames))
    assert not any(30 <= index < 40 for index in indices(chosen))
    assert {0, 29, 40} <= set(indices(chosen))


def test_before_a_jump_the_last_frame_is_taken_too() -> None:
    """Half a step, then two at once: the frame before the jump overlaps best with the one after it."""
    chosen = choose(tracked(shifted(0, 0.01, 0.02, 0.03, 0.04, 0.22, 0.23)))
    assert indices(chosen) == [0, 4, 5]
    assert [frame.why for frame in chosen] == ["start", "overlap", "overlap"]


def test_pictures_with_nothing_in_common_are_all_taken() -> None:
    """A slide show, or a film of one picture a second."""
    frames = [texture(*SIZE, seed=index) for index in range(6)]
    assert indices(choose(measured(frames))) == list(range(6))


def test_blank_frames_are_skipped_where_there_are_others() -> None:
    blank = np.full((240, 320), 20, np.uint8)
    assert indices(choose(measured([blank] * 5 + pan([0] * 5, SIZE) + [blank] * 5))) == [5]
    # The noise of a sensor has corners of its own, in each frame others: they are no views.
    assert len(choose(measured([noisy(blank, index) for index in range(20)]))) == 1
    assert choose([]) == []


def test_turning_on_the_spot_has_no_parallax_and_gives_frames() -> None:
    """A turn moves pixels by a homography, K R K⁻¹."""
    K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    scene = texture(640, 480)
    frames = []
    for angle in np.radians(np.linspace(0, 20, 21)):
        R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        shift = np.array([[1, 0, 100.0], [0, 1, 120], [0, 0, 1]])
        frames.append(cv2.warpPerspective(scene, K @ R @ np.linalg.inv(shift @ K), SIZE))
    measures = measured(frames)
    shared = shared_corners(measures[0], measures[10])
    assert shared.parallax < 0.005
    assert shared.displacement > 0.1
    chosen = choose(measures)
    assert 3 <= len(chosen) <= 5
    assert [frame.why for frame in chosen[1:]] == ["change"] * (len(chosen) - 1)


def test_an_orbit_counts_by_its_parallax() -> None:
    """The subject stays in the middle: near points go left, far ones right, few of them far."""
    random = np.random.default_rng(0)
    start, depth = scattered(0, 120), random.choice([-1.0, 1.0], 120)
    places = [start + np.stack([0.004 * index * depth, np.zeros(120)], 1) for index in range(26)]
    measures = tracked(places)
    shared = shared_corners(measures[0], measures[20])
    assert shared.displacement == pytest.approx(0.08, abs=1e-4)
    assert shared.parallax > 0.05
    assert len(choose(measures)) > len(choose(measures, FrameChoiceConfig(parallax_step=10)))


def test_walking_forwards_gives_frames() -> None:
    scene = texture(640, 480)
    zooms = np.geomspace(1, 2.2, 31)
    frames = [cv2.resize(cv2.getRectSubPix(scene, (int(640 / z), int(480 / z)), (319.5, 239.5)), SIZE) for z in zooms]
    chosen = choose(measured(frames))
    assert 4 <= len(chosen) <= 8
    assert all(zooms[b] / zooms[a] < 1.4 for a, b in pairwise([*indices(chosen), 30]))


def test_max_frames_raises_the_step_evenly() -> None:
    measures = tracked(shifted(*(0.008 * index for index in range(151))))
    many = choose(measures)
    assert len(many) == 16
    for bound in (15, 8, 5, 3):
        chosen = choose(measures, FrameChoiceConfig(max_frames=bound))
        assert 0.8 * bound <= len(chosen) <= bound
        gaps = np.diff(indices(chosen))
        assert np.ptp(gaps[:-1]) <= 2
        assert 150 - chosen[-1].index < gaps[-1] <= gaps.max()  # the last step goes as far as there are frames
        assert chosen[-1].steps == pytest.approx(gaps[-1] / 10, rel=0.05)
    assert indices(choose(measures, FrameChoiceConfig(max_frames=1))) == [0]
    assert choose(measures, FrameChoiceConfig(max_frames=16)) == many


def test_max_frames_leaves_out_whole_shots_where_it_must() -> None:
    """Twelve pictures with nothing in common are a step from each other."""
    measures = measured([texture(*SIZE, seed=index // 3) for index in range(36)])
    assert len(choose(measures)) == 12
    few = choose(measures, FrameChoiceConfig(max_frames=6))
    assert [index // 3 for index in indices(few)] == [0, 2, 4, 6, 8, 10]


def test_max_frames_keeps_to_sharp_frames_and_counts_cuts() -> None:
    shots = chain.from_iterable(steady_pan(50, seed) for seed in (1, 2))
    frames = [pixels if i % 5 == 0 else blurred(pixels) for i, pixels in enumerate(shots)]
    chosen = choose(measured(frames), FrameChoiceConfig(max_frames=7))
    assert 5 <= len(chosen) <= 7
    assert all(index % 5 == 0 for index in indices(chosen))
    assert {index // 50 for index in indices(chosen)} == {0, 1}


def test_the_choice_is_the_same_each_time() -> None:
    frames = [noisy(pixels, i) for i, pixels in enumerate(pan(np.cumsum(np.arange(40) % 7).tolist(), SIZE))]
    once = choose(measured(frames))
    use_threads(2)
    try:
        again = choose(measured(frames))
    finally:
        use_threads(1)
    assert once == again


def test_a_video_is_chosen_from_its_file(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "pan.mp4", steady_pan(60))
    parts: list[float] = []
    choice = choose_frames(path, on_progress=parts.append)
    assert indices(choice.frames) == [0, 10, 20, 30, 40, 50, 59]
    assert choice.frames[1].time_s == pytest.approx(10 / 30, abs=1e-3)
    assert (choice.num_read, choice.damage, choice.facts.width) == (60, (), 320)
    assert parts == sorted(parts)
    assert len(parts) == 60
    assert 0 <= parts[0] < 0.05
    assert 0.9 < parts[-1] <= 1
    assert json.loads(json.dumps(asdict(choice)))["frames"][0]["why"] == "start"


def test_damage_is_told_with_the_choice(tmp_path: Path) -> None:
    path = encode_video(
        tmp_path / "cut.mp4",
        steady_pan(60),
        options={"g": "10"},
        container_options={"movflags": "faststart"},
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    choice = choose_frames(path)
    assert len(choice.damage) == 1
    assert 10 < choice.num_read < 50
    assert 2 <= len(choice.frames) < 6
    (tmp_path / "no.mp4").write_text("no video at all")
    with pytest.raises(ImageReadError):
        choose_frames(tmp_path / "no.mp4")


@pytest.mark.parametrize(
    "values",
    [
        {"step": 0},
        {"parallax_step": -1},
        {"loss_step": 0},
        {"low": 1.2},
        {"high": 0.9},
        {"most": 1.2},
        {"max_frames": 0},
    ],
)
def test_a_config_without_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="FrameChoiceConfig"):
        FrameChoiceConfig(**values)


def test_real_sequences_are_taken_whole(real_data: Path) -> None:
    """17 frames, a second apart, of a camera carried slowly about a desk: most are a step from the one before."""
    from lightmatch.images import list_images, load_image

    frames = [load_image(path).pixels for path in list_images(real_data / "eval/tum_fr3_office_17frames/images")]
    assert len(choose(measured(frames))) in range(9, 18)
