"""The page of a tracked camera in headless Chromium: time and the view show the same frame."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from page_example import NAMES
from page_visit import PHONE, Visit
from track_page_example import KEYFRAMES, NUM_FRAMES, STEP_S, example_track

from lightmatch.report.page import write_track_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_track_page(tmp_path_factory.mktemp("page") / "report.html", example_track())


def place_of(visit: Visit, row: int) -> tuple[float, float]:
    """Where a frame is on the plots: px of the page."""
    box = visit.page.locator("#plots").bounding_box()
    assert box
    x = visit.page.evaluate(f"Plots.toX({box['width']})(Frames.times[{row}])")
    return box["x"] + x, box["y"] + 6


def hover(visit: Visit, row: int) -> str:
    """The words of a frame that is pointed at."""
    visit.page.mouse.move(*place_of(visit, row))
    visit.settle()
    return visit.text("#frame")


def test_the_top_says_what_came_of_it(visit: Visit) -> None:
    text = visit.text()
    assert visit.text("#content h2") == "28 of 40 frames are tracked" and visit.text("#title") == "<Walk> & 'Co'"
    assert "Path length" in text and "12.3 m" in text
    assert "Green lines join the two keyframes of a closed loop." in text


def test_frames_that_were_not_tracked_are_told_in_sentences(visit: Visit) -> None:
    lines = visit.page.locator(".moments").first.locator("li").all_inner_texts()
    assert [line.strip() for line in lines] == [
        "0.0\u202fs, 1 frame: the first frame",
        "0.1–0.3\u202fs, 3 frames: parallax of 0.1–0.3°: the camera turned more than it moved",
        "1.4–2.1\u202fs, 8 frames: the frame is blank",
    ]
    visit.page.locator(".moments button").nth(2).click()
    visit.settle()
    assert "frame0014" in visit.text("#frame")
    visit.page.keyboard.press("Escape")


def test_pointing_at_a_time_shows_its_frame_and_place(visit: Visit) -> None:
    visit.page.evaluate("Timeline.choose(null)")
    visit.settle()
    assert "Point at a time" in visit.text("#frame") and visit.page.evaluate("Viewer.placeOf('pose')") is None
    without = visit.pixels("#canvas")
    words = hover(visit, 12).split("\n")
    assert words[:3] == ["1.2\u202fs", "frame0012", "tracking"] and "112 points · 300\u202fms · a keyframe" in words
    # Twelve of forty steps along the circle, where the camera of keyframe 2 is not.
    center = visit.page.evaluate("Array.from(Frames.pose(12).center).map((value, k) => value + Viewer.model.origin[k])")
    angle = 2 * np.pi * 12 / NUM_FRAMES
    np.testing.assert_allclose(center, (4 * np.sin(angle), 0, -4 * np.cos(angle)), atol=1e-5)
    assert visit.page.evaluate("Viewer.placeOf('pose')")[2] > 0
    assert (np.abs(visit.pixels("#canvas").astype(int) - without) > 8).any(-1).sum() > 60
    assert NAMES[0] in hover(visit, 10)
    lost = hover(visit, 20)
    assert "lost" in lost and "The frame is blank. The view shows the last pose before." in lost
    assert visit.page.evaluate("Array.from(Frames.pose(20).center)") == visit.page.evaluate(
        "Array.from(Frames.pose(13).center)"
    )
    visit.page.mouse.move(10, 10)
    visit.settle()
    assert "Point at a time" in visit.text("#frame")


def test_keys_go_from_frame_to_frame(visit: Visit) -> None:
    visit.page.evaluate("Timeline.choose(null)")
    visit.page.locator("#plots").focus()
    steps = (("ArrowRight", 0), ("ArrowRight", 1), ("PageUp", 5), ("ArrowLeft", 4), ("]", KEYFRAMES[1]))
    for key, row in (*steps, ("[", KEYFRAMES[0]), ("End", NUM_FRAMES - 1), ("ArrowRight", NUM_FRAMES - 1), ("Home", 0)):
        visit.page.keyboard.press(key)
        assert visit.page.evaluate("Timeline.row") == row, key
        assert visit.page.locator("#plots").get_attribute("aria-valuenow") == str(row + 1)
    said = visit.page.locator("#plots").get_attribute("aria-valuetext")
    assert said and "frame0000, starting" in said and "The first frame." in said
    visit.page.keyboard.press("Escape")
    assert visit.page.evaluate("Timeline.row") is None


def test_a_click_on_a_keyframe_goes_to_its_time(visit: Visit) -> None:
    visit.page.evaluate("Viewer.reset()")
    x, y, _ = visit.page.evaluate("Viewer.placeOf('photo', 3)")
    visit.page.locator("#canvas").click(position={"x": x, "y": y})
    visit.settle()
    assert visit.page.evaluate("Timeline.row") == KEYFRAMES[3] and "tracking" in visit.text("#frame")
    visit.page.locator("#canvas").focus()
    visit.page.keyboard.press("Escape")
    assert visit.page.evaluate("Timeline.row") is None


def test_the_band_has_the_colours_of_its_frames(visit: Visit) -> None:
    visit.page.evaluate("Timeline.choose(null)")
    pixels = visit.pixels("#plots canvas")
    box = visit.page.locator("#plots").bounding_box()
    assert box
    for row, status in ((2, "starting"), (10, "tracking"), (16, "coasting"), (20, "lost"), (35, "tracking")):
        x = place_of(visit, row)[0] - box["x"]
        expected = visit.page.evaluate(f"Colors.channels('{status}')")
        np.testing.assert_allclose(pixels[8, round(x)], expected, atol=2)
    assert visit.text("#key").split() == [
        *("tracking", "28", "starting", "4", "coasting", "5", "lost", "3"),
        *("keyframe", "loop", "closed"),
    ]


def test_path_and_loop_are_drawn_and_can_be_hidden(visit: Visit) -> None:
    visit.page.evaluate("Timeline.choose(null)")
    visit.settle()
    lines = visit.page.evaluate("Frames.path().length")
    assert lines == 27
    full = visit.pixels("#canvas")
    path = visit.page.evaluate("Colors.channels('path')")
    loop = visit.page.evaluate("Colors.channels('loop')")
    for color, least in ((path, 200), (loop, 30)):
        assert (np.abs(full.astype(int) - color).max(-1) < 12).sum() > least
    visit.page.get_by_role("button", name="Settings of the view").click()
    visit.page.get_by_label("Path", exact=True).uncheck()
    visit.settle()
    assert (np.abs(visit.pixels("#canvas").astype(int) - path).max(-1) < 12).sum() < 20
    visit.page.get_by_label("Path", exact=True).check()


def test_frames_without_a_pose_say_so(browser: "Browser", tmp_path: Path) -> None:
    """Before the first pose there is none to show, and after a new map those of the first are gone."""
    data = example_track()
    kept = data.measured >= 22
    anew = replace(data, measured=data.measured[kept], cam_from_world=data.cam_from_world[kept])
    visit = Visit(browser, write_track_page(tmp_path / "anew.html", anew))
    for row, words in (
        (2, "the camera turned more than it moved. There is no pose before."),
        (10, "Its pose is not in the final map. There is no pose before."),
        (16, "The frame is blank. There is no pose before."),
    ):
        visit.page.evaluate(f"Timeline.choose({row})")
        assert words in visit.text("#frame")
        assert visit.page.evaluate("Viewer.placeOf('pose')") is None
    visit.page.evaluate("Timeline.choose(25)")
    assert "pose" not in visit.text("#frame") and visit.page.evaluate("Viewer.placeOf('pose')")
    assert visit.errors == []
    visit.context.close()


def test_frames_in_an_earlier_map_have_no_keyframe_to_show(browser: "Browser", tmp_path: Path) -> None:
    alone = replace(example_track(), keyframes=np.zeros(0, np.int64), loops=())
    visit = Visit(browser, write_track_page(tmp_path / "alone.html", alone))
    assert "1.2\u202fs" in hover(visit, 12)
    frame = visit.page.locator("#frame")
    assert not frame.locator("img").is_visible() and "NaN" not in frame.inner_html()
    assert visit.errors == []
    visit.context.close()


def test_times_of_any_span_have_an_axis(browser: "Browser", tmp_path: Path) -> None:
    data = example_track()
    frames = (*data.frames[:-1], replace(data.frames[-1], time_s=1e12))
    path = write_track_page(tmp_path / "long.html", replace(data, frames=frames))
    visit = Visit(
        browser,
        path,
        init="""
      const fill = CanvasRenderingContext2D.prototype.fillText;
      window.numTexts = 0;
      CanvasRenderingContext2D.prototype.fillText = function (...args) {
        if (++window.numTexts > 1000) throw new Error("too many words on the plots");
        return fill.apply(this, args);
      };""",
    )
    visit.settle()
    assert 0 < visit.page.evaluate("numTexts") < 200 and visit.errors == []
    visit.context.close()


def test_phone_has_one_column_and_a_tap_shows_a_frame(browser: "Browser", path: Path) -> None:
    visit = Visit(browser, path, viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    stage, timeline, panel = (visit.page.locator(f"#{name}").bounding_box() for name in ("stage", "timeline", "panel"))
    assert stage and timeline and panel
    assert stage["y"] + stage["height"] <= timeline["y"] + 1 and timeline["y"] + timeline["height"] <= panel["y"] + 1
    assert timeline["y"] + timeline["height"] < PHONE["height"]
    visit.page.touchscreen.tap(*place_of(visit, 30))
    visit.settle()
    assert visit.text("#frame").startswith(f"{30 * STEP_S:.1f}\u202fs")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert visit.pixels("#timeline").mean() < 128 and visit.errors == []
    visit.context.close()


def test_without_webgl_path_and_place_are_drawn(browser: "Browser", path: Path) -> None:
    no_webgl = """
      const original = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
        return kind.startsWith("webgl") ? null : original.call(this, kind, ...rest);
      };"""
    visit = Visit(browser, path, init=no_webgl)
    assert visit.page.evaluate("Viewer.kind") == "canvas"
    for name in ("path", "accent"):
        visit.page.evaluate("Timeline.choose(25)")
        visit.settle()
        color = visit.page.evaluate(f"Colors.channels('{name}')")
        assert (np.abs(visit.pixels("#canvas").astype(int) - color).max(-1) < 12).sum() > 20, name
    assert visit.errors == []
    visit.context.close()


def test_everything_that_can_be_used_has_a_name(visit: Visit) -> None:
    unnamed = """() => [...document.querySelectorAll("button, a[href], input, [role=slider], #canvas")]
      .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.title
        || (element.labels && element.labels.length)))
      .map((element) => element.outerHTML.slice(0, 120))"""
    assert visit.page.evaluate(unnamed) == []
