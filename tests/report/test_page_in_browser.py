"""The page in headless Chromium: nothing is requested, nothing fails, and what is clicked is shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from page_example import NAMES, NUM_CAMERAS, example_page
from page_visit import PHONE, Visit

from lightmatch.report.page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page") / "a page#1.html", example_page())


def test_summary_tells_what_came_of_it(visit: Visit) -> None:
    visit.go("#/summary")
    text = visit.text()
    assert "6 of 7 photos are registered" in text
    assert "80 points" in text and "1\u202fmin 17\u202fs" in text
    assert "Two photos look <alike>." in text and "Too few verified matches: <i>12</i>." in text
    assert "Take one photo in between." in text
    assert visit.text("#title") == "<Tour> & 'Co' 🗼"


def test_canvas_shows_points_and_cameras(visit: Visit) -> None:
    visit.go("#/summary")
    visit.settle()
    assert visit.page.evaluate("Viewer.kind") == "webgl"
    assert visit.is_drawn("#canvas", 3)
    full = visit.pixels("#canvas")
    for part in ("showPoints", "showCameras", "showPhotos", "showGround"):
        visit.page.evaluate("part => Viewer.set({ [part]: false })", part)
        visit.settle()
        without = visit.pixels("#canvas")
        visit.page.evaluate("part => Viewer.set({ [part]: true })", part)
        assert (np.abs(full.astype(int) - without) > 8).any(-1).sum() > 100, part


@pytest.mark.parametrize("photo", [0, 3])
def test_click_on_a_camera_shows_its_photo(visit: Visit, photo: int) -> None:
    visit.go("#/summary")
    visit.page.evaluate("Viewer.reset()")
    x, y, _ = visit.page.evaluate("photo => Viewer.placeOf('photo', photo)", photo)
    visit.page.locator("#canvas").click(position={"x": x, "y": y})
    visit.settle()
    assert visit.page.evaluate("location.hash") == f"#/photo/{photo}"
    assert visit.text("#content h2") == NAMES[photo]
    assert "Observations" in visit.text() and "60°" not in visit.text("#content h2")
    assert visit.is_drawn("#content figure canvas", 10)


def test_click_on_a_point_shows_its_track(visit: Visit) -> None:
    visit.go("#/summary")
    visit.page.evaluate("Viewer.reset()")
    # One that no camera hides from the pointer.
    point, x, y = visit.page.evaluate(
        """() => {
          for (let i = 0; i < 80; i++) {
            const [x, y] = Viewer.placeOf("point", i);
            const found = Viewer.pick(x, y, 9);
            if (found && found.kind === "point" && found.point === i) return [i, x, y];
          }
        }"""
    )
    visit.page.locator("#canvas").click(position={"x": x, "y": y})
    visit.settle()
    assert visit.page.evaluate("location.hash") == f"#/point/{point}"
    assert visit.text("#content h2") == f"A point in {NUM_CAMERAS} photos"
    crops = visit.page.locator(".crops canvas")
    assert crops.count() == NUM_CAMERAS and visit.is_drawn(".crops canvas", 3)
    errors = [
        float(text.split("\n")[-1].split("\u202f")[0]) for text in visit.page.locator(".crops a").all_inner_texts()
    ]
    residuals = example_page().models[0].residuals_px.reshape(NUM_CAMERAS, -1, 2)[:, point]
    np.testing.assert_allclose(errors, sorted(np.linalg.norm(residuals, axis=1), reverse=True), atol=0.011)


def test_click_on_a_keypoint_shows_its_point(visit: Visit) -> None:
    visit.go("#/photo/2")
    canvas = visit.page.locator("#content figure canvas")
    box = canvas.bounding_box()
    assert box
    model = example_page().models[0]
    places = model.places[model.starts[2] : model.starts[3]]
    gaps = np.linalg.norm((places[:, None] - places) * (box["width"], box["height"]), axis=-1)
    np.fill_diagonal(gaps, np.inf)
    alone = int(gaps.min(1).argmax())
    canvas.click(position={"x": places[alone, 0] * box["width"], "y": places[alone, 1] * box["height"]})
    visit.settle()
    assert visit.page.evaluate("location.hash") == f"#/point/{alone}"


def test_neighbours_lead_to_a_pair_with_lines_and_numbers(visit: Visit) -> None:
    visit.go("#/photo/5")
    items = visit.page.locator("#content ul.list a")
    assert items.count() == NUM_CAMERAS - 1
    items.first.click()  # most inliers: photos 4 and 5, the last pair
    visit.settle()
    assert visit.page.evaluate("location.hash") == "#/pair/5/4"
    text = visit.text()
    assert "74" in text and "44" in text and "59\u202f%" in text and "1.00 probability" in text.replace("\n", " ")
    assert "20 lines, an even sample of 44 inliers" in text
    assert visit.is_drawn("#content figure canvas", 10)


def test_lines_of_a_pair_end_at_its_own_photos(visit: Visit) -> None:
    """Asked for as 4, 5 or 5, 4, the ends of each line belong to the photo they lie on."""
    model = example_page().models[0]
    for pair in ([4, 5], [5, 4]):
        line = visit.page.evaluate("([a, b]) => PairPicture.create(a, b).lines[0]", pair)
        expected = np.concatenate([model.places[model.starts[photo]] for photo in pair])
        np.testing.assert_allclose(line, expected, atol=1e-4)


def test_dropped_pairs_say_why(visit: Visit) -> None:
    visit.go("#/pair/0/3")
    assert "show different places that look alike. The façade <repeats>." in visit.text()
    visit.go("#/matches")
    assert "Dropped pairs" in visit.text()


def test_pairs_of_unknown_overlap_do_not_disturb_the_order_of_the_others(browser: "Browser", path: Path) -> None:
    visit = Visit(browser, path)
    visit.page.evaluate("Data.pairs.probability.forEach((_, n, all) => (all[n] = n % 3 ? 1 - n / 100 : NaN))")
    visit.go("#/matches")
    visit.page.locator("#content [data-value=unlikely]").click()
    shown = visit.page.locator("#content a.two").evaluate_all(
        "(links) => links.map((a) => Data.pairRow(...a.hash.match(/\\d+/g).map(Number)))"
    )[1:]  # the first is a dropped one
    known = [row for row in range(len(shown)) if row % 3]
    assert shown == [*reversed(known), *(row for row in range(len(shown)) if row % 3 == 0)]
    assert visit.errors == []
    visit.context.close()


def test_click_in_the_graph_shows_photo_and_pair(visit: Visit) -> None:
    visit.go("#/matches")
    place = visit.page.evaluate("Graph.placeOf(1)")
    graph = visit.page.locator(".graph canvas")
    graph.click(position={"x": place["x"], "y": place["y"]})
    visit.settle()
    assert visit.page.evaluate("location.hash") == "#/photo/1"
    visit.page.go_back()
    visit.settle()
    # On the side of the hexagon between neighbours no other line runs.
    middle = visit.page.evaluate("[0, 1].map(Graph.placeOf).reduce((a, b) => [(a.x + b.x) / 2, (a.y + b.y) / 2])")
    graph.click(position={"x": middle[0], "y": middle[1]})
    visit.settle()
    assert visit.page.evaluate("location.hash") == "#/pair/0/1"


def test_every_part_and_every_photo_can_be_shown(visit: Visit) -> None:
    expected = {"photos": "Photos", "matches": "Matches", "quality": "Quality", "run": "Run"}
    for part, heading in expected.items():
        visit.go(f"#/{part}")
        assert visit.text("#content h2") == heading
    assert "Held-out error fell." in visit.text() and "match" in visit.text() and "not set" in visit.text()
    visit.go("#/quality")
    text = visit.text()
    assert "Held-out score" in text and "Uncertainty of each camera" in text and "gravity" in text
    assert visit.page.locator("svg.chart").count() == 2
    visit.go(f"#/photo/{len(NAMES) - 1}")
    assert "Not registered. Too few verified matches: <i>12</i>." in visit.text()
    for nonsense in (
        "#/photo/999",
        "#/pair/1/1",
        "#/point/-1",
        "#/<b>",
        "#/photo/x",
        "#/point",
        "#/pair/1",
        "#/constructor",
        "#/run/1",
    ):
        visit.go(nonsense)
        assert "photos are registered" in visit.text("#content h2"), nonsense


def test_ways_to_show_keypoints_differ(visit: Visit) -> None:
    visit.go("#/photo/0")
    shown = []
    for mode in ("dots", "arrows", "heat", "none"):
        visit.page.locator(f"#content [data-value={mode}]").click()
        visit.settle()
        shown.append(visit.pixels("#content figure canvas"))
    assert all((a != b).any() for i, a in enumerate(shown) for b in shown[i + 1 :])
    visit.page.locator("#content [data-value=dots]").click()


def test_colours_of_points_change_and_have_a_legend(visit: Visit) -> None:
    visit.go("#/summary")
    before = visit.pixels("#canvas")
    for value, words in (("error", "Reprojection error"), ("track", "Track length")):
        visit.page.locator(f"#tools [data-value={value}]").click()
        visit.settle()
        assert words in visit.text("#legend")
        assert (visit.pixels("#canvas") != before).any()
    visit.page.locator("#tools [data-value=photo]").click()
    assert not visit.page.locator("#legend").is_visible()


def test_keys_turn_zoom_step_and_reset(visit: Visit) -> None:
    visit.go("#/summary")
    canvas = visit.page.locator("#canvas")
    canvas.focus()
    place = "Viewer.placeOf('point', 0)"
    visit.page.keyboard.press("0")
    home = visit.page.evaluate(place)
    for key in ("ArrowLeft", "ArrowUp", "+", "Shift+ArrowLeft"):
        visit.page.keyboard.press(key)
        assert visit.page.evaluate(place) != home, key
        visit.page.keyboard.press("0")
        np.testing.assert_allclose(visit.page.evaluate(place), home, atol=1e-6)
    visit.page.keyboard.press("]")
    visit.settle()
    assert visit.page.evaluate("location.hash") == "#/photo/0"
    visit.page.keyboard.press("Escape")
    visit.settle()
    assert visit.page.evaluate("location.hash") == "#/summary"


def test_mouse_turns_moves_and_zooms(visit: Visit) -> None:
    visit.go("#/summary")
    visit.page.evaluate("Viewer.reset()")
    place = "Viewer.placeOf('point', 0)"
    mouse = visit.page.mouse

    def drag(button: Literal["left", "right"]) -> None:
        mouse.down(button=button)
        mouse.move(460, 470, steps=3)
        mouse.up(button=button)

    for act in (lambda: drag("left"), lambda: drag("right"), lambda: mouse.wheel(0, -200)):
        before = visit.page.evaluate(place)
        mouse.move(400, 450)
        act()
        visit.settle()
        assert np.abs(np.subtract(visit.page.evaluate(place), before)).max() > 2
        assert visit.page.evaluate("location.hash") == "#/summary"  # a drag is no click
    visit.page.evaluate("Viewer.reset()")
    x, y, _ = visit.page.evaluate("Viewer.placeOf('photo', 0)")
    box = visit.page.locator("#canvas").bounding_box()
    assert box
    mouse.move(box["x"] + x, box["y"] + y)
    mouse.down()
    mouse.move(box["x"] + x + 40, box["y"] + y, steps=2)
    mouse.move(box["x"] + x, box["y"] + y, steps=2)
    mouse.up()
    visit.settle()
    assert visit.page.evaluate("location.hash") == "#/summary"  # not even one that ends where it began, on a camera


def test_other_models_can_be_shown(visit: Visit) -> None:
    visit.go("#/summary")
    visit.page.locator("#model").select_option("1")
    visit.settle()
    assert "sparse/1 is shown" in visit.text() and "sparse/2: on disk" in visit.text()
    assert visit.page.evaluate("Viewer.model.cameras.length") == 3
    visit.page.locator("#model").select_option("0")
    visit.settle()
    assert visit.page.evaluate("Viewer.model.cameras.length") == NUM_CAMERAS


def test_large_view_opens_and_closes(visit: Visit) -> None:
    visit.go("#/pair/1/2")
    visit.page.get_by_role("button", name="Enlarge").click()
    visit.settle()
    box = visit.page.locator("#lightbox canvas").bounding_box()
    assert box and box["width"] > 800 and visit.is_drawn("#lightbox canvas", 10)
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("#lightbox").is_visible()


def test_theme_follows_the_system_and_the_switch(browser: "Browser", path: Path) -> None:
    for scheme, is_dark in (("light", False), ("dark", True)):
        visit = Visit(browser, path, color_scheme=scheme, viewport={"width": 900, "height": 500})
        for expected in (is_dark, not is_dark):
            for selector in ("#canvas", "#panel"):
                assert (visit.pixels(selector).mean() < 128) == expected
            assert visit.page.locator("#theme").get_attribute("aria-pressed") == str(expected).lower()
            visit.page.locator("#theme").click()
            visit.settle()
        assert visit.errors == []
        visit.context.close()


def test_phone_has_one_column_and_taps_work(browser: "Browser", path: Path) -> None:
    visit = Visit(browser, path, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    stage, panel = (page.locator(name).bounding_box() for name in ("#stage", "#panel"))
    assert stage and panel and stage["width"] == PHONE["width"] and panel["y"] >= stage["y"] + stage["height"] - 1
    x, y, _ = page.evaluate("Viewer.placeOf('photo', 0)")
    page.touchscreen.tap(stage["x"] + x, stage["y"] + y)
    visit.settle()
    assert page.evaluate("location.hash") == "#/photo/0"
    for part in ("summary", "photos", "matches", "quality", "run", "photo/1", "pair/0/1", "point/3"):
        visit.go(f"#/{part}")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], part
    assert visit.errors == []
    visit.context.close()


def test_without_webgl_a_plain_canvas_draws(browser: "Browser", path: Path) -> None:
    no_webgl = """
      const original = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
        return kind.startsWith("webgl") ? null : original.call(this, kind, ...rest);
      };"""
    visit = Visit(browser, path, init=no_webgl)
    assert visit.page.evaluate("Viewer.kind") == "canvas" and "No WebGL here" in visit.text("#no-view")
    assert visit.is_drawn("#canvas", 1)
    x, y, _ = visit.page.evaluate("Viewer.placeOf('photo', 2)")
    visit.page.locator("#canvas").click(position={"x": x, "y": y})
    visit.settle()
    assert visit.text("#content h2") == NAMES[2] and visit.errors == []
    visit.context.close()


def test_page_of_photos_and_one_model_alone(browser: "Browser", tmp_path: Path) -> None:
    visit = Visit(browser, write_page(tmp_path / "bare.html", example_page(optional=False)))
    for part in ("photos", "matches", "quality", "run", "photo/0", "photo/6", "pair/0/1", "point/0"):
        visit.go(f"#/{part}")
        assert visit.text("#content h2")
    assert visit.errors == []
    visit.context.close()


def test_everything_that_can_be_used_has_a_name(visit: Visit) -> None:
    unnamed = """() => [...document.querySelectorAll("button, a[href], input, select, canvas, [role=img]")]
      .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.title
        || (element.labels && element.labels.length) || element.getAttribute("aria-hidden")))
      .map((element) => element.outerHTML.slice(0, 120))"""
    for part in ("summary", "photos", "matches", "quality", "run", "photo/1", "pair/0/1", "point/3"):
        visit.go(f"#/{part}")
        assert visit.page.evaluate(unnamed) == [], part
