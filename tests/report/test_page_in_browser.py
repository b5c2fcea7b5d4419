"""The page in headless Chromium: nothing is requested, nothing fails, and what is clicked is shown."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from page_example import NAMES, NUM_CAMERAS, example_model, example_page
from page_visit import PHONE, Visit

from lightmatch.report.page import PageData, PageDoppelganger, PageModel, PagePairs, PagePhoto, write_page

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


@pytest.mark.parametrize("key", ["0", "Home"])
def test_reset_moves_the_view_all_the_way(browser: "Browser", path: Path, key: str) -> None:
    visit = Visit(browser, path, reduced_motion="no-preference")
    visit.page.locator("#canvas").focus()
    home = visit.page.evaluate("Viewer.placeOf('point', 0)")
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press(key)
    for _ in range(100):
        visit.page.wait_for_timeout(100)
        if np.allclose(visit.page.evaluate("Viewer.placeOf('point', 0)"), home, atol=1e-6):
            break
    np.testing.assert_allclose(visit.page.evaluate("Viewer.placeOf('point', 0)"), home, atol=1e-6)
    visit.context.close()


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
    visit.go("#/photo/5")
    assert "Not in this model. Show sparse/0, which has it" in " ".join(visit.text(".notes").split())
    visit.go("#/photo/1")
    assert "Direction ±" not in visit.text()  # what is known of the best model is not said of others
    visit.go("#/quality")
    assert not any(words in visit.text() for words in ("Held-out score", "Coordinate frame", "Uncertainty"))
    visit.go("#/point/0")
    assert not visit.text("p.soft").endswith(" m")
    visit.page.locator("#model").select_option("0")
    visit.settle()
    assert visit.page.evaluate("Viewer.model.cameras.length") == NUM_CAMERAS
    visit.go("#/point/0")
    assert visit.text("p.soft").endswith(" m")


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


def test_what_was_shown_before_is_let_go(browser: "Browser", path: Path) -> None:
    visit = Visit(browser, path)
    visit.go("#/photo/0")
    assert visit.is_drawn("#content figure canvas", 10)
    visit.page.evaluate("window.before = new WeakRef(document.querySelector('#content figure canvas'))")
    visit.go("#/pair/1/2")
    assert visit.is_drawn("#content figure canvas", 10)
    session = visit.context.new_cdp_session(visit.page)
    for _ in range(20):
        session.send("HeapProfiler.collectGarbage")
        if visit.page.evaluate("before.deref() === undefined"):
            break
    assert visit.page.evaluate("before.deref() === undefined")
    visit.context.close()


def test_canvases_are_drawn_in_the_colours_of_the_theme(browser: "Browser", path: Path) -> None:
    visit = Visit(browser, path, color_scheme="light")
    visit.go("#/matches")
    ink = "getComputedStyle(document.querySelector('.graph canvas')).color"
    before = visit.page.evaluate("document.querySelector('.graph canvas').toDataURL()"), visit.page.evaluate(ink)
    visit.page.locator("#theme").click()
    visit.settle()
    after = visit.page.evaluate("document.querySelector('.graph canvas').toDataURL()"), visit.page.evaluate(ink)
    assert before[0] != after[0] and before[1] != after[1]
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


def page_of_many(num_photos: int, **changes: Any) -> PageData:
    """Cameras with a lens each, that all see the same points."""
    model = example_model(num_cameras=num_photos, num_points=20)
    lenses = {"lenses": np.arange(num_photos), "lens_table": model.lens_table * num_photos}
    photos = tuple(PagePhoto(f"{number:03d}.jpg") for number in range(num_photos))
    return PageData("many", photos, (replace(model, **lenses),), **changes)


def test_numbers_of_a_sample_are_not_those_of_the_model(browser: "Browser", tmp_path: Path) -> None:
    page = example_page()
    sample = replace(page.models[0], num_points=1000, num_observations=100 * np.arange(1, NUM_CAMERAS + 1))
    visit = Visit(browser, write_page(tmp_path / "sample.html", replace(page, models=(sample,))))
    visit.go("#/photo/2")
    assert "Observations\n300" in visit.text("dl.figures")
    visit.go("#/pair/0/1")
    assert "Shared points shown\n80" in visit.text("dl.figures")
    visit.go("#/quality")
    assert "of the points shown" in visit.text() and "of all observations" not in visit.text()
    visit.go("#/photos")
    visit.page.locator("#content [data-value=points]").click()
    visit.page.locator(".sheet a", has_text="100 pts").first.wait_for()
    assert visit.errors == []
    visit.context.close()


def test_inliers_of_guided_matching_have_their_own_number(browser: "Browser", tmp_path: Path) -> None:
    page = example_page()
    assert page.pairs is not None
    pairs = replace(page.pairs, num_verified=page.pairs.num_inliers, num_inliers=page.pairs.num_inliers + 100)
    visit = Visit(browser, write_page(tmp_path / "guided.html", replace(page, pairs=pairs)))
    visit.go("#/pair/4/5")
    text = visit.text().replace("\n", " ")
    assert "20 lines, an even sample of 144 inliers" in text
    assert "Matches 74 Inliers 44 Inlier share 59\u202f% Inliers after guided matching 144" in text
    visit.go("#/matches")
    assert "144 before: 44 of 74" in visit.text().replace("\n", " ")
    visit.context.close()


def test_copies_are_no_missing_photos(browser: "Browser", tmp_path: Path) -> None:
    page = example_page()
    copy = replace(page.photos[-1], reason="the same file as plain.jpg", advice="", is_duplicate=True)
    visit = Visit(browser, write_page(tmp_path / "copy.html", replace(page, photos=(*page.photos[:-1], copy))))
    assert visit.text("#content h2") == "All 6 photos are registered" and "of 6" in visit.text("dl.figures")
    for part in ("summary", "photos"):
        visit.go(f"#/{part}")
        assert "Not registered" not in visit.text() and "The same file as plain.jpg." in visit.text()
    visit.context.close()


def test_dropped_pairs_are_drawn_and_not_counted(browser: "Browser", tmp_path: Path) -> None:
    num_photos = 130  # of more pairs than the graph draws
    photos = np.stack(np.triu_indices(num_photos, 1), 1)
    num_inliers = np.full(len(photos), 50)
    num_inliers[64] = 0  # of photos that stand opposite each other
    pairs = PagePairs(photos, num_inliers + 10, num_inliers, np.zeros(len(photos) + 1, int), np.zeros((0, 4)))
    page = page_of_many(num_photos, pairs=pairs, doppelgangers=(PageDoppelganger(0, 65, "same door"),))
    visit = Visit(browser, write_page(tmp_path / "many.html", page))
    visit.go("#/matches")
    assert "8,384 pairs of photos are verified, with a median of 50 inliers" in visit.text()
    assert visit.page.locator(".tag.doppelganger").count() == 1
    color = visit.page.evaluate("Colors.channels('doppelganger')")
    assert (np.abs(visit.pixels(".graph canvas").astype(int) - color).max(-1) < 40).sum() > 5
    visit.page.locator("#content [data-value=fewest]").click()
    assert visit.page.locator(".tag.doppelganger").count() == 1
    assert visit.errors == []
    visit.context.close()


def test_more_of_a_list_keeps_the_focus_where_it_grew(browser: "Browser", tmp_path: Path) -> None:
    page = page_of_many(20)
    left_out = tuple(PagePhoto(f"out{number}.jpg", reason="no verified matches") for number in range(6))
    visit = Visit(browser, write_page(tmp_path / "focus.html", replace(page, photos=(*page.photos, *left_out))))
    focused = "document.activeElement.textContent"
    visit.page.locator("#content .more").click()
    assert visit.page.evaluate(focused) == "out4.jpg"
    visit.go("#/quality")
    visit.page.locator("#content table + .more").click()
    assert "simple pinhole" in visit.page.evaluate(focused)
    assert visit.page.evaluate("document.activeElement.tagName") == "TR"
    visit.context.close()


def test_a_search_ends_with_its_field(browser: "Browser", tmp_path: Path) -> None:
    page = page_of_many(20)
    visit = Visit(
        browser, write_page(tmp_path / "two.html", replace(page, models=(*page.models, example_model("1", 3))))
    )
    visit.go("#/photos")
    visit.page.locator("#content input[type=search]").fill("019")
    assert visit.page.locator("#content .sheet a").count() == 1
    visit.go("#/model/1")
    visit.go("#/photos")
    assert visit.page.locator("#content .sheet a").count() == 3
    visit.context.close()


def moved(model: PageModel, shift: np.ndarray) -> PageModel:
    poses = model.cam_from_world.copy()
    poses[:, :, 3] -= poses[:, :, :3] @ shift
    return replace(model, points=model.points + shift, cam_from_world=poses)


def test_places_far_from_the_origin_keep_their_decimals(browser: "Browser", tmp_path: Path) -> None:
    page = example_page()
    model = moved(page.models[0], np.array([512_345.0, 5_412_345.0, -100.0]))
    visit = Visit(browser, write_page(tmp_path / "far.html", replace(page, models=(model,))))
    visit.go("#/point/7")
    place = ", ".join(f"{value:.3f}" for value in model.points[7]).replace("-", "\u2212")
    assert f"at {place} m" in visit.text("p.soft")
    visit.context.close()


def test_everything_that_can_be_used_has_a_name(visit: Visit) -> None:
    unnamed = """() => [...document.querySelectorAll("button, a[href], input, select, canvas, [role=img]")]
      .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.title
        || (element.labels && element.labels.length) || element.getAttribute("aria-hidden")))
      .map((element) => element.outerHTML.slice(0, 120))"""
    for part in ("summary", "photos", "matches", "quality", "run", "photo/1", "pair/0/1", "point/3"):
        visit.go(f"#/{part}")
        assert visit.page.evaluate(unnamed) == [], part
